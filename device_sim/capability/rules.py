"""How answers are scored, without a judge model."""

from __future__ import annotations

from typing import Protocol


class Rule(Protocol):
    """Scores an answer, 0 to 1; the same answer always the same."""

    def score(self, answer: str) -> float: ...
