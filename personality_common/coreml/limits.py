"""How much a package from outside may ask of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Limits:
    """Bounds that hold before anything is read; raise one for a file you trust.

    `model_bytes` also bounds memory: parsing takes up to about fifty times the size of a
    protobuf that is made of nothing but empty messages, and twice the size of a real one.
    """

    manifest_bytes: int = 1 << 20
    model_bytes: int = 1 << 30
    weight_entries: int = 200_000
    package_files: int = 10_000


DEFAULT_LIMITS: Final = Limits()
