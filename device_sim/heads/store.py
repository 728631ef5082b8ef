"""Versions of the head on disk, one of them active.

    STORE/store.json                    whose heads they are; which is active, which were, which are pinned
    STORE/versions/ID/head.safetensors  projection.weight, output_bias
    STORE/versions/ID/record.json       where it comes from, and the SHA-256 of the file beside it

`store.json` is replaced by rename, so a kill leaves the old or the new active head. A version's folder is
written aside and renamed, and is never written to again.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch

from device_sim.heads.pointers import Pointers, read_pointers, write_pointers
from device_sim.heads.record import (
    HEAD_FILE,
    HeadRecord,
    Stored,
    check_id,
    read_record,
    write_record,
)
from device_sim.routes.bundle import Identity
from grpo.head import Head
from personality_common.contract import HEAD_BIAS, HEAD_PARAMETERS, HEAD_WEIGHT
from personality_common.errors import ConfigError, DataError, MismatchError, ToolkitError
from personality_common.files.atomic import file_sha256, folder_lock
from personality_common.files.staging import staged_folder
from personality_common.files.tensors import load_tensors, save_tensors, tensor_fingerprints

VERSIONS_DIR: Final = "versions"
MAX_HEAD_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class Version:
    """A line of `pt heads list`; `stored` is None where `damage` says why."""

    version: str
    active: bool
    pinned: bool
    stored: Stored | None
    damage: str | None


class HeadStore:
    """A folder of head versions; changes are made by one process at a time.

    `create` makes one with the head that shipped, active and pinned; `HeadStore(path)` opens one.
    """

    def __init__(self, path: Path) -> None:
        """Open a store.

        Raises:
            DataError: there is none, or `store.json` is malformed.
        """
        self.path = path
        self.pointers()
        folder = path / VERSIONS_DIR
        if folder.is_symlink() or not folder.is_dir():
            raise DataError(f"{folder}: must be the folder of the store's versions")

    @classmethod
    def create(cls, path: Path, identity: Identity, shipped: Head) -> HeadStore:
        """Make a store in a new or empty folder.

        Raises:
            ConfigError: there is something in the folder.
        """
        if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
            raise ConfigError(f"{path}: a store of heads is made in a new folder, this has something in it")
        with staged_folder(path) as folder:
            record = HeadRecord(identity, now())
            (folder / VERSIONS_DIR).mkdir()
            version = _write_version(folder, 1, shipped, record)
            height, width = shipped.weight.shape
            write_pointers(folder, Pointers(identity, (height, width), 2, version, (), (version,)))
        return cls(path)

    def pointers(self) -> Pointers:
        """What is active, pinned and next, as it is on disk now."""
        return read_pointers(self.path)

    @property
    def active(self) -> str:
        return self.pointers().active

    def versions(self) -> list[Version]:
        """All versions, oldest first; damaged ones too."""
        pointers = self.pointers()
        lines = []
        for version in self._names():
            stored, damage = None, None
            try:
                stored = self.show(version)
            except ToolkitError as error:
                damage = str(error)
            lines.append(
                Version(version, version == pointers.active, version in pointers.pinned, stored, damage)
            )
        return lines

    def show(self, version: str) -> Stored:
        """The record of a version; its head is not read.

        Raises:
            DataError: no such version, or its record is damaged.
        """
        folder = self._folder(version)
        stored = read_record(folder)
        if stored.version != version:
            raise DataError(f"{folder}: must hold the record of {version}, holds that of {stored.version}")
        return stored

    def load(self, version: str) -> Head:
        """The head of a version, exactly as it was added.

        Raises:
            DataError: no such version, or a checksum does not hold.
            MismatchError: it belongs to another bundle than the store.
        """
        pointers, stored = self.pointers(), self.show(version)
        path = self._folder(version) / HEAD_FILE
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_HEAD_BYTES:
            raise DataError(f"{path}: must be a file of at most {MAX_HEAD_BYTES} bytes")
        if file_sha256(path) != stored.head_sha256:
            raise DataError(f"{path}: damaged: its SHA-256 is not the one that its record names")
        tensors, _ = load_tensors(path)
        if tensors.keys() != set(HEAD_PARAMETERS):
            raise DataError(f"{path}: must hold {', '.join(HEAD_PARAMETERS)}, holds {sorted(tensors)[:5]}")
        head = Head(tensors[HEAD_WEIGHT], tensors[HEAD_BIAS])
        _require_fitting(head, stored.record.identity, pointers, str(path))
        return head

    def add(self, head: Head, record: HeadRecord) -> str:
        """Keep a head; it is not active yet.

        Returns:
            Its version id.

        Raises:
            MismatchError: it belongs to another bundle, or has another shape.
            DataError: not finite float32; its parent is not in the store.
            ToolkitError: another process is changing the store.
        """
        with self._change() as pointers:
            _require_fitting(head, record.identity, pointers, "the head")
            if record.parent is not None:
                self._folder(record.parent)
            write_pointers(self.path, replace(pointers, next=pointers.next + 1))
            return _write_version(self.path, pointers.next, head, record)

    def activate(self, version: str) -> None:
        """Make a version the active one.

        Raises:
            MismatchError: it belongs to another bundle.
            DataError: no such version, or a checksum does not hold.
            ToolkitError: a gate of its update failed, or none was recorded; another process is changing
                the store.
        """
        with self._change() as pointers:
            self.load(version)
            self.show(version).record.require_gates(version)
            if version != pointers.active:
                history = (*pointers.history, pointers.active)
                write_pointers(self.path, replace(pointers, active=version, history=history))

    def rollback(self) -> str:
        """Go back to what was active before; its bytes are those that were added.

        Returns:
            The version that is active now.

        Raises:
            ToolkitError: nothing was active before; another process is changing the store.
            DataError: that version is damaged.
        """
        with self._change() as pointers:
            if not pointers.history:
                raise ToolkitError(f"{self.path}: nothing was active before {pointers.active}")
            *history, version = pointers.history
            self.load(version)
            write_pointers(self.path, replace(pointers, active=version, history=tuple(history)))
            return version

    def pin(self, version: str) -> None:
        """Keep a version for good."""
        with self._change() as pointers:
            self.show(version)
            if version not in pointers.pinned:
                write_pointers(self.path, replace(pointers, pinned=(*pointers.pinned, version)))

    def unpin(self, version: str) -> None:
        """Let a version be pruned again."""
        with self._change() as pointers:
            pinned = tuple(v for v in pointers.pinned if v != check_id(version))
            write_pointers(self.path, replace(pointers, pinned=pinned))

    def prune(self, keep: int) -> list[str]:
        """Remove all but the last `keep` versions, those pinned, the active one, and the one before it.

        Returns:
            What was removed.

        Raises:
            ConfigError: `keep` is not 1 or more.
        """
        if keep < 1:
            raise ConfigError(f"--keep must be 1 or more, got {keep}")
        with self._change() as pointers:
            names = self._names()
            kept = {*names[-keep:], *pointers.pinned, pointers.active, *pointers.history[-1:]}
            removed = [name for name in names if name not in kept]
            history = tuple(v for v in pointers.history if v not in removed)
            write_pointers(self.path, replace(pointers, history=history))
            for name in removed:
                # Renamed first: a kill leaves no half of a version under its name.
                gone = self.path / VERSIONS_DIR / f".{name}.removed"
                (self.path / VERSIONS_DIR / name).rename(gone)
                shutil.rmtree(gone)
            return removed

    @contextlib.contextmanager
    def _change(self) -> Iterator[Pointers]:
        """Hold the store, and clear away what a kill left."""
        with folder_lock(self.path):
            for leftover in (self.path / VERSIONS_DIR).glob(".h*"):
                shutil.rmtree(leftover, ignore_errors=True)
            yield self.pointers()

    def _names(self) -> list[str]:
        names = [p.name for p in (self.path / VERSIONS_DIR).iterdir() if not p.name.startswith(".")]
        return sorted((check_id(n) for n in names), key=lambda n: int(n[1:].split("-")[0]))

    def _folder(self, version: str) -> Path:
        folder = self.path / VERSIONS_DIR / check_id(version)
        if folder.is_symlink() or not folder.is_dir():
            raise DataError(f"{self.path}: has no version {version}; see pt heads list")
        return folder


def now() -> str:
    """The time in UTC, to the second, as records have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _require_fitting(head: Head, identity: Identity, pointers: Pointers, what: str) -> None:
    for name, ours in vars(pointers.identity).items():
        theirs = getattr(identity, name)
        if theirs != ours:
            raise MismatchError(
                f"{what}: must belong to the store's {name} {ours[:12]}, belongs to {theirs[:12]}"
            )
    if tuple(head.weight.shape) != pointers.shape:
        raise MismatchError(f"{what}: weight must be {pointers.shape}, is {tuple(head.weight.shape)}")
    head.check(torch.zeros(1, pointers.shape[1]))


def _write_version(store: Path, number: int, head: Head, record: HeadRecord) -> str:
    tensors = dict(zip(HEAD_PARAMETERS, head, strict=True))
    version = f"h{number:04d}-{tensor_fingerprints(tensors)[HEAD_WEIGHT][:12]}"
    with staged_folder(store / VERSIONS_DIR / version) as folder:
        save_tensors(folder / HEAD_FILE, tensors)
        write_record(folder, Stored(version, file_sha256(folder / HEAD_FILE), record))
    return version
