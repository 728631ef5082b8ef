"""`store.json`: which version of each kind is active; replaced by rename: a kill leaves old or new.

    {"schema": 2, "kinds": {KIND: {"identity": …, "shapes": …, "next": …, "active": …, …}}}

One file holds all kinds of a store, so that those of two can move in one step: both or neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from personality_common.errors import DataError
from personality_common.files.atomic import read_json_object, write_json
from personality_common.registry.codec import Codec
from personality_common.registry.identity import Identity
from personality_common.registry.record import SCHEMA, check_id

STORE_FILE: Final = "store.json"
MAX_BYTES: Final = 16 << 20
"""Some 100,000 activations."""
_LAST: Final = 999_999_999

How = Literal["created", "activated", "rolled back"]


@dataclass(frozen=True)
class Activation:
    """A version became the active one: when (ISO 8601, in UTC), and how."""

    at: str
    version: str
    how: How


@dataclass(frozen=True)
class Pointers:
    """What `store.json` says of one kind.

    Attributes:
        identity: what the versions belong to.
        shapes: of the tensors that have one shape in all versions.
        next: number of the next version.
        active: the version in use.
        history: what was active before, oldest first; rollback goes to the last.
        pinned: never pruned.
        log: every activation, oldest first; empty before the first of a store of an earlier schema.
        blocked: versions that must never be active again, and why.
    """

    identity: Identity
    shapes: Mapping[str, tuple[int, ...]]
    next: int
    active: str
    history: tuple[str, ...]
    pinned: tuple[str, ...]
    log: tuple[Activation, ...]
    blocked: Mapping[str, str] = field(default_factory=dict)


def write_pointers(store: Path, kinds: Mapping[str, Pointers]) -> None:
    """Replace `store.json`."""
    content = {kind: asdict(pointers) for kind, pointers in kinds.items()}
    write_json(store / STORE_FILE, {"schema": SCHEMA, "kinds": content})


def read_pointers(store: Path, codec: Codec[Any]) -> tuple[dict[str, Pointers], bool]:
    """Read `store.json`, of the present schema or an earlier one.

    Returns:
        Pointers by kind; whether they are of an earlier schema on disk.

    Raises:
        DataError: missing, too large, malformed, or without the codec's kind.
    """
    kinds, older = read_kinds(store, codec)
    path = store / STORE_FILE
    if codec.kind not in kinds:
        raise DataError(f"{path}: must hold {codec.kind}s, holds {', '.join(kinds)[:80] or 'nothing'}")
    ours = kinds[codec.kind]
    for version in (ours.active, *ours.history, *ours.pinned):
        check_id(version, codec.letter)
    return kinds, older


def read_kinds(store: Path, codec: Codec[Any]) -> tuple[dict[str, Pointers], bool]:
    """As `read_pointers`, of a store that may have nothing of the codec's kind."""
    path = store / STORE_FILE
    if not path.is_file():
        raise DataError(f"{store}: must be a store of {codec.kind}s, has no {STORE_FILE}")
    content = read_json_object(path, MAX_BYTES)
    schema = content.get("schema")
    try:
        if schema != SCHEMA:
            content = codec.modern_store(content)
        if content.get("schema") != SCHEMA:
            raise DataError(f"{path}: must have schema {SCHEMA}, has {str(schema)[:80]}")
        kinds = {str(kind): _pointers(entry) for kind, entry in content["kinds"].items()}
        return kinds, schema != SCHEMA
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(
            f"{path}: must be a store of {codec.kind}s, lacks or garbles {str(error)[:80]}"
        ) from None


def holds_kind(store: Path, kind: str) -> bool:
    """Whether a folder is a store that has versions of a kind.

    Raises:
        DataError: `store.json` is too large or no JSON.
    """
    path = store / STORE_FILE
    if not path.is_file():
        return False
    kinds = read_json_object(path, MAX_BYTES).get("kinds")
    return isinstance(kinds, dict) and kind in kinds


def _pointers(entry: Mapping[str, Any]) -> Pointers:
    number = int(entry["next"])
    if not 0 < number <= _LAST:
        raise ValueError(f"next, {number}")
    return Pointers(
        {str(name): str(value) for name, value in entry["identity"].items()},
        {str(name): tuple(int(size) for size in shape) for name, shape in entry["shapes"].items()},
        number,
        check_id(entry["active"]),
        tuple(check_id(v) for v in entry["history"]),
        tuple(check_id(v) for v in entry["pinned"]),
        tuple(_activation(a) for a in entry["log"]),
        {check_id(version): str(why) for version, why in entry.get("blocked", {}).items()},
    )


def _activation(entry: Mapping[str, Any]) -> Activation:
    if entry["how"] not in get_args(How):
        raise ValueError(f"how, {str(entry['how'])[:40]}")
    return Activation(str(entry["at"]), check_id(entry["version"]), entry["how"])
