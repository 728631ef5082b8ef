"""Checks of a character predictor's folder that need no runtime: whose bytes, which order, which schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from device_sim.parity.difference import difference, told
from personality_common.bundle.files import changed_files
from personality_common.bundle.stored import Array, stored_values
from personality_common.coreml.features import features
from personality_common.coreml.package import Package
from personality_common.evidence.claims import Check
from personality_common.files.atomic import read_json_object
from personality_common.files.fingerprint import fingerprint
from personality_common.files.inside import inside
from pretrain.character.bundle.folder import Folder, stated_metadata
from pretrain.character.bundle.manifest import INPUT, ONNX_FILE, PACKAGE, SCHEMA_FILE
from pretrain.character.decoding import decode
from pretrain.character.features import encode
from pretrain.character.run import Run
from pretrain.character.schema import FEATURES, Schema


def file_checks(folder: Folder, run: Run | None) -> Iterator[Check]:
    """All of them; `run` is the folder's."""
    changed = changed_files(folder.path, folder.manifest.files)
    yield told("", "files", "files have the sizes and SHA-256 of the manifest", changed)
    yield told("", "schema", "schema.json is this toolkit's schema", _schema(folder))
    yield told("", "golden", "golden rows: descriptions, features and answers agree", _golden(folder))
    metadata = ("metadata", "metadata: schema, run, temperatures, labels")
    tensors = ("tensors", "tensors have the fingerprints of the manifest")
    if folder.manifest.onnx is not None:
        yield told(ONNX_FILE, *metadata, _onnx_metadata(folder))
        yield told(ONNX_FILE, *tensors, _onnx_tensors(folder))
        if run is not None:
            yield told(ONNX_FILE, "tensors-of-run", "tensors are the run's", _tensors_of_run(folder, run))
    if folder.manifest.coreml is not None:
        yield told(PACKAGE, *metadata, _package_metadata(folder))
        yield told(PACKAGE, *tensors, _package_tensors(folder))
        yield told(PACKAGE, "interface", "takes features, gives the four heads", _package_interface(folder))


def _schema(folder: Folder) -> Iterator[str]:
    found = read_json_object(inside(folder.path, SCHEMA_FILE))
    yield from _differences(found, folder.schema.to_json(), "")


def _differences(found: Any, wanted: Any, at: str) -> Iterator[str]:
    """Where two JSON values differ: `heads.action.parts[0].labels[1] is 'Move', not 'Speak'`."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in {**wanted, **found}:
            yield from _differences(found.get(key), wanted.get(key), f"{at}.{key}".lstrip("."))
    elif isinstance(found, list) and isinstance(wanted, list | tuple) and len(found) == len(wanted):
        for i, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
            yield from _differences(ours, theirs, f"{at}[{i}]")
    elif found != wanted:
        yield f"{at} is {found!r:.60}, not {wanted!r:.60}"


def _golden(folder: Folder) -> Iterator[str]:
    schema = folder.schema
    for i, row in enumerate(folder.golden()):
        given = np.array(row["features"], np.float32)
        if not np.array_equal(encode(row["description"], schema), given):
            yield f"row {i}: its description encodes to other features"
        answer = decode(np.array(row["outputs"], np.float32), schema, folder.manifest.temperatures, None)
        for head, key, ours in (
            ("action", "type", answer.action.type),
            ("thought", "awareness", answer.thought.awareness),
            ("thought", "dominant", answer.thought.dominant),
        ):
            theirs = row["likeliest"][head][key]
            if theirs != ours:
                yield f"row {i}: {head}.{key} is {theirs!r:.40}, its outputs decode to {ours}"


def _metadata(found: Mapping[str, str], folder: Folder) -> Iterator[str]:
    for key, value in stated_metadata(folder.manifest).items():
        if key not in found:
            yield f"{key} is missing"
        elif found[key] != value:
            yield f"{key} is {found[key][:40]!r}, the manifest has {value[:40]!r}"
    labels = {output.key: list(output.labels) for output in folder.schema.outputs}
    yield from _differences(json.loads(found.get("pt.labels", "{}")), labels, "pt.labels")


def _onnx_metadata(folder: Folder) -> Iterator[str]:
    yield from _metadata(folder.onnx.metadata, folder)


def _package_metadata(folder: Folder) -> Iterator[str]:
    spec = Package.open(inside(folder.path, PACKAGE)).spec
    yield from _metadata(dict(spec.description.metadata.userDefined), folder)


def _onnx_tensors(folder: Folder) -> Iterator[str]:
    assert folder.manifest.onnx is not None
    found = dict(folder.onnx.tensors)
    for stated in folder.manifest.onnx.tensors:
        array = found.pop(stated.name, None)
        if array is None:
            yield f"{stated.name} is missing"
        elif fingerprint(array) != stated.fingerprint:
            other = _from_package(folder, stated.name, stated.fingerprint)
            yield _wrong(folder.schema, stated.name, array, stated.fingerprint, other)
    for name in found:
        yield f"{name} is not in the manifest"


def _package_tensors(folder: Folder) -> Iterator[str]:
    assert folder.manifest.coreml is not None
    package = inside(folder.path, PACKAGE)
    for stated in folder.manifest.coreml.tensors:
        if stated.offset is None:
            continue
        array = stated.read(package)
        if fingerprint(array) != stated.fingerprint:
            other = folder.onnx.tensors.get(stated.name) if folder.manifest.onnx is not None else None
            if other is not None and fingerprint(other) != stated.fingerprint:
                other = None
            yield _wrong(folder.schema, stated.name, array, stated.fingerprint, other)


def _from_package(folder: Folder, name: str, wanted: str) -> Array | None:
    entry = folder.manifest.coreml
    for stated in entry.tensors if entry is not None else ():
        if stated.name == name and stated.offset is not None:
            array = stated.read(inside(folder.path, PACKAGE))
            return array if fingerprint(array) == wanted else None
    return None


def _tensors_of_run(folder: Folder, run: Run) -> Iterator[str]:
    values = {name: p.detach().numpy() for name, p in run.model.named_parameters()}
    for name, array in folder.onnx.tensors.items():
        parameter = name.removesuffix(".float16")
        if parameter in values:
            wanted = stored_values(parameter, values[parameter], array.dtype)
            if fingerprint(wanted) != fingerprint(array):
                yield _wrong(folder.schema, name, array, fingerprint(wanted), wanted)


def _wrong(schema: Schema, name: str, array: Array, wanted: str, reference: Array | None) -> str:
    words = difference(array, wanted, reference)
    return f"{name} is another: {_named_rows(schema, name, array, words)}"


def _named_rows(schema: Schema, name: str, array: Array, words: str) -> str:
    """With the classes that swapped rows of the output layer stand for."""
    if not words.endswith("are swapped") or len(array) != schema.size:
        return words
    numbers = [int(word) for word in words.split() if word.isdigit()]
    names = [
        f"{o.key} {label}"
        for o in schema.outputs
        for label, at in zip(o.labels, range(schema.places[o.key].start, schema.size), strict=False)
        if at in numbers
    ]
    return f"{words}: {' and '.join(names)}"


def _package_interface(folder: Folder) -> Iterator[str]:
    description = Package.open(inside(folder.path, PACKAGE)).spec.description
    found = {
        f.name: (f.dtype, f.shape[-1] if f.shape else 0)
        for f in (*features(description.input), *features(description.output))
    }
    wanted = {INPUT: ("float32", FEATURES)}
    wanted |= {head: ("float32", p.stop - p.start) for head, p in folder.schema.heads.items()}
    yield from _differences(found, wanted, "")
