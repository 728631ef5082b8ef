"""The files of a bundle, by size and checksum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from personality_common.contract import MANIFEST_FILE
from personality_common.files.atomic import file_sha256
from personality_common.files.inside import inside


@dataclass(frozen=True)
class StoredFile:
    """A file as the manifest states it."""

    bytes: int
    sha256: str


def file_table(folder: Path) -> dict[str, StoredFile]:
    """Every file of a bundle but the manifest, by path relative to it.

    Raises:
        DataError: a link.
    """
    names = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or p.is_file())
    paths = {name: inside(folder, name) for name in sorted(names) if name != MANIFEST_FILE}
    return {name: StoredFile(p.stat().st_size, file_sha256(p)) for name, p in paths.items()}


def changed_files(folder: Path, stated: Mapping[str, StoredFile]) -> Iterator[str]:
    """What differs from the files that a manifest states, in words; DataError as of `file_table`."""
    found = file_table(folder)
    for name, file in stated.items():
        if name not in found:
            yield f"{name} is missing"
        elif found[name].bytes != file.bytes:
            yield f"{name} has {found[name].bytes} bytes, not {file.bytes}"
        elif found[name] != file:
            yield f"{name} has another SHA-256"
    for name in sorted(found.keys() - stated.keys()):
        yield f"{name} is not in the manifest"
