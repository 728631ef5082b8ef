"""Tasks: a prompt, how long the answer may be, and a rule that scores it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from device_sim.capability.rules import Rule


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        id: unique in its suite: `facts.capital-of-france`.
        domain: `facts`.
        prompt: what the user says.
        rule: scores the answer.
        max_tokens: of the answer.
        system: of the prompt; None: what the model's template says.
        tags: for whoever groups otherwise.
        good: an answer that is right, for the suite's own test; "" where none is written.
    """

    id: str
    domain: str
    prompt: str
    rule: Rule
    max_tokens: int = 24
    system: str | None = None
    tags: tuple[str, ...] = ()
    good: str = ""


@dataclass(frozen=True)
class Suite:
    """Tasks that are reported together.

    Attributes:
        name: for the report.
        fingerprint: SHA-256 of the file.
    """

    name: str
    tasks: tuple[Task, ...]
    fingerprint: str = ""


def default_suite() -> Suite:
    """The toolkit's own: at least 120 tasks."""
    raise NotImplementedError


def probes() -> Suite:
    """Style and safety probes; domains `style` and `safety`."""
    raise NotImplementedError


def read_suite(path: Path) -> Suite:
    """A suite of a user's.

    Raises:
        DataError: not one; names file, line and key.
    """
    raise NotImplementedError
