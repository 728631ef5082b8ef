"""`manifest.json`: what a bundle holds, down to where each parameter's bytes are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from personality_common.bundle.files import file_table
from personality_common.bundle.manifest import (
    SCHEMA,
    EncoderReference,
    InitialState,
    Manifest,
    NotComputed,
    PackageEntry,
    ReferenceSample,
    RunReference,
    Settings,
    StatePort,
    VocabularyReference,
)
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
from pretrain.personality.export.config import ExportConfig
from pretrain.personality.export.golden_night import NIGHT_DIR, NIGHT_FILE
from pretrain.personality.export.packages import BuiltPackage
from pretrain.personality.model import uncomputed_parameters
from pretrain.personality.rules.family import STATE_PARAMETERS
from pretrain.personality.rules.interface import INTERFACES
from pretrain.personality.rules.tolerances import TOLERANCES
from pretrain.personality.run import Run


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
    initial_state: Mapping[str, InitialState],
    left_out: Mapping[str, str],
    folder: Path,
    reference: ReferenceSample | None,
) -> Manifest:
    """The manifest of a bundle, but for its files, which `named` adds when all are written.

    Args:
        packages: the packages of the personality model.
        initial_state: state buffer -> its first content.
        left_out: part -> why the bundle does not have it.
        folder: the bundle.
        reference: None for a run that has no sample of its texts.
    """
    return Manifest(
        schema=SCHEMA,
        versions={name: version(name) for name in ("personality-toolkit", "coremltools", "torch")},
        settings=Settings(config.target, config.precision, config.encoder_weights),
        run=RunReference(run.fingerprint, run.record.finished),
        vocabulary=VocabularyReference(run.vocabulary.fingerprint, VOCAB_SIZE, TOKENS_FILE),
        encoder=EncoderReference(ENCODER_VERSION, run.encoder.fingerprint, run.encoder),
        dimensions={
            "base_embedding": run.encoder.dim,
            "embedding": EMBEDDING_DIM,
            "latent": LATENT_DIM,
            "logits": VOCAB_SIZE,
        },
        updatable=HEAD_PARAMETERS,
        not_computed=NotComputed(
            uncomputed_parameters(),
            "at sequence length 1 the softmax over one score is 1: attention is out(v(x)), and "
            "queries and keys have no influence; they are in the run and in no package",
        ),
        packages={package.part: _package(package, initial_state, folder) for package in packages},
        left_out=dict(left_out),
        golden=f"{GOLDEN_DIR}/{GOLDEN_FILE}",
        tolerances=TOLERANCES,
        files={},
        reference=reference,
        golden_night=None if reference is None else f"{GOLDEN_DIR}/{NIGHT_DIR}/{NIGHT_FILE}",
    )


def named(record: Manifest, folder: Path) -> Manifest:
    """The manifest with every file that is in the bundle."""
    return replace(record, files=file_table(folder))


def _package(package: BuiltPackage, initial_state: Mapping[str, InitialState], folder: Path) -> PackageEntry:
    interface = INTERFACES[package.part]
    files = [p for p in (folder / package.file_name).rglob("*") if p.is_file()]
    return PackageEntry(
        file=package.file_name,
        route=package.route,
        kind=interface.kind,
        specification_version=interface.specification_version,
        minimum_os=MINIMUM_OS[interface.specification_version],
        precision=package.precision,
        updatable=interface.updatable,
        inputs=interface.inputs,
        outputs=interface.outputs,
        states=tuple(
            StatePort(**vars(port), parameter=STATE_PARAMETERS[port.name], initial=initial_state[port.name])
            for port in interface.states
        ),
        training_inputs=interface.training_inputs,
        bytes=sum(p.stat().st_size for p in files),
        tensors=package.tensors,
    )
