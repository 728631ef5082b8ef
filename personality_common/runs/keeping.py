"""Which of a run's evaluated states is its result: the one of the lowest held-out loss, or the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor, nn

from personality_common.evidence.claims import apart
from personality_common.runs.checkpoints import Checkpoints
from personality_common.runs.keep_choices import Keep

LOSS: Final = "val_loss"
"""What a history's entries call the held-out loss."""


@dataclass(frozen=True)
class Kept:
    """The entry of a history whose state is the result.

    Attributes:
        history: an entry per evaluation, the first of the start.
        count: what they are numbered in: epoch, step.
        index: of the entry that is kept.
        best: of the lowest held-out loss.
    """

    history: Sequence[Mapping[str, Any]]
    count: str
    index: int
    best: int

    @property
    def entry(self) -> Mapping[str, Any]:
        return self.history[self.index]

    @property
    def is_last(self) -> bool:
        return self.index == len(self.history) - 1

    @property
    def sentence(self) -> str | None:
        """That the end is not the best, and what became of it; None where it is."""
        last = len(self.history) - 1
        if self.best == last:
            return None
        lower, higher = apart(self.history[self.best][LOSS], self.history[last][LOSS])
        what = f"held-out loss {lower} {self._when(self.best)}, {higher} {self._when(last)}"
        better = "the start was better than the end" if self.best == 0 else "it was better before the end"
        kept = "the end is kept; --keep best takes the other"
        if self.index == self.best:
            kept = f"the {'start' if self.best == 0 else 'better one'} is kept; --keep last takes the end"
        return f"{better}: {what}; {kept}"

    def record(self) -> dict[str, int]:
        """For `run.json`."""
        return {self.count: self.entry[self.count], "of": self.history[-1][self.count]}

    def _when(self, index: int) -> str:
        number = self.history[index][self.count]
        return f"after {self.count} {number:,}" if index else "at the start"


def choose(history: Sequence[Mapping[str, Any]], count: str, keep: Keep) -> Kept:
    """Of equals the later, as checkpoints count: to the sixth place."""
    best = min(range(len(history)), key=lambda i: (round(history[i][LOSS], 6), -i))
    return Kept(history, count, best if keep == "best" else len(history) - 1, best)


def start_of(module: nn.Module, keep: Keep) -> dict[str, Tensor]:
    """A copy of a module's state at its start, on the CPU; empty where it cannot be the result."""
    if keep == "last":
        return {}
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def take_back(kept: Kept, module: nn.Module, start: Mapping[str, Tensor], checkpoints: Checkpoints) -> None:
    """Give the module the state that is kept, of a trainer that has come to its end.

    Raises:
        DataError: its checkpoint is damaged, or gone.
    """
    if kept.is_last:
        return
    if kept.index == 0:
        module.load_state_dict(dict(start))
    else:
        checkpoints.load(kept.entry[kept.count], kept.entry[LOSS], module)
