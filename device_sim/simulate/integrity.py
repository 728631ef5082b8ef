"""What an update may not touch: every frozen tensor, and every byte outside the head's two blobs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personality_common.bundle.stored import StoredTensor
from personality_common.contract import HEAD_PARAMETERS
from personality_common.files.fingerprint import fingerprint_bytes
from personality_common.files.inside import inside


@dataclass(frozen=True)
class Integrity:
    """A package after an update, beside the one that shipped.

    Attributes:
        frozen: frozen tensors that were compared.
        frozen_bytes: their bytes.
        changed_tensors: frozen ones whose fingerprint is not the manifest's.
        other_bytes: bytes that were compared outside of the head's blobs, in all files.
        changed_bytes: of them, those that differ; a file that is new, missing or resized counts whole.
        where: "file: offset" of the first few of them.
    """

    frozen: int
    frozen_bytes: int
    changed_tensors: tuple[str, ...]
    other_bytes: int
    changed_bytes: int
    where: tuple[str, ...]

    @property
    def tensors_identical(self) -> bool:
        return not self.changed_tensors

    @property
    def bytes_identical(self) -> bool:
        return self.other_bytes > 0 and not self.changed_bytes


def compare_packages(shipped: Path, updated: Path, places: tuple[StoredTensor, ...]) -> Integrity:
    """Compare a package with the one that shipped; not with the code by which the routes check themselves.

    Args:
        shipped: as it is in the bundle.
        updated: its copy.
        places: the manifest's tensor table. Fingerprints there are of the time of the export, so the two
            packages cannot go wrong together.
    """
    head = [place for place in places if place.name in HEAD_PARAMETERS]
    frozen = [place for place in places if place.name not in HEAD_PARAMETERS]
    changed = tuple(p.name for p in frozen if _fingerprint(updated, p) != p.fingerprint)
    ours, theirs = _files(shipped), _files(updated)
    other = differing = 0
    where: list[str] = []
    for name in sorted(ours | theirs):
        before = (shipped / name).read_bytes() if name in ours else b""
        after = (updated / name).read_bytes() if name in theirs else b""
        if len(before) != len(after) or (name in ours) != (name in theirs):
            other += max(len(before), len(after))
            differing += max(1, len(before), len(after))
            where.append(f"{name}: {len(before)} bytes shipped, {len(after)} now")
            continue
        blobs = sorted(p.span for p in head if p.file == name)
        for start, stop in _between(blobs, len(before)):
            other += stop - start
            pair = (np.frombuffer(data, np.uint8, stop - start, start) for data in (before, after))
            offsets = np.flatnonzero(np.not_equal(*pair))
            if len(offsets):
                differing += len(offsets)
                where.append(f"{name}: offset {start + offsets[0]}")
    return Integrity(len(frozen), sum(p.size for p in frozen), changed, other, differing, tuple(where[:3]))


def _fingerprint(package: Path, place: StoredTensor) -> str:
    try:
        with inside(package, place.file).open("rb") as file:
            file.seek(place.span[0])
            data = file.read(place.size)
    except FileNotFoundError:
        return "missing"
    return fingerprint_bytes(place.dtype, place.shape, data)


def _files(root: Path) -> set[str]:
    return {
        (Path(here) / name).relative_to(root).as_posix() for here, _, names in os.walk(root) for name in names
    }


def _between(blobs: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """The stretches of a file of this size that are in no blob."""
    edges = [0, *(edge for blob in blobs for edge in blob), size]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]
