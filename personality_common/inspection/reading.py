"""Find out what a path is (package, model, ONNX file, bundle, run) and describe it as plain data."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from personality_common.contract import MANIFEST_FILE, RUN_FILE
from personality_common.coreml.describe import describe
from personality_common.coreml.description import ModelDescription
from personality_common.coreml.limits import DEFAULT_LIMITS, Limits
from personality_common.coreml.package import Package
from personality_common.errors import DataError, ToolkitError
from personality_common.files.atomic import read_json_object
from personality_common.files.inside import refuse_links
from personality_common.inspection.cost import Cost, cost_of
from personality_common.inspection.damage import damaged_files, damaged_tensors
from personality_common.inspection.difference import Comparison
from personality_common.onnx.description import OnnxDescription, describe_onnx

JSON_BYTES: Final = 32 << 20
"""Of the summary of a bundle or a run."""


@dataclass(frozen=True)
class PackageInspection:
    """A Core ML package or model file."""

    path: str
    bytes: int
    """All files of it."""
    model: ModelDescription
    cost: Cost | None = None
    """None where it was not asked for, or cannot be counted."""
    type: str = "model"


@dataclass(frozen=True)
class OnnxInspection:
    """An ONNX file."""

    path: str
    bytes: int
    model: OnnxDescription
    type: str = "onnx"


@dataclass(frozen=True)
class FolderInspection:
    """A run or a bundle: its JSON summary, and the packages and ONNX files in it."""

    path: str
    bytes: int
    summary: dict[str, Any]
    packages: tuple[PackageInspection, ...]
    onnx: tuple[OnnxInspection, ...]
    problems: tuple[str, ...]
    type: str


Inspection = PackageInspection | OnnxInspection | FolderInspection


def inspect_path(
    path: str | os.PathLike[str],
    *,
    fingerprints: bool = False,
    cost: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Inspection:
    """Describe a bundle, an `.mlpackage`, an `.mlmodel`, an `.onnx` file, or a run.

    Args:
        fingerprints: compute those of all tensors.
        cost: count what a prediction of each package costs; of a file alone, DataError says why it cannot be.

    Raises:
        DataError: it is none of these, or too broken to be described.
        ToolkitError: an ONNX file, and the package `onnx` is not installed.
    """
    path = Path(path)
    # Exact names: where file names ignore case, Manifest.json answers to manifest.json.
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    if MANIFEST_FILE in names:
        return _folder(path, MANIFEST_FILE, "bundle", fingerprints, cost, limits)
    if RUN_FILE in names:
        return _folder(path, RUN_FILE, "run", fingerprints, cost, limits)
    return _file(path, fingerprints, cost, limits)


def _file(path: Path, fingerprints: bool, cost: bool, limits: Limits) -> PackageInspection | OnnxInspection:
    if path.suffix == ".onnx":
        found = describe_onnx(path, limits, fingerprints=fingerprints)
        return OnnxInspection(str(path), _size(path, limits), found)
    package = Package.open(path, limits)
    model = describe(package, fingerprints=fingerprints)
    return PackageInspection(str(path), _size(path, limits), model, cost_of(package) if cost else None)


def problems_of(inspection: Inspection) -> tuple[str, ...]:
    """All that is wrong with what was read; of packages in a folder and of submodels, too."""
    if isinstance(inspection, FolderInspection):
        files: list[Inspection] = [*inspection.packages, *inspection.onnx]
        return (*inspection.problems, *(problem for file in files for problem in problems_of(file)))
    if isinstance(inspection, OnnxInspection):
        return inspection.model.problems
    return tuple(model_problems(inspection.model))


def model_problems(model: ModelDescription) -> Iterator[str]:
    """All that is wrong with a model, and with its submodels."""
    yield from model.problems
    for submodel in model.submodels:
        yield from model_problems(submodel)


def to_json(found: Inspection | Comparison) -> str:
    """JSON text, ASCII; numbers that JSON lacks (NaN, infinity) are strings."""
    return json.dumps(_finite(dataclasses.asdict(found)), indent=2, allow_nan=False)


def _folder(
    path: Path, file: str, kind: str, fingerprints: bool, cost: bool, limits: Limits
) -> FolderInspection:
    summary = read_json_object(path / file, JSON_BYTES)
    found, problems = [], []
    for entry in sorted(path.iterdir()):
        if entry.suffix in (".mlpackage", ".mlmodel", ".onnx"):
            try:
                found.append(_file(entry, fingerprints, cost, limits))
            except ToolkitError as error:
                problems.append(str(error))
    try:
        refuse_links(path)
        problems += damaged_tensors(path, summary) if kind == "run" else damaged_files(path, summary)
    except ToolkitError as error:
        problems.append(str(error))
    packages = tuple(file for file in found if isinstance(file, PackageInspection))
    onnx = tuple(file for file in found if isinstance(file, OnnxInspection))
    return FolderInspection(str(path), _size(path, limits), summary, packages, onnx, tuple(problems), kind)


def _size(path: Path, limits: Limits) -> int:
    """Bytes of a file, or of all files in a folder; links are not followed."""
    if not path.is_dir():
        return path.stat().st_size
    total = count = 0
    for folder, folders, files in os.walk(path):
        count += len(folders) + len(files)
        if count > limits.package_files:
            raise DataError(f"{path}: {limits.package_files} files at most, this has more")
        total += sum((Path(folder) / name).lstat().st_size for name in files)
    return total


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value
