"""What a trace finds of each value, and how the finds are ranked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from device_sim.mil.types import Array

FLOAT16_MAX: Final = 65504.0


class Overflow(StrEnum):
    """Where the range of float16 was left."""

    NO = ""
    HERE = "here"
    """In this op."""
    BEFORE = "before"
    """What an earlier op overflowed arrives here."""


class Note(StrEnum):
    """Why `OpTrace.added` is None."""

    NONE = ""
    NOT_COMPARED = "not compared"
    """The candidate does not compute this op in its own way."""
    INPUT_OVERFLOWS = "an input of it overflows"


@dataclass(frozen=True)
class Error:
    """How far a tensor is from the reference's."""

    max_abs: float
    relative: float
    """Root mean square of the difference, over that of the reference; inf where the reference is
    zero, or where the tensor is not finite and the reference is."""


@dataclass(frozen=True)
class Place:
    """Where a value is computed."""

    model: str
    """Submodel of a pipeline, or empty."""
    position: int | None
    """Of the op in the program, or of the layer in the network; None for an input of the model."""
    op: str
    """Its type; `input` for the rounding of an input."""
    output: str


@dataclass(frozen=True)
class OpTrace(Place):
    """One output of one op."""

    shape: tuple[int, ...]
    low: float
    high: float
    """Range of the reference's finite values; 0 and 0 if there are none."""
    added: Error | None
    """None where `note` says why."""
    accumulated: Error
    overflow: Overflow
    note: Note = Note.NONE


def by_added(records: list[OpTrace]) -> list[OpTrace]:
    """Worst first: ops that overflow in the order of the program, then by the relative error added."""

    def key(record: OpTrace) -> tuple[bool, float]:
        here = record.overflow is Overflow.HERE
        return not here, 0.0 if here else -record.added.relative if record.added else 1.0

    return sorted(records, key=key)


def by_accumulated(records: list[OpTrace]) -> list[OpTrace]:
    """Worst first, by the relative error that has accumulated."""
    return sorted(records, key=lambda record: -record.accumulated.relative)


def compare(
    place: Place,
    values: tuple[Array, Array | None, Array],
    against: str,
    fed: bool = False,
    reached: bool = False,
) -> OpTrace:
    """Compare a value with the reference's.

    Args:
        values: the reference's; the candidate's on the reference's inputs, None if it does not
            compute this op in its own way; the candidate's on its own inputs.
        fed: float16 cannot hold one of the op's inputs.
        reached: one of the candidate's own inputs has overflowed.
    """
    expected, added, accumulated = values
    finite = expected[np.isfinite(expected)] if expected.dtype.kind == "f" else expected
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    beyond = against == "float16" and expected.dtype.kind == "f" and max(-low, high) > FLOAT16_MAX
    overflow, note = Overflow.NO, Note.NONE
    if beyond or (not fed and added is not None and lost(expected, added)):
        overflow = Overflow.HERE
    elif fed or reached or lost(expected, accumulated):
        overflow = Overflow.BEFORE
    if added is None:
        note = Note.NOT_COMPARED
    elif fed:
        added, note = None, Note.INPUT_OVERFLOWS
    error = None if added is None else error_of(expected, added)
    total = error_of(expected, accumulated)
    where = (place.model, place.position, place.op, place.output)
    return OpTrace(*where, expected.shape, low, high, error, total, overflow, note)


def lost(expected: Array, got: Array) -> bool:
    """Whether a value is not finite where the reference is."""
    return got.dtype.kind == "f" and bool(np.any(np.isfinite(expected) & ~np.isfinite(got)))


def error_of(expected: Array, got: Array) -> Error:
    """The error of `got`; equal infinities, and places where the reference is NaN, have none."""
    with np.errstate(all="ignore"):
        x, y = expected.astype(np.float64), got.astype(np.float64)
        difference = np.where((x == y) | np.isnan(x), 0.0, np.abs(x - y))
        difference[np.isnan(difference)] = np.inf
        scale = _rms(x[np.isfinite(x)])
        size = _rms(difference)
        relative = 0.0 if size == 0 else size / scale if scale else np.inf
    return Error(float(difference.max(initial=0.0)), float(relative))


def _rms(values: Array) -> float:
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0 or not np.isfinite(largest):
        return largest
    return largest * float(np.sqrt(np.mean(np.square(values / largest))))
