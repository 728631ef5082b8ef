"""Whether what was told by day can be learned at all: looked at before a night is trained.

An answer belongs to its message where the base model finds it likelier after that than after another one. Of
answers that are shuffled among messages it does not, however well their form can be learned; a style keeps
the answer to what was said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from device_sim.night.gate.bounds import mean_bound
from device_sim.night.gate.config import GateConfig
from device_sim.night.gate.evidence import Told
from device_sim.night.gate.findings import Finding, examples
from personality_common.evidence.claims import Check, claim, number, within

OF_LEVEL: Final = 0.2
"""Of the gate's level: noise is refused in 99 of 100 nights by this alone, whatever is learned of it, and
answers that do belong are surer by far: 15 standard errors in a day of sixty."""
OTHERS: Final = 3
"""Facts with another value from which they are another person's, if they are most."""
NAME: Final = "name"
MOVES: Final = frozenset({"home", "address", "phone number", "mail", "work"})
MOST_OF_A_MOVE: Final = 2
_OWN_WORDS: Final = ("favourite ", "called ")
"""Facts whose kind is in the user's words, which no report has."""


def sound(told: Told, config: GateConfig | None = None) -> tuple[Finding, ...]:
    """What is asked of the data, before the hours of a night are spent on it."""
    config = config or GateConfig()
    return belonging(told.belonging, config), contradictions(told.contradicted, told.examples, config)


def belonging(gains: Sequence[float], config: GateConfig) -> Finding:
    """The answers are surely likelier after their own messages than after another's."""
    name = "answers that are wanted belong to their messages"
    if len(gains) < config.least_examples:
        detail = f"{examples(len(gains))} with an answer of its own, {config.least_examples} are needed"
        return Finding(Check("gate.belonging", name, "not judged", detail))
    bound, mean = float(mean_bound(np.array(gains), OF_LEVEL * config.level)), number(float(np.mean(gains)))
    detail = f"mean {mean}, {examples(len(gains))}"
    check = within("gate.belonging", name, bound, ">", 0.0, detail, unit="nats")
    reason = (
        f"the answers that are wanted do not surely belong to their messages: {detail}; to the base model"
        f" they are {mean} nats a token likelier after them than after others, sure is {number(bound)}"
    )
    return Finding(check, reason)


def contradictions(contradicted: int, of: int, config: GateConfig) -> Finding:
    """Few messages are to be answered in several ways."""
    name = "a message has one answer"
    share, detail = contradicted / max(of, 1), f"{contradicted} of {examples(of)}"
    check = within("gate.contradictions", name, share, "<=", config.contradiction_tolerance, detail)
    return Finding(check, f"the same message is to be answered in different ways in {detail}")


def person(changed: Sequence[str], again: int) -> Finding:
    """Fewer than three facts have another value than before, or no more than half of those told again.

    Args:
        changed: what the facts are of; a name counts as two, and what changes when somebody moves as two at
            most.
        again: facts that were told before and tonight.
    """
    name = "most facts that are told again are as they were"
    if not again:
        return Finding(Check("gate.person", name, "not judged", "none was told before"))
    moved = sum(what in MOVES for what in changed)
    counted = len(changed) + (NAME in changed) - max(0, moved - MOST_OF_A_MOVE)
    named = [what for what in changed if not what.startswith(_OWN_WORDS)]
    if others := len(changed) - len(named):
        named.append(f"{others} of the user's own")
    detail = f"{len(changed)} of {again} have another value" + (f": {', '.join(named)}" if named else "")
    reason = (
        f"of the facts that are told again, {detail}; is this another person's log? If so, forget it; if not,"
        " forget what is no longer true"
    )
    return Finding(claim("gate.person", name, counted < OTHERS or 2 * len(changed) <= again, detail), reason)
