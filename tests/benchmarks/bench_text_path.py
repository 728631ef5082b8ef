"""From a text to the top 8: which weights of the text encoder may be 8 bits, as JSON lines.

    python tests/benchmarks/bench_text_path.py --data CONVERSATIONS.jsonl --run RUN [--bundle BUNDLE]

Weights are rounded in PyTorch, all else is float32, and the top 8 are compared with those of the weights as
they are. `near` is the root mean square of how far the 16 greatest logits of a text move against one another:
it tells apart what the share of common tokens, a count of few swaps, does not. With `--bundle`, its packages
themselves, in the interpreter, on the first 100 texts.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from device_sim.mil import load_mil
from personality_common.contract import (
    ATTENTION_MASK,
    EMBEDDING,
    ENCODER_PACKAGE,
    INPUT_IDS,
    LOGITS,
    MODEL_PACKAGE,
)
from personality_common.evidence.distances import top_indices, top_overlap
from personality_common.terminal.progress import SILENT
from personality_common.text.sentence import SentenceEncoder
from pretrain.data.conversations import DataConfig, read_texts
from pretrain.personality.export.compression import HALF
from pretrain.personality.run import load_run, load_run_encoder
from pretrain.personality.text_encoder import TextEncoder, load_text_encoder

Rounding = Callable[[Tensor], Tensor]
IN_PACKAGES: Final = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="conversations")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--texts", type=int, default=400)
    arguments = parser.parse_args()

    run = load_run(arguments.run)
    encoder = load_run_encoder(run, "cpu", torch.float32, SILENT)
    assert isinstance(encoder, SentenceEncoder)
    assert run.projector is not None
    model = load_text_encoder(encoder.folder, run.projector)
    texts, _ = read_texts(DataConfig(arguments.data, max_samples=None))
    ids = encoder.token_ids(random.Random(7).sample(sorted(texts), arguments.texts))

    def logits(of: TextEncoder) -> Any:
        with torch.no_grad():
            return run.model(embeddings(of, ids)).numpy()

    expected = logits(model)
    for name, (half, rounding) in VARIANTS.items():
        rounded, size = rounded_copy(model, half, rounding)
        print(json.dumps({"weights": name, "MB": size, **compared(logits(rounded), expected)}), flush=True)
    if arguments.bundle:
        package = arguments.bundle / ENCODER_PACKAGE
        text, top = load_mil(package), load_mil(arguments.bundle / MODEL_PACKAGE)
        rows = []
        for row in ids[:IN_PACKAGES]:
            arrays = {INPUT_IDS: np.array([row], np.int32), ATTENTION_MASK: np.ones((1, len(row)), np.int32)}
            rows.append(top.predict({EMBEDDING: text.predict(arrays)[EMBEDDING]})[LOGITS])
        found = compared(np.concatenate(rows), expected[:IN_PACKAGES])
        size = sum(file.stat().st_size for file in package.rglob("*") if file.is_file())
        print(json.dumps({"weights": "the bundle's", "MB": round(size / 1e6, 1), **found}), flush=True)


def by_row(weight: Tensor) -> Tensor:
    scale = weight.abs().amax(1, keepdim=True) / 127
    return (weight / scale).round() * scale


def by_row_asymmetric(weight: Tensor) -> Tensor:
    low, high = weight.amin(1, keepdim=True).clamp(max=0), weight.amax(1, keepdim=True).clamp(min=0)
    scale = (high - low) / 255
    zero = (-low / scale).round()
    return ((weight / scale).round() + zero).clamp(0, 255).sub(zero) * scale


def by_block(weight: Tensor) -> Tensor:
    """Blocks of 32 with a float16 scale, as `constexpr_blockwise_shift_scale` of iOS 18 takes them."""
    blocks = weight.view(len(weight), -1, 32)
    scale = (blocks.abs().amax(2, keepdim=True) / 127).half().float().clamp(min=1e-7)
    return ((blocks / scale).round().clamp(-127, 127) * scale).view_as(weight)


VARIANTS: Final[dict[str, tuple[re.Pattern[str], Rounding]]] = {
    "symmetric": (re.compile("-"), by_row),
    "asymmetric": (re.compile("-"), by_row_asymmetric),
    "blocks of 32 (iOS 18)": (re.compile("-"), by_block),
    "attention in float16": (re.compile(".*attention.*"), by_row),
    "last three layers in float16": (re.compile("layer_[345].*"), by_row),
    "chosen, symmetric": (HALF, by_row),
    "chosen": (HALF, by_row_asymmetric),
    "all but words in float16": (re.compile("(?!word).*"), by_row_asymmetric),
}
"""Name -> which matrices are float16, and how the others are rounded."""


@torch.no_grad()
def rounded_copy(model: TextEncoder, half: re.Pattern[str], rounding: Rounding) -> tuple[TextEncoder, float]:
    """The model with rounded matrices, and the megabytes of its weights and scales."""
    made, size = copy.deepcopy(model), 0
    for name, parameter in made.named_parameters():
        if parameter.ndim < 2:
            size += parameter.numel() * 4
        elif half.fullmatch(name.replace(".", "_")):
            parameter.copy_(parameter.half())
            size += parameter.numel() * 2
        else:
            parameter.copy_(rounding(parameter))
            size += parameter.numel() + len(parameter) * 5
            size += parameter.numel() // 16 - len(parameter) * 5 if rounding is by_block else 0
    return made, round(size / 1e6, 1)


@torch.no_grad()
def embeddings(model: TextEncoder, ids: list[list[int]]) -> Tensor:
    """(N, 1536); one text at a time, as on a device."""
    rows = []
    for row in ids:
        tokens = torch.tensor([row])
        rows.append(model(tokens, torch.ones_like(tokens))[1])
    return torch.cat(rows)


def compared(logits: Any, expected: Any) -> dict[str, float]:
    overlap = top_overlap(logits, expected)
    near = top_indices(expected, 16)
    moved = np.take_along_axis(logits - expected, near, 1)
    moved -= moved.mean(1, keepdims=True)
    first = top_indices(logits, 1) == top_indices(expected, 1)
    return {
        "overlap": round(float(overlap.mean()), 4),
        "worst": float(overlap.min()),
        "first": round(float(first.mean()), 4),
        "near": round(float(np.sqrt((moved**2).mean())), 5),
    }


if __name__ == "__main__":
    main()
