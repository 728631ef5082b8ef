"""The work folder: a plan that says which devices there are, and what of it is done.

    plan.json               settings and what they were applied to; the folder is of this plan alone
    tables/used.npy         which texts some device needs
    tables/latents.npy      (texts, 512), and base.npy, (texts, d): of those texts, and of the tokens
    tables/pieces/          the same in pieces, while they are made
    chunks/0000.json        the finished lives of CHUNK devices
    fleet.json, report.html when all of them are there

Every file is written aside and renamed, so what is there is complete. A piece of work is held by a lock on
a byte of `.claims`, which ends with the process that holds it: whoever comes next takes what is neither done
nor held, on this machine or on another one that shares the folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sim.fleet.config import FleetConfig
from device_sim.fleet.mix import Kind, assign, parse_mix
from device_sim.users.nights import NightsConfig
from grpo.config import GRPOConfig
from grpo.learners import LearnerName
from personality_common.contract import MANIFEST_FILE
from personality_common.errors import DataError, MismatchError
from personality_common.files.atomic import atomic_writer, file_sha256, open_own, read_json_object, write_json
from personality_common.runs.plan import PLAN_FILE, require_same_plan

SCHEMA: Final = 3
CHUNK: Final = 64
"""Devices whose lives are written together: what is lost, at most, when a worker dies."""
PIECE: Final = 128
"""Texts that are embedded together."""
_PIECES_FROM: Final = 1 << 40
"""Bytes of `.claims` from here on are of pieces of the tables, those before of chunks."""
_MERGE: Final = _PIECES_FROM - 1


@dataclass(frozen=True)
class Plan:
    """A fleet, as its work folder has it.

    Attributes:
        bundle, data, run: where the workers find them.
        bundle_sha256: of the bundle's manifest, which has the checksums of all other files.
        texts_sha256: of all texts, in their order.
        chunk: devices in a chunk.
    """

    folder: Path
    bundle: Path
    bundle_sha256: str
    data: str
    texts_sha256: str
    run: Path | None
    devices: int
    user: str
    learner: LearnerName
    nights: NightsConfig
    grpo: GRPOConfig
    chunk: int

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        return parse_mix(self.user)

    @cached_property
    def kind_of(self) -> list[int]:
        """Of each device."""
        return assign(self.kinds, self.devices, self.nights.seed)

    def seed(self, device: int) -> int:
        return self.nights.seed + device

    @property
    def chunks(self) -> int:
        return -(-self.devices // self.chunk)

    def devices_of(self, chunk: int) -> range:
        return range(chunk * self.chunk, min((chunk + 1) * self.chunk, self.devices))

    def chunk_file(self, chunk: int) -> Path:
        return self.folder / "chunks" / f"{chunk:05}.json"

    def table_file(self, name: str) -> Path:
        return self.folder / "tables" / f"{name}.npy"

    @property
    def pieces(self) -> Path:
        return self.folder / "tables" / "pieces"

    def piece_file(self, name: str, piece: int) -> Path:
        return self.pieces / f"{name}-{piece:05}.npy"

    @property
    def document(self) -> dict[str, Any]:
        """For `plan.json`; two with one document are one plan."""
        return {
            "schema": SCHEMA,
            "bundle": str(self.bundle),
            "bundle_sha256": self.bundle_sha256,
            "data": self.data,
            "texts_sha256": self.texts_sha256,
            "run": self.run and str(self.run),
            "devices": self.devices,
            "user": self.user,
            "learner": self.learner,
            "nights": asdict(self.nights),
            "grpo": asdict(self.grpo),
            "chunk": self.chunk,
        }

    def missing(self) -> list[int]:
        """Chunks that are not finished."""
        return [chunk for chunk in range(self.chunks) if not self.chunk_file(chunk).exists()]

    @contextmanager
    def claim_chunk(self, chunk: int) -> Iterator[bool]:
        """Whether the chunk is this process's to work on, while the block lasts."""
        with self._claim(chunk) as mine:
            yield mine

    @contextmanager
    def claim_piece(self, piece: int) -> Iterator[bool]:
        with self._claim(_PIECES_FROM + piece) as mine:
            yield mine

    @contextmanager
    def claim_merge(self) -> Iterator[bool]:
        with self._claim(_MERGE) as mine:
            yield mine

    @contextmanager
    def _claim(self, byte: int) -> Iterator[bool]:
        # One claim at a time in a process: closing the file ends all that the process holds on it.
        with os.fdopen(open_own(self.folder / ".claims"), "r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except OSError:
                yield False
                return
            yield True


def make_plan(config: FleetConfig, texts: tuple[str, ...]) -> Plan:
    """The plan that a configuration asks for; nothing is written."""
    return Plan(
        folder=config.out.resolve(),
        bundle=config.bundle.resolve(),
        bundle_sha256=file_sha256(config.bundle / MANIFEST_FILE),
        data=str(Path(config.data).resolve()) if Path(config.data).exists() else config.data,
        texts_sha256=texts_sha256(texts),
        run=config.run and config.run.resolve(),
        devices=config.devices,
        user=config.user,
        learner=config.learns_by,
        nights=config.nights,
        grpo=config.grpo,
        chunk=CHUNK,
    )


def texts_sha256(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def write_plan(plan: Plan) -> None:
    """Take a folder for a plan; one that is there already must be the same.

    Raises:
        MismatchError: the folder is another plan's.
        DataError: the folder has something else in it.
    """
    file = plan.folder / PLAN_FILE
    if file.exists():
        require_same_plan(read_json_object(file), plan.document, plan.folder, "take another --out")
        return
    if plan.folder.is_dir() and any(path.name != ".lock" for path in plan.folder.iterdir()):
        raise DataError(f"{plan.folder}: must be empty or a fleet's, and has other files; take another --out")
    write_json(file, plan.document)


def read_plan(folder: Path) -> Plan:
    """Of a folder that `pt fleet` prepared.

    Raises:
        DataError: there is no plan, or it is malformed.
    """
    document = read_json_object(folder / PLAN_FILE)
    try:
        if document.pop("schema") != SCHEMA:
            raise MismatchError(
                f"{folder / PLAN_FILE}: schema must be {SCHEMA}; start again in another folder"
            )
        grpo = document.pop("grpo")
        grpo["reward_weights"] = tuple(map(tuple, grpo["reward_weights"]))
        return Plan(
            folder=folder.resolve(),
            bundle=Path(document.pop("bundle")),
            run=_path(document.pop("run")),
            nights=NightsConfig(**document.pop("nights")),
            grpo=GRPOConfig(**grpo),
            **document,
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / PLAN_FILE}: not a fleet's plan: {error!r}") from None


def save_array(path: Path, array: NDArray[Any]) -> None:
    """As .npy, atomically."""
    with atomic_writer(path, private=True) as file:
        # Hides that it is a file: NumPy writes to one through C's stdio, and does not see where that fails.
        np.save(SimpleNamespace(write=file.write), array, allow_pickle=False)


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)
