"""The files of a bundle, by size and checksum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from personality_common.contract import MANIFEST_FILE
from personality_common.files.atomic import file_sha256


def file_table(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file of a bundle but the manifest, by path relative to it."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST_FILE)
    return {
        p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": file_sha256(p)} for p in files
    }
