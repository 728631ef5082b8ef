"""How much a package from outside may ask of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from personality_common.errors import DataError

MODEL_MIB: Final = 64
"""Default of `--max-model-mib`. Of ML Programs, weights are in files of their own; networks hold theirs in
the protobuf, and large ones need more."""
SECONDS: Final = 300.0
"""Default of `--max-seconds`."""


@dataclass(frozen=True)
class Limits:
    """Bounds that hold before anything is read; raise one for a file you trust."""

    manifest_bytes: int = 1 << 20
    model_bytes: int = MODEL_MIB << 20
    """Of the protobuf, which takes up to 16 times its limit in memory: a packed number of one byte becomes 8,
    and of messages and strings, which become 100 bytes or more, `objects` are allowed."""
    models: int = 1_000
    """Of a pipeline, those of pipelines in it included."""
    weight_entries: int = 200_000
    package_files: int = 10_000

    @property
    def objects(self) -> int:
        """Messages and strings in the protobuf; a file of half the bytes cannot have as many."""
        return self.model_bytes // 16


DEFAULT_LIMITS: Final = Limits()


def require_at_most(count: int, most: int, what: str) -> None:
    """Refuse counts that no model has, before there is an object for each.

    Raises:
        DataError: there are more.
    """
    if count > most:
        raise DataError(f"{count:,} {what}; the limit is {most:,}")
