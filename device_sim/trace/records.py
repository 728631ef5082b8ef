"""What a trace finds of each value, and how the finds are ranked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from device_sim.mil.types import Array


class Overflow(StrEnum):
    """Where a value first left the numbers, in the reference or in the candidate."""

    NO = ""
    HERE = "here"
    """This op makes an infinity, or what float16 cannot hold, from numbers that it can."""
    NAN = "nan"
    """This op makes NaN."""
    BEFORE = "before"
    """What an earlier op made arrives here."""

    @property
    def made(self) -> bool:
        """Whether it is this op's doing."""
        return self in (Overflow.HERE, Overflow.NAN)


class Note(StrEnum):
    """Why `OpTrace.added` is None."""

    NONE = ""
    NOT_COMPARED = "not compared"
    """The candidate does not compute this op in its own way."""
    INPUT_OVERFLOWS = "an input of it overflows"


@dataclass(frozen=True)
class Error:
    """How far a tensor is from the reference's; both are NaN if the reference has one: nothing is near it."""

    max_abs: float
    relative: float
    """Root mean square of the difference, over that of the reference; inf where the reference is
    zero, or where the tensor is not finite and the reference is."""

    @property
    def rank(self) -> float:
        """`relative`, with what cannot be compared as the greatest."""
        return math.inf if math.isnan(self.relative) else self.relative


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


@dataclass(frozen=True)
class Arrived:
    """What is known of an op's inputs.

    Attributes:
        fed: float16 cannot hold one of them, however it is computed.
        reached: the candidate's own are not all finite where the reference's are.
        spoiled: one has what an earlier op made that is no number.
        numbers: all of them, constants too; of the reference, and of the candidate's own.
    """

    fed: bool = False
    reached: bool = False
    spoiled: bool = False
    numbers: tuple[Array, ...] = ()


def by_added(records: list[OpTrace]) -> list[OpTrace]:
    """Worst first: ops that make what is no number in the order of the program, then by the error added."""

    def key(record: OpTrace) -> tuple[bool, float]:
        made = record.overflow.made
        return not made, 0.0 if made else -record.added.rank if record.added else 1.0

    return sorted(records, key=key)


def by_accumulated(records: list[OpTrace]) -> list[OpTrace]:
    """Worst first, by the relative error that has accumulated."""
    return sorted(records, key=lambda record: -record.accumulated.rank)


def compare(
    place: Place, values: tuple[Array, Array | None, Array], arrived: Arrived, ceiling: float = math.inf
) -> OpTrace:
    """Compare a value with the reference's.

    Args:
        values: the reference's; the candidate's on the reference's inputs, None if it does not
            compute this op in its own way; the candidate's on its own inputs.
        ceiling: the greatest magnitude that the candidate can hold.
    """
    expected, added, accumulated = values
    finite = expected[np.isfinite(expected)] if expected.dtype.kind == "f" else expected
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    beyond = expected.dtype.kind == "f" and max(-low, high) > ceiling
    overflow = _made(expected, added, accumulated, arrived)
    if not overflow.made and beyond:
        overflow = Overflow.HERE
    note = Note.NONE
    if added is None:
        note = Note.NOT_COMPARED
    elif arrived.fed:
        added, note = None, Note.INPUT_OVERFLOWS
    error = None if added is None else error_of(expected, added)
    total = error_of(expected, accumulated)
    where = (place.model, place.position, place.op, place.output)
    return OpTrace(*where, expected.shape, low, high, error, total, overflow, note)


def _made(expected: Array, added: Array | None, accumulated: Array, arrived: Arrived) -> Overflow:
    """What an op made of its inputs that none of them was."""
    if added is not None and not arrived.fed and lost(expected, added):
        return Overflow.NAN if _has(np.isnan, added) else Overflow.HERE
    if arrived.spoiled or arrived.fed or arrived.reached:
        return Overflow.BEFORE
    results = (expected, accumulated)
    for test, made in ((np.isnan, Overflow.NAN), (np.isinf, Overflow.HERE)):
        if any(_has(test, result) for result in results) and not any(_has(test, n) for n in arrived.numbers):
            return made
    return Overflow.BEFORE if lost(expected, accumulated) else Overflow.NO


def _has(test: Callable[[Array], Array], value: Array) -> bool:
    return value.dtype.kind == "f" and bool(np.any(test(value)))


def lost(expected: Array, got: Array) -> bool:
    """Whether a value is not finite where the reference is."""
    return got.dtype.kind == "f" and bool(np.any(np.isfinite(expected) & ~np.isfinite(got)))


def is_finite(value: Array) -> bool:
    """Whether all of it is; integers are."""
    return value.dtype.kind != "f" or bool(np.all(np.isfinite(value)))


def error_of(expected: Array, got: Array) -> Error:
    """The error of `got`; equal infinities have none."""
    with np.errstate(all="ignore"):
        x, y = expected.astype(np.float64), got.astype(np.float64)
        if np.any(np.isnan(x)):
            return Error(math.nan, math.nan)
        difference = np.where(x == y, 0.0, np.abs(x - y))
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
