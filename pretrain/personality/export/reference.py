"""The sample of texts on which devices measure how far a head has moved from the one that ships."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch

from personality_common.bundle.manifest import ReferenceSample
from personality_common.bundle.stored import StoredArray, stored_values
from personality_common.contract import TOP_K
from personality_common.files.fingerprint import fingerprint
from pretrain.personality.run import Run

REFERENCE_DIR: Final = "reference"


@torch.inference_mode()
def write_reference(folder: Path, run: Run) -> ReferenceSample | None:
    """Write latents in float16, and the shipped top 8 of these very numbers; None without a sample."""
    if run.reference is None:
        return None
    (folder / REFERENCE_DIR).mkdir()
    embeddings = run.reference if run.projector is None else run.projector(run.reference)
    latents = stored_values("latents", run.model.backbone(embeddings).numpy(), "float16")
    logits = run.model.head(torch.from_numpy(latents.astype(np.float32))).numpy()
    # A stable sort puts the lower index first among equal logits.
    top = np.argsort(-logits, axis=1, kind="stable")[:, :TOP_K].astype("<u2")
    stored = []
    for name, array in (("latents", latents), ("top", top)):
        file = f"{REFERENCE_DIR}/{name}.bin"
        (folder / file).write_bytes(array.tobytes())
        stored.append(StoredArray(file, array.dtype.name, array.shape, fingerprint(array)))
    return ReferenceSample(*stored)
