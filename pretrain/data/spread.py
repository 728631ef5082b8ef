"""What is too much for a process to hold: each has a part, and asks for what it needs of the others'."""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from personality_common.runs.processes import ALONE, Processes

D = TypeVar("D", bound=np.generic)


class Spread(Generic[D]):
    """An array of which each process holds a part, in the order of their ranks.

    What it does is for all processes together, as all of `Processes`.

    Attributes:
        own: (n_rank,) this process's part.
        start: the number of its first entry in the whole.
    """

    def __init__(self, own: NDArray[D], processes: Processes = ALONE) -> None:
        self.own = own
        self._processes = processes
        lengths = np.concatenate(processes.gather(np.array([len(own)])))
        self._starts = np.cumsum([0, *lengths])
        self.start = int(self._starts[processes.rank])

    def __len__(self) -> int:
        """Of the whole."""
        return int(self._starts[-1])

    def take(self, numbers: NDArray[np.integer]) -> NDArray[D]:
        """(N,) the entries of those numbers; each process asks for its own, and may ask for none."""
        holder = np.searchsorted(self._starts, numbers, side="right") - 1
        order, parts = by_process(holder, self._processes.size)
        asked = self._processes.exchange([numbers[part].astype(np.int64) for part in parts])
        answers = self._processes.exchange([self.own[part - self.start] for part in asked])
        taken = np.empty(len(numbers), self.own.dtype)
        taken[order] = np.concatenate(answers)
        return taken

    def first(self, count: int) -> NDArray[D]:
        """(count,) at most: the first entries of the whole."""
        return self.take(np.arange(min(count, len(self))))


def by_process(holder: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """The order of (N,) things by the process that each is for, and that order's part for each process."""
    order = np.argsort(holder, kind="stable")
    return order, np.split(order, np.searchsorted(holder[order], np.arange(1, size)))


def shuffled(generator: np.random.Generator, count: int) -> NDArray[np.integer]:
    """(count,) what `generator.permutation(count)` gives, in half of its memory."""
    order: NDArray[np.integer] = np.arange(count, dtype=np.uint32 if count < 1 << 32 else np.int64)
    generator.shuffle(order)
    return order
