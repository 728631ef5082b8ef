"""Tasks of what a user has told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from device_sim.capability.rules import Rules
from device_sim.capability.suite import Suite, Task


@dataclass(frozen=True)
class Told:
    """Something told, and what to ask for it.

    Attributes:
        question: `What is my sister's name?`
        values: any of which answers it: `("Mia",)`.
    """

    question: str
    values: tuple[str, ...]


def personal_suite(told: Sequence[Told], max_tokens: int = 32) -> Suite:
    """Each question as a task of the domain `personal`; any of its values answers it, as whole words.

    Raises:
        DataError: a question or a value is empty.
    """
    return Suite(
        "personal",
        tuple(
            Task(f"personal.{i + 1:03}", entry.question, Rules(contains=entry.values), max_tokens)
            for i, entry in enumerate(told)
        ),
    )
