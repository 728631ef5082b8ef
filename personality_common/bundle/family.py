"""What the bundles of one family of models have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from personality_common.contract import MANIFEST_FILE
from personality_common.evidence.tolerances import Tolerance
from personality_common.files.atomic import read_json_object
from personality_common.files.inside import inside


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


def family_of(folder: Path) -> object:
    """What a folder's manifest says of its family; None where it says nothing, or there is none."""
    file = inside(folder, MANIFEST_FILE)
    return read_json_object(file).get("family") if file.is_file() else None
