"""What an update needs to have the same bits alone, in any batch, and on any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

_ALIGNMENT: Final = 64
"""Bytes. BLAS sums a matrix that does not start on a cache line in another order."""


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes on one thread: how it splits sums among several is not the same for every shape."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def aligned(*shape: int, dtype: torch.dtype) -> Tensor:
    """Zeros (D, rows, columns) in which every matrix, and every row, starts on a cache line.

    A matrix in the middle of a batch then goes through BLAS as one alone does. Rows are padded, so the
    tensor is not contiguous unless its columns fill cache lines.
    """
    *batch, columns = shape
    line = _ALIGNMENT // dtype.itemsize
    return torch.zeros(*batch, -(-columns // line) * line, dtype=dtype)[..., :columns]
