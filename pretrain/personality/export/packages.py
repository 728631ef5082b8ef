"""The packages of a personality model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from personality_common.bundle.stored import StoredTensor
from personality_common.contract import (
    EMBEDDING,
    EMBEDDING_DIM,
    HEAD_BIAS,
    HEAD_PARAMETERS,
    HEAD_WEIGHT,
    LATENT,
    LATENT_DIM,
    LOGITS,
    MAX_BATCH,
    STATE_BIAS,
    STATE_WEIGHT,
    VOCAB_SIZE,
)
from personality_common.coreml.proto import Model_pb2
from personality_common.coreml.writing import serialize
from pretrain.coreml.converter import CONVERSION_DATE, ProgramSignature, convert, set_parameters, stand_ins
from pretrain.coreml.targets import Precision
from pretrain.coreml.templates import fill
from pretrain.personality.export.config import EncoderWeights
from pretrain.personality.export.head import head_model, updatable_pipeline
from pretrain.personality.model import PersonalityModel
from pretrain.personality.rules.family import PARTS

Route = Literal["patch", "update-task", "state"]
Values = Mapping[str, NDArray[np.float32]]
"""Parameters of a personality model by PyTorch's name."""

BATCH: Final = (1, MAX_BATCH)


@dataclass(frozen=True)
class BuiltPackage:
    """A package in memory.

    Attributes:
        part: key of `PARTS`.
        route: how a head update reaches it; None for the encoder.
        precision: of its ML Program; float32 for the head alone; of the encoder, that of its weights.
        model: the serialized protobuf.
        weights: content of the weight file; None where there is none.
        tensors: where its parameters are.
    """

    part: str
    route: Route | None
    precision: Precision | EncoderWeights
    model: bytes
    weights: bytes | None
    tensors: tuple[StoredTensor, ...]

    @property
    def file_name(self) -> str:
        return PARTS[self.part]


def build_package(
    part: str, values: Values, metadata: Mapping[str, str], precision: Precision, scratch: Path
) -> BuiltPackage:
    """Build one of the packages of the personality model.

    Args:
        part: `model`, `updatable`, `head` or `stateful`.
        values: all parameters of the model, float32.
        metadata: what every package says of itself.
        precision: of the ML Program.
        scratch: folder in which the converter may write.

    Raises:
        ToolkitError: the converter failed, or a value is not finite in the precision asked for.
    """
    shapes = {name: array.shape for name, array in values.items()}
    stand_in = stand_ins(shapes)
    route: Route = "update-task"
    weights: bytes | None = None
    if part == "head":
        spec = head_model(stand_in[HEAD_WEIGHT], stand_in[HEAD_BIAS])
        precision = "float32"
    elif part == "updatable":
        signature = ProgramSignature({EMBEDDING: (1, EMBEDDING_DIM)}, [LATENT], {})
        backbone, weights = _convert(_Backbone, stand_in, signature, "iOS17", precision, scratch)
        spec = updatable_pipeline(backbone, head_model(stand_in[HEAD_WEIGHT], stand_in[HEAD_BIAS]))
    elif part == "model":
        route = "patch"
        signature = ProgramSignature({EMBEDDING: (BATCH, EMBEDDING_DIM)}, [LATENT, LOGITS], {})
        spec, weights = _convert(_Whole, stand_in, signature, "iOS17", precision, scratch)
    else:
        assert part == "stateful", part
        route = "state"
        states = {STATE_WEIGHT: (VOCAB_SIZE, LATENT_DIM), STATE_BIAS: (VOCAB_SIZE,)}
        signature = ProgramSignature({EMBEDDING: (BATCH, EMBEDDING_DIM)}, [LATENT, LOGITS], states)
        spec, weights = _convert(_Stateful, stand_in, signature, "iOS18", precision, scratch)
    spec.description.metadata.userDefined.update({**metadata, "route": route})
    spec.description.metadata.shortDescription = _DESCRIPTIONS[part]
    model, weights, tensors = fill(serialize(spec), weights, stand_in, values, frozenset(HEAD_PARAMETERS))
    return BuiltPackage(part, route, precision, model, weights, tensors)


_DESCRIPTIONS: Final = {
    "model": "Embedding -> latent and logits of the personality tokens; the head is patched in weight.bin.",
    "updatable": "Embedding -> logits of the personality tokens; the head is updated by MLUpdateTask.",
    "head": "Latent -> logits of the personality tokens; updated by MLUpdateTask.",
    "stateful": "Embedding -> latent and logits of the personality tokens; the head is in state buffers, "
    "which start at zero.",
}


class _Backbone(nn.Module):
    def __init__(self, model: PersonalityModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, embedding: Tensor) -> Tensor:
        return self.model.backbone(embedding)


class _Whole(_Backbone):
    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        latent = self.model.backbone(embedding)
        return latent, self.model.head(latent)


class _Stateful(_Backbone):
    def __init__(self, model: PersonalityModel) -> None:
        super().__init__(model)
        self.register_buffer(STATE_WEIGHT, torch.zeros(VOCAB_SIZE, LATENT_DIM, dtype=torch.float16))
        self.register_buffer(STATE_BIAS, torch.zeros(VOCAB_SIZE, dtype=torch.float16))

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        latent = self.model.backbone(embedding)
        weight, bias = self.get_buffer(STATE_WEIGHT), self.get_buffer(STATE_BIAS)
        return latent, latent @ weight.float().T + bias.float()


def _convert(
    wrapper: type[_Backbone],
    stand_in: Values,
    signature: ProgramSignature,
    target: Literal["iOS17", "iOS18"],
    precision: Precision,
    scratch: Path,
) -> tuple[Any, bytes]:
    """The spec of an ML Program and its weight file, with stand-ins for the parameters."""
    model = PersonalityModel()
    set_parameters(model, stand_in)
    example = torch.zeros(2 if BATCH in signature.inputs[EMBEDDING] else 1, EMBEDDING_DIM)
    data, weights = convert(wrapper(model).eval(), example, signature, target, precision, scratch)
    spec = Model_pb2.Model()
    spec.ParseFromString(data)
    spec.description.metadata.userDefined.pop(CONVERSION_DATE, None)
    return spec, weights
