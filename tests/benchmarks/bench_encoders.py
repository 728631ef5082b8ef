"""Our encoder beside libraries that run the same weights, all in one run.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_encoders.py [--data FILE] [--rounds 5]

Prints JSON: of each, texts a second, the speed over `SentenceTransformer.encode` at its defaults, and the
mean and worst cosine to that, in float32. The libraries get what suits them: texts sorted by length in
batches of 32, each padded to its longest. Rounds alternate, and the fastest of each counts. ONNX Runtime and
OpenVINO are no dependencies: what is not installed is left out, with a line that says so. Not part of `make
bench`, since `torch.compile` alone takes minutes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_pretrain import FIXTURE
from numpy.typing import NDArray
from suite import clock
from torch import Tensor, nn
from torch.nn import functional as F

from personality_common.runs.device import fast_dtype
from personality_common.terminal.console import errors
from personality_common.text.bert_folder import bert_layers, read_bert_shape, read_bert_tensors
from personality_common.text.encoder import find_minilm
from personality_common.text.sentence import SentenceEncoder
from pretrain.data.conversations import DataConfig, read_texts

Array = NDArray[Any]
Encode = Callable[[Sequence[str]], Array]
"""Texts -> (N, 384), unit length."""
Run = Callable[[Array, Array], Array]
"""Ids and mask of a batch, (B, T) int64 each -> (B, 384), unit length."""
BATCH = 32


class PlainBert(nn.Module):
    """MiniLM from PyTorch's own parts: ids (B, T) and mask (B, T) -> (B, 384), unit length."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.shape = read_bert_shape(folder)
        held = read_bert_tensors(folder, self.shape)
        self.words = nn.Parameter(held["word_embeddings"])
        self.positions = nn.Parameter(held["position_embeddings"] + held["token_type_embedding"])
        self.norm = nn.ParameterList([held["LayerNorm.weight"], held["LayerNorm.bias"]])
        self.layers = nn.ModuleList(
            nn.ParameterList([tensor for step in layer for tensor in step])
            for layer in bert_layers(held, self.shape, torch.cat)
        )

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden, heads, eps = self.shape.hidden, self.shape.heads, self.shape.layer_norm_eps
        count, length = ids.shape
        x = F.embedding(ids, self.words) + self.positions[:length]
        x = F.layer_norm(x, (hidden,), self.norm[0], self.norm[1], eps)
        hide = ((1 - mask) * -1e4).to(x.dtype)[:, None, None, :]
        for layer in self.layers:
            p: Any = layer
            parts = F.linear(x, p[0], p[1]).reshape(count, length, 3, heads, hidden // heads)
            query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
            mixed = F.scaled_dot_product_attention(query, key, value, hide)
            mixed = mixed.transpose(1, 2).reshape(count, length, hidden)
            x = F.layer_norm(x + F.linear(mixed, p[2], p[3]), (hidden,), p[4], p[5], eps)
            inner = F.linear(F.gelu(F.linear(x, p[6], p[7])), p[8], p[9])
            x = F.layer_norm(x + inner, (hidden,), p[10], p[11], eps)
        own = mask.to(x.dtype)[:, :, None]
        return F.normalize((x * own).sum(1).float() / own.sum(1).float(), dim=-1)


def batched(encoder: SentenceEncoder, run: Run) -> Encode:
    """Tokens as ours, batches as SentenceTransformer's."""

    def encode(texts: Sequence[str]) -> Array:
        rows = encoder.token_ids(texts)
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        found = np.empty((len(rows), encoder.identity.dim), np.float32)
        for first in range(0, len(order), BATCH):
            picked = order[first : first + BATCH]
            longest = len(rows[picked[0]])
            ids = np.zeros((len(picked), longest), np.int64)
            mask = np.zeros_like(ids)
            for place, i in enumerate(picked):
                ids[place, : len(rows[i])] = rows[i]
                mask[place, : len(rows[i])] = 1
            found[picked] = run(ids, mask)
        return found

    return encode


def through_torch(model: Callable[[Tensor, Tensor], Tensor]) -> Run:
    def run(ids: Array, mask: Array) -> Array:
        with torch.inference_mode():
            return model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()

    return run


def compiled(folder: Path, dtype: torch.dtype) -> Run:
    return through_torch(torch.compile(PlainBert(folder).eval().to(dtype), dynamic=True))


def export_onnx(folder: Path, path: Path) -> None:
    ids = torch.ones(2, 5, dtype=torch.int64)
    axes = {0: "texts", 1: "tokens"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            PlainBert(folder).eval(),
            (ids, ids),
            str(path),
            input_names=["ids", "mask"],
            output_names=["embedding"],
            dynamic_axes={"ids": axes, "mask": axes, "embedding": {0: "texts"}},
            opset_version=17,
            dynamo=False,
        )


def onnx_runtime(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: np.asarray(session.run(None, {"ids": ids, "mask": mask})[0])


def onnx_int8(path: Path) -> Run:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    smaller = path.with_name("int8.onnx")
    quantize_dynamic(path, smaller, per_channel=True, weight_type=QuantType.QInt8)
    return onnx_runtime(smaller)


def openvino(path: Path, precision: str) -> Run:
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }
    library: Any = importlib.import_module("openvino")
    model = library.Core().compile_model(str(path), "CPU", settings)
    return lambda ids, mask: np.asarray(model({"ids": ids, "mask": mask})[0])


def candidates(folder: Path, scratch: Path) -> Mapping[str, Encode]:
    """What there is here, by name, the baseline first."""
    from sentence_transformers import SentenceTransformer

    ours = {dtype: SentenceEncoder(folder, "", "cpu", dtype) for dtype in {torch.float32, fast_dtype("cpu")}}
    tokens = ours[torch.float32]
    found: dict[str, Encode] = {}
    for dtype in (torch.float32, torch.bfloat16):
        stock = SentenceTransformer(str(folder), device="cpu").to(dtype)
        found[f"SentenceTransformer, {name(dtype)}"] = stock_encode(stock)
    found |= {f"ours, {name(dtype)}": encoder.encode for dtype, encoder in ours.items()}
    path = scratch / "minilm.onnx"
    export_onnx(folder, path)
    makers: dict[str, Callable[[], Run]] = {
        "torch.compile, float32": lambda: compiled(folder, torch.float32),
        "torch.compile, bfloat16": lambda: compiled(folder, torch.bfloat16),
        "ONNX Runtime, float32": lambda: onnx_runtime(path),
        "ONNX Runtime, int8": lambda: onnx_int8(path),
        "OpenVINO, float32": lambda: openvino(path, "f32"),
        "OpenVINO, bfloat16": lambda: openvino(path, "bf16"),
    }
    for title, make in makers.items():
        try:
            found[title] = batched(tokens, make())
        except ImportError as error:
            errors.print(f"{title}: left out, {error.name} is not installed", markup=False)
    return found


def stock_encode(model: Any) -> Encode:
    def encode(texts: Sequence[str]) -> Array:
        found = np.asarray(model.encode(list(texts)), np.float32)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        return found

    return encode


def name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def measure(sides: Mapping[str, Encode], texts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Speed and likeness of each, after a round that warms up."""
    now = clock(torch.get_num_threads())
    embeddings = {title: encode(texts) for title, encode in sides.items()}
    seconds: dict[str, list[float]] = {title: [] for title in sides}
    for _ in range(rounds):
        for title, encode in sides.items():
            started = now()
            encode(texts)
            seconds[title].append(now() - started)
    baseline = next(iter(sides))
    least = {title: min(taken) for title, taken in seconds.items()}
    cosines = {title: (e * embeddings[baseline]).sum(axis=1) for title, e in embeddings.items()}
    return {
        title: {
            "texts_per_second": round(len(texts) / least[title]),
            "times": round(least[baseline] / least[title], 2),
            "mean_cosine": round(float(cosines[title].mean()), 6),
            "worst_cosine": round(float(cosines[title].min()), 6),
        }
        for title in sides
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=str(FIXTURE))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    turns, _ = read_texts(DataConfig(options.data))
    conversations, _ = read_texts(DataConfig(options.data, unit="conversation"))
    folder, _ = find_minilm()
    with tempfile.TemporaryDirectory() as scratch:
        sides = candidates(folder, Path(scratch))
        long = measure(sides, [" ".join(text.split()[:51]) for text in conversations][:100], options.rounds)
        short = measure(sides, turns[:300], options.rounds)
    ratios = {
        f"{title}, {kind}": figures["times"]
        for kind, part in (("51 words", long), ("turns", short))
        for title, figures in part.items()
    }
    threads = torch.get_num_threads()
    print(json.dumps({"threads": threads, "51 words": long, "turns": short, "ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
