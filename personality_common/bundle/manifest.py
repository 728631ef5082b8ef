"""`manifest.json`: what a bundle holds, down to where each parameter's bytes are.

The exporter writes it from these types, and everyone reads it into them. `manifest.schema.json`, beside this
file, says the same in JSON Schema, for readers in other languages, and what each key means.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from personality_common.bundle.files import StoredFile
from personality_common.bundle.stored import Array, StoredArray, StoredTensor, stored_bytes
from personality_common.contract import MANIFEST_FILE
from personality_common.coreml.features import Range
from personality_common.errors import DataError
from personality_common.evidence.tolerances import Tolerance
from personality_common.files.atomic import read_json_object, write_json
from personality_common.files.inside import inside
from personality_common.files.typed import from_json
from personality_common.text.identity import EncoderIdentity

SCHEMA: Final = 1


@dataclass(frozen=True)
class Settings:
    """Of the export."""

    target: str
    precision: str
    encoder_weights: str


@dataclass(frozen=True)
class RunReference:
    """The run that was exported."""

    fingerprint: str
    finished: str | None


@dataclass(frozen=True)
class VocabularyReference:
    """Tokens in the order of the outputs."""

    fingerprint: str
    size: int
    file: str


@dataclass(frozen=True)
class EncoderReference:
    """What texts must be embedded with; `version` is what an app keeps with the embeddings it stores."""

    version: str
    fingerprint: str
    identity: EncoderIdentity


@dataclass(frozen=True)
class ReferenceSample:
    """Texts that the model was trained on, on which budgets are measured, as numbers: (R, d) latents, and
    (R, 8) outputs with the greatest logits of the head that shipped, the greatest first."""

    latents: StoredArray
    top: StoredArray


@dataclass(frozen=True)
class NotComputed:
    """Parameters of the run that no package has, and why."""

    tensors: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Port:
    """A feature; `ranges` is None where the shape is fixed."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    ranges: tuple[Range, ...] | None

    def __post_init__(self) -> None:
        stored_bytes(self.dtype, self.shape)


@dataclass(frozen=True)
class InitialState:
    """What an app writes into a new state buffer."""

    file: str
    size: int
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class StatePort(Port):
    """A state buffer, and the parameter that it holds."""

    parameter: str
    initial: InitialState

    def read(self, bundle: Path) -> Array:
        """The initial content, (shape) in `dtype`; DataError as of `StoredArray.read`."""
        initial = self.initial
        return StoredArray(initial.file, self.dtype, self.shape, initial.fingerprint).read(bundle)


@dataclass(frozen=True)
class PackageEntry:
    """A package: its folder in the bundle, and what there is to say of it."""

    file: str
    route: str | None
    kind: str
    specification_version: int
    minimum_os: str
    precision: str
    updatable: bool
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[StatePort, ...]
    training_inputs: tuple[Port, ...]
    bytes: int
    tensors: tuple[StoredTensor, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `manifest.json`; packages by part, files by path."""

    schema: Literal[1]
    versions: dict[str, str]
    settings: Settings
    run: RunReference
    vocabulary: VocabularyReference
    encoder: EncoderReference
    dimensions: dict[str, int]
    updatable: tuple[str, ...]
    not_computed: NotComputed
    packages: dict[str, PackageEntry]
    left_out: dict[str, str]
    golden: str
    tolerances: tuple[Tolerance, ...]
    files: dict[str, StoredFile]
    reference: ReferenceSample | None = None
    golden_night: str | None = None


def read_manifest(bundle: Path) -> Manifest:
    """The manifest of a bundle, typed; whether it tells the truth is another matter.

    Raises:
        DataError: there is none, it is of another schema, or malformed.
    """
    path = inside(bundle, MANIFEST_FILE)
    if not path.is_file():
        raise DataError(f"{bundle}: must be a bundle, has no {MANIFEST_FILE}; pt export makes one")
    content = read_json_object(path)
    if "family" in content:
        family = str(content["family"])[:80]
        raise DataError(f"{path}: must be of a bundle of the personality model, is of the family {family!r}")
    if content.get("schema") != SCHEMA:
        raise DataError(f"{path}: schema must be {SCHEMA}, is {str(content.get('schema'))[:80]}")
    return from_json(Manifest, content, str(path))


def write_manifest(bundle: Path, manifest: Manifest) -> None:
    """Write `manifest.json`."""
    write_json(bundle / MANIFEST_FILE, asdict(manifest))
