"""How well drawn labels fit the situation that they were drawn for: 1 less penalties, in five parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pretrain.character.rules import QUIET
from pretrain.character.schema import ACTIONS, AWARENESS, CONTEXTS, EMOTIONS, Schema

SHARES: Final = {"emotion": 0.25, "relation": 0.2, "awareness": 0.25, "stability": 0.15, "scene": 0.15}
LEAST: Final = 0.6
"""Below it an example is thrown away; the rules never get there."""


def coherence(
    description: Mapping[str, Any], labels: Sequence[float], dominant: int, schema: Schema
) -> float:
    """Of one example, 0 to 1.

    Args:
        dominant: index of the dominant emotion.
    """

    def chosen(key: str, options: Sequence[str]) -> str:
        return options[list(labels[schema.places[key]]).index(1.0)]

    action = chosen("action.type", ACTIONS)
    context = chosen("action.context", CONTEXTS)
    awareness = chosen("thought.awareness", AWARENESS)
    deltas = labels[schema.places["emotion.delta"]]
    shifts = labels[schema.places["emotion.shift"]]
    emotions = description["emotions"]
    penalties = {
        "emotion": _emotion(emotions, deltas, dominant),
        "relation": _relation(description["relations"], action, context),
        "awareness": _awareness(emotions, awareness, deltas, shifts, dominant),
        "stability": 0.2 * sum(abs(delta) > 0.3 for delta in deltas),
        "scene": _scene(description["scene"]["tension"], action),
    }
    return round(sum(share * max(0.0, 1 - penalties[part]) for part, share in SHARES.items()), 4)


def _emotion(emotions: Mapping[str, Any], deltas: Sequence[float], dominant: int) -> float:
    felt = [emotions[name]["intensity"] if name in emotions else 0.0 for name in EMOTIONS]
    outside = sum(not -0.1 <= f + d <= 1.1 for f, d in zip(felt, deltas, strict=True))
    strongest = sorted(felt, reverse=True)[:3]
    return 0.3 * outside + 0.2 * (felt[dominant] not in strongest)


def _relation(relations: Sequence[Mapping[str, Any]], action: str, context: str) -> float:
    if not relations:
        return 0.0
    central = {name: value["central"] for name, value in relations[0].items() if name != "role"}
    trust = (central["trust_reliability"] + central["trust_competence"] + central["trust_benevolence"]) / 3
    distrusted = trust < 0.3 and context == "SharedHistory"
    return 0.3 * distrusted + 0.2 * (central["affection"] > 0.6 and action == "Resist")


def _awareness(
    emotions: Mapping[str, Any],
    awareness: str,
    deltas: Sequence[float],
    shifts: Sequence[float],
    dominant: int,
) -> float:
    known = [emotions[name]["awareness"] if name in emotions else "" for name in EMOTIONS]
    penalty = 0.3 * (known[dominant] == "Structural")
    penalty += 0.2 * (known[dominant] == "Defended" and awareness == "Articulate")
    for level, delta, shift in zip(known, deltas, shifts, strict=True):
        penalty += 0.15 * (shift > 0 and level in ("Defended", "Structural") and abs(delta) < 0.1)
    return penalty


def _scene(tension: float, action: str) -> float:
    return 0.3 * (tension < QUIET and action == "Resist") + 0.15 * (tension > 0.8 and action == "Wait")
