"""The three routes after one update, beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_sim.routes.route import Delivered, HeadUpdate


@dataclass(frozen=True)
class RouteCheck:
    """A route against PyTorch's head.

    Attributes:
        route: its name.
        passed: it holds what it must.
        detail: one line for a person.
        error: Euclidean norm of the difference to the head it must hold, over that head's norm.
        differing: numbers that differ from the head it must hold (for `state`: the rounded one).
        logits_error: largest absolute difference of logits, mil runtime against PyTorch with `after`.
    """

    route: str
    passed: bool
    detail: str
    error: float
    differing: int
    logits_error: float


def verify_routes(
    update: HeadUpdate, delivered: Sequence[Delivered], embeddings: NDArray[np.float32]
) -> tuple[RouteCheck, ...]:
    """patch bit-identical, update-task within 1e-6 relative, state the correctly rounded float16 head.

    Args:
        embeddings: (N, 1536), N >= 1, unit rows: whose logits are compared.
    """
    raise NotImplementedError
