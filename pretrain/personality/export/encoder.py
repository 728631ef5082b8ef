"""The text encoder's package, and where each of its parameters is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray

from personality_common.bundle.stored import StoredTensor, stored_values
from personality_common.contract import ATTENTION_MASK, EMBEDDING, INPUT_IDS, SENTENCE_EMBEDDING
from personality_common.coreml.package import Package
from personality_common.coreml.program import Constant, constants
from personality_common.coreml.writing import MODEL_FILE, WEIGHTS_FILE, serialize
from personality_common.errors import ToolkitError
from personality_common.files.fingerprint import fingerprint
from personality_common.text.wordpiece import MAX_TOKENS
from pretrain.coreml.converter import CONVERSION_DATE, quiet
from pretrain.personality.export.compression import HALF_SUFFIX, passes
from pretrain.personality.export.config import EncoderWeights
from pretrain.personality.export.packages import BuiltPackage
from pretrain.personality.model import EmbeddingProjector
from pretrain.personality.text_encoder import MIN_TOKENS, TextEncoder, load_text_encoder

if TYPE_CHECKING:
    from coremltools.models import MLModel

_EXAMPLE_TOKENS: Final = 128
_SUFFIXES: Final = ("_quantized", "_to_fp16", HALF_SUFFIX)
ITSELF: Final = ("", "quantized_data", "source_val")
"""Parameters of the op that makes a weight which are the weight; others are its scale and zero point."""


@dataclass(frozen=True)
class EncoderPart:
    """The package; the parameters that it must hold; and the model with those that it does hold."""

    package: BuiltPackage
    values: dict[str, NDArray[np.float32]]
    shipped: TextEncoder


def build_encoder(
    folder: Path, projector: EmbeddingProjector, weights: EncoderWeights, metadata: Mapping[str, str]
) -> EncoderPart:
    """Convert encoder and projector.

    Args:
        folder: of the run's encoder, a saved SentenceTransformer.
        projector: the run's.
        weights: how the package holds them.
        metadata: what every package says of itself.

    Raises:
        ToolkitError: an encoder of another architecture, or the converter failed.
        DataError: a file of the encoder is missing or malformed.
    """
    model = load_text_encoder(folder, projector)
    values = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    converted = Path(convert_text_encoder(model, weights).package_path)
    try:
        package = Package.open(converted)
        weight_file, tensors = _rounded(package, values)
        held = held_values(package, tensors, values)
    finally:
        shutil.rmtree(converted, ignore_errors=True)
    description = package.spec.description
    description.metadata.userDefined.pop(CONVERSION_DATE, None)
    description.metadata.userDefined.update({**metadata, "encoder_weights": weights})
    description.metadata.shortDescription = "Token ids -> base embedding and embedding of a text."
    built = BuiltPackage(
        part="encoder",
        route=None,
        precision=weights,
        model=serialize(package.spec),
        weights=weight_file,
        tensors=tensors,
    )
    with torch.device("meta"):
        shipped = TextEncoder(model.shape)
    shipped.load_state_dict(held, strict=True, assign=True)
    return EncoderPart(built, values, shipped.eval().requires_grad_(False))


def held_values(
    package: Package, tensors: Sequence[StoredTensor], values: Mapping[str, NDArray[np.float32]]
) -> dict[str, torch.Tensor]:
    """What the program makes of each parameter, in float32: 8-bit weights are `scale * code`."""
    stored = {constant.name: constant.read() for constant in constants(package)}
    stated = {tensor.name: tensor for tensor in tensors}
    held = {}
    for name, value in values.items():
        tensor = stated[name]
        if tensor.dtype == "int8":
            scale, zero_point = (
                stored[stated[f"{name}.{part}"].constant].astype(np.float32).reshape(-1, 1)
                for part in ("scale", "zero_point")
            )
            made = scale * (stored[tensor.constant].astype(np.float32) - zero_point)
        else:
            made = stored_values(name, value, tensor.dtype).astype(np.float32)
        held[name] = torch.from_numpy(made)
    return held


def convert_text_encoder(model: TextEncoder, precision: EncoderWeights) -> MLModel:
    """Convert encoder and projector to an iOS 17 ML Program.

    `input_ids`, `attention_mask` (1, 2..256) int32 -> `sentence_embedding` (1, 384), `embedding`
    (1, 1536) float32, both L2-normalized.

    Args:
        precision: `float32`; `float16` weights and arithmetic; or `int8`: 8-bit weights with a scale and a
            zero point for each row, some in float16 (`pretrain.personality.export.compression`), and
            float32 arithmetic.

    Raises:
        ToolkitError: the converter failed.
    """
    with quiet(), torch.no_grad():
        import coremltools as ct

        length = ct.RangeDim(MIN_TOKENS, MAX_TOKENS, default=_EXAMPLE_TOKENS)
        example = torch.ones(1, _EXAMPLE_TOKENS, dtype=torch.int32)
        try:
            return ct.convert(
                torch.jit.trace(model, (example, example)),  # type: ignore[no-untyped-call]
                convert_to="mlprogram",
                minimum_deployment_target=ct.target.iOS17,
                compute_precision=ct.precision.FLOAT16 if precision == "float16" else ct.precision.FLOAT32,
                inputs=[ct.TensorType(name, (1, length), np.int32) for name in (INPUT_IDS, ATTENTION_MASK)],
                outputs=[ct.TensorType(name, dtype=np.float32) for name in (SENTENCE_EMBEDDING, EMBEDDING)],
                pass_pipeline=passes(precision),
                skip_model_load=True,
            )
        except (RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ToolkitError(f"coremltools could not convert the text encoder: {first}") from error


def _rounded(
    package: Package, values: Mapping[str, NDArray[np.float32]]
) -> tuple[bytes, tuple[StoredTensor, ...]]:
    """The weight file with correctly rounded float16, and what is in it.

    The converter lifts what would round to zero to the least float16, 6e-8.
    """
    content = bytearray((package.path / WEIGHTS_FILE).read_bytes())
    tensors = []
    for tensor in _tensors(package, values):
        if tensor.dtype == "float16" and tensor.offset is not None:
            stored = stored_values(tensor.name, values[tensor.name], "float16")
            content[tensor.offset : tensor.offset + tensor.size] = stored.tobytes()
            tensor = replace(tensor, fingerprint=fingerprint(stored))
        tensors.append(tensor)
    return bytes(content), tuple(tensors)


def _tensors(package: Package, values: Mapping[str, NDArray[np.float32]]) -> tuple[StoredTensor, ...]:
    names = {name.replace(".", "_"): name for name in values}
    tensors = []
    for constant in constants(package):
        base, _, role = constant.name.partition(".")
        for suffix in _SUFFIXES:
            base = base.removesuffix(suffix)
        if base not in names or role not in (*ITSELF, "scale", "zero_point"):
            continue
        name = names[base] if role in ITSELF else f"{names[base]}.{role}"
        tensors.append(_tensor(package, constant, name))
    return tuple(tensors)


def _tensor(package: Package, constant: Constant, name: str) -> StoredTensor:
    array = constant.read()
    offset = metadata_offset = None
    if constant.location is not None:
        entry = package.weights(constant.location.file).entry(constant.location.offset)
        offset, metadata_offset = entry.data_offset, entry.metadata_offset
    return StoredTensor(
        name=name,
        constant=constant.name,
        file=MODEL_FILE if offset is None else WEIGHTS_FILE,
        offset=offset,
        size=array.nbytes,
        metadata_offset=metadata_offset,
        shape=array.shape,
        dtype=constant.type.dtype,
        updatable=False,
        fingerprint=fingerprint(array),
    )
