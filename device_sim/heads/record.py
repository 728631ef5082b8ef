"""What is known of a version of the head, and its file."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from device_sim.routes.bundle import Identity
from personality_common.errors import DataError, ToolkitError
from personality_common.files.atomic import read_json_object, write_json

SCHEMA: Final = 1
RECORD_FILE: Final = "record.json"
HEAD_FILE: Final = "head.safetensors"
MAX_RECORD_BYTES: Final = 1 << 20
_ID: Final = re.compile(r"h[0-9]{4,9}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Gate:
    """A condition that an update was held to: "frozen tensors identical", "held-out reward rose", …"""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class HeadRecord:
    """Where a head comes from.

    Attributes:
        identity: what it belongs to.
        parent: the version it was made from; None for the head that shipped.
        settings: of the update; JSON.
        feedback: fingerprint of the feedback; None if there was none.
        before, after: metrics by name, finite.
        gates: an update needs one at least, and all passed, to become active.
        created: ISO 8601, in UTC.
    """

    identity: Identity
    created: str
    parent: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    feedback: str | None = None
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    gates: tuple[Gate, ...] = ()

    def __post_init__(self) -> None:
        if self.parent is not None:
            check_id(self.parent)
        for name, value in (*self.before.items(), *self.after.items()):
            if not math.isfinite(value):
                raise ToolkitError(f"metrics of a head must be finite, {name} is {value}")
        try:
            json.dumps(dict(self.settings), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ToolkitError(f"settings of a head must be JSON: {error}") from None

    def require_gates(self, version: str) -> None:
        """Raise ToolkitError unless the head may become active."""
        if failed := [gate for gate in self.gates if not gate.passed]:
            names = "; ".join(f"{g.name} ({g.detail})" if g.detail else g.name for g in failed)
            raise ToolkitError(f"{version}: an update must pass its gates to be activated, failed: {names}")
        if self.parent is not None and not self.gates:
            raise ToolkitError(f"{version}: an update must have passed gates to be activated, it has none")


@dataclass(frozen=True)
class Stored:
    """A record as it is on disk, with what its head's file must be."""

    version: str
    head_sha256: str
    record: HeadRecord


def check_id(version: str) -> str:
    """The id, if it has the form of one: a version is a folder's name and never a path.

    Raises:
        DataError: it has not.
    """
    if not isinstance(version, str) or not _ID.fullmatch(version):
        raise DataError(
            f"a version is named like h0001-0123456789ab, got {str(version)[:80]!r}; see pt heads list"
        )
    return version


def write_record(folder: Path, stored: Stored) -> None:
    """Write a record with a checksum over all of it."""
    content = {"schema": SCHEMA, **asdict(stored)}
    write_json(folder / RECORD_FILE, content | {"checksum": _checksum(content)})


def read_record(folder: Path) -> Stored:
    """Read what `write_record` wrote.

    Raises:
        DataError: missing, too large, malformed, or its checksum does not hold.
    """
    path = folder / RECORD_FILE
    content = read_json_object(path, MAX_RECORD_BYTES)
    checksum = content.pop("checksum", None)
    if content.get("schema") != SCHEMA:
        raise DataError(f"{path}: must have schema {SCHEMA}, has {str(content.get('schema'))[:80]}")
    if checksum != _checksum(content):
        raise DataError(f"{path}: damaged: its content does not match its checksum")
    try:
        entry = content["record"]
        record = HeadRecord(
            Identity(**entry["identity"]),
            str(entry["created"]),
            entry["parent"],
            dict(entry["settings"]),
            entry["feedback"],
            {str(k): float(v) for k, v in entry["before"].items()},
            {str(k): float(v) for k, v in entry["after"].items()},
            tuple(Gate(str(g["name"]), g["passed"] is True, str(g["detail"])) for g in entry["gates"]),
        )
        return Stored(check_id(content["version"]), str(content["head_sha256"]), record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: must be a record of a head, lacks or garbles {error}") from None


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
