"""`pt export`, from a run to a bundle."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from personality_common.bundle.manifest import InitialState, Manifest, write_manifest
from personality_common.bundle.stored import stored_values
from personality_common.contract import (
    GOLDEN_DIR,
    MANIFEST_FILE,
    TOKENIZER_FILE,
    TOKENS_FILE,
    WORDPIECE_FILE,
)
from personality_common.coreml.writing import write_package
from personality_common.errors import ConfigError
from personality_common.files.atomic import write_json
from personality_common.files.fingerprint import fingerprint
from personality_common.files.staging import staged_folder
from personality_common.terminal.progress import SILENT, Reporter
from personality_common.text.bert_folder import tokenizer_file, wordpiece_vocabulary
from personality_common.text.identity import Encoder, EncoderIdentity
from personality_common.text.sentence import SentenceEncoder
from pretrain.personality.export.config import ExportConfig
from pretrain.personality.export.encoder import EncoderPart, build_encoder
from pretrain.personality.export.golden import write_golden
from pretrain.personality.export.golden_night import NIGHT_DIR, write_golden_nights
from pretrain.personality.export.manifest import manifest, named, package_metadata
from pretrain.personality.export.packages import BuiltPackage, build_package
from pretrain.personality.export.papers import write_licenses, write_papers
from pretrain.personality.export.reference import write_reference
from pretrain.personality.model import EmbeddingProjector
from pretrain.personality.rules.checks import check_bundle
from pretrain.personality.rules.family import INITIAL_STATE_DIR, PARTS, STATE_PARAMETERS
from pretrain.personality.run import Run, load_run, load_run_encoder

Values = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        bundle: the folder.
        manifest: the content of its manifest.
        seconds: by part, and of checks and golden vectors.
    """

    bundle: Path
    manifest: Manifest
    seconds: dict[str, float]


def export(config: ExportConfig, reporter: Reporter = SILENT) -> ExportResult:
    """Write a bundle, check it, and put it in place; a failure or a kill leaves what was there.

    Raises:
        ConfigError: the run has no part of those asked for, or the target is no bundle.
        DataError: no finished run, or a damaged one.
        MismatchError: the run's files do not belong together, or a check of the bundle failed.
        ToolkitError: the encoder or the converter is not usable here; another process is exporting there.
        OSError: no space, no permission.
    """
    _require_replaceable(config.out)
    clock = _Clock(reporter)
    with clock.time("run"):
        run = load_run(config.run, config.head)
        parts, left_out = _choose_parts(config, run)
    for part, reason in left_out.items():
        reporter.say(f"{PARTS[part]}: left out, {reason}")
    values = {n: p.detach().numpy() for n, p in run.model.named_parameters()}
    metadata = package_metadata(run)
    with clock.time("encoder"):
        encoder = _load_encoder(run)
    with staged_folder(config.out) as folder:
        packages: list[BuiltPackage] = []
        text_encoder = None
        for part in parts:
            with clock.time(PARTS[part]):
                if part == "encoder":
                    assert isinstance(encoder, SentenceEncoder)
                    assert run.projector is not None
                    text_encoder = _build_encoder(
                        encoder.folder, run.encoder, run.projector, config, metadata, folder
                    )
                    package = text_encoder.package
                else:
                    package = _build_part(part, values, metadata, config, folder)
                write_package(folder / package.file_name, package.model, package.weights)
                packages.append(package)
        with clock.time("golden vectors"):
            write_json(folder / TOKENS_FILE, {"tokens": list(run.vocabulary.tokens)})
            shipped = None if text_encoder is None else text_encoder.shipped
            write_golden(folder / GOLDEN_DIR, run, encoder, shipped)
        with clock.time("manifest and checks"):
            state = _write_initial_state(folder, values) if "stateful" in parts else {}
            if (sample := write_reference(folder, run)) is None:
                reporter.warn(
                    f"{config.run}: has no sample of its texts, so devices cannot learn with this bundle;"
                    " pt pretrain makes one"
                )
            else:
                write_golden_nights(folder / GOLDEN_DIR / NIGHT_DIR, run, folder, sample)
            record = manifest(config, run, packages, state, left_out, folder, sample)
            write_papers(folder, run, record)
            record = named(record, folder)
            write_manifest(folder, record)
            check_bundle(folder, values, metadata, None if text_encoder is None else text_encoder.values)
    return ExportResult(config.out, record, clock.seconds)


class _Clock:
    """Times the pieces of a job and says how long each took."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        self.reporter.say(f"{name}: {self.seconds[name]:.1f} s")


def _require_replaceable(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ConfigError(f"--out must be a new folder or a bundle, {out} is something else")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST_FILE).is_file():
        raise ConfigError(f"--out must be a new folder or a bundle, {out} has files and no {MANIFEST_FILE}")


def _choose_parts(config: ExportConfig, run: Run) -> tuple[tuple[str, ...], dict[str, str]]:
    """Parts to export, and why the others are not in the bundle."""
    left_out = {}
    for part in PARTS:
        if part not in config.parts:
            stateful = part == "stateful" and config.target != "iOS18"
            left_out[part] = "it needs --target iOS18" if stateful else "not asked for (--only)"
        elif part == "encoder" and run.projector is None:
            left_out[part] = (
                f"the run's encoder {run.encoder.name} gives the embedding itself and is not exported"
            )
            if config.only is not None:
                raise ConfigError(f"--only encoder: {left_out[part]}")
    return tuple(part for part in PARTS if part not in left_out), left_out


def _load_encoder(run: Run) -> Encoder | None:
    """None for a hosted encoder: its weights are nowhere, and asking it costs money."""
    return load_run_encoder(run, "cpu", torch.float32, SILENT) if run.encoder.weights_sha256 else None


def _build_part(
    part: str, values: Values, metadata: Mapping[str, str], config: ExportConfig, folder: Path
) -> BuiltPackage:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="convert.") as scratch:
        return build_package(part, values, metadata, config.precision, Path(scratch))


def _build_encoder(
    source: Path,
    identity: EncoderIdentity,
    projector: EmbeddingProjector,
    config: ExportConfig,
    metadata: Mapping[str, str],
    folder: Path,
) -> EncoderPart:
    """The encoder's package; writes its tokenizer, and whose weights they are."""
    (folder / WORDPIECE_FILE).write_bytes(wordpiece_vocabulary(source))
    (folder / TOKENIZER_FILE).write_bytes(tokenizer_file(source))
    write_licenses(folder, identity, source, config.encoder_weights)
    return build_encoder(source, projector, config.encoder_weights, metadata)


def _write_initial_state(folder: Path, values: Values) -> dict[str, InitialState]:
    """The head as the app must write it into new state buffers, which start at zero."""
    (folder / INITIAL_STATE_DIR).mkdir()
    record = {}
    for state, parameter in STATE_PARAMETERS.items():
        stored = stored_values(parameter, values[parameter], "float16")
        file = f"{INITIAL_STATE_DIR}/{state}.bin"
        (folder / file).write_bytes(stored.tobytes())
        record[state] = InitialState(file, stored.nbytes, fingerprint(stored))
    return record
