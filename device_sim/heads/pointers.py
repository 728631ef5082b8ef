"""`store.json`: which version is active; replaced by rename, so a kill leaves the old one or the new one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_sim.heads.record import SCHEMA, check_id
from device_sim.routes.bundle import Identity
from personality_common.errors import DataError
from personality_common.files.atomic import read_json_object, write_json

STORE_FILE: Final = "store.json"
MAX_BYTES: Final = 1 << 20
_LAST: Final = 999_999_999


@dataclass(frozen=True)
class Pointers:
    """The content of `store.json`.

    Attributes:
        identity: what the store's heads belong to.
        shape: (V, d) of the weight.
        next: number of the next version.
        active: the version in use.
        history: what was active before, oldest first; rollback goes to the last.
        pinned: never pruned.
    """

    identity: Identity
    shape: tuple[int, int]
    next: int
    active: str
    history: tuple[str, ...]
    pinned: tuple[str, ...]


def write_pointers(store: Path, pointers: Pointers) -> None:
    """Replace `store.json`."""
    content = {"schema": SCHEMA, **vars(pointers), "identity": vars(pointers.identity)}
    write_json(store / STORE_FILE, content)


def read_pointers(store: Path) -> Pointers:
    """Read `store.json`.

    Raises:
        DataError: missing, too large, or malformed.
    """
    path = store / STORE_FILE
    if not path.is_file():
        raise DataError(f"{store}: must be a store of heads, has no {STORE_FILE}")
    content = read_json_object(path, MAX_BYTES)
    if content.get("schema") != SCHEMA:
        raise DataError(f"{path}: must have schema {SCHEMA}, has {str(content.get('schema'))[:80]}")
    try:
        height, width = (int(size) for size in content["shape"])
        number = int(content["next"])
        if not 0 < number <= _LAST:
            raise ValueError(f"next, {number}")
        return Pointers(
            Identity(**{str(name): str(value) for name, value in content["identity"].items()}),
            (height, width),
            number,
            check_id(content["active"]),
            tuple(check_id(v) for v in content["history"]),
            tuple(check_id(v) for v in content["pinned"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: must be a store of heads, lacks or garbles {error}") from None
