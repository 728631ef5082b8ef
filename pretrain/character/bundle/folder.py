"""An exported folder as it arrives: opened, and then perhaps verified."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personality_common.bundle.files import changed_files
from personality_common.contract import MANIFEST_FILE
from personality_common.errors import ConfigError, DataError, MismatchError
from personality_common.files.atomic import read_json_object
from personality_common.files.inside import inside
from personality_common.files.typed import from_json
from personality_common.onnx.parsing import import_onnxruntime
from pretrain.character.bundle.manifest import FAMILY, MANIFEST_SCHEMA, Manifest
from pretrain.character.bundle.onnx_file import OnnxFile, read_onnx
from pretrain.character.calibration import check_temperatures
from pretrain.character.config import MODEL_NAMES
from pretrain.character.schema import HEADS, SCHEMA_NAMES, Schema, load_schema

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Folder:
    """An exported folder; its manifest is typed and its paths stay inside, and no more is believed."""

    path: Path
    manifest: Manifest
    schema: Schema

    @cached_property
    def onnx(self) -> OnnxFile:
        """Its ONNX file; ConfigError if it was exported without, DataError as of `read_onnx`."""
        if self.manifest.onnx is None:
            raise ConfigError(f"{self.path}: has no ONNX file; export it with --formats onnx")
        return read_onnx(inside(self.path, self.manifest.onnx.file), self.schema)

    def golden(self) -> list[dict[str, Any]]:
        """Worked examples; DataError if there are none."""
        path = inside(self.path, self.manifest.golden)
        rows = read_json_object(path).get("rows")
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{path}: must have rows of worked examples")
        return rows


def open_folder(path: Path) -> Folder:
    """Open a folder without believing it.

    Raises:
        DataError: no folder of `pt character export`, or a malformed manifest.
        MismatchError: of a schema or a network that this toolkit does not have.
    """
    file = path / MANIFEST_FILE
    if not file.is_file():
        raise DataError(f"{path}: must be a run or an exported folder; pt character export makes one")
    content = read_json_object(file)
    if content.get("family") != FAMILY or content.get("schema") != MANIFEST_SCHEMA:
        raise DataError(f"{file}: must be of the family {FAMILY}, schema {MANIFEST_SCHEMA}, and is not")
    manifest = from_json(Manifest, content, str(file))
    if manifest.schema_name not in SCHEMA_NAMES or manifest.model not in MODEL_NAMES:
        raise MismatchError(
            f"{file}: this toolkit has no schema {manifest.schema_name!r:.20} or no model "
            f"{manifest.model!r:.20}"
        )
    schema = load_schema(manifest.schema_name)
    if manifest.schema_sha256 != schema.fingerprint:
        raise MismatchError(
            f"{file}: its schema {schema.name} must be {schema.fingerprint[:16]}…, is "
            f"{manifest.schema_sha256[:16]!r}…: features and outputs mean something else there; export again"
        )
    check_temperatures(manifest.temperatures, schema, str(file))
    for name in manifest.files:
        inside(path, name)
    return Folder(path, manifest, schema)


def verify(folder: Folder) -> None:
    """Believe a folder if all its files are as the manifest says.

    Raises:
        DataError: one is not.
        MismatchError: its ONNX file is of another schema or another run.
    """
    for problem in changed_files(folder.path, folder.manifest.files):
        raise DataError(f"{folder.path}: {problem}; export it again")
    if folder.manifest.onnx is not None:
        for key, value in stated_metadata(folder.manifest).items():
            if (found := folder.onnx.metadata.get(key)) != value:
                raise MismatchError(
                    f"{folder.path}: {key} of the ONNX file must be {value[:40]}, is {found!r:.50}; "
                    "export it again"
                )


def stated_metadata(manifest: Manifest) -> dict[str, str]:
    """What every exported file must say of itself."""
    return {
        "pt.schema": manifest.schema_name,
        "pt.schema_sha256": manifest.schema_sha256,
        "pt.weights_sha256": manifest.run.fingerprint,
        "pt.data_sha256": manifest.data_fingerprint,
        "pt.model": manifest.model,
        "pt.precision": manifest.settings.precision,
        **{f"pt.temperature.{key}": repr(value) for key, value in manifest.temperatures.items()},
    }


def run_onnx(data: bytes, features: Rows) -> Rows:
    """(n, 453) -> (n, 42 or 49), by ONNX Runtime on one thread.

    Raises:
        DataError: it does not take the file.
        ToolkitError: it is not installed.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        heads = session.run(list(HEADS), {"features": features})
    except Exception as error:  # its classes are those of its extension
        raise DataError(f"ONNX Runtime does not take the file: {str(error).splitlines()[0]:.200}") from None
    flat: Rows = np.concatenate(heads, axis=1)
    return flat
