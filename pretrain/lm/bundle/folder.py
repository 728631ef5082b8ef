"""An exported folder as it arrives: its manifest is typed, and no more is believed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import safetensors
import torch

from personality_common.contract import MANIFEST_FILE
from personality_common.errors import ConfigError, DataError
from personality_common.files.atomic import read_json_object
from personality_common.files.inside import inside
from personality_common.files.typed import from_json
from pretrain.lm.bundle.gguf_file import GgufFile
from pretrain.lm.bundle.manifest import FAMILY, GOLDEN_FILE, HUGGING_FACE_DIR, MANIFEST_SCHEMA, Manifest
from pretrain.lm.bundle.names import tensor_names
from pretrain.lm.config import ModelConfig
from pretrain.lm.model import Decoder

WEIGHTS: Final = "model.safetensors"


@dataclass(frozen=True)
class GoldenRow:
    """A prompt, and what PyTorch made of it at export.

    Attributes:
        ids: of the prompt.
        top_ids, top_log_probabilities: the likeliest tokens after it, the likeliest first.
        greedy: the likeliest continuation, until `<|end|>`.
    """

    text: str
    ids: tuple[int, ...]
    top_ids: tuple[int, ...]
    top_log_probabilities: tuple[float, ...]
    greedy: tuple[int, ...]


@dataclass(frozen=True)
class _Golden:
    rows: tuple[GoldenRow, ...]


@dataclass(frozen=True)
class Folder:
    """A folder of `pt lm export`."""

    path: Path
    manifest: Manifest

    def golden(self) -> tuple[GoldenRow, ...]:
        """Worked examples; DataError if there are none, or with ids that the model does not have."""
        path, config = inside(self.path, GOLDEN_FILE), self.manifest.model
        rows = from_json(_Golden, read_json_object(path), str(path)).rows
        if not rows:
            raise DataError(f"{path}: must have rows of worked examples, has none")
        for row in rows:
            whole = len(row.top_ids) == len(row.top_log_probabilities) and row.ids
            short = len(row.ids) < config.context_length
            if not whole or not short or max((*row.ids, *row.top_ids, *row.greedy)) >= config.vocab_size:
                raise DataError(f"{path}: {row.text[:40]!r} must be of ids and figures of this model, is not")
        return rows

    def hugging_face(self) -> Decoder:
        """The decoder with the weights of the Hugging Face folder; DataError if they are not of its shape."""
        return read_hugging_face(inside(self.path, f"{HUGGING_FACE_DIR}/{WEIGHTS}"), self.manifest.model)


def open_folder(path: Path) -> Folder:
    """Open a folder without believing it.

    Raises:
        DataError: no folder of `pt lm export`, or a malformed manifest.
    """
    file = path / MANIFEST_FILE
    if not file.is_file():
        raise DataError(f"{path}: must be an exported folder; pt lm export makes one")
    content = read_json_object(file)
    if content.get("family") != FAMILY or content.get("schema") != MANIFEST_SCHEMA:
        raise DataError(f"{file}: must be of the family {FAMILY}, schema {MANIFEST_SCHEMA}, and is not")
    try:
        manifest = from_json(Manifest, content, str(file))
    except ConfigError as error:
        raise DataError(f"{file}: {error}") from None
    for name in (*manifest.files, *(entry.file for entry in manifest.gguf)):
        inside(path, name)
    return Folder(path, manifest)


def served_file(source: Path) -> Path:
    """The GGUF file that answers: the one given, or of a folder the one that Ollama gets, Q8_0 or the first.

    Raises:
        ConfigError: the folder has none.
        DataError: no folder of `pt lm export`.
    """
    if not source.is_dir():
        return source
    entries = open_folder(source).manifest.gguf
    if not entries:
        raise ConfigError(f"{source}: has no GGUF file; export it with --formats gguf")
    return inside(source, next((e.file for e in entries if e.quantization == "q8_0"), entries[0].file))


def read_hugging_face(path: Path, config: ModelConfig) -> Decoder:
    """A decoder with the weights of a `model.safetensors`, float32, on the CPU, in eval mode.

    Raises:
        DataError: no such file, or it does not hold the tensors of a model of that shape.
    """
    names = {n.hugging_face: n.ours for n in tensor_names(_bounded(config, path))}
    model = Decoder(config).eval()
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            if set(file.keys()) != names.keys():
                differing = sorted(set(file.keys()) ^ names.keys())[:3]
                raise DataError(f"{path}: must hold the tensors of the model, differs in {differing}")
            weights = {ours: file.get_tensor(theirs) for theirs, ours in names.items()}
        for name, parameter in model.named_parameters():
            if weights[name].shape != parameter.shape or weights[name].dtype != torch.float32:
                raise DataError(f"{path}: {name} must be float32 of the shape {tuple(parameter.shape)}")
    except safetensors.SafetensorError as error:
        raise DataError(f"{path}: damaged or not a safetensors file: {error}") from None
    model.load_state_dict(weights)
    return model


def read_gguf_weights(file: GgufFile, config: ModelConfig) -> Decoder:
    """A decoder with a GGUF file's weights, dequantized where it is quantized, once `read_model` took it."""
    model = Decoder(config).eval()
    model.load_state_dict({n.ours: torch.from_numpy(file.values(n.gguf)) for n in tensor_names(config)})
    return model


def _bounded(config: ModelConfig, path: Path) -> ModelConfig:
    """The config, if a file is as large as it says."""
    if not path.is_file() or path.stat().st_size < 4 * config.parameters:
        raise DataError(f"{path}: must hold {config.parameters:,} numbers in float32, holds fewer")
    return config
