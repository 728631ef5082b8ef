"""Core ML's protobuf classes, without the 4 s that importing coremltools takes.

coremltools ships the generated classes in its `proto` folder, and importing any of them the
ordinary way runs `coremltools/__init__.py`, which loads every converter. Here the same files
are imported under a package name of our own whose path is that folder. The descriptors are
identical, so they also live beside coremltools in one process.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from personality_common.errors import ToolkitError

_ALIAS = "_coreml_proto"


def _load() -> tuple[Any, Any]:
    found = importlib.util.find_spec("coremltools")
    if found is None or found.origin is None:
        raise ToolkitError(
            "coremltools is not installed; it holds Core ML's file format: pip install coremltools"
        )
    package = ModuleType(_ALIAS)
    package.__path__ = [str(Path(found.origin).parent / "proto")]
    sys.modules[_ALIAS] = package
    return importlib.import_module(f"{_ALIAS}.Model_pb2"), importlib.import_module(f"{_ALIAS}.MIL_pb2")


Model_pb2, MIL_pb2 = _load()
