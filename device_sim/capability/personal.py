"""Tasks of what a user has told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from device_sim.capability.suite import Suite


@dataclass(frozen=True)
class Told:
    """Something told, and what to ask for it.

    Attributes:
        question: `What is my sister's name?`
        values: any of which answers it: `("Mia",)`.
    """

    question: str
    values: tuple[str, ...]


def personal_suite(told: Sequence[Told]) -> Suite:
    """Each question as a task of the domain `personal`; any of its values answers it, as whole words."""
    raise NotImplementedError
