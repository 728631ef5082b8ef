"""A suite through a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

from device_sim.capability.rules import fold, has_word
from device_sim.capability.suite import Suite, Task
from device_sim.companion.models.model import ChatModel, Message, Sampling
from personality_common.errors import DataError
from personality_common.evidence.intervals import Interval, share_interval
from personality_common.terminal.progress import SILENT, Reporter

ALL: Final = "all"
"""Where a domain's name stands, for all of a suite."""


@dataclass(frozen=True)
class Scored:
    """A task, what was answered, and what that is worth, 0 to 1."""

    task: Task
    answer: str
    score: float


class Found(NamedTuple):
    """A value of tonight's, in an answer where it has nothing to do."""

    task: Task
    value: str
    answer: str


@dataclass(frozen=True)
class DomainFigures:
    """How many tasks of a domain were done right, with the interval of the share."""

    domain: str
    right: int
    tasks: int
    share: Interval


def run_suite(model: ChatModel, suite: Suite, reporter: Reporter = SILENT) -> list[Scored]:
    """Answer each task, greedily (temperature 0, so no seed), and score it.

    Raises:
        DataError: a task does not fit into the model's context.
        ToolkitError: the model does not answer.
    """
    scored = []
    with reporter.stage("answering", len(suite.tasks), "tasks") as stage:
        for task in suite.tasks:
            messages = [Message("user", task.prompt)]
            if task.system is not None:
                messages.insert(0, Message("system", task.system))
            needed = model.count(messages) + task.max_tokens
            if needed > model.context_length:
                room = f"the model's context of {model.context_length:,} tokens"
                raise DataError(f"task {task.id}: must fit into {room}, needs {needed:,}")
            sampling = Sampling(task.max_tokens, temperature=0.0, seed=0)
            answer = "".join(piece.text for piece in model.stream(messages, sampling))
            scored.append(Scored(task, answer, task.rules.score(answer)))
            stage.advance(1)
    return scored


def by_domain(scored: Sequence[Scored]) -> list[DomainFigures]:
    """Figures of each domain, by name, and last of all tasks."""
    ordered = sorted(scored, key=lambda s: s.task.domain)
    found = [_figures(domain, list(group)) for domain, group in groupby(ordered, lambda s: s.task.domain)]
    return [*found, _figures(ALL, ordered)]


def _figures(domain: str, scored: Sequence[Scored]) -> DomainFigures:
    right = sum(s.score == 1 for s in scored)
    return DomainFigures(domain, right, len(scored), share_interval(right, len(scored)))


def leaked(
    values: Mapping[str, str | None], before: Sequence[Scored], after: Sequence[Scored]
) -> list[Found]:
    """Values told tonight that turn up, as whole words, in answers where they have nothing to do.

    A value in the task's own prompt, in what its rules ask for, or in the answer before, does not count; nor
    does one that the task asks for: "You live in Graz." is no wrong thing to say of one's street.

    Args:
        values: each with what it is of its user, as `Task.asks` has it; None: nothing that a task asks for.
        before, after: answers of the same tasks by what is in use and by the candidate.

    Raises:
        ValueError: not the same tasks.
    """
    told = sorted(((fold(value), what) for value, what in values.items() if fold(value)), key=str)
    found = []
    for old, new in zip(before, after, strict=True):
        if old.task.id != new.task.id:
            raise ValueError(f"tasks must be the same, got {old.task.id} and {new.task.id}")
        known = fold(
            " \n ".join((new.task.system or "", new.task.prompt, *new.task.rules.words(), old.answer))
        )
        answer = fold(new.answer)
        for value, what in told:
            if what not in new.task.asks and has_word(answer, value) and not has_word(known, value):
                found.append(Found(new.task, value, new.answer))
                break
    return found
