"""What the bundles of one family of models have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from personality_common.evidence.tolerances import Tolerance


@dataclass(frozen=True)
class Family:
    """All that the reader of bundles must be told of a family; each has one, beside its other rules.

    Attributes:
        parts: name of each part -> its package.
        golden: golden vectors that every bundle has -> numbers in a row of each.
        tolerances: how far runtimes may differ; a manifest may have tighter ones.
    """

    parts: Mapping[str, str]
    golden: Mapping[str, int]
    tolerances: tuple[Tolerance, ...]
