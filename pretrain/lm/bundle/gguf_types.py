"""How GGUF stores numbers: one by one, or in blocks that share a scale."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pretrain.lm.tokenizer import import_extra

_PLAIN: Final = {"F32": "<f4", "F16": "<f2"}


class GgufType(NamedTuple):
    """A type of ggml's: its number in files, and how many values lie in how many bytes."""

    name: str
    number: int
    block: int
    bytes: int

    def size(self, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor; its rows must be whole blocks."""
        return int(np.prod(shape, dtype=object)) // self.block * self.bytes

    def dequantize(self, raw: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Values of stored bytes, as float32."""
        if self.name in _PLAIN:
            return raw.view(_PLAIN[self.name]).astype(np.float32).reshape(shape)
        gguf = import_extra("gguf")
        rows = raw.reshape(*shape[:-1], -1)
        # What is not finite in a file is for whoever compares it.
        with np.errstate(all="ignore"):
            values = gguf.dequantize(rows, gguf.GGMLQuantizationType(self.number))
        return np.array(values, dtype=np.float32).reshape(shape)


TYPES: Final = {
    kind.name: kind
    for kind in (
        GgufType("F32", 0, 1, 4),
        GgufType("F16", 1, 1, 2),
        GgufType("BF16", 30, 1, 2),
        GgufType("Q8_0", 8, 32, 34),
        GgufType("Q5_0", 6, 32, 22),
        GgufType("Q4_0", 2, 32, 18),
        GgufType("Q4_K", 12, 256, 144),
        GgufType("Q6_K", 14, 256, 210),
        # Those of others' models, which we read alone.
        GgufType("Q4_1", 3, 32, 20),
        GgufType("Q5_1", 7, 32, 24),
        GgufType("Q2_K", 10, 256, 84),
        GgufType("Q3_K", 11, 256, 110),
        GgufType("Q5_K", 13, 256, 176),
    )
}
BY_NUMBER: Final = {kind.number: kind for kind in TYPES.values()}
