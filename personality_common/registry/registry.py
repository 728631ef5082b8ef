"""Versions of something trained on disk, one of them active.

    STORE/store.json               what they belong to; which is active, which were and when, which are pinned
    STORE/versions/ID/record.json  where a version comes from, and the SHA-256 of every file beside it
    STORE/versions/ID/…            its files, as its codec writes them

`store.json` is replaced by rename, so a kill leaves the old or the new active version. A version's folder is
written aside and renamed, and is never written to again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from personality_common.errors import ConfigError, DataError, MismatchError, ToolkitError
from personality_common.files.atomic import clear_unfinished, folder_lock
from personality_common.files.inside import refuse_links
from personality_common.files.staging import clear_aside, staged_folder
from personality_common.registry.codec import Codec
from personality_common.registry.identity import Identity, require_same_identity
from personality_common.registry.pointers import (
    Activation,
    How,
    Pointers,
    read_pointers,
    write_pointers,
)
from personality_common.registry.record import Record, Stored, check_id, now
from personality_common.registry.versions import Versions

T = TypeVar("T")


@dataclass(frozen=True)
class Version:
    """A line of the list; `stored` is None where `damage` says why."""

    version: str
    active: bool
    pinned: bool
    stored: Stored | None
    damage: str | None


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        damage: version -> what is wrong with it, None where every byte is the one that was recorded.
        log: which version became active when, oldest first.
    """

    damage: dict[str, str | None]
    log: tuple[Activation, ...]


