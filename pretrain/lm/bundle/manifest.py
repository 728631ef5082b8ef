"""`manifest.json` of an exported language model: the exporter writes it from these types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from personality_common.bundle.files import StoredFile
from personality_common.bundle.manifest import RunReference
from pretrain.lm.config import ModelConfig, Quantization

FAMILY: Final = "lm"
MANIFEST_SCHEMA: Final = 1
HUGGING_FACE_DIR: Final = "hf"
MODELFILE: Final = "Modelfile"
GOLDEN_FILE: Final = "golden.json"
TEMPLATE_FILE: Final = "chat_template.jinja"


def gguf_file(quantization: Quantization) -> str:
    """Name of a GGUF file in the folder."""
    return f"model-{quantization}.gguf"


@dataclass(frozen=True)
class Settings:
    """Of the export."""

    formats: tuple[str, ...]
    quantize: tuple[Quantization, ...]


@dataclass(frozen=True)
class GgufEntry:
    """A GGUF file.

    Attributes:
        types: how many tensors there are of each type.
        largest_difference: of a weight from the checkpoint.
    """

    file: str
    quantization: Quantization
    types: dict[str, int]
    largest_difference: float


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        model: the decoder's shape.
        tokenizer_sha256: of `tokenizer.json`.
        chat_template_sha256: of the template in Jinja.
        gguf: its files, in the order asked for.
        hugging_face, modelfile: the folder, the file; None where not asked for.
        golden: file of worked examples.
        files: all others, by path.
    """

    schema: Literal[1]
    family: Literal["lm"]
    versions: dict[str, str]
    settings: Settings
    run: RunReference
    model: ModelConfig
    tokenizer_sha256: str
    chat_template_sha256: str
    gguf: tuple[GgufEntry, ...]
    hugging_face: Literal["hf"] | None
    modelfile: Literal["Modelfile"] | None
    golden: Literal["golden.json"]
    files: dict[str, StoredFile]
