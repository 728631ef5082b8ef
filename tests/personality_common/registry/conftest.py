"""Notes, a kind of thing that needs no torch, and a store of them."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from personality_common.errors import DataError
from personality_common.registry.codec import Codec
from personality_common.registry.record import Gate, Record
from personality_common.registry.registry import Registry

IDENTITY = {"base": "b" * 64, "author": "a" * 64}


@dataclass(frozen=True)
class Note:
    """Some bytes, and perhaps others that lie beside them."""

    text: bytes
    margin: bytes | None = None


class NoteCodec(Codec[Note]):
    kind = "note"
    letter = "n"
    files: ClassVar[Mapping[str, int]] = {"note.txt": 64, "margin.bin": 16}

    def write(self, value: Note, folder: Path) -> None:
        (folder / "note.txt").write_bytes(value.text)
        if value.margin is not None:
            (folder / "margin.bin").write_bytes(value.margin)

    def read(self, files: Mapping[str, Path]) -> Note:
        margin = files.get("margin.bin")
        return Note(files["note.txt"].read_bytes(), margin.read_bytes() if margin else None)

    def fingerprint(self, value: Note) -> str:
        return hashlib.sha256(value.text).hexdigest()

    def check(self, value: Note) -> None:
        if b"?" in value.text:
            raise DataError("a note must ask nothing")

    def shapes(self, value: Note) -> dict[str, tuple[int, ...]]:
        return {"lines": (value.text.count(b"\n"),)}


@pytest.fixture(scope="session")
def codec() -> NoteCodec:
    return NoteCodec()


@pytest.fixture(scope="session")
def make_note() -> Callable[..., Note]:
    return lambda seed, margin=None: Note(f"note {seed}\n".encode(), margin)


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """A record of an update that passed its gate."""

    def make(*parents: str, **changes: object) -> Record:
        fields = {
            "identity": IDENTITY,
            "created": "2026-01-02T03:04:05+00:00",
            "parents": parents,
            "settings": {"learning_rate": 30.0, "loss": "dr-grpo"},
            "data": {"feedback": "f" * 64},
            "before": {"reward": 0.25},
            "after": {"reward": 0.5},
            "gates": (Gate("frozen tensors identical", True, "26 tensors"),),
        }
        return Record(**{**fields, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def store(tmp_path: Path, codec: NoteCodec, make_note: Callable[..., Note]) -> Registry[Note]:
    return Registry.create(tmp_path / "notes", codec, IDENTITY, make_note(0))


@pytest.fixture
def grown(
    store: Registry[Note], make_note: Callable[..., Note], make_record: Callable[..., Record]
) -> tuple[Registry[Note], list[str]]:
    """Six versions, each made from the one before and activated."""
    versions = [store.active]
    for seed in range(1, 6):
        versions.append(store.add(make_note(seed), make_record(versions[-1])))
        store.activate(versions[-1])
    return store, versions
