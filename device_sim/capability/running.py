"""A suite through a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from device_sim.capability.suite import Suite, Task
from device_sim.companion.models.model import ChatModel
from personality_common.terminal.progress import SILENT, Reporter


@dataclass(frozen=True)
class Scored:
    """A task, what was answered, and what that is worth, 0 to 1."""

    task: Task
    answer: str
    score: float


def run_suite(model: ChatModel, suite: Suite, reporter: Reporter = SILENT) -> list[Scored]:
    """Answer each task, greedily (temperature 0), and score it.

    Raises:
        ToolkitError: the model does not answer.
    """
    raise NotImplementedError


def leaked(
    values: Sequence[str], before: Sequence[Scored], after: Sequence[Scored]
) -> list[tuple[str, str, str]]:
    """Values told tonight that turn up in answers where they have nothing to do: (task's id, value, answer).

    A value in the task's own prompt, or in the answer before, does not count.

    Args:
        before, after: answers of the same tasks by what is in use and by the candidate.
    """
    raise NotImplementedError
