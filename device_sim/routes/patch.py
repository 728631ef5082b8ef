"""Route `patch`: the head's two blobs in `weight.bin` of a copy are overwritten."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device_sim.heads.shipped import PART, head_places, read_head
from device_sim.routes.route import Array, Delivered, HeadUpdate
from device_sim.routes.untouched import require_untouched
from device_sim.runtimes.mil import MilRuntime
from device_sim.runtimes.runtime import predict_rows
from grpo.head import Head
from personality_common.bundle.bundle import Bundle
from personality_common.bundle.stored import StoredTensor, stored_values
from personality_common.contract import EMBEDDING, LOGITS
from personality_common.coreml.patching import patched_copy
from personality_common.errors import MismatchError


@dataclass(frozen=True)
class PatchRoute:
    """Into `PersonalityModel.mlpackage`; figures: what is proven untouched (`Untouched`)."""

    bundle: Bundle
    name = "patch"
    part = PART

    def __post_init__(self) -> None:
        self.bundle.part(PART)

    def apply(self, update: HeadUpdate, target: Path) -> Delivered:
        """See `Route.apply`. The blobs are PyTorch's head, bit for bit in the dtype that is stored."""
        source, places = self.bundle.package(PART), head_places(self.bundle, PART)
        arrays = [_stored(place, value.numpy()) for place, value in zip(places, update.after, strict=True)]
        patches: dict[str | int, np.ndarray] = {}
        for place, array in zip(places, arrays, strict=True):
            if place.metadata_offset is None:
                raise MismatchError(f"{source}: {place.name} must be in a weight file, it is in {place.file}")
            patches[place.metadata_offset] = array
        patched_copy(source, target, patches)
        untouched = require_untouched(source, target, self.bundle.places(PART), places)
        model = MilRuntime().load(target)

        def predict(embeddings: Array) -> Array:
            return predict_rows(model, {EMBEDDING: embeddings})[LOGITS]

        return Delivered(
            self.name,
            target,
            self.read(target),
            places[0].dtype,
            self.bundle.part(PART).precision,
            predict,
            figures=vars(untouched),
        )

    def read(self, package: Path) -> Head:
        """The head of a copy."""
        return read_head(package, head_places(self.bundle, PART))


def _stored(place: StoredTensor, values: Array) -> np.ndarray:
    if values.shape != place.shape:
        raise MismatchError(f"{place.name} must be {place.shape}, got {values.shape}")
    return stored_values(place.name, values, place.dtype)
