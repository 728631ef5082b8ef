"""A bundle as it arrives: opened, bounded, not yet believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.bundle.parts import PARTS
from personality_common.contract import EMBEDDING_DIM, LATENT_DIM, MANIFEST_FILE, VOCAB_SIZE
from personality_common.coreml.limits import read_bounded
from personality_common.errors import ConfigError, DataError
from personality_common.evidence.tolerances import TOLERANCES, Tolerance, from_json
from personality_common.files.atomic import read_json_object
from personality_common.vocabulary import Vocabulary, load_vocabulary

Array = NDArray[Any]

SCHEMA: Final = 1
MAX_FILE_BYTES: Final = 4 << 30
_GOLDEN_WIDTHS: Final = {"embeddings": EMBEDDING_DIM, "latents": LATENT_DIM, "logits": VOCAB_SIZE}


@dataclass(frozen=True)
class Tensor:
    """Where a manifest says that a parameter is; see `pretrain.coreml.templates.StoredTensor`."""

    name: str
    constant: str
    file: str
    offset: int
    size: int
    shape: tuple[int, ...]
    dtype: str
    fingerprint: str
    updatable: bool


@dataclass(frozen=True)
class Part:
    """A package of a bundle."""

    name: str
    """`model`, `updatable`, `head`, `stateful`, `encoder`."""
    file: str
    path: Path
    precision: str
    entry: dict[str, Any]
    tensors: tuple[Tensor, ...]
    _contents: dict[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def title(self) -> str:
        return self.file.removesuffix(".mlpackage")

    def read(self, tensor: Tensor) -> Array:
        """The array at the place that the manifest names.

        Raises:
            DataError: no such file, or a place outside of it.
        """
        if tensor.file not in self._contents:
            path = inside(self.path, tensor.file)
            self._contents[tensor.file] = read_bounded(path, MAX_FILE_BYTES, "a file of a bundle")
        content = self._contents[tensor.file]
        dtype = np.dtype(tensor.dtype).newbyteorder("<")
        count = int(np.prod(tensor.shape, dtype=np.int64))
        if tensor.offset < 0 or tensor.offset + tensor.size > len(content):
            raise DataError(
                f"{self.file}: {tensor.name} lies at {tensor.offset}, {tensor.size} bytes, outside of "
                f"{tensor.file}, which has {len(content)}"
            )
        if count * dtype.itemsize != tensor.size:
            raise DataError(
                f"{self.file}: {tensor.name} of shape {tensor.shape} in {tensor.dtype} cannot have "
                f"{tensor.size} bytes"
            )
        return np.frombuffer(content, dtype, count, tensor.offset).reshape(tensor.shape)

    def parameters(self) -> dict[str, Array]:
        """All parameters of the package by PyTorch's name, as stored."""
        return {tensor.name: self.read(tensor) for tensor in self.tensors}


@dataclass(frozen=True)
class Golden:
    """Vectors that PyTorch computed at export."""

    record: dict[str, Any]
    arrays: dict[str, Array]
    """base_embeddings, embeddings, latents, logits."""
    fingerprints: dict[str, str]

    @property
    def texts(self) -> list[str] | None:
        texts: list[str] | None = self.record["texts"]
        return texts

    @property
    def token_ids(self) -> list[list[int]] | None:
        ids: list[list[int]] | None = self.record["token_ids"]
        return ids


@dataclass(frozen=True)
class Bundle:
    """What `pt export` wrote, or what became of it."""

    path: Path
    manifest: dict[str, Any]
    vocabulary: Vocabulary
    golden: Golden
    parts: tuple[Part, ...]
    tolerances: tuple[Tolerance, ...]

    def part(self, file: str) -> Part:
        return next(part for part in self.parts if part.file == file)

    def tolerance(self, name: str) -> Tolerance | None:
        return next((t for t in self.tolerances if t.name == name), None)

    def initial_states(self, part: Part) -> dict[str, Array]:
        """What an app must write into new state buffers, by their names."""
        return {state["name"]: self._initial_state(state) for state in part.entry["states"]}

    def _initial_state(self, state: dict[str, Any]) -> Array:
        path = inside(self.path, state["initial"]["file"])
        return _array(path, state["dtype"], state["shape"])


