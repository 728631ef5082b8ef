"""A companion's store: a folder with its own lock, that nobody else may read.

STORE/store.json           what this folder is
STORE/.lock                held by the one process that writes; readers need none
STORE/events/000001.jsonl  all that happened, append-only (`device_sim.companion.events`)
STORE/memory.sqlite        made of the events, and made anew of them when it is gone
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from personality_common.errors import DataError
from personality_common.files.atomic import (
    LOCK_FILE,
    clear_unfinished,
    folder_lock,
    read_json_object,
    write_json,
)
from personality_common.files.inside import refuse_links

SCHEMA: Final = 1
KIND: Final = "companion"
STORE_FILE: Final = "store.json"
_MAX_BYTES: Final = 1 << 20
_UNFINISHED: Final = re.compile(rf"{re.escape(LOCK_FILE)}|\.{re.escape(STORE_FILE)}\..*\.tmp")
"""What a kill leaves of a store that was being made."""


@dataclass(frozen=True)
class Store:
    """A folder that was found to be a companion's store."""

    path: Path

    @property
    def events(self) -> Path:
        return self.path / "events"

    @property
    def memory(self) -> Path:
        return self.path / "memory.sqlite"


def open_store(path: Path) -> Store:
    """Open a store to read it.

    Raises:
        DataError: there is none, it is something else, or there is a link in it.
    """
    if not (path / STORE_FILE).is_file():
        raise DataError(f"{path}: must be a companion's store, has no {STORE_FILE}; pt chat makes one")
    refuse_links(path)
    content = read_json_object(path / STORE_FILE, _MAX_BYTES)
    if content.get("kind") != KIND or content.get("schema") != SCHEMA:
        found = f"kind {str(content.get('kind'))[:40]!r}, schema {str(content.get('schema'))[:40]}"
        raise DataError(f"{path / STORE_FILE}: must be of kind {KIND!r} and schema {SCHEMA}, is of {found}")
    return Store(path)


@contextlib.contextmanager
def hold_store(path: Path, *, create: bool = False) -> Iterator[Store]:
    """Have a store for this process alone, to write to it.

    Args:
        create: make a store of a folder that is absent or empty.

    Raises:
        ToolkitError: another process has it.
        DataError: see `open_store`; or, to create one, the folder has something else in it.
    """
    new = create and not (path / STORE_FILE).exists()
    if new:
        entries = [] if not path.exists() else list(path.iterdir()) if path.is_dir() else [path]
        if not all(_UNFINISHED.fullmatch(entry.name) for entry in entries):
            raise DataError(f"{path}: a companion's store is made in a new folder, this has something in it")
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    else:
        open_store(path)  # before anything is written to a folder that is something else
    with folder_lock(path):
        if new and not (path / STORE_FILE).exists():
            path.chmod(0o700)
            write_json(path / STORE_FILE, {"schema": SCHEMA, "kind": KIND})
        store = open_store(path)
        clear_unfinished(path)
        yield store
