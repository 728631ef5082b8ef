"""`pt character export`: from a run to a folder that an engine or an app can take."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from personality_common.bundle.files import file_table
from personality_common.bundle.manifest import RunReference
from personality_common.bundle.stored import stored_values
from personality_common.contract import MANIFEST_FILE
from personality_common.coreml.writing import write_package
from personality_common.errors import ConfigError, ToolkitError
from personality_common.files.atomic import write_json
from personality_common.files.fingerprint import fingerprint
from personality_common.files.staging import staged_folder
from personality_common.terminal.progress import Reporter
from pretrain.character.bundle.folder import stated_metadata
from pretrain.character.bundle.manifest import (
    FAMILY,
    GOLDEN_FILE,
    INPUT,
    MANIFEST_SCHEMA,
    ONNX_FILE,
    PACKAGE,
    SCHEMA_FILE,
    Manifest,
    OnnxEntry,
    OnnxTensor,
    PackageEntry,
    Settings,
)
from pretrain.character.bundle.onnx_file import read_onnx
from pretrain.character.config import ExportConfig, Weights
from pretrain.character.decoding import decode_all
from pretrain.character.export.checks import check_onnx
from pretrain.character.export.coreml import build_package
from pretrain.character.export.onnx import IR_VERSION, OPSET, Values, build_onnx, int8_choices, quantize
from pretrain.character.features import decode_features
from pretrain.character.model import SeedModel, SkipModel, build_model
from pretrain.character.prompt import character_block
from pretrain.character.run import Run, load_run, outputs
from pretrain.character.schema import FEATURES, Schema
from pretrain.character.synthesis import example_features

GOLDEN_ROWS: Final = 8
GOLDEN_NAMES: Final = ("Ada", "Bran", "Cleo", "Dara", "Elin", "Finn", "Gwen", "Hale")
EXAMPLE_SEED: Final = 20_240_601

GATE_ROWS: Final = 2000
LEAST_AGREEMENT: Final = 0.98
"""Share of answers that int8 may not change, for each class and for whether she speaks."""


@dataclass(frozen=True)
class ExportResult:
    """What was written: folder and manifest."""

    folder: Path
    manifest: Manifest


def export(config: ExportConfig, reporter: Reporter) -> ExportResult:
    """Write a folder, check it, and put it in place; a failure or a kill leaves what was there.

    Raises:
        ConfigError: the target is no folder of an export.
        DataError: no finished run, or a damaged one.
        MismatchError: the run's files do not belong together.
        ToolkitError: a package is missing, the converter failed, a check failed, or int8 changes too much.
        OSError: no space, no permission.
    """
    if config.out.exists() and not (config.out / MANIFEST_FILE).is_file():
        raise ConfigError(
            f"--out must be a new folder or an earlier export, {config.out} has no {MANIFEST_FILE}"
        )
    run = load_run(config.run)
    values = {name: p.detach().numpy() for name, p in run.model.named_parameters()}
    int8, agreement = _gate(run, values, reporter) if config.precision == "int8" else ([], None)
    manifest = _manifest(run, config, agreement)
    metadata = _metadata(manifest, run.schema)
    with staged_folder(config.out) as folder:
        write_json(folder / SCHEMA_FILE, run.schema.to_json())
        golden = _write_golden(folder / GOLDEN_FILE, run)
        if "onnx" in config.formats:
            data = build_onnx(values, run.model_name, run.schema, config.precision, metadata, int8)
            check_onnx(data, run.schema, golden)
            (folder / ONNX_FILE).write_bytes(data)
            manifest = replace(manifest, onnx=_onnx_entry(folder / ONNX_FILE, run.schema))
            reporter.say(f"{ONNX_FILE}: {len(data):,} bytes")
        if "coreml" in config.formats:
            package = _write_package(folder / PACKAGE, run, values, config.precision, metadata)
            manifest = replace(manifest, coreml=package)
            reporter.say(f"{PACKAGE}: written")
        manifest = replace(manifest, files=file_table(folder))
        write_json(folder / MANIFEST_FILE, asdict(manifest))
    return ExportResult(config.out, manifest)


def _onnx_entry(path: Path, schema: Schema) -> OnnxEntry:
    """As everyone else will read it."""
    tensors = (
        OnnxTensor(name, array.dtype.name, array.shape, fingerprint(array))
        for name, array in read_onnx(path, schema).tensors.items()
    )
    return OnnxEntry(ONNX_FILE, OPSET, IR_VERSION, tuple(tensors))


def _metadata(manifest: Manifest, schema: Schema) -> dict[str, str]:
    """What every exported file says of itself."""
    labels = {output.key: output.labels for output in schema.outputs}
    return stated_metadata(manifest) | {"pt.labels": json.dumps(labels)}


def _gate(run: Run, values: Values, reporter: Reporter) -> tuple[list[str], dict[str, float]]:
    """The most matrices that int8 may have, and the share of generated characters for whom it then leaves
    an answer as it is, by output.

    Raises:
        ToolkitError: fewer than LEAST_AGREEMENT, whichever it has.
    """
    features = example_features(run.schema, GATE_ROWS, EXAMPLE_SEED)
    before = outputs(run.model, features)
    for int8 in int8_choices(values):
        agreement = _agreement(before, outputs(_rounded(run, values, int8), features), run.schema)
        figures = ", ".join(f"{key} {share:.4f}" for key, share in agreement.items())
        reporter.say(f"{' and '.join(int8)} in int8 agree with float32: {figures}")
        worst = min(agreement, key=lambda key: agreement[key])
        if agreement[worst] >= LEAST_AGREEMENT:
            return int8, agreement
    raise ToolkitError(
        f"int8 must leave {LEAST_AGREEMENT:.0%} of all answers as they are, leaves "
        f"{agreement[worst]:.1%} of {worst}; export with --precision float16"
    )


def _rounded(run: Run, values: Values, int8: Collection[str]) -> SkipModel | SeedModel:
    """The network as `build_onnx` stores it."""
    rounded = build_model(run.model_name, run.schema, dropout=0.0).eval()
    with torch.no_grad():
        for name, parameter in rounded.named_parameters():
            value = values[name]
            if name in int8:
                whole, scale = quantize(value)
                value = whole * scale
            elif value.ndim == 2:
                value = stored_values(name, value, "float16").astype(np.float32)
            parameter.copy_(torch.from_numpy(value))
    return rounded


def _agreement(before: NDArray[np.float32], after: NDArray[np.float32], schema: Schema) -> dict[str, float]:
    """Share of equal answers, for each class and each logit."""
    agreement = {}
    for output in schema.of_kind("class", "binary"):
        pair = [flat[:, schema.places[output.key]] for flat in (before, after)]
        chosen = [(f > 0) if output.kind == "binary" else f.argmax(axis=1) for f in pair]
        agreement[output.key] = float((chosen[0] == chosen[1]).mean())
    return agreement


def _write_golden(path: Path, run: Run) -> NDArray[np.float32]:
    """Characters, what PyTorch gives for them, and what that decodes to; returns the features."""
    features = example_features(run.schema, GOLDEN_ROWS, EXAMPLE_SEED + 1)
    flat = outputs(run.model, features)
    answers = decode_all(flat, run.schema, run.temperatures, None)
    rows = [
        {
            "description": {"name": name} | decode_features(row, run.schema),
            "features": [float(str(value)) for value in row],
            "outputs": [float(str(value)) for value in out],
            "likeliest": asdict(answer),
            "prompt": character_block(name, answer),
        }
        for name, row, out, answer in zip(GOLDEN_NAMES, features, flat, answers, strict=True)
    ]
    write_json(path, {"schema_sha256": run.schema.fingerprint, "rows": rows})
    return features


def _write_package(
    path: Path, run: Run, values: Values, precision: Weights, metadata: Mapping[str, str]
) -> PackageEntry:
    assert precision != "int8", "the config refuses it"
    with tempfile.TemporaryDirectory(dir=path.parent.parent, prefix="convert.") as scratch:
        built = build_package(values, run.model_name, run.schema, precision, metadata, Path(scratch))
    write_package(path, built.model, built.weights)
    return PackageEntry(PACKAGE, built.tensors)


def _manifest(run: Run, config: ExportConfig, agreement: dict[str, float] | None) -> Manifest:
    """The manifest of a folder that has no file yet."""
    return Manifest(
        schema=MANIFEST_SCHEMA,
        family=FAMILY,
        versions={name: version(name) for name in ("personality-toolkit", "torch")},
        settings=Settings(config.formats, config.precision),
        run=RunReference(run.weights_sha256, run.record.finished),
        data_fingerprint=run.data_fingerprint,
        schema_name=run.schema.name,
        schema_sha256=run.schema.fingerprint,
        model=run.model_name,
        temperatures=run.temperatures,
        int8_agreement=agreement,
        onnx=None,
        coreml=None,
        inputs={INPUT: FEATURES},
        outputs={head: place.stop - place.start for head, place in run.schema.heads.items()},
        golden=GOLDEN_FILE,
        files={},
    )