def open_bundle(path: Path, tolerances: tuple[tuple[str, float], ...] = ()) -> Bundle:
    """Open a bundle.

    Args:
        path: the folder.
        tolerances: name and value, to be put in place of the manifest's.

    Raises:
        DataError: no bundle, or one of which a file is missing or malformed.
        ConfigError: a tolerance that is unknown, or wider than the manifest's.
    """
    if not (path / MANIFEST_FILE).is_file():
        raise DataError(f"{path}: must be a bundle; has no {MANIFEST_FILE} (pt export makes one)")
    manifest = read_json_object(path / MANIFEST_FILE)
    try:
        if manifest["schema"] != SCHEMA:
            raise DataError(f"{path / MANIFEST_FILE}: schema must be {SCHEMA}, is {manifest['schema']}")
        _require_keys(manifest)
        parts = tuple(_parts(path, manifest["packages"]))
        golden = _golden(path, manifest["golden"])
        stated = from_json(manifest["tolerances"])
        named = {tolerance.name for tolerance in stated}
        table = (*stated, *(own for own in TOLERANCES if own.name not in named))
        vocabulary = load_vocabulary(inside(path, manifest["vocabulary"]["file"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path / MANIFEST_FILE}: not the manifest of a bundle: {error!r}") from None
    return Bundle(path, manifest, vocabulary, golden, parts, _tightened(table, tolerances))


def inside(folder: Path, relative: str) -> Path:
    """A path of a manifest, which must not lead out of the folder.

    Raises:
        DataError: it does.
    """
    path = (folder / relative).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise DataError(f"{folder}: a path must stay inside of the bundle, got {relative[:200]!r}")
    return path


def _parts(path: Path, packages: dict[str, Any]) -> Iterator[Part]:
    names = list(Tensor.__dataclass_fields__)
    for name, entry in packages.items():
        if name not in PARTS or entry["file"] != PARTS[name]:
            raise ValueError(f"no part of a bundle is called {name!r} and is in {entry['file']!r}")
        if not isinstance(entry["kind"], str) or not isinstance(entry["precision"], str):
            raise TypeError(f"kind and precision of {name}")
        for state in entry["states"]:
            _ = (
                str(state["initial"]["fingerprint"]),
                np.dtype(state["dtype"]),
                tuple(map(int, state["shape"])),
            )
        stated: list[dict[str, Any]] = [
            {key: tensor[key] for key in names} | {"shape": tuple(tensor["shape"])}
            for tensor in entry["tensors"]
        ]
        tensors = [_checked(Tensor(**tensor)) for tensor in stated]
        file = entry["file"]
        yield Part(name, file, inside(path, file), entry["precision"], entry, tuple(tensors))


def _require_keys(manifest: dict[str, Any]) -> None:
    """What is used later on must be there, and of the type that it is used as."""
    texts = [
        manifest["run"]["fingerprint"],
        manifest["vocabulary"]["fingerprint"],
        manifest["encoder"]["version"],
        manifest["encoder"]["fingerprint"],
        manifest["settings"]["encoder_weights"],
    ]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("fingerprints, versions and settings must be strings")
    if not all(isinstance(entry, dict) for entry in manifest["files"].values()):
        raise TypeError("files must be described by objects")


def _checked(tensor: Tensor) -> Tensor:
    numbers = (tensor.offset, tensor.size, *tensor.shape)
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers):
        raise TypeError(f"offset, size and shape of {tensor.name!r} must be whole numbers")
    words = (tensor.name, tensor.constant, tensor.file, tensor.fingerprint)
    if not all(isinstance(word, str) for word in words) or np.dtype(tensor.dtype).kind not in "fiu":
        raise TypeError(f"name, place and type of {tensor.name!r}")
    return tensor


def _golden(path: Path, file: str) -> Golden:
    record = read_json_object(inside(path, file))
    folder = inside(path, file).parent
    arrays = {
        name: _array(inside(folder, entry["file"]), entry["dtype"], entry["shape"])
        for name, entry in record["arrays"].items()
    }
    for name, width in _GOLDEN_WIDTHS.items():
        rows = len(arrays["embeddings"])
        if arrays[name].shape != (rows, width) or not rows:
            raise ValueError(f"golden {name} must have shape {(rows, width)}, has {arrays[name].shape}")
    texts, token_ids = record["texts"], record["token_ids"]
    if any(given is not None and len(given) != rows for given in (texts, token_ids)):
        raise ValueError(f"golden texts and token_ids must be {rows}")
    return Golden(record, arrays, {name: entry["fingerprint"] for name, entry in record["arrays"].items()})


def _array(path: Path, dtype: str, shape: list[int]) -> Array:
    data = read_bounded(path, MAX_FILE_BYTES, "a file of a bundle")
    little = np.dtype(dtype).newbyteorder("<")
    if len(data) != int(np.prod(shape, dtype=np.int64)) * little.itemsize:
        raise DataError(f"{path}: {dtype} of shape {shape} must fill it, it has {len(data)} bytes")
    return np.frombuffer(data, little).reshape(shape)


def _tightened(table: tuple[Tolerance, ...], wanted: tuple[tuple[str, float], ...]) -> tuple[Tolerance, ...]:
    found = {tolerance.name: tolerance for tolerance in table}
    for name, value in wanted:
        if name not in found:
            raise ConfigError(f"--tolerance must name one of {', '.join(found)}; got {name!r}")
        own = found[name]
        if not own.holds(value):
            raise ConfigError(
                f"--tolerance {name} can only be tightened: the manifest has {own.bound} {own.value:g}, "
                f"got {value:g}"
            )
        fields = {f: getattr(own, f) for f in own.__dataclass_fields__}
        found[name] = Tolerance(**{**fields, "value": value})
    return tuple(found.values())
