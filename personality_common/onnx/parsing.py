"""An ONNX file from outside, parsed within bounds; the packages for it are an extra of this one."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final

from personality_common.coreml.wire import count_objects
from personality_common.errors import DataError, ToolkitError
from personality_common.files.bounded import read_bounded

MISSING: Final = "ONNX files need the package {}; pip install 'personality-toolkit[character]'"


def import_onnx() -> Any:
    """The package `onnx`; ToolkitError where it is not installed."""
    return _import("onnx")


def import_onnxruntime() -> Any:
    """The package `onnxruntime`; ToolkitError where it is not installed."""
    return _import("onnxruntime")


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ToolkitError(MISSING.format(package)) from None


def parse_onnx(path: Path, most_bytes: int, most_objects: int) -> tuple[bytes, Any]:
    """The bytes of a file, and its ModelProto; what it says of itself is not believed yet.

    Args:
        most_objects: messages and strings in it.

    Raises:
        DataError: no such file, larger than allowed, or no ONNX.
        ToolkitError: the package `onnx` is not installed.
    """
    onnx = import_onnx()
    data = read_bounded(path, most_bytes, "an ONNX file")
    if count_objects(data, onnx.ModelProto.DESCRIPTOR, most_objects) > most_objects:
        raise DataError(f"{path}: an ONNX file may have {most_objects:,} parts, this has more")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # of the class that the protobuf in use has
        raise DataError(f"{path}: is no ONNX file, or cut: {str(error).splitlines()[0]:.100}") from None
    return data, model
