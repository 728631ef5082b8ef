"""Versions of the head on disk, one of them active."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpo.head import Head


@dataclass(frozen=True)
class Identity:
    """Fingerprints of what a head belongs to; `identity_of(bundle)` reads them."""

    bundle: str
    vocabulary: str
    encoder: str


@dataclass(frozen=True)
class Gate:
    """A condition on an update: "frozen tensors identical", "reward rose", …"""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class HeadRecord:
    """Where a head comes from.

    Attributes:
        identity: what it belongs to.
        parent: version it was made from; None for the head that shipped.
        settings: of the update, JSON.
        feedback: fingerprint of the feedback; None if there was none.
        before, after: metrics by name.
        gates: an update needs at least one, and all passed, to be activated.
        created: ISO 8601; None: now.
    """

    identity: Identity
    parent: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    feedback: str | None = None
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    gates: tuple[Gate, ...] = ()
    created: str | None = None


def identity_of(bundle: Path) -> Identity:
    """Fingerprints from a bundle's manifest."""
    raise NotImplementedError


class HeadStore:
    """A folder of head versions.

    `HeadStore.create(path, identity, shipped)` makes one, with the shipped head as its first version, active
    and pinned; `HeadStore(path)` opens one. Every change takes the store's lock.
    """

    def __init__(self, path: Path) -> None:
        raise NotImplementedError

    @classmethod
    def create(cls, path: Path, identity: Identity, shipped: Head) -> HeadStore:
        raise NotImplementedError

    @property
    def active(self) -> str:
        raise NotImplementedError

    def add(self, head: Head, record: HeadRecord) -> str:
        """Keep a head; returns its version id. It is not active yet."""
        raise NotImplementedError

    def load(self, version: str) -> Head:
        """The head of a version, its checksum verified."""
        raise NotImplementedError

    def activate(self, version: str) -> None:
        raise NotImplementedError

    def rollback(self) -> str:
        """Back to the version that was active before; returns its id."""
        raise NotImplementedError
