"""The text encoder's package, and where each of its parameters is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.coreml.package import Package
from personality_common.coreml.program import Constant, constants
from personality_common.coreml.writing import MODEL_FILE, WEIGHTS_FILE, serialize
from personality_common.errors import MismatchError
from personality_common.fingerprint import fingerprint
from personality_common.model import EmbeddingProjector
from pretrain.export.config import EncoderWeights
from pretrain.export.converter import CONVERSION_DATE
from pretrain.export.packages import BuiltPackage
from pretrain.export.templates import StoredTensor, stored_values
from pretrain.export.text_encoder import convert_text_encoder, load_text_encoder

_SUFFIXES: Final = ("_quantized", "_to_fp16")
QUANTIZED: Final = "quantized_data"


@dataclass(frozen=True)
class EncoderPart:
    """The package, and the parameters that it must hold."""

    package: BuiltPackage
    values: dict[str, NDArray[np.float32]]


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
    return EncoderPart(built, values)


def check_encoder_tensors(
    package: Package, tensors: list[dict[str, Any]], values: Mapping[str, NDArray[np.float32]]
) -> None:
    """Each parameter is stored as it is, or correctly rounded to what is stored.

    8-bit weights are whole multiples of a scale for each row: each is the multiple nearest to the
    trained weight.

    Raises:
        MismatchError: a parameter is missing or differs.
    """
    stored = {c.name: c.read() for c in constants(package)}
    stated = {t["name"]: t for t in tensors}
    for name, value in values.items():
        tensor = stated.get(name)
        if tensor is None:
            raise MismatchError(f"{package.path}: must have the parameter {name}")
        array = stored[tensor["constant"]]
        if tensor["dtype"] == "int8":
            scale, zero_point = (
                stored[stated[f"{name}.{part}"]["constant"]].astype(np.float64)
                for part in ("scale", "zero_point")
            )
            rows = (-1, *[1] * (value.ndim - 1))
            error = np.abs(value - (array - zero_point.reshape(rows)) * scale.reshape(rows))
            # Half a step, and the float32 rounding of the quotient.
            same = bool((error <= scale.reshape(rows) * 0.5001).all())
        else:
            same = array.tobytes() == stored_values(name, value, tensor["dtype"]).tobytes()
        if not same or array.shape != value.shape or tensor["fingerprint"] != fingerprint(array):
            raise MismatchError(f"{package.path}: {name} must be the encoder's, rounded to {tensor['dtype']}")


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
        if base not in names or (role and role not in (QUANTIZED, "scale", "zero_point")):
            continue
        name = names[base] if role in ("", QUANTIZED) else f"{names[base]}.{role}"
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
