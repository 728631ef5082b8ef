"""Write an `.mlpackage` whose bytes depend on its content alone."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any, Final

MODEL_FILE: Final = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS_FILE: Final = "Data/com.apple.CoreML/weights/weight.bin"
"""Relative to the package."""

_AUTHOR: Final = "com.apple.CoreML"
# Core ML asks only that identifiers are unique within a package; random ones would make equal
# packages differ.
_NAMESPACE: Final = uuid.UUID("5d7f6a3e-6f3c-5c56-9a5d-4f0c1d6a2b10")


def serialize(spec: Any) -> bytes:
    """A `Model_pb2.Model` as bytes; maps in the order of their keys, so that equal models are equal bytes."""
    data: bytes = spec.SerializeToString(deterministic=True)
    return data


def write_package(path: Path, model: bytes, weights: bytes | None) -> None:
    """Write a new package.

    Args:
        path: `NAME.mlpackage`, which must not exist.
        model: the serialized protobuf.
        weights: content of `weight.bin`; None for a model that keeps all in the protobuf.

    Raises:
        OSError: it exists, or cannot be written.
    """
    items = [("model.mlmodel", "model.mlmodel", "CoreML Model Specification")]
    if weights is not None:
        items.append(("weights", "weights", "CoreML Model Weights"))
    identifiers = [str(uuid.uuid5(_NAMESPACE, name)) for name, _, _ in items]
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            identifier: {
                "author": _AUTHOR,
                "description": description,
                "name": name,
                "path": f"{_AUTHOR}/{path}",
            }
            for identifier, (name, path, description) in zip(identifiers, items, strict=True)
        },
        "rootModelIdentifier": identifiers[0],
    }
    (path / MODEL_FILE).parent.mkdir(parents=True)
    (path / MODEL_FILE).write_bytes(model)
    if weights is not None:
        (path / WEIGHTS_FILE).parent.mkdir()
        (path / WEIGHTS_FILE).write_bytes(weights)
    (path / "Manifest.json").write_text(json.dumps(manifest, indent=4) + "\n")
