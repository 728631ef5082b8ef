"""What the three routes have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from grpo.head import Head

ROUTES: Final = ("patch", "update-task", "state")


@dataclass(frozen=True)
class HeadUpdate:
    """A night's update.

    Attributes:
        before: the head that it starts from; for `update-task` this is what the package holds.
        after: the head of PyTorch.
        latents: (N, 512) float32, of the texts that the update was made from.
    """

    before: Head
    after: Head
    latents: Tensor


@dataclass(frozen=True)
class Delivered:
    """A package that has the update.

    Attributes:
        route: one of ROUTES.
        package: the copy; the one that came in for `state`, whose head is not in the package.
        head: what the copy (or the state) holds, read back from it; float32, and for `state` exactly
            what its float16 numbers are.
        buffers: state buffers by name, float16, to be written into a new state; empty but for `state`.
        figures: what this route has to say of the way ("tensors_identical", "steps", "overflowed", …).
    """

    route: str
    package: Path
    head: Head
    buffers: Mapping[str, NDArray[np.float16]] = field(default_factory=dict)
    figures: Mapping[str, float | str] = field(default_factory=dict)

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 1536) to (N, 325), as the package gives them in the `mil` runtime."""
        raise NotImplementedError


class Route(Protocol):
    """`patch`, `update-task` or `state`: made once for a bundle, applied night after night."""

    name: str

    def apply(self, update: HeadUpdate, target: Path) -> Delivered:
        """Bring an update into a copy of the bundle's package at `target` (`NAME.mlpackage`).

        An earlier copy at `target` is replaced by rename.

        Raises:
            MismatchError: something else than the head would change, or the copy does not hold the update.
            DataError: the package is malformed, or its parameters do not permit the update.
        """
        ...


def make_routes(bundle: Path, names: tuple[str, ...] = ROUTES) -> tuple[Route, ...]:
    """Routes of a bundle, in the order of the names.

    Raises:
        ConfigError: the bundle was exported without the package of a route.
    """
    raise NotImplementedError
