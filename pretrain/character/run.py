"""What `pt character train` leaves behind, opened and verified."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from personality_common.contract import RUN_FILE
from personality_common.errors import DataError, MismatchError
from personality_common.runs.record import Record, read_record
from pretrain.character.calibration import check_temperatures
from pretrain.character.config import MODEL_NAMES, ModelName
from pretrain.character.model import SeedModel, SkipModel, build_model
from pretrain.character.schema import SCHEMA_NAMES, Schema, load_schema

TRAINER: Final = "character"
WEIGHTS_FILE: Final = "character_weights.safetensors"
CURVE_FILE: Final = "learning_curve.png"


@dataclass(frozen=True)
class Run:
    """A finished run of the character predictor.

    Attributes:
        record: what every run says of itself.
        schema: of its features and outputs.
        model_name: which network.
        model: on the CPU, in eval mode.
        temperatures: by `head.name` of an output; decoding divides logits by them.
        data_fingerprint, split_fingerprint: of its examples, and of how they were divided.
    """

    record: Record
    schema: Schema
    model_name: ModelName
    model: SkipModel | SeedModel
    temperatures: dict[str, float]
    data_fingerprint: str
    split_fingerprint: str

    @property
    def path(self) -> Path:
        return self.record.run

    @property
    def weights_sha256(self) -> str:
        """SHA-256, in hex, of its tensors and schema."""
        return self.record.fingerprint(self.schema.fingerprint)


def load_run(path: Path) -> Run:
    """Open a run; every tensor must have the fingerprint that `run.json` names.

    Raises:
        DataError: no finished run, or a file of it is damaged.
        MismatchError: its files do not belong together, it is another trainer's, or of another schema.
    """
    record = read_record(path, TRAINER)
    content, file = record.content, path / RUN_FILE
    try:
        schema_name, declared, name = content["schema_name"], content["schema_sha256"], content["model"]
        fingerprints = [str(content["data"][key]) for key in ("fingerprint", "split_fingerprint")]
        found = {str(key): float(value) for key, value in content["temperatures"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{file}: not the record of a run: {error!r:.200}") from None
    if schema_name not in SCHEMA_NAMES or name not in MODEL_NAMES:
        raise MismatchError(
            f"{file}: this toolkit has no schema {schema_name!r:.20} or no model {name!r:.20}"
        )
    schema = load_schema(schema_name)
    if declared != schema.fingerprint:
        raise MismatchError(
            f"{file}: its schema {schema.name} must be {schema.fingerprint[:16]}…, is {declared!r:.20}; "
            "train again"
        )
    check_temperatures(found, schema, str(file))
    model = build_model(name, schema, dropout=0.0)
    record.load_into(model, WEIGHTS_FILE)
    return Run(record, schema, name, model.eval(), found, *fingerprints)


@torch.no_grad()
def outputs(model: SkipModel | SeedModel, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 453) -> (n, 42 or 49) raw outputs, dropout off."""
    was_training = model.training
    model.eval()
    flat = torch.cat(model(torch.from_numpy(features)), dim=1).numpy()
    model.train(was_training)
    return flat
