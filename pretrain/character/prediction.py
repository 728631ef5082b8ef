"""`pt character predict`: answers for descriptions, from a run or from an exported file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.contract import MANIFEST_FILE, RUN_FILE
from personality_common.errors import DataError
from pretrain.character.bundle.folder import open_folder, run_onnx, verify
from pretrain.character.decoding import Answer, decode_all
from pretrain.character.features import NAME, Features, decode_features, encode
from pretrain.character.prompt import character_block
from pretrain.character.records import read_numbers
from pretrain.character.schema import FEATURES, Schema
from pretrain.data.json_records import read_json_lines
from pretrain.data.schemas import BadRecord

NOBODY: Final = "character"
"""Who a prompt block is about where the description has no name."""


@dataclass(frozen=True)
class Prediction:
    """An answer, and who it is about."""

    name: str
    answer: Answer

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self.answer)}

    def prompt(self) -> str:
        """DataError if the name cannot stand in a prompt."""
        return character_block(self.name, self.answer)


@dataclass(frozen=True)
class Source:
    """What answers: a run, in PyTorch, or an exported folder, in ONNX Runtime.

    Attributes:
        outputs: (n, 453) -> (n, 42 or 49).
    """

    schema: Schema
    temperatures: dict[str, float]
    outputs: Callable[[Features], NDArray[np.float32]]


def open_source(path: Path) -> Source:
    """Open a run or an exported folder, whose files are verified.

    Raises:
        ConfigError: the folder has no ONNX file.
        DataError: neither of them, or a file is damaged.
        MismatchError: files that do not belong together.
        ToolkitError: ONNX Runtime is not installed.
    """
    if not (path / RUN_FILE).is_file() and (path / MANIFEST_FILE).is_file():
        folder = open_folder(path)
        verify(folder)
        return Source(folder.schema, folder.manifest.temperatures, partial(run_onnx, folder.onnx.data))

    # A folder needs no torch, whose import takes longer than all else.
    from pretrain.character.run import load_run, outputs

    run = load_run(path)
    return Source(run.schema, run.temperatures, partial(outputs, run.model))


def predict(source: Source, path: Path, seed: int | None) -> list[Prediction]:
    """Answers for each line of a file.

    Args:
        path: JSONL; each line is a description, or has its 453 `features`.
        seed: of what is drawn; None for the likeliest of everything.

    Raises:
        DataError: a malformed line, with file and line.
    """
    names, features = read_inputs(path, source.schema)
    answers = decode_all(source.outputs(features), source.schema, source.temperatures, seed)
    return [Prediction(name, answer) for name, answer in zip(names, answers, strict=True)]


def read_inputs(path: Path, schema: Schema) -> tuple[list[str], NDArray[np.float32]]:
    """Names, and (n, 453); see `predict`."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    names, rows = [], []
    for line, record in read_json_lines(path):
        try:
            if isinstance(record, BadRecord) or not isinstance(record, dict):
                raise DataError(str(record) if isinstance(record, BadRecord) else "must be an object")
            names.append(str(record.get(NAME, NOBODY)))
            rows.append(_features(record, schema))
        except DataError as error:
            raise DataError(f"{path}:{line}: {error}") from None
    if not rows:
        raise DataError(f"{path}: must have a line per character, has none")
    return names, np.stack(rows)


def _features(record: Mapping[str, Any], schema: Schema) -> NDArray[np.float32]:
    if "features" not in record:
        return encode(record, schema)
    row = read_numbers(record["features"], FEATURES, "features")
    decode_features(row, schema)
    return row
