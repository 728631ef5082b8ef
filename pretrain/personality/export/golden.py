"""Vectors that tests of the app and of this toolkit both compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from personality_common.bundle.golden import GOLDEN_SCHEMA, GoldenRecord, GoldenUpdate
from personality_common.bundle.stored import StoredArray
from personality_common.contract import EMBEDDING_DIM, GOLDEN_FILE, TOP_K
from personality_common.files.atomic import write_json
from personality_common.files.fingerprint import fingerprint
from personality_common.text.identity import Encoder
from personality_common.text.sentence import SentenceEncoder
from pretrain.personality.run import Run
from pretrain.personality.text_encoder import TextEncoder

GOLDEN_STEP: Final = 0.5
"""A power of two, so that it is the same number in every precision."""

TEXTS: Final = (
    "I love meeting new people.",
    "hi",
    "I'd rather stay home with a good book tonight.",
    "What if we tried something nobody has ever tried before?",
    "WHY does this ALWAYS happen to me?!",
    "Let's make a list, set a deadline, and stick to the plan.",
    "I'm so sorry, I didn't mean to hurt your feelings.",
    "lol ok 😂👍",
    "J'adore le café au lait à Orléans, même en été.",
    "今天天气很好,我们去公园吧。",
    "Ich weiß nicht, ob das die richtige Entscheidung wäre…",
    "The train leaves at 07:45 from platform 9; don't be late.",
    "e=mc^2 & 3.14159 -- [numbers], (symbols) {and} <tags/>",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "no",
    " ".join(["My grandmother told this story every winter, and every winter it grew a little."] * 24),
)
"""Fixed: short, loud, foreign, symbols, and one that is longer than the encoder reads."""

_FORMULA: Final = (
    "z: logits (N, V); t: target, 1 for the top tokens of each text and 0 for the others; "
    "gradient g = 2 / (N * V) * (z - t), that of the mean over N * V of (z - t)^2; "
    "updated projection.weight = projection.weight - learning_rate * g^T latents; "
    "updated output_bias = output_bias - learning_rate * sum over N of g. "
    "g is float32; the update of each element is computed in float64 from float32 inputs "
    "and rounded once to float32."
)


def write_golden(folder: Path, run: Run, encoder: Encoder | None, shipped: TextEncoder | None = None) -> None:
    """Write `golden.json` and the arrays that it names.

    Args:
        folder: new.
        run: whose model computes.
        encoder: the run's; None for a hosted one, which is not asked: random unit vectors stand in
            for embeddings of texts.
        shipped: the text encoder with the weights that its package holds; None where there is no package.
    """
    folder.mkdir()
    base = _random_embeddings() if encoder is None else encoder.encode(TEXTS)
    arrays = {"base_embeddings": base, **_forward(run, base)}
    top = _top(arrays["logits"])
    update = head_update(run, arrays["latents"], arrays["logits"], top)
    ids = encoder.token_ids(TEXTS) if isinstance(encoder, SentenceEncoder) else None
    felt = None if shipped is None or ids is None else _top(_shipped_logits(run, shipped, ids))
    record = GoldenRecord(
        schema=GOLDEN_SCHEMA,
        texts=None if encoder is None else TEXTS,
        token_ids=None if ids is None else tuple(map(tuple, ids)),
        top_indices=tuple(map(tuple, top.tolist())),
        top_tokens=_named(run, top),
        shipped_top_indices=None if felt is None else tuple(map(tuple, felt.tolist())),
        shipped_top_tokens=None if felt is None else _named(run, felt),
        arrays=_write_arrays(folder, arrays),
        update=GoldenUpdate(_FORMULA, GOLDEN_STEP, _write_arrays(folder, update)),
    )
    write_json(folder / GOLDEN_FILE, asdict(record))


def head_update(
    run: Run, latents: NDArray[np.float32], logits: NDArray[np.float32], top: NDArray[Any]
) -> dict[str, NDArray[np.float32]]:
    """One SGD step of the head, as `_FORMULA` says.

    Args:
        latents: (N, 512).
        logits: (N, 325).
        top: (N, 8) indices.

    Returns:
        target, gradient (N, 325); projection_weight, updated_projection_weight (325, 512);
        output_bias, updated_output_bias (325,).
    """
    target = np.zeros_like(logits)
    np.put_along_axis(target, top, 1.0, axis=1)
    gradient = (2.0 / logits.size * (logits.astype(np.float64) - target)).astype(np.float32)
    weight = run.model.projection.weight.detach().numpy()
    bias = run.model.output_bias.detach().numpy()
    wide = gradient.astype(np.float64)
    updated_weight = weight - GOLDEN_STEP * (wide.T @ latents.astype(np.float64))
    updated_bias = bias - GOLDEN_STEP * wide.sum(axis=0)
    return {
        "target": target,
        "gradient": gradient,
        "projection_weight": weight,
        "output_bias": bias,
        "updated_projection_weight": updated_weight.astype(np.float32),
        "updated_output_bias": updated_bias.astype(np.float32),
    }


@torch.inference_mode()
def _forward(run: Run, base_embeddings: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    base = torch.from_numpy(base_embeddings)
    embeddings = base if run.projector is None else run.projector(base)
    latents = run.model.backbone(embeddings)
    logits = run.model.head(latents)
    return {"embeddings": embeddings.numpy(), "latents": latents.numpy(), "logits": logits.numpy()}


@torch.inference_mode()
def _shipped_logits(
    run: Run, shipped: TextEncoder, token_ids: Sequence[Sequence[int]]
) -> NDArray[np.float32]:
    """(N, 325), as an app has them: one text at a time."""
    rows = []
    for ids in token_ids:
        row = torch.tensor([ids])
        _, embedding = shipped(row, torch.ones_like(row))
        rows.append(run.model(embedding))
    logits: NDArray[np.float32] = torch.cat(rows).numpy()
    return logits


def _top(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N, 8); a stable sort puts the lower index first among equal logits."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :TOP_K]


def _named(run: Run, top: NDArray[np.int64]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(run.vocabulary.tokens[i] for i in row) for row in top)


def _random_embeddings() -> NDArray[np.float32]:
    draw = np.random.default_rng(0).standard_normal((len(TEXTS), EMBEDDING_DIM))
    draw /= np.linalg.norm(draw, axis=1, keepdims=True)
    return draw.astype(np.float32)


def _write_arrays(folder: Path, arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, StoredArray]:
    """Write `NAME.bin`: float32, little-endian, C order."""
    record = {}
    for name, array in arrays.items():
        (folder / f"{name}.bin").write_bytes(array.astype("<f4").tobytes())
        record[name] = StoredArray(f"{name}.bin", "float32", array.shape, fingerprint(array))
    return record
