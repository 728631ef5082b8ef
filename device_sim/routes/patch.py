"""Route `patch`: the head's two blobs in `weight.bin` of a copy are overwritten."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from device_sim.mil.model import load_mil
from device_sim.routes.bundle import Bundle, Place, head_of, read_place
from device_sim.routes.route import Array, Delivered, HeadUpdate, run_rows
from device_sim.routes.untouched import require_untouched
from grpo.head import Head
from personality_common.bundle.stored import stored_values
from personality_common.contract import EMBEDDING, LOGITS
from personality_common.coreml.patching import patched_copy
from personality_common.errors import MismatchError

PART: Final = "model"


@dataclass(frozen=True)
class PatchRoute:
    """Into `PersonalityModel.mlpackage`; figures: what is proven untouched (`Untouched`)."""

    bundle: Bundle
    name = "patch"

    def __post_init__(self) -> None:
        self.bundle.package(PART)

    def apply(self, update: HeadUpdate, target: Path) -> Delivered:
        """See `Route.apply`. The blobs are PyTorch's head, bit for bit in the dtype that is stored."""
        source, places = self.bundle.package(PART), self.bundle.head_places(PART)
        arrays = [_stored(place, value.numpy()) for place, value in zip(places, update.after, strict=True)]
        patches: dict[str | int, np.ndarray] = {}
        for place, array in zip(places, arrays, strict=True):
            if place.metadata_offset is None:
                raise MismatchError(f"{source}: {place.name} must be in a weight file, it is in {place.file}")
            patches[place.metadata_offset] = array
        patched_copy(source, target, patches)
        untouched = require_untouched(source, target, self.bundle.places(PART), places)
        model = load_mil(target)

        def predict(embeddings: Array) -> Array:
            return run_rows(model, EMBEDDING, embeddings, LOGITS)

        return Delivered(
            self.name,
            target,
            self.read(target),
            places[0].dtype,
            self.bundle.precision(PART),
            predict,
            figures=vars(untouched),
        )

    def read(self, package: Path) -> Head:
        """The head of a copy."""
        weight, bias = (read_place(package, place) for place in self.bundle.head_places(PART))
        return head_of(weight, bias)


def _stored(place: Place, values: Array) -> np.ndarray:
    if values.shape != place.shape:
        raise MismatchError(f"{place.name} must be {place.shape}, got {values.shape}")
    return stored_values(place.name, values, place.dtype)
