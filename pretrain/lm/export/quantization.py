"""Weights in fewer bits: which tensor gets which type, and its bytes."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import ToolkitError
from pretrain.lm.bundle.gguf_types import TYPES, GgufType
from pretrain.lm.config import Quantization
from pretrain.lm.tokenizer import import_extra

FILE_TYPES: Final[dict[Quantization, int]] = {
    "f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "q5_0": 8, "q4_k_m": 15, "q6_k": 18, "bf16": 32,
}  # fmt: skip
"""`general.file_type`: what llama.cpp prints."""
_EMBEDDING: Final[dict[Quantization, str]] = {"q5_0": "Q8_0", "q4_0": "Q8_0", "q4_k_m": "Q6_K"}
"""The embedding is the head too, so that its errors count twice: it gets more bits."""


def choose_type(name: str, shape: tuple[int, ...], quantization: Quantization, layers: int) -> GgufType:
    """The type of a tensor in a file.

    Vectors stay in float32. Q4_K_M has Q6_K in half of the layers' values and second feed-forward matrices,
    as llama.cpp mixes it. Rows that are no whole blocks of 256 get Q8_0, whose blocks are of 32, or float16.

    Args:
        name: in GGUF.
    """
    if len(shape) < 2:
        return TYPES["F32"]
    kind = "Q4_K" if quantization == "q4_k_m" else quantization.upper()
    if name == "token_embd.weight":
        kind = _EMBEDDING.get(quantization, kind)
    elif quantization == "q4_k_m" and ("attn_v" in name or "ffn_down" in name):
        layer, eighth = int(name.split(".")[1]), layers // 8
        if layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2:
            kind = "Q6_K"
    fitting = (TYPES[k] for k in (kind, "Q8_0", "F16") if shape[-1] % TYPES[k].block == 0)
    return next(fitting)


def quantize(values: NDArray[np.float32], kind: GgufType) -> NDArray[np.uint8]:
    """Bytes of a tensor, (rows, bytes of a row) or (bytes,); the same values give the same bytes.

    Raises:
        ToolkitError: a value is not finite in that type, or a package is not installed.
    """
    if not np.isfinite(values).all() or (kind.name == "F16" and np.abs(values).max(initial=0) >= 65_520):
        raise ToolkitError(f"weights must be finite in {kind.name}, are not; export in another type")
    if kind.block == 256:
        return _quantize_in_llama(values, kind)
    gguf = import_extra("gguf")
    stored = gguf.quantize(values, gguf.GGMLQuantizationType(kind.number))
    return np.ascontiguousarray(stored).view(np.uint8)


def _quantize_in_llama(values: NDArray[np.float32], kind: GgufType) -> NDArray[np.uint8]:
    """By ggml's own code, which the package `gguf` has no copy of."""
    values = np.ascontiguousarray(values)
    rows, length = values.shape
    stored = np.empty((rows, length // kind.block * kind.bytes), np.uint8)
    written = _ggml().ggml_quantize_chunk(
        kind.number, values.ctypes.data, stored.ctypes.data, 0, rows, length, None
    )
    assert written == stored.nbytes
    return stored


@cache
def _ggml() -> Any:
    import_extra("xllamacpp")
    library = ctypes.CDLL(import_extra("xllamacpp.xllamacpp").__file__)
    chunk = library.ggml_quantize_chunk
    chunk.restype = ctypes.c_size_t
    chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64,
        ctypes.c_void_p,
    ]  # fmt: skip
    return library
