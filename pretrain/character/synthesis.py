"""Generated examples: cells are drawn, in each a character, a scene and an event, and the labels by rule."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pretrain.character.coherence import coherence
from pretrain.character.descriptors import Profile, Side, archetypes, dynamics, profiles
from pretrain.character.features import encode_values
from pretrain.character.records import Cell, Example
from pretrain.character.rules import odds
from pretrain.character.schema import (
    ACTIONS,
    AWARENESS,
    EVENTS,
    LAYERS,
    PROVENANCES,
    REGISTERS,
    RELATION_VALUES,
    ROLES,
    SCENES,
    VOICES,
    Schema,
)

VARIATIONS: Final = 3
"""Examples per cell: the same people in the same kind of scene, and all else drawn anew."""
AXIS_SPREAD: Final = 0.25
EMOTION_SPREAD: Final = 0.2
EDGE_SPREAD: Final = 0.25
UNFELT: Final = 0.05
"""An emotion below it is left out."""
RELATIONS: Final = 5
TURNS: Final = 3


def draw_cells(people: Sequence[str], count: int, seed: int) -> list[Cell]:
    """Distinct cells; each archetype is A equally often, but for one."""
    rng = random.Random(f"cells/{seed}")
    kinds = list(profiles())
    order = list(people)
    rng.shuffle(order)
    cells: dict[str, Cell] = {}
    while len(cells) < count:
        first = order[len(cells) % len(order)]
        profile = rng.choice(kinds)
        cell = Cell(
            archetype_a=first,
            archetype_b=rng.choice([name for name in people if name != first]),
            dynamic=rng.choice(list(dynamics())),
            a_is_role_a=rng.random() < 0.5,
            profile=profile,
            genre=profiles()[profile].genre,
        )
        cells.setdefault(cell.key, cell)
    return list(cells.values())


def generate(people: Sequence[str], count: int, seed: int, schema: Schema) -> Iterator[Example]:
    """Examples of some archetypes: the same for the same arguments, whatever else is generated."""
    for cell in draw_cells(people, -(-count // VARIATIONS), seed):
        for variation in range(min(VARIATIONS, count)):
            yield _example(cell, variation, seed, schema)
        count -= VARIATIONS


def example_features(schema: Schema, count: int, seed: int) -> NDArray[np.float32]:
    """(count, 453) of generated characters, the same for the same seed."""
    people = sorted(archetypes())
    return np.array([example.features for example in generate(people, count, seed, schema)], np.float32)


def _example(cell: Cell, variation: int, seed: int, schema: Schema) -> Example:
    rng = random.Random(f"{seed}/{cell.key}/{variation}")
    description = describe(cell, rng)
    chances = odds(description)
    labels = chances.draw(schema, rng)
    return Example(
        id=str(_uuid7(rng)),
        cell=cell,
        variation=variation,
        features=encode_values(description, schema),
        labels=labels,
        expected=chances.expected(schema),
        coherence=coherence(description, labels, chances.dominant, schema),
    )


def describe(cell: Cell, rng: random.Random) -> dict[str, Any]:
    """A character, a scene and an event that fit a cell, as `encode_values` takes them."""
    archetype = archetypes()[cell.archetype_a]
    ours = dynamics()[cell.dynamic][0 if cell.a_is_role_a else 1]
    profile = profiles()[cell.profile]
    felt = {name: _near(mean, EMOTION_SPREAD, rng, 0.0) for name, mean in archetype.emotions.items()}
    scene = _scene(profile, rng)
    relations = [_relation(ours, rng)] if (known := rng.randint(0, RELATIONS)) else []
    return {
        "axes": {name: _axis(mean, ours.axes.get(name, 0.0), rng) for name, mean in archetype.axes.items()},
        "emotions": {
            name: {"intensity": intensity, "awareness": rng.choice(AWARENESS)}
            for name, intensity in felt.items()
            if intensity >= UNFELT
        },
        "self_edge": {
            "trust_competence": _uniform(0.2, 0.9, rng),
            "trust_intentions": _uniform(0.2, 0.9, rng),
            "trust_reliability": _uniform(0.2, 0.9, rng),
            "affection": _uniform(0.1, 0.9, rng),
            "debt": _uniform(0.0, 0.6, rng),
            "history_weight": _uniform(0.3, 0.9, rng),
            "projection_accuracy": _uniform(0.3, 0.9, rng),
        },
        "relations": relations + [_acquaintance(rng) for _ in range(known - 1)],
        "scene": scene,
        "event": {
            "type": _weighted(EVENTS, profile.events, rng),
            "register": _weighted(REGISTERS, profile.registers, rng),
            "confidence": _uniform(0.7, 0.95, rng),
            "target_count": 1 if rng.random() < 0.8 else rng.randint(0, scene["cast_size"] - 1),
        },
        "history": [_turn(rng) for _ in range(rng.randint(0, TURNS))],
    }


def _axis(mean: float, shift: float, rng: random.Random) -> dict[str, Any]:
    central = _near(mean, AXIS_SPREAD, rng)
    low = min(_near(mean - 0.3, AXIS_SPREAD, rng), central)
    high = max(_near(mean + 0.3, AXIS_SPREAD, rng), central)
    return {
        # Moved last, so that it may leave its own range, as in the engine's data.
        "central": _clipped(central + shift),
        "variance": _uniform(0.05, 0.3, rng),
        "low": low,
        "high": high,
        "layer": _weighted(LAYERS, (3, 4, 2, 1), rng),
        "provenance": _weighted(PROVENANCES, (5, 2, 2, 1, 1), rng),
    }


def _scene(profile: Profile, rng: random.Random) -> dict[str, Any]:
    return {
        "type": _weighted(SCENES, profile.scenes, rng),
        "cast_size": max(2, round(rng.uniform(*profile.cast))),
        "tension": _uniform(*profile.tension, rng),
    }


def _relation(side: Side, rng: random.Random) -> dict[str, Any]:
    """Towards the one who is there."""
    means = zip(RELATION_VALUES, side.edge, strict=True)
    values = {name: _around(_near(mean, EDGE_SPREAD, rng)) for name, mean in means}
    return {**values, "role": side.role}


def _acquaintance(rng: random.Random) -> dict[str, Any]:
    """Towards somebody who is not."""
    values = {name: _around(_uniform(-0.6, 0.9, rng)) for name in RELATION_VALUES}
    return {**values, "role": rng.choice(ROLES)}


def _around(central: float) -> dict[str, float]:
    return {
        "central": central,
        "variance": 0.15,
        "low": _clipped(central - 0.225),
        "high": _clipped(central + 0.225),
    }


def _turn(rng: random.Random) -> dict[str, Any]:
    return {
        "action": rng.choice(ACTIONS),
        "speech": _weighted(VOICES, (2, 6, 2, 0), rng),
        "awareness": _weighted(AWARENESS, (3, 3, 3, 3, 0), rng),
        "valence": _uniform(-0.4, 0.6, rng),
    }


def _uniform(low: float, high: float, rng: random.Random) -> float:
    """Four decimals: short in a file, and the same number in float32 everywhere."""
    return round(rng.uniform(low, high), 4)


def _near(mean: float, spread: float, rng: random.Random, least: float = -1.0) -> float:
    return _clipped(mean + rng.uniform(-spread, spread), least)


def _clipped(value: float, least: float = -1.0) -> float:
    return 1.0 if value > 1 else least if value < least else round(value, 4)


def _weighted(options: Sequence[str], weights: Sequence[float], rng: random.Random) -> str:
    return rng.choices(options, weights)[0]


def _uuid7(rng: random.Random) -> uuid.UUID:
    """A UUID of version 7 whose time is drawn, too: the same seed gives the same bytes."""
    drawn = rng.getrandbits(128)
    return uuid.UUID(int=drawn & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)
