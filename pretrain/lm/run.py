"""What `pt lm train` leaves behind, opened and verified."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from personality_common.contract import RUN_FILE
from personality_common.errors import ConfigError, DataError, MismatchError
from personality_common.files.typed import from_json
from personality_common.runs.record import Record, read_record
from pretrain.lm.config import ModelConfig
from pretrain.lm.model import Decoder
from pretrain.lm.tokenizer import Tokenizer, load_tokenizer

TRAINER: Final = "lm"
WEIGHTS_FILE: Final = "lm_weights.safetensors"
CURVE_FILE: Final = "learning_curve.png"


@dataclass(frozen=True)
class Run:
    """A finished run of the language model.

    Attributes:
        record: what every run says of itself.
        model: on the CPU, in eval mode.
        tokenizer: that it was trained with.
    """

    record: Record
    model: Decoder
    tokenizer: Tokenizer

    @property
    def path(self) -> Path:
        return self.record.run

    @property
    def weights_sha256(self) -> str:
        """SHA-256, in hex, of its tensors, its tokenizer and its shape."""
        entries = run_entries(self.model.config, self.tokenizer)
        return self.record.fingerprint(json.dumps(entries, sort_keys=True))


def run_entries(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """What `run.json` says beside what every run does; `load_run` holds the run to it."""
    return {"model": asdict(config), "tokenizer_sha256": hashlib.sha256(tokenizer.data).hexdigest()}


def load_run(path: Path) -> Run:
    """Open a run; every tensor must have the fingerprint that `run.json` names.

    Raises:
        DataError: no finished run, or a file of it is damaged.
        MismatchError: its files do not belong together, or it is another trainer's.
    """
    record = read_record(path, TRAINER)
    file = path / RUN_FILE
    try:
        config = from_json(ModelConfig, record.content.get("model"), f"{file}: model")
    except ConfigError as error:
        raise DataError(f"{file}: model: {error}") from None
    tokenizer = load_tokenizer(path)
    for key, value in run_entries(config, tokenizer).items():
        if record.content.get(key) != value:
            raise MismatchError(f"{file}: {key} must be {str(value)[:40]}…, as of its files; train again")
    if tokenizer.vocab_size != config.vocab_size:
        raise MismatchError(
            f"{path}: the model must have its tokenizer's {tokenizer.vocab_size} tokens, "
            f"has {config.vocab_size}"
        )
    weights = path / WEIGHTS_FILE
    # Before memory is taken for a model that the file only claims.
    if not weights.is_file() or weights.stat().st_size < 4 * config.parameters:
        raise DataError(f"{weights}: must hold {config.parameters:,} numbers in float32, holds fewer")
    model = Decoder(config)
    record.load_into(model, WEIGHTS_FILE)
    return Run(record, model.eval(), tokenizer)
