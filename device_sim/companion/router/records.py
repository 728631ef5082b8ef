"""The labelled seed: records in families, which are held out whole."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Final, NamedTuple

from .flags import Label

SEED: Final = Path(__file__).with_name("seed.toml")


class Record(NamedTuple):
    """A text, where it goes, the family that it was written in, and whether it looks like another label."""

    text: str
    label: Label
    family: str
    hard: bool


def read_seed() -> list[Record]:
    return read_records(SEED)


def read_records(path: Path) -> list[Record]:
    """All records of a file in the form of the seed."""
    families = tomllib.loads(path.read_text(encoding="utf-8"))["family"]
    return [Record(text, f["label"], f["name"], f["hard"]) for f in families for text in f["texts"]]


def seed_sha256() -> str:
    return hashlib.sha256(SEED.read_bytes()).hexdigest()
