"""`manifest.json`: what a bundle holds, down to where each parameter's bytes are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from personality_common.bundle.files import file_table
from personality_common.bundle.parts import STATE_PARAMETERS
from personality_common.contract import (
    EMBEDDING_DIM,
    ENCODER_VERSION,
    GOLDEN_DIR,
    GOLDEN_FILE,
    HEAD_PARAMETERS,
    LATENT_DIM,
    TOKENS_FILE,
    VOCAB_SIZE,
)
from personality_common.coreml.description import MINIMUM_OS
from personality_common.evidence.tolerances import to_json
from pretrain.personality.export.config import ExportConfig
from pretrain.personality.export.packages import BuiltPackage
from pretrain.personality.model import uncomputed_parameters
from pretrain.personality.rules.interface import INTERFACES
from pretrain.personality.run import Run

SCHEMA: Final = 1


def package_metadata(run: Run) -> dict[str, str]:
    """What every package says of itself, under `userDefined`; Core ML shows it as creatorDefinedKey."""
    return {
        "updatable_parameters": ",".join(HEAD_PARAMETERS),
        "vocabulary": run.vocabulary.joined(),
        "vocab_size": str(VOCAB_SIZE),
        "embedding_dim": str(EMBEDDING_DIM),
        "encoder_version": ENCODER_VERSION,
        "run_fingerprint": run.fingerprint,
        "vocabulary_fingerprint": run.vocabulary.fingerprint,
        "encoder_fingerprint": run.encoder.fingerprint,
    }


def manifest(
    config: ExportConfig,
    run: Run,
    packages: Sequence[BuiltPackage],
    initial_state: Mapping[str, Mapping[str, Any]],
    left_out: Mapping[str, str],
    folder: Path,
) -> dict[str, Any]:
    """The manifest of a bundle whose other files are all written.

    Args:
        packages: the packages of the personality model.
        initial_state: state buffer -> file, size and fingerprint of its first content.
        left_out: part -> why the bundle does not have it.
        folder: the bundle.
    """
    return {
        "schema": SCHEMA,
        "versions": {name: version(name) for name in ("personality-toolkit", "coremltools", "torch")},
        "settings": {
            "target": config.target,
            "precision": config.precision,
            "encoder_weights": config.encoder_weights,
        },
        "run": {"fingerprint": run.fingerprint, "finished": run.record.finished},
        "vocabulary": {
            "fingerprint": run.vocabulary.fingerprint,
            "size": VOCAB_SIZE,
            "file": TOKENS_FILE,
        },
        "encoder": {
            "version": ENCODER_VERSION,
            "fingerprint": run.encoder.fingerprint,
            "identity": asdict(run.encoder),
        },
        "dimensions": {
            "base_embedding": run.encoder.dim,
            "embedding": EMBEDDING_DIM,
            "latent": LATENT_DIM,
            "logits": VOCAB_SIZE,
        },
        "updatable": list(HEAD_PARAMETERS),
        "not_computed": {
            "tensors": list(uncomputed_parameters()),
            "reason": "at sequence length 1 the softmax over one score is 1: attention is out(v(x)), and "
            "queries and keys have no influence; they are in the run and in no package",
        },
        "packages": {p.part: _package(p, initial_state, folder) for p in packages},
        "left_out": dict(left_out),
        "golden": f"{GOLDEN_DIR}/{GOLDEN_FILE}",
        "tolerances": to_json(),
        "files": file_table(folder),
    }


def _package(
    package: BuiltPackage, initial_state: Mapping[str, Mapping[str, Any]], folder: Path
) -> dict[str, Any]:
    interface = INTERFACES[package.part]
    files = [p for p in (folder / package.file_name).rglob("*") if p.is_file()]
    return {
        "file": package.file_name,
        "route": package.route,
        "kind": interface.kind,
        "specification_version": interface.specification_version,
        "minimum_os": MINIMUM_OS[interface.specification_version],
        "precision": package.precision,
        "updatable": interface.updatable,
        "inputs": [port.to_json() for port in interface.inputs],
        "outputs": [port.to_json() for port in interface.outputs],
        "states": [
            port.to_json()
            | {"parameter": STATE_PARAMETERS[port.name], "initial": dict(initial_state[port.name])}
            for port in interface.states
        ],
        "training_inputs": [port.to_json() for port in interface.training_inputs],
        "bytes": sum(p.stat().st_size for p in files),
        "tensors": [asdict(tensor) for tensor in package.tensors],
    }
