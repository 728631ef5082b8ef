"""How far the exported text encoder is from SentenceTransformer, by precision, as JSON lines.

    python tests/benchmarks/text_encoder_agreement.py --data CONVERSATIONS.jsonl

The package runs in the interpreter (`device_sim.mil`), which rounds as the program declares; Core
ML itself may err more at float16. A fifth of the texts are turns joined to lengths up to 256 tokens.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from device_sim.mil import Model, load_mil
from personality_common.contract import ATTENTION_MASK, EMBEDDING, INPUT_IDS, SENTENCE_EMBEDDING
from personality_common.text.bert_folder import read_wordpiece_vocabulary
from personality_common.text.encoder import find_minilm
from personality_common.text.wordpiece import MAX_TOKENS, WordPiece
from pretrain.personality.export.config import ENCODER_WEIGHTS, EncoderWeights
from pretrain.personality.export.encoder import convert_text_encoder
from pretrain.personality.model import EmbeddingProjector
from pretrain.personality.text_encoder import load_text_encoder

PADDING_CHECKS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="conversations, JSONL")
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--precision", choices=ENCODER_WEIGHTS, nargs="+")
    arguments = parser.parse_args()

    folder, _ = find_minilm()
    texts = sample_texts(arguments.data, arguments.texts)
    ours = [WordPiece(read_wordpiece_vocabulary(folder)).ids(text) for text in texts]
    reference = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    theirs = reference.tokenizer(texts, truncation=True, max_length=MAX_TOKENS)["input_ids"]
    emit(
        texts=len(texts),
        shortest_tokens=min(map(len, ours)),
        longest_tokens=max(map(len, ours)),
        at_longest=sum(len(ids) == MAX_TOKENS for ids in ours),
        tokenized_differently=sum(a != b for a, b in zip(ours, theirs, strict=True)),
    )
    projector = initial_projector()
    base = reference.encode(texts, convert_to_tensor=True, show_progress_bar=False)
    with torch.no_grad():
        expected = {SENTENCE_EMBEDDING: base.numpy(), EMBEDDING: projector(base).numpy()}
    for precision in arguments.precision or ENCODER_WEIGHTS:
        measure(folder, projector, precision, ours, expected)


def measure(
    folder: Path,
    projector: EmbeddingProjector,
    precision: EncoderWeights,
    token_ids: list[list[int]],
    expected: dict[str, Any],
) -> None:
    """Build the package of one precision, run it on all texts, print a line."""
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch) / "TextEncoder.mlpackage"
        start = time.perf_counter()
        convert_text_encoder(load_text_encoder(folder, projector), precision).save(str(package))
        seconds = time.perf_counter() - start
        size = sum(file.stat().st_size for file in package.rglob("*") if file.is_file())
        model = load_mil(package)
        found = [encode(model, ids, len(ids)) for ids in token_ids]
    line: dict[str, Any] = {"precision": precision, "bytes": size, "build_seconds": round(seconds, 1)}
    for name, wanted in expected.items():
        cosine = cosines(np.concatenate([outputs[name] for outputs in found]), wanted)
        line[f"{name}_cosine"] = {"mean": float(cosine.mean()), "worst": float(cosine.min())}
    short = sorted(range(len(token_ids)), key=lambda i: len(token_ids[i]))[
        :: len(token_ids) // PADDING_CHECKS
    ]
    padded = {i: encode(model, token_ids[i], MAX_TOKENS) for i in short}
    line["padding_moves_a_value_by"] = {
        name: float(max(np.abs(padded[i][name] - found[i][name]).max() for i in short)) for name in expected
    }
    emit(**line)


def encode(model: Model, ids: list[int], length: int) -> dict[str, Any]:
    """Outputs for one text, padded to `length`."""
    padding = length - len(ids)
    inputs = {INPUT_IDS: ids + [0] * padding, ATTENTION_MASK: [1] * len(ids) + [0] * padding}
    return dict(model.predict({name: np.array([value], np.int32) for name, value in inputs.items()}))


def sample_texts(path: Path, count: int) -> list[str]:
    """Four fifths single turns, a fifth turns joined: 2 to 24 a text, the longest cut off."""
    with path.open(encoding="utf-8") as lines:
        turns = [turn["value"] for line in lines for turn in json.loads(line)["conversations"]]
    draw = random.Random(0)
    joined = count // 5
    singles = draw.sample(turns, count - joined)
    return singles + [" ".join(draw.sample(turns, 2 + i % 23)) for i in range(joined)]


def initial_projector() -> EmbeddingProjector:
    """Orthogonal columns, as before training; LayerNorm and bias as PyTorch makes them."""
    torch.manual_seed(0)
    projector = EmbeddingProjector().eval()
    torch.nn.init.orthogonal_(projector.linear.weight)
    return projector


def cosines(a: Any, b: Any) -> Any:
    """Of each row with its counterpart, in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def emit(**values: Any) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
