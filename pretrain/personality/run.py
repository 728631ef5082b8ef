"""What `pt pretrain` leaves behind, opened and verified."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from personality_common.contract import (
    MINILM_DIM,
    MODEL_WEIGHTS_FILE,
    PROJECTOR_WEIGHTS_FILE,
    RUN_FILE,
    TOKENS_FILE,
)
from personality_common.errors import DataError, MismatchError
from personality_common.files.atomic import read_json_object
from personality_common.files.fingerprint import compare_fingerprints
from personality_common.files.tensors import load_into, load_tensors, tensor_fingerprints
from personality_common.runs.folder import finish_publishing
from personality_common.text.encoder import load_encoder
from personality_common.text.identity import Encoder, EncoderIdentity, require_same_encoder
from personality_common.vocabulary import Vocabulary, load_vocabulary, require_same_vocabulary
from pretrain.personality.model import EmbeddingProjector, PersonalityModel

RUN_SCHEMA: Final = 1


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: its folder.
        info: the content of `run.json`.
        vocabulary: in output order.
        encoder: identity of the encoder that it was trained with.
        model: on the CPU, in eval mode.
        projector: the same; None for an encoder whose base embeddings are embeddings.
    """

    path: Path
    info: dict[str, Any]
    vocabulary: Vocabulary
    encoder: EncoderIdentity
    model: PersonalityModel
    projector: EmbeddingProjector | None

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of what the run is: fingerprints of tensors, vocabulary and encoder, as JSON."""
        tensors = {file: _names(entries) for file, entries in self.info["tensors"].items()}
        content = [tensors, self.vocabulary.fingerprint, self.encoder.fingerprint]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load_run(path: Path) -> Run:
    """Open a run; every tensor must have the fingerprint that `run.json` names.

    Raises:
        DataError: no finished run, or a file of it is damaged.
        MismatchError: its files do not belong together.
    """
    if not path.is_dir():
        raise DataError(f"{path}: must be the folder of a run; there is no such folder")
    finish_publishing(path)
    if not (path / RUN_FILE).is_file():
        raise DataError(f"{path}: holds no finished run (no {RUN_FILE}); pt pretrain --output-dir makes one")
    info = read_json_object(path / RUN_FILE)
    try:
        if info["schema"] != RUN_SCHEMA:
            raise MismatchError(f"{path / RUN_FILE}: schema must be {RUN_SCHEMA}, is {info['schema']}")
        encoder = EncoderIdentity(**info["encoder"]["identity"])
        vocabulary_fingerprint = info["vocabulary"]["fingerprint"]
        expected = {file: _names(entries) for file, entries in info["tensors"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path / RUN_FILE}: not the record of a run: {error!r}") from None
    vocabulary = load_vocabulary(path / TOKENS_FILE)
    require_same_vocabulary(vocabulary_fingerprint, vocabulary.fingerprint, str(path / TOKENS_FILE))
    model = PersonalityModel()
    _load_weights(model, path / MODEL_WEIGHTS_FILE, expected)
    projector = None
    if encoder.dim == MINILM_DIM:
        projector = EmbeddingProjector()
        _load_weights(projector, path / PROJECTOR_WEIGHTS_FILE, expected)
        projector.eval()
    return Run(path, info, vocabulary, encoder, model.eval(), projector)


def load_run_encoder(run: Run, device: str, dtype: torch.dtype) -> Encoder:
    """The encoder that a run was trained with.

    Raises:
        ToolkitError: it cannot be loaded here.
        MismatchError: what is here under its name is another.
    """
    encoder = load_encoder(run.info["encoder"]["option"], device, dtype)
    require_same_encoder(run.encoder, encoder.identity, str(run.path))
    return encoder


def _names(entries: dict[str, Any]) -> dict[str, str]:
    return {name: entry["fingerprint"] for name, entry in entries.items()}


def _load_weights(
    module: PersonalityModel | EmbeddingProjector, path: Path, expected: dict[str, dict[str, str]]
) -> None:
    tensors, _ = load_tensors(path)
    if path.name not in expected:
        raise DataError(f"{path.parent / RUN_FILE}: names no fingerprints for {path.name}")
    difference = compare_fingerprints(expected[path.name], tensor_fingerprints(tensors))
    if not difference.equal:
        raise MismatchError(f"{path}: must be the weights that {RUN_FILE} names: {difference}")
    load_into(module, tensors, path)
