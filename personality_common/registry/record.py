"""What is known of a version, and its file."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from personality_common.errors import DataError, ToolkitError
from personality_common.files.atomic import read_json_object, write_json
from personality_common.registry.codec import Codec
from personality_common.registry.identity import Identity

SCHEMA: Final = 2
RECORD_FILE: Final = "record.json"
MAX_RECORD_BYTES: Final = 1 << 20
_ID: Final = re.compile(r"[a-z][0-9]{4,9}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Gate:
    """A condition that an update was held to: "frozen tensors identical", "held-out reward rose", …"""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class Record:
    """Where a version comes from.

    Attributes:
        identity: what it belongs to.
        created: ISO 8601, in UTC.
        parents: the versions it was made from; none for what shipped.
        settings: of the update; JSON.
        data: fingerprints of what it was trained on, by name.
        before, after: figures by name, finite.
        gates: an update needs one at least, and all passed, to become active.
    """

    identity: Identity
    created: str
    parents: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    gates: tuple[Gate, ...] = ()

    def __post_init__(self) -> None:
        for parent in self.parents:
            check_id(parent)
        for name, value in (*self.before.items(), *self.after.items()):
            if not math.isfinite(value):
                raise ToolkitError(f"figures of a version must be finite, {name} is {value}")
        try:
            json.dumps(dict(self.settings), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ToolkitError(f"settings of a version must be JSON: {error}") from None

    def require_gates(self, version: str) -> None:
        """Raise ToolkitError unless the version may become active."""
        if failed := [gate for gate in self.gates if not gate.passed]:
            names = "; ".join(f"{g.name} ({g.detail})" if g.detail else g.name for g in failed)
            raise ToolkitError(f"{version}: an update must pass its gates to be activated, failed: {names}")
        if self.parents and not self.gates:
            raise ToolkitError(f"{version}: an update must have passed gates to be activated, it has none")


@dataclass(frozen=True)
class StoredFile:
    """What a file of a version must be; `size` in bytes, None where an earlier schema did not say."""

    sha256: str
    size: int | None


@dataclass(frozen=True)
class Stored:
    """A record as it is on disk, with what the version's files must be, by name."""

    version: str
    files: Mapping[str, StoredFile]
    record: Record


def now() -> str:
    """The time in UTC, to the second, as records have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def check_id(version: object, letter: str | None = None) -> str:
    """The id, if it has the form of one: a version is a folder's name and never a path.

    Args:
        letter: what it must begin with; None for any.

    Raises:
        DataError: it has not.
    """
    if not isinstance(version, str) or not _ID.fullmatch(version) or not version.startswith(letter or ""):
        raise DataError(
            f"a version is named like {letter or 'h'}0001-0123456789ab, got {str(version)[:80]!r};"
            " `list` shows them"
        )
    return version


def write_record(folder: Path, stored: Stored) -> None:
    """Write a record with a checksum over all of it."""
    content = {"schema": SCHEMA, **asdict(stored)}
    write_json(folder / RECORD_FILE, content | {"checksum": _checksum(content)})


def read_record(folder: Path, codec: Codec[Any]) -> Stored:
    """Read what `write_record` wrote, now or with an earlier schema.

    Raises:
        DataError: missing, too large, malformed, or its checksum does not hold.
    """
    path = folder / RECORD_FILE
    content = read_json_object(path, MAX_RECORD_BYTES)
    if content.pop("checksum", None) != _checksum(content):
        raise DataError(f"{path}: damaged: its content does not match its checksum")
    try:
        if content.get("schema") != SCHEMA:
            content = codec.modern_record(content)
        if content.get("schema") != SCHEMA:
            raise DataError(f"{path}: must have schema {SCHEMA}, has {str(content.get('schema'))[:80]}")
        entry = content["record"]
        record = Record(
            {str(k): str(v) for k, v in entry["identity"].items()},
            str(entry["created"]),
            tuple(check_id(v) for v in entry["parents"]),
            dict(entry["settings"]),
            {str(k): str(v) for k, v in entry["data"].items()},
            {str(k): float(v) for k, v in entry["before"].items()},
            {str(k): float(v) for k, v in entry["after"].items()},
            tuple(Gate(str(g["name"]), g["passed"] is True, str(g["detail"])) for g in entry["gates"]),
        )
        files = {
            str(name): StoredFile(str(file["sha256"]), None if file["size"] is None else int(file["size"]))
            for name, file in content["files"].items()
        }
        if codec.itself not in files or not files.keys() <= codec.files.keys():
            raise ValueError(f"files, {', '.join(files)}")
        return Stored(check_id(content["version"], codec.letter), files, record)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(
            f"{path}: must be the record of a version, lacks or garbles {str(error)[:80]}"
        ) from None


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
