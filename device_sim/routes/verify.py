"""The routes after one update, each against what it must hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from device_sim.routes.route import Delivered, HeadUpdate
from grpo.head import Head
from personality_common.errors import MismatchError
from pretrain.personality.rules.tolerances import TOLERANCES

_BOUNDS: Final = {tolerance.name: tolerance for tolerance in TOLERANCES}
_PART_OF_UPDATE: Final = 0.5
"""However small an update is, a route that does nothing is wrong by all of it."""


@dataclass(frozen=True)
class RouteCheck:
    """A route against PyTorch's head.

    Attributes:
        route: its name.
        passed: head and logits are what they must be.
        reason: why not; empty if passed.
        error: Euclidean norm of the difference to the head it must hold, over that head's norm, the greater
            of weight and bias; where the package has it in
            float16, it must hold the head rounded to that.
        update_error: norm of the difference over both tensors, over that of the update; 0 without an update.
        differing: numbers that differ from the head it must hold, in bits.
        logits_error: greatest absolute difference of its logits in the `mil` runtime from those of
            the head it must hold, in float64.
    """

    route: str
    passed: bool
    reason: str
    error: float
    update_error: float
    differing: int
    logits_error: float


def verify_routes(
    update: HeadUpdate,
    delivered: Sequence[Delivered],
    embeddings: NDArray[np.float32],
    latents: NDArray[np.float32],
) -> tuple[RouteCheck, ...]:
    """`patch` bit for bit, `update-task` within its tolerance, `state` the correctly rounded head.

    Args:
        update: what each was asked to bring.
        delivered: what each brought.
        embeddings: (N, 1536), whose logits are compared.
        latents: (N, 512), what PyTorch's backbone makes of them.
    """
    return tuple(_check(update, found, embeddings, latents) for found in delivered)


def require_routes(checks: Sequence[RouteCheck]) -> None:
    """Raise MismatchError, naming the first route that failed."""
    for check in checks:
        if not check.passed:
            raise MismatchError(f"route {check.route}: {check.reason}")


def _check(
    update: HeadUpdate, found: Delivered, embeddings: NDArray[np.float32], latents: NDArray[np.float32]
) -> RouteCheck:
    half = found.head_dtype == "float16"
    wanted = Head(*(t.half().float() for t in update.after)) if half else update.after
    start = Head(*(t.half().float() for t in update.before)) if half else update.before
    differing = _differing(found.head, wanted)
    error = max(_relative(ours, theirs) for ours, theirs in zip(found.head, wanted, strict=True))
    moved = wanted.distance(start)
    update_error = found.head.distance(wanted) / moved if moved else 0.0
    expected = wanted.weight.double() @ torch.from_numpy(latents).double().T + wanted.bias.double()[:, None]
    with np.errstate(invalid="ignore"):  # of infinities
        logits_error = float(np.abs(found.predict(embeddings) - expected.T.numpy()).max())
    reason = _reason(found, error, update_error, differing, logits_error)
    return RouteCheck(found.route, not reason, reason, error, update_error, differing, logits_error)


def _reason(found: Delivered, error: float, update_error: float, differing: int, logits_error: float) -> str:
    if found.figures.get("overflowed"):
        return f"{found.figures['overflowed']} numbers of the head are too large for float16"
    if found.route == "update-task":
        if not _BOUNDS["update-task.head"].holds(error):
            return f"the head must be within {_BOUNDS['update-task.head'].value:g}, is off by {error:.3g}"
        if not update_error < _PART_OF_UPDATE:
            return f"the update must arrive, {update_error:.0%} of it is missing or wrong"
    elif differing:
        return f"the head must be the same bit for bit, {differing} numbers differ"
    bound = _BOUNDS[f"{found.precision}.logits"]
    if not bound.holds(logits_error):
        return f"logits must be within {bound.value:g}, are off by {logits_error:.3g}"
    return ""


def _differing(ours: Head, theirs: Head) -> int:
    """By bits: -0 is not 0, and NaN is itself."""
    pairs = zip(ours, theirs, strict=True)
    return sum(int((a.view(torch.int32) != b.view(torch.int32)).sum()) for a, b in pairs)


def _relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    norm = float(theirs.double().norm())
    difference = float((ours.double() - theirs.double()).norm())
    return difference / norm if norm else difference
