"""`run.json`: what every finished run says of itself, whatever was trained.

    schema, trainer     what may be read from it, and by whom
    finished            in UTC
    config, plan        the settings as given, and all that the bits of the result depend on
    versions, machine   what computed it
    quality, kept       the entry of the history whose state is the result, and which that is
    tensors             of each weight file, each tensor's shape, dtype and fingerprint

A trainer adds entries of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from torch import nn

from personality_common.contract import RUN_FILE
from personality_common.errors import DataError, MismatchError
from personality_common.files.atomic import read_json_object
from personality_common.files.fingerprint import compare_fingerprints
from personality_common.files.tensors import dtype_name, load_into, save_tensors
from personality_common.runs.folder import require_published

RUN_SCHEMA: Final = 1


@dataclass(frozen=True)
class Record:
    """What a finished run says of itself.

    Attributes:
        run: its folder.
        finished: when, in UTC; None where it does not say.
        tensors: of each weight file, each tensor's fingerprint.
        content: all of `run.json`; a trainer checks what it has put there itself.
    """

    run: Path
    finished: str | None
    tensors: Mapping[str, Mapping[str, str]]
    content: Mapping[str, Any]

    def fingerprint(self, *others: str) -> str:
        """SHA-256, in hex, of what the run is: fingerprints of its tensors and the others given, as JSON."""
        content = json.dumps([self.tensors, *others], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def load_into(self, module: nn.Module, file: str) -> None:
        """Read a weight file into its module.

        Raises:
            DataError: the file is missing or damaged, or the record does not name it.
            MismatchError: it holds other tensors than the module, or than the record says.
        """
        path = self.run / file
        found = load_into(module, path)
        if file not in self.tensors:
            raise DataError(f"{self.run / RUN_FILE}: names no fingerprints for {file}")
        difference = compare_fingerprints(self.tensors[file], found)
        if not difference.equal:
            raise MismatchError(f"{path}: must be the weights that {RUN_FILE} names: {difference}")


def read_record(run: Path, trainer: str) -> Record:
    """Open a finished run.

    Args:
        trainer: what it must have been trained by; a run that does not say is taken for its own.

    Raises:
        DataError: no finished run, one with a link in it, or `run.json` is malformed.
        MismatchError: another schema, or another trainer's run.
    """
    if not run.is_dir():
        raise DataError(f"{run}: must be the folder of a run; there is no such folder")
    require_published(run)
    file = run / RUN_FILE
    if not file.is_file():
        raise DataError(f"{run}: holds no finished run (no {RUN_FILE}); training with --output-dir makes one")
    content = read_json_object(file)
    said = {"schema": content.get("schema"), "trainer": content.get("trainer", trainer)}
    for key, wanted in {"schema": RUN_SCHEMA, "trainer": trainer}.items():
        if said[key] != wanted:
            raise MismatchError(f"{file}: {key} must be {wanted}, is {said[key]!r:.40}")
    try:
        tensors = {
            name: {tensor: _fingerprint(entry["fingerprint"]) for tensor, entry in entries.items()}
            for name, entries in content["tensors"].items()
        }
        finished = content.get("finished")
        if finished is not None:
            datetime.fromisoformat(finished)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{file}: not the record of a run: {error!r:.200}") from None
    return Record(run, finished, tensors, content)


def new_record(
    trainer: str,
    config: Any,
    packages: Iterable[str],
    quality: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """What `run.json` says of every run, but for the plan, which `publish` adds.

    Args:
        config: a dataclass.
        packages: whose versions the result depends on.
        quality: the entry of the history whose state was kept.
        tensors: as `save_weights` returns.
    """
    return {
        "schema": RUN_SCHEMA,
        "trainer": trainer,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": asdict(config, dict_factory=_plain),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
        "quality": dict(quality),
        "tensors": dict(tensors),
    }


def save_weights(
    folder: Path, modules: Mapping[str, nn.Module], metadata: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Write each module's tensors to its file.

    Returns:
        Of each file, each tensor's shape, dtype and fingerprint.
    """
    entries: dict[str, dict[str, Any]] = {}
    for file, module in modules.items():
        tensors = module.state_dict()
        fingerprints = save_tensors(folder / file, tensors, metadata)
        entries[file] = {
            name: {"shape": list(t.shape), "dtype": dtype_name(t), "fingerprint": fingerprints[name]}
            for name, t in tensors.items()
        }
    return entries


def _plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in pairs}


def _fingerprint(value: Any) -> str:
    if not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"a fingerprint has 64 hexadecimal digits, got {value!r:.40}")
    return str(value)
