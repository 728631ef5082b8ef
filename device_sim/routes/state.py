"""Route `state`: the head in the float16 buffers of a stateful package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sim.heads.shipped import head_of
from device_sim.routes.route import Array, Delivered, HeadUpdate
from device_sim.runtimes.mil import MilRuntime
from device_sim.runtimes.runtime import predict_rows
from grpo.head import Head
from personality_common.bundle.bundle import Bundle
from personality_common.contract import EMBEDDING, LOGITS, STATE_BIAS, STATE_WEIGHT
from personality_common.errors import MismatchError

PART: Final = "stateful"


@dataclass(frozen=True)
class StateRoute:
    """Into a new state of `PersonalityModelStateful.mlpackage`; the package stays as it is.

    Figures: `overflowed`, numbers that are finite in float32 and infinite in float16; `swallowed`, numbers
    that the update changed and whose float16 it did not.
    """

    bundle: Bundle
    name = "state"
    part = PART

    def __post_init__(self) -> None:
        self.bundle.part(PART)

    def apply(self, update: HeadUpdate, target: Path) -> Delivered:
        """See `Route.apply`; nothing is written at `target`."""
        package = self.bundle.package(PART)
        buffers = to_buffers(update.after)
        model = MilRuntime().load(package, buffers)
        assert model.state is not None, "it has buffers"
        held = {name: model.state[name] for name in buffers}
        if differing := [n for n in buffers if held[n].tobytes() != buffers[n].tobytes()]:
            raise MismatchError(f"{package}: state {differing[0]} must hold what was written, it does not")
        before = to_buffers(update.before)
        pairs = list(zip(buffers.values(), before.values(), update.after, update.before, strict=True))
        figures: dict[str, float | str] = {
            "overflowed": overflowed(update.after),
            "swallowed": sum(int(((a == b) & (n != o).numpy()).sum()) for a, b, n, o in pairs),
        }

        def predict(embeddings: Array) -> Array:
            return predict_rows(model, {EMBEDDING: embeddings})[LOGITS]

        head = head_of(held[STATE_WEIGHT], held[STATE_BIAS])
        precision = self.bundle.part(PART).precision
        return Delivered(self.name, package, head, "float16", precision, predict, buffers, figures)


def to_buffers(head: Head) -> dict[str, NDArray[np.float16]]:
    """The head as the app writes it: rounded to the nearest float16, ties to even; too large is infinite."""
    with np.errstate(over="ignore"):
        weight, bias = (tensor.numpy().astype(np.float16) for tensor in head)
    return {STATE_WEIGHT: weight, STATE_BIAS: bias}


def overflowed(head: Head) -> int:
    """How many finite numbers of a head are not finite in float16 (from 65520 on)."""
    halves = to_buffers(head).values()
    return sum(int((np.isinf(h) & np.isfinite(t.numpy())).sum()) for h, t in zip(halves, head, strict=True))