class Registry(Generic[T]):
    """A folder of versions of one kind; changes are made by one process at a time.

    `create` makes one with what shipped, active and pinned; `Registry(path, codec)` opens one.
    """

    def __init__(self, path: Path, codec: Codec[T]) -> None:
        """Open a store.

        Raises:
            DataError: there is none, there is a link in it, or `store.json` is malformed.
        """
        self.path = path
        self.codec = codec
        self._versions = Versions(path, codec)
        refuse_links(path)
        self.pointers()
        folder = self._versions.path
        if not folder.is_dir():
            raise DataError(f"{folder}: must be the folder of the store's versions")

    @classmethod
    def create(cls, path: Path, codec: Codec[T], identity: Identity, shipped: T) -> Registry[T]:
        """Make a store in a new or empty folder.

        Raises:
            ConfigError: there is something in the folder.
        """
        if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
            raise ConfigError(
                f"{path}: a store of {codec.kind}s is made in a new folder, this has something in it"
            )
        with staged_folder(path) as folder:
            versions = Versions(folder, codec)
            versions.path.mkdir()
            write_pointers(folder, {codec.kind: first_pointers(versions, codec, identity, shipped)})
        return cls(path, codec)

    def pointers(self) -> Pointers:
        """What is active, pinned and next, as it is on disk now."""
        return read_pointers(self.path, self.codec)[0][self.codec.kind]

    @property
    def older(self) -> bool:
        """Whether `store.json` is of an earlier schema, and the next change will bring it to the present."""
        return read_pointers(self.path, self.codec)[1]

    @property
    def active(self) -> str:
        return self.pointers().active

    def versions(self) -> list[Version]:
        """All versions, oldest first; damaged ones too."""
        pointers = self.pointers()
        lines = []
        for version in self._versions.names():
            stored, damage = None, None
            try:
                stored = self.show(version)
            except ToolkitError as error:
                damage = str(error)
            lines.append(
                Version(version, version == pointers.active, version in pointers.pinned, stored, damage)
            )
        return lines

    def resolve(self, prefix: str) -> str:
        """The id that begins like this.

        Raises:
            DataError: none does, or several do.
        """
        found = [name for name in self._versions.names() if prefix and name.startswith(prefix)]
        if len(found) > 1:
            raise DataError(f"{prefix!r} must begin the id of one version, begins {', '.join(found[:5])}")
        return found[0] if found else self._versions.folder(prefix).name

    def show(self, version: str) -> Stored:
        """The record of a version; its files are not read.

        Raises:
            DataError: no such version, or its record is damaged.
        """
        return self._versions.stored(version)

    def load(self, version: str) -> T:
        """A version, exactly as it was added.

        Raises:
            DataError: no such version, or a checksum does not hold.
            MismatchError: it belongs to something else than the store does.
        """
        pointers, stored = self.pointers(), self.show(version)
        files = self._versions.files(stored)
        value = self.codec.read(files)
        what = str(files[self.codec.itself])
        self._require_fitting(value, stored.record.identity, pointers, what)
        return value

    def audit(self) -> Audit:
        """Verify every byte of every version, and tell who was active when."""
        damage: dict[str, str | None] = {}
        for version in self._versions.names():
            try:
                self.load(version)
                damage[version] = None
            except ToolkitError as error:
                damage[version] = str(error)
        return Audit(damage, self.pointers().log)

    def add(self, value: T, record: Record) -> str:
        """Keep a version; it is not active yet.

        Returns:
            Its id.

        Raises:
            MismatchError: it belongs to something else than the store does, or has another shape.
            DataError: the codec refuses it; a parent is not in the store.
            ToolkitError: another process is changing the store.
        """
        with self.change() as pointers:
            self._require_fitting(value, record.identity, pointers, f"the {self.codec.kind}")
            for parent in record.parents:
                self._versions.folder(parent)
            self._write(replace(pointers, next=pointers.next + 1))
            return self._versions.write(pointers.next, value, record)

    def activate(self, version: str) -> None:
        """Make a version the active one.

        Raises:
            MismatchError: it belongs to something else than the store does.
            DataError: no such version, or a checksum does not hold.
            ToolkitError: a gate of its update failed, or none was recorded; another process is changing
                the store.
        """
        with self.change() as pointers:
            turned = self.turned_to(version)
            if turned != pointers:
                self._write(turned)

    def turned_to(self, version: str) -> Pointers:
        """The pointers with this version active; the store must be held. Raises as `activate`."""
        pointers = self.pointers()
        self.load(version)
        if version in pointers.blocked:
            raise ToolkitError(f"{version}: is blocked: {pointers.blocked[version]}")
        self.show(version).record.require_gates(version)
        if version == pointers.active:
            return pointers
        return _turned(pointers, version, (*pointers.history, pointers.active), "activated")

    def rollback(self) -> str:
        """Go back to what was active before; its bytes are those that were added.

        Returns:
            The version that is active now.

        Raises:
            ToolkitError: nothing was active before; another process is changing the store.
            DataError: that version is damaged.
        """
        with self.change() as pointers:
            if not pointers.history:
                raise ToolkitError(f"{self.path}: nothing was active before {pointers.active}")
            *history, version = pointers.history
            self.load(version)
            self._write(_turned(pointers, version, tuple(history), "rolled back"))
            return version

    def block(self, version: str, why: str) -> None:
        """Never make a version active again, and go past it on the way back.

        Raises:
            ToolkitError: it is the active one; another process is changing the store.
            DataError: no such version.
        """
        with self.change() as pointers:
            self._versions.folder(version)
            if version == pointers.active:
                raise ToolkitError(f"{version}: must not be active to be blocked; activate another first")
            history = tuple(v for v in pointers.history if v != version)
            blocked = {**pointers.blocked, version: why}
            self._write(replace(pointers, history=history, blocked=blocked))

    def pin(self, version: str) -> None:
        """Keep a version for good."""
        with self.change() as pointers:
            self.show(version)
            if version not in pointers.pinned:
                self._write(replace(pointers, pinned=(*pointers.pinned, version)))

    def unpin(self, version: str) -> None:
        """Let a version be pruned again."""
        with self.change() as pointers:
            check_id(version, self.codec.letter)
            self._write(replace(pointers, pinned=tuple(v for v in pointers.pinned if v != version)))

    def prunable(self, keep: int) -> list[str]:
        """What `prune` would remove.

        Raises:
            ConfigError: `keep` is not 1 or more.
        """
        if keep < 1:
            raise ConfigError(f"--keep must be 1 or more, got {keep}")
        pointers, names = self.pointers(), self._versions.names()
        newest: dict[str, str] = {}
        for name in reversed(names):
            newest.setdefault(self._versions.content(name), name)
        kept = {*list(newest.values())[:keep], *pointers.pinned, pointers.active, *pointers.history[-1:]}
        return [name for name in names if name not in kept]

    def prune(self, keep: int) -> list[str]:
        """Remove all but the last `keep` versions, those pinned, the active one, and the one before it.

        Copies count once: a version is not removed for newer ones that are all the same.

        Returns:
            What was removed.

        Raises:
            ConfigError: `keep` is not 1 or more.
        """
        with self.change() as pointers:
            removed = self.prunable(keep)
            history = tuple(v for v in pointers.history if v not in removed)
            self._write(replace(pointers, history=history))
            for name in removed:
                self._versions.remove(name)
            return removed

    @contextlib.contextmanager
    def change(self) -> Iterator[Pointers]:
        """Hold the store, and clear away what a kill left."""
        with held(self.path):
            self._versions.sweep()
            yield self.pointers()

    def _write(self, pointers: Pointers) -> None:
        """Replace what `store.json` says of this kind; the store must be held."""
        kinds, _ = read_pointers(self.path, self.codec)
        write_pointers(self.path, {**kinds, self.codec.kind: pointers})

    def _require_fitting(self, value: T, identity: Identity, pointers: Pointers, what: str) -> None:
        for said in (identity, {**identity, **self.codec.identity(value)}):
            require_same_identity(pointers.identity, said, what)
        ours, theirs = pointers.shapes, self.codec.shapes(value)
        for name in (*ours, *(theirs.keys() - ours.keys())):
            if ours.get(name) != theirs.get(name):
                raise MismatchError(f"{what}: {name} must be {ours.get(name)}, is {theirs.get(name)}")
        self.codec.check(value)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a store of any kinds, and clear away what a kill left in it."""
    with folder_lock(path):
        refuse_links(path)
        clear_unfinished(path)
        clear_aside(path)
        yield


def first_pointers(versions: Versions[T], codec: Codec[T], identity: Identity, shipped: T) -> Pointers:
    """Write what shipped, active and pinned; the pointers are for the caller to write."""
    record = Record(identity, now())
    version = versions.write(1, shipped, record)
    log = (Activation(record.created, version, "created"),)
    return Pointers(identity, codec.shapes(shipped), 2, version, (), (version,), log)


def _turned(pointers: Pointers, version: str, history: tuple[str, ...], how: How) -> Pointers:
    log = (*pointers.log, Activation(now(), version, how))
    return replace(pointers, active=version, history=history, log=log)
