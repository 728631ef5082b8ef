"""Lines -> files in an order that is drawn, however many lines there are.

A line goes to a file by its place in the order, and each file is sorted on its own: in memory is one file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from pretrain.lm.data.folder import Shard, SplitName

SHARD_BYTES: Final = 32 << 20
"""Of a file, about."""
MOST_SHARDS: Final = 256
"""All are open at once while they are written; of more bytes than 8 GiB, files are larger."""
_PLACE: Final = 8


def place_of(name: str, seed: int) -> int:
    """Where a document stands in the order: 0 to 2^64 - 1, decided by seed and name alone."""
    digest = hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=_PLACE).digest()
    return int.from_bytes(digest, "big")


class ShardWriter:
    """Writes the files of a split."""

    def __init__(self, folder: Path, split: SplitName, expected_bytes: int) -> None:
        """Start; `expected_bytes` decides among how many files the lines are shared out."""
        count = min(MOST_SHARDS, max(1, -(-expected_bytes // SHARD_BYTES)))
        self._folder, self._split = folder, split
        self._rough = [folder / f".{split}-{index:05}" for index in range(count)]
        self._files = [path.open("wb") for path in self._rough]

    def add(self, place: int, line: bytes) -> None:
        """A line, with its end, at its place in the order."""
        self._files[place * len(self._files) >> 64].write(place.to_bytes(_PLACE, "big") + line)

    def close(self) -> None:
        """Close the files, whatever became of them."""
        for file in self._files:
            file.close()

    def finish(self) -> dict[str, Shard]:
        """Sort and write: name -> file, in order; of a file without a line, none."""
        self.close()
        shards: dict[str, Shard] = {}
        for rough in self._rough:
            lines = sorted(_entries(rough.read_bytes()))
            rough.unlink()
            if lines:
                name = f"{self._split}-{len(shards):05}.jsonl"
                data = b"".join(entry.line for entry in lines)
                (self._folder / name).write_bytes(data)
                shards[name] = Shard(self._split, len(lines), len(data), hashlib.sha256(data).hexdigest())
        return shards


class _Entry(NamedTuple):
    place: bytes
    line: bytes


def _entries(data: bytes) -> Iterator[_Entry]:
    at = 0
    while at < len(data):
        end = data.index(b"\n", at + _PLACE) + 1
        yield _Entry(data[at : at + _PLACE], data[at + _PLACE : end])
        at = end
