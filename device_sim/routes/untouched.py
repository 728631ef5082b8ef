"""Proof that a copy of a package differs from it in the head and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from personality_common.bundle.stored import StoredTensor
from personality_common.errors import MismatchError
from personality_common.files.fingerprint import fingerprint, require_equal_fingerprints

_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Untouched:
    """What was compared and found identical.

    Attributes:
        files: of the package.
        bytes: of all files, outside of the places that may change.
        tensors: whose fingerprints are those of the manifest.
        tensor_bytes: of these tensors.
        free_bytes: of the places that may change.
    """

    files: int
    bytes: int
    tensors: int
    tensor_bytes: int
    free_bytes: int


def require_untouched(
    source: Path, copy: Path, places: Sequence[StoredTensor], free: Sequence[StoredTensor]
) -> Untouched:
    """Compare a copy with its source: files, every byte outside of `free`, and each frozen tensor.

    Args:
        source, copy: packages (folders).
        places: every parameter of the package.
        free: those that may differ.

    Raises:
        MismatchError: another file, size, byte or tensor; the message names the first.
    """
    names = _files(source)
    if (other := _files(copy)) != names:
        raise MismatchError(f"{copy}: must have its source's files, differs in {sorted(names ^ other)[:5]}")
    same = sum(_compare(source, copy, name, [p for p in free if p.file == name]) for name in sorted(names))
    changing = {place.name for place in free}
    frozen = [place for place in places if place.name not in changing]
    # Not against the source: the manifest is what was verified when the bundle was made.
    require_equal_fingerprints(
        {p.name: p.fingerprint for p in frozen},
        {p.name: fingerprint(p.read(copy)) for p in frozen},
        f"frozen tensors of {copy}",
    )
    return Untouched(len(names), same, len(frozen), sum(p.size for p in frozen), sum(p.size for p in free))


def _files(package: Path) -> set[str]:
    return {p.relative_to(package).as_posix() for p in package.rglob("*") if not p.is_dir()}


def _compare(source: Path, copy: Path, name: str, free: Sequence[StoredTensor]) -> int:
    """Bytes outside of the free places, all identical."""
    first, second = source / name, copy / name
    size = first.stat().st_size
    if second.stat().st_size != size:
        raise MismatchError(f"{second}: must have {size} bytes, as in {source}, has {second.stat().st_size}")
    same, start = 0, 0
    with first.open("rb") as ours, second.open("rb") as theirs:
        for begin, end in [*sorted(p.span for p in free), (size, size)]:
            for file in (ours, theirs):
                file.seek(start)
            while start < begin:
                wanted = min(_CHUNK, begin - start)
                a, b = ours.read(wanted), theirs.read(wanted)
                if a != b:
                    at = start + next(i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
                    raise MismatchError(
                        f"{second}: only the head may change; byte {at}, outside of it, differs from {source}"
                    )
                same += wanted
                start += wanted
            start = end
    return same
