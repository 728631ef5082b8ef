"""What `pt lm train` leaves behind, opened and verified."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from personality_common.contract import RUN_FILE
from personality_common.errors import ConfigError, DataError, MismatchError
from personality_common.files.typed import from_json
from personality_common.runs.record import Record, read_record
from pretrain.lm.config import ModelConfig
from pretrain.lm.model import Decoder
from pretrain.lm.tokenizer import Tokenizer, load_tokenizer

TRAINER: Final = "lm"
WEIGHTS_FILE: Final = "decoder_weights.safetensors"
CURVE_FILE: Final = "learning_curve.png"
_BYTES: Final = 4
"""Of a weight."""


@dataclass(frozen=True)
class Run:
    """A finished run of a language model.

    Attributes:
        record: what every run says of itself.
        tokenizer: that it was trained with.
        model: on the CPU, in eval mode; its shape is `model.config`.
        data_fingerprint: of the documents that it was trained on.
    """

    record: Record
    tokenizer: Tokenizer
    model: Decoder
    data_fingerprint: str

    @property
    def path(self) -> Path:
        return self.record.run

    @property
    def weights_sha256(self) -> str:
        """SHA-256, in hex, of its tensors and tokenizer."""
        return self.record.fingerprint(tokenizer_sha256(self.tokenizer))


def tokenizer_sha256(tokenizer: Tokenizer) -> str:
    """SHA-256, in hex, of its file."""
    return hashlib.sha256(tokenizer.data).hexdigest()


def load_run(path: Path) -> Run:
    """Open a run; every tensor must have the fingerprint that `run.json` names.

    Raises:
        DataError: no finished run, or a file of it is damaged.
        MismatchError: its files do not belong together, or it is another trainer's.
    """
    record = read_record(path, TRAINER)
    content, file = record.content, path / RUN_FILE
    try:
        shape, declared = content["model"], content["tokenizer_sha256"]
        data_fingerprint = str(content["data"]["fingerprint"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{file}: not the record of a run: {error!r:.200}") from None
    try:
        config = from_json(ModelConfig, shape, f"{file}: model")
    except ConfigError as error:
        raise DataError(f"{file}: {error}") from None
    tokenizer = load_tokenizer(path)
    if tokenizer_sha256(tokenizer) != declared:
        raise MismatchError(f"{path}: must have the tokenizer that {RUN_FILE} names, has another")
    if tokenizer.vocab_size != config.vocab_size:
        raise MismatchError(
            f"{file}: vocab_size must be the tokenizer's, {tokenizer.vocab_size}, is {config.vocab_size}"
        )
    # A record may claim any shape; memory is taken only for one whose weights are there.
    weights = path / WEIGHTS_FILE
    size = weights.stat().st_size if weights.is_file() else 0
    if size < _BYTES * config.parameters:
        raise DataError(
            f"{weights}: must hold the {config.parameters:,} numbers of its model, has {size:,} bytes"
        )
    model = Decoder(config)
    record.load_into(model, WEIGHTS_FILE)
    return Run(record, tokenizer, model.eval(), data_fingerprint)
