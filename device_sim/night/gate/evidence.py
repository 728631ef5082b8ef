"""What the gate is told of a night, and what it says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from personality_common.evidence.claims import Check

Kind = Literal[
    "target", "wording", "personal", "remembered", "unasked", "earlier", "general", "capability", "style",
    "safety",
]  # fmt: skip
"""What a set is for.

target: this night's held-out examples; mean log-probability of an answer's tokens, in nats. They were neither
    trained on nor used to choose a checkpoint: an early stop looks at another part.
wording: how near answers that are given to this night's held-out messages are to what they should be, 0 to 1.
    A night of facts alone has none.
personal: tasks made of what was told tonight, asked without the memory, as decoded answers were scored, 0 to
    1. A night that taught nothing which can be asked for has none.
remembered: the same beside the memory, as they are asked by day.
unasked: questions near to what was told that it does not answer, beside the memory: 1 where no value of it
    is in the answer, else 0. A night that taught no facts has none.
earlier: held-out examples of one earlier night, as `target`; one set for each, under the name it had then.
general: examples of nobody's, as `target`.
capability, style, safety: decoded answers of the suite and of the probes, scored 0 to 1.
"""


@dataclass(frozen=True)
class Paired:
    """The same examples under what is in use and under tonight's candidate; higher is better.

    Attributes:
        name: of the set, stable over nights: `night-0007`, `general`; the gate knows earlier nights by it.
        before, after: (n,) score of each example under what is in use, and under the candidate.
        names: (n,) of the examples, for people: `facts.capital-of-france`; () where nobody names them.
        groups: (n,) domain of each task; () where there are none.
        answers: (n,) what was answered before and after, of decoded sets; () elsewhere.
    """

    name: str
    kind: Kind
    before: tuple[float, ...]
    after: tuple[float, ...]
    names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    answers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        n = len(self.before)
        others = (self.after, *filter(None, (self.names, self.groups, self.answers)))
        if any(len(values) != n for values in others):
            raise ValueError(f"{self.name}: a score before and after for each example, and a name or none")
        if not all(map(math.isfinite, (*self.before, *self.after))):
            raise ValueError(f"{self.name}: scores must be finite numbers")

    @cached_property
    def gains(self) -> tuple[float, ...]:
        """(n,) after - before."""
        return tuple(b - a for a, b in zip(self.before, self.after, strict=True))

    def part(self, of: Sequence[int]) -> Paired:
        """The examples at these places."""
        every = (self.before, self.after, self.names, self.groups, self.answers)
        before, after, names, groups, answers = (tuple(v[i] for i in of) if v else () for v in every)
        return Paired(self.name, self.kind, before, after, names, groups, answers)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Leak:
    """A value of tonight's in an answer where it has nothing to do."""

    task: str
    value: str
    answer: str


@dataclass(frozen=True)
class Told:
    """What tonight's examples look like, before anything is trained.

    Attributes:
        belonging: of each example whose answer is its own, how much likelier the answer is to the base model
            after its message than after another's; nats per token.
        contradicted: examples whose message is to be answered otherwise elsewhere.
        examples: all of them.
    """

    belonging: tuple[float, ...]
    contradicted: int
    examples: int


@dataclass(frozen=True)
class NightEvidence:
    """A night's candidate against what is in use.

    Attributes:
        target: the one set of kind `target`.
        kept: the other sets: earlier nights, general, capability, style, safety; and `wording`, `personal`,
            `remembered`, `unasked`.
        leaks: found; None: not looked for, which refuses.
        leak_answers: answers that were searched for them.
    """

    target: Paired
    kept: tuple[Paired, ...]
    leaks: tuple[Leak, ...] | None
    leak_answers: int = 0


@dataclass(frozen=True)
class GateState:
    """What the gate keeps from night to night; as JSON `asdict`, back by `files.typed.from_json`.

    Attributes:
        refused: names of the target sets of nights refused since something was last accepted, oldest first;
            a candidate shows its gain on those of them, too, that are handed in as `earlier`.
        looks: how often a gain was looked for since then.
    """

    refused: tuple[str, ...] = ()
    looks: int = 0


@dataclass(frozen=True)
class Change:
    """A task that changed sides."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Decision:
    """What the gate says.

    Attributes:
        accepted: whether every check passed.
        checks: one line each, with a figure where there is one; ids are stable.
        reasons: why it was refused, each a line for a person; () where it was accepted.
        state: for the next night.
        lost, won: tasks of the capability suite, of the probes and of what was told that changed sides.
    """

    accepted: bool
    checks: tuple[Check, ...]
    reasons: tuple[str, ...]
    state: GateState
    lost: tuple[Change, ...] = field(default=())
    won: tuple[Change, ...] = field(default=())
