"""From the raw outputs of the heads to an answer that a story engine can use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import DataError
from pretrain.character.features import require_finite
from pretrain.character.schema import EMOTIONS, Schema

DELTA_REPORTED: Final = float(np.float32(0.03))
"""A change of an emotion is reported above it. A float32, as the outputs are: 0.03 itself is not above."""

Temperatures = Mapping[str, float]
"""By `head.name` of an output; what is not there has 1."""

Row = NDArray[np.float64]


@dataclass(frozen=True)
class Action:
    """What she does.

    Attributes:
        p: of the type, after the temperature.
        second: the likeliest of the other types, and its probability.
        confidence: as the data have it, which is noise: `p` is the one to show.
        target: index in the cast; None for nobody.
        valence: -1 to 1.
    """

    type: str
    p: float
    second: tuple[str, float]
    confidence: float
    target: int | None
    valence: float
    context: str
    context_p: float


@dataclass(frozen=True)
class Speech:
    """Whether and how she speaks; `p` is that of speaking."""

    occurs: bool
    p: float
    register: str
    register_p: float
    confidence: float


@dataclass(frozen=True)
class Thought:
    """What she notices of herself; `dominant_p` is None where the schema has one number for it."""

    awareness: str
    p: float
    dominant: str
    dominant_p: float | None


@dataclass(frozen=True)
class Delta:
    """A change of an emotion; `shift`: she becomes aware of it, with probability `shift_p`."""

    emotion: str
    change: float
    shift: bool
    shift_p: float


@dataclass(frozen=True)
class Answer:
    """All of it; deltas above DELTA_REPORTED, in the order of the emotions."""

    action: Action
    speech: Speech
    thought: Thought
    deltas: tuple[Delta, ...]


def decode(
    flat: NDArray[np.floating[Any]],
    schema: Schema,
    temperatures: Temperatures,
    rng: np.random.Generator | None,
) -> Answer:
    """Decode one row.

    Action, context and register are drawn from their softmax, awareness and dominant emotion are the
    likeliest (the first of several): argmax makes of a lively character one who always does the same.

    Args:
        flat: (42,) or (49,) raw outputs of the heads, in order.
        temperatures: logits are divided by them.
        rng: draws three uniform numbers (action, context, register); None takes the likeliest of all.

    Raises:
        DataError: the wrong size, or not finite, with the position.
    """
    if flat.shape != (schema.size,):
        raise DataError(f"outputs of schema {schema.name} must be ({schema.size},), are {flat.shape}")
    require_finite(flat, "outputs")
    row = flat.astype(np.float32).astype(np.float64)

    def part(key: str) -> Row:
        return row[schema.places[key]] / temperatures.get(key, 1.0)

    def number(key: str) -> float:
        output, (value,) = schema.output(key), row[schema.places[key]]
        return min(max(float(value), output.low), output.high)

    action, context, register = (
        _softmax(part(key)) for key in ("action.type", "action.context", "speech.register")
    )
    chosen, about, voice = (_choose(p, rng) for p in (action, context, register))
    second = _first_maximum(np.where(np.arange(len(action)) == chosen, -1.0, action))
    (occurs,) = part("speech.occurs")
    target = round_half_away(float(row[schema.places["action.target"]][0]))
    types, contexts, voices = (
        schema.output(key).labels for key in ("action.type", "action.context", "speech.register")
    )
    return Answer(
        Action(
            type=types[chosen],
            p=float(action[chosen]),
            second=(types[second], float(action[second])),
            confidence=number("action.confidence"),
            target=None if target < 0 else target,
            valence=number("action.valence"),
            context=contexts[about],
            context_p=float(context[about]),
        ),
        Speech(
            occurs=bool(occurs > 0),
            p=_sigmoid(occurs),
            register=voices[voice],
            register_p=float(register[voice]),
            confidence=number("speech.confidence"),
        ),
        _thought(row, schema, part("thought.awareness"), part("thought.dominant")),
        _deltas(row[schema.places["emotion.delta"]], part("emotion.shift")),
    )


def decode_all(
    flat: NDArray[np.floating[Any]], schema: Schema, temperatures: Temperatures, seed: int | None
) -> list[Answer]:
    """Decode rows; what is drawn for a row depends on the seed and the row's number alone.

    Args:
        flat: (n, 42 or 49).
        seed: None takes the likeliest.
    """
    return [
        decode(row, schema, temperatures, None if seed is None else np.random.default_rng((seed, number)))
        for number, row in enumerate(flat)
    ]


def flatten(heads: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Outputs of the heads, in the order of HEADS, (n, size) each -> (n, 42 or 49)."""
    flat: NDArray[np.float32] = np.concatenate(heads, axis=1)
    return flat


def round_half_away(value: float) -> int:
    """Round as Rust's `f32::round` does: 0.5 to 1, -0.5 to -1."""
    # Not floor(|value| + 0.5): the number just below 0.5 would become 1.
    fraction, whole = math.modf(abs(value))
    return int(math.copysign(whole + (fraction >= 0.5), value))


def _thought(row: Row, schema: Schema, awareness: Row, dominant: Row) -> Thought:
    p = _softmax(awareness)
    level = _first_maximum(p)
    if schema.output("thought.dominant").kind == "real":
        (value,) = row[schema.places["thought.dominant"]]
        index = min(max(round_half_away(float(value)), 0), len(EMOTIONS) - 1)
        dominant_p = None
    else:
        felt = _softmax(dominant)
        index = _first_maximum(felt)
        dominant_p = float(felt[index])
    return Thought(
        awareness=schema.output("thought.awareness").labels[level],
        p=float(p[level]),
        dominant=EMOTIONS[index],
        dominant_p=dominant_p,
    )


def _deltas(changes: Row, shifts: Row) -> tuple[Delta, ...]:
    found = zip(EMOTIONS, np.clip(changes, -1, 1).tolist(), shifts.tolist(), strict=True)
    return tuple(
        Delta(emotion, change, logit > 0, _sigmoid(logit))
        for emotion, change, logit in found
        if abs(change) > DELTA_REPORTED
    )


def _choose(p: Row, rng: np.random.Generator | None) -> int:
    """The first class whose summed probability is above a uniform draw."""
    if rng is None:
        return _first_maximum(p)
    first = int(np.searchsorted(np.cumsum(p), rng.random(), side="right"))
    return min(first, len(p) - 1)


def _first_maximum(values: Row) -> int:
    return int(values.argmax())


def _softmax(logits: Row) -> Row:
    exponentials = np.exp(logits - logits.max())
    shares: Row = exponentials / exponentials.sum()
    return shares


def _sigmoid(logit: float) -> float:
    # exp of a large positive number would overflow.
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
