"""The folders of versions: each is written aside, put in place in one step, and never written to again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Generic, TypeVar

from personality_common.errors import DataError, ToolkitError
from personality_common.files.atomic import file_sha256
from personality_common.files.staging import staged_folder
from personality_common.registry.codec import Codec
from personality_common.registry.record import (
    Record,
    Stored,
    StoredFile,
    check_id,
    read_record,
    write_record,
)

VERSIONS_DIR: Final = "versions"

T = TypeVar("T")


class Versions(Generic[T]):
    """`STORE/versions`, as far as it holds one kind; nothing here knows which version is active."""

    def __init__(self, store: Path, codec: Codec[T]) -> None:
        self.store = store
        self.path = store / VERSIONS_DIR
        self.codec = codec

    def names(self) -> list[str]:
        """Ids, oldest first."""
        names = [check_id(p.name) for p in self.path.iterdir() if not p.name.startswith(".")]
        ours = [name for name in names if name.startswith(self.codec.letter)]
        return sorted(ours, key=lambda name: int(name[1:].split("-")[0]))

    def folder(self, version: str) -> Path:
        """Of a version.

        Raises:
            DataError: there is none.
        """
        folder = self.path / check_id(version, self.codec.letter)
        if folder.is_symlink() or not folder.is_dir():
            raise DataError(f"{self.store}: has no version {version}; see pt {self.codec.kind}s list")
        return folder

    def write(self, number: int, value: T, record: Record) -> str:
        """Write a version; returns its id."""
        version = f"{self.codec.letter}{number:04d}-{self.codec.fingerprint(value)[:12]}"
        with staged_folder(self.path / version) as folder:
            self.codec.write(value, folder)
            files = {p.name: StoredFile(file_sha256(p), p.stat().st_size) for p in sorted(folder.iterdir())}
            write_record(folder, Stored(version, files, record))
        return version

    def stored(self, version: str) -> Stored:
        """The record of a version; its files are not read.

        Raises:
            DataError: no such version, or its record is damaged.
        """
        folder = self.folder(version)
        stored = read_record(folder, self.codec)
        if stored.version != version:
            raise DataError(f"{folder}: must hold the record of {version}, holds that of {stored.version}")
        return stored

    def files(self, stored: Stored) -> Mapping[str, Path]:
        """The files of a version by name, if every byte is that of its record.

        Raises:
            DataError: one is missing or damaged.
        """
        folder, files = self.folder(stored.version), {}
        for name, file in stored.files.items():
            path, limit = folder / name, self.codec.files[name]
            if path.is_symlink() or not path.is_file() or path.stat().st_size > limit:
                raise DataError(f"{path}: must be a file of at most {limit} bytes")
            if file.size not in (None, path.stat().st_size) or file_sha256(path) != file.sha256:
                raise DataError(f"{path}: damaged: its SHA-256 is not the one that its record names")
            files[name] = path
        return files

    def content(self, version: str) -> str:
        """Equal for versions that are copies of one another; a damaged one is a copy of none."""
        try:
            return self.stored(version).files[self.codec.itself].sha256
        except ToolkitError:
            return version

    def remove(self, version: str) -> None:
        # Renamed first: a kill leaves no half of a version under its name.
        gone = self.path / f".{version}.removed"
        (self.path / version).rename(gone)
        shutil.rmtree(gone)

    def sweep(self) -> None:
        """Clear away what a kill left: versions half written or half removed. The store must be held."""
        for leftover in self.path.glob(f".{self.codec.letter}[0-9]*"):
            shutil.rmtree(leftover, ignore_errors=True)
