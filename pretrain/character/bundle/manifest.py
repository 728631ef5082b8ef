"""`manifest.json` of an exported character predictor: the exporter writes it from these types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from personality_common.bundle.files import StoredFile
from personality_common.bundle.manifest import RunReference
from personality_common.bundle.stored import StoredTensor, stored_bytes

FAMILY: Final = "character"
MANIFEST_SCHEMA: Final = 1
ONNX_FILE: Final = "character.onnx"
PACKAGE: Final = "Character.mlpackage"
SCHEMA_FILE: Final = "schema.json"
GOLDEN_FILE: Final = "golden.json"
INPUT: Final = "features"


@dataclass(frozen=True)
class Settings:
    """Of the export."""

    formats: tuple[str, ...]
    precision: Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class OnnxTensor:
    """An initializer of the ONNX file; see `personality_common.files.fingerprint`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    fingerprint: str

    def __post_init__(self) -> None:
        stored_bytes(self.dtype, self.shape)


@dataclass(frozen=True)
class OnnxEntry:
    """The ONNX file."""

    file: Literal["character.onnx"]
    opset: int
    ir_version: int
    tensors: tuple[OnnxTensor, ...]


@dataclass(frozen=True)
class PackageEntry:
    """The Core ML package."""

    file: Literal["Character.mlpackage"]
    tensors: tuple[StoredTensor, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        schema: of this file; `schema_name` is that of features and outputs.
        temperatures: by `head.name` of an output; decoding divides logits by them.
        int8_agreement: share of answers that int8 left as they were; None in other precisions.
        inputs, outputs: name -> numbers in a row.
        golden: file of worked examples.
        files: all others, by path.
    """

    schema: Literal[1]
    family: Literal["character"]
    versions: dict[str, str]
    settings: Settings
    run: RunReference
    data_fingerprint: str
    schema_name: str
    schema_sha256: str
    model: str
    temperatures: dict[str, float]
    int8_agreement: dict[str, float] | None
    onnx: OnnxEntry | None
    coreml: PackageEntry | None
    inputs: dict[str, int]
    outputs: dict[str, int]
    golden: Literal["golden.json"]
    files: dict[str, StoredFile]
