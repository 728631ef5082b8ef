"""What a route is, and what it delivers; `choosing` names them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from grpo.head import Head

Array = NDArray[np.float32]


@dataclass(frozen=True)
class HeadUpdate:
    """A night's update.

    Attributes:
        before: the head that it starts from.
        after: the head that PyTorch made of it.
        latents: (N, 512) float32, of the texts that the update was made from.
    """

    before: Head
    after: Head
    latents: Tensor


@dataclass(frozen=True)
class Delivered:
    """A package that has the update.

    Attributes:
        route: its name, one of `choosing.ROUTES`.
        package: the copy; the one that came in for `state`, whose head is not in the package.
        head: what the copy (or the state) holds, read back; float32, for float16 exactly its numbers.
        head_dtype: as it is held, `float32` or `float16`.
        precision: of the arithmetic that makes the logits.
        predict: (N, 1536) float32 to logits (N, 325), of this package in the `mil` runtime.
        buffers: for `state`, float16 by the buffer's name, to be written into a new state.
        figures: what there is to say of the way, by name; each route says which.
    """

    route: str
    package: Path
    head: Head
    head_dtype: str
    precision: str
    predict: Callable[[Array], Array] = field(repr=False)
    buffers: Mapping[str, NDArray[np.float16]] = field(default_factory=dict, repr=False)
    figures: Mapping[str, float | str] = field(default_factory=dict)


class Route(Protocol):
    """Made once for a bundle, applied night after night; remembers nothing in between."""

    @property
    def name(self) -> str: ...

    @property
    def part(self) -> str:
        """The package of the bundle that it changes, or whose state it writes."""
        ...

    def apply(self, update: HeadUpdate, target: Path) -> Delivered:
        """Bring an update into a copy of the bundle's package at `target` (`NAME.mlpackage`).

        An earlier copy at `target` is replaced by rename; `state` writes none.

        Raises:
            MismatchError: something else than the head would change.
            DataError: the package is malformed, or its parameters do not permit the update.
        """
        ...
