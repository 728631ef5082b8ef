"""Who may appear in generated examples: archetypes made of traits, dynamics of two, profiles of a genre.

An archetype has the axes of its traits and no other: different characters have different axes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from pretrain.character.schema import AXES, EMOTIONS

BASE_EMOTION: Final = 0.12
HIGHEST: Final = 0.95


@dataclass(frozen=True)
class Archetype:
    """Means of a character's axes, -1 to 1, and of all eight emotions, 0 to 1."""

    axes: dict[str, float]
    emotions: dict[str, float]


@dataclass(frozen=True)
class Side:
    """One side of a dynamic.

    Attributes:
        edge: means of what it feels towards the other: trust in reliability, competence, benevolence;
            affection; debt.
        role: the other's place among the people around them.
        axes: by how much being on this side moves an axis.
    """

    edge: tuple[float, ...]
    role: str
    axes: dict[str, float]


@dataclass(frozen=True)
class Profile:
    """A kind of scene: weights of its types, of events and of their registers; ranges of the rest."""

    genre: str
    scenes: tuple[float, ...]
    tension: tuple[float, float]
    cast: tuple[float, float]
    events: tuple[float, ...]
    registers: tuple[float, ...]


@cache
def archetypes() -> dict[str, Archetype]:
    """All archetypes, by name, in alphabetical order."""
    traits = _read("traits")
    return {
        name: _archetype([traits[word] for word in words.split()])
        for name, words in _read("archetypes").items()
    }


@cache
def dynamics() -> dict[str, tuple[Side, Side]]:
    """Both sides of each dynamic, by name."""
    return {name: (_side(entry["a"]), _side(entry["b"])) for name, entry in _read("dynamics").items()}


@cache
def profiles() -> dict[str, Profile]:
    """All profiles, by name."""
    return {name: _profile(entry) for name, entry in _read("profiles").items()}


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(files(__name__).joinpath(f"{name}.json").read_text("utf-8"))
    return content


def _archetype(traits: list[dict[str, dict[str, float]]]) -> Archetype:
    axes: dict[str, float] = {}
    emotions = dict.fromkeys(EMOTIONS, BASE_EMOTION)
    for trait in traits:
        for axis, value in trait["axes"].items():
            axes[axis] = axes.get(axis, 0) + value
        for emotion, value in trait["emotions"].items():
            emotions[emotion] += value
    return Archetype(
        {axis: max(-HIGHEST, min(HIGHEST, axes[axis])) for axis in AXES if axis in axes},
        {emotion: min(HIGHEST, value) for emotion, value in emotions.items()},
    )


def _profile(entry: dict[str, Any]) -> Profile:
    ranges = {key: (entry[key][0], entry[key][1]) for key in ("tension", "cast")}
    weights = {key: tuple(entry[key]) for key in ("scenes", "events", "registers")}
    return Profile(genre=entry["genre"], **ranges, **weights)


def _side(entry: dict[str, Any]) -> Side:
    return Side(tuple(entry["edge"]), entry["role"], entry["axes"])
