"""A bundle as the routes see it: its packages, and where each has its parameters."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from grpo.head import Head
from personality_common.contract import HEAD_BIAS, HEAD_PARAMETERS, HEAD_WEIGHT, MANIFEST_FILE
from personality_common.errors import ConfigError, DataError, MismatchError
from personality_common.files.atomic import read_json_object
from personality_common.files.fingerprint import fingerprint, require_equal_fingerprints

ENCODER: Final = "encoder"
"""The part that is no package of the personality model."""


@dataclass(frozen=True)
class Place:
    """Where a package has a parameter: an entry of the manifest's `tensors`."""

    name: str
    file: str
    offset: int
    size: int
    metadata_offset: int | None
    shape: tuple[int, ...]
    dtype: str
    updatable: bool
    fingerprint: str


@dataclass(frozen=True)
class Bundle:
    """A folder that `pt export` wrote, with its manifest; only read."""

    path: Path
    manifest: dict[str, Any] = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Read the manifest.

        Raises:
            DataError: there is none, or it is malformed.
        """
        bundle = cls(path, read_json_object(path / MANIFEST_FILE))
        try:
            for part in bundle.manifest["packages"]:
                _ = bundle.package(part), part == ENCODER or bundle.places(part)
            _ = bundle.identity
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path / MANIFEST_FILE}: must be the manifest of a bundle, lacks or garbles {error}"
            ) from None
        return bundle

    def has(self, part: str) -> bool:
        return part in self.manifest["packages"]

    def package(self, part: str) -> Path:
        """Folder of a package.

        Raises:
            ConfigError: the bundle was exported without it.
        """
        if not self.has(part):
            reason = self.manifest.get("left_out", {}).get(part, "unknown to it")
            raise ConfigError(f"{self.path}: the bundle has no part {part!r}: {reason}")
        return self.path / _inside(self.manifest["packages"][part]["file"])

    def places(self, part: str) -> tuple[Place, ...]:
        """Where a package of the personality model has each parameter; those inline in the program have none.

        Raises:
            DataError: the manifest says what cannot be.
        """
        return tuple(
            self._place(part, entry)
            for entry in self.manifest["packages"][part]["tensors"]
            if entry["offset"] is not None
        )

    def _place(self, part: str, entry: dict[str, Any]) -> Place:
        known = {name: entry[name] for name in Place.__dataclass_fields__}
        place = Place(**{**known, "shape": tuple(entry["shape"])})
        _inside(place.file)
        where = f"{self.path / MANIFEST_FILE}: {str(place.name)[:80]} of {part}"
        if place.dtype not in ("float32", "float16"):
            raise DataError(f"{where} must be float32 or float16, is {str(place.dtype)[:80]!r}")
        size = int(np.prod(place.shape)) * np.dtype(place.dtype).itemsize
        if place.size != size or place.offset < 0:
            raise DataError(
                f"{where} must have {size} bytes at an offset, has {place.size} at {place.offset}"
            )
        return place

    def precision(self, part: str) -> str:
        """Of a package's arithmetic: `float32` or `float16`."""
        return str(self.manifest["packages"][part]["precision"])

    def head_places(self, part: str) -> tuple[Place, Place]:
        """Those of weight and bias.

        Raises:
            MismatchError: the package does not have the head once.
        """
        found = [p for name in HEAD_PARAMETERS for p in self.places(part) if p.name == name]
        if [p.name for p in found] != list(HEAD_PARAMETERS):
            raise MismatchError(
                f"{self.package(part)}: must have {', '.join(HEAD_PARAMETERS)} once, has"
                f" {[p.name for p in found]}"
            )
        return found[0], found[1]

    def shipped_head(self) -> Head:
        """The head that the bundle ships; from a float32 package if there is one.

        Raises:
            ConfigError: no package has it.
            MismatchError: its bytes are not those that the manifest names.
        """
        parts = [part for part in ("head", "updatable", "model") if self.has(part)]
        if not parts:
            raise ConfigError(f"{self.path}: no package of the bundle holds the head")
        package = self.package(parts[0])
        places = self.head_places(parts[0])
        arrays = {place.name: read_place(package, place) for place in places}
        require_equal_fingerprints(
            {place.name: place.fingerprint for place in places},
            {name: fingerprint(array) for name, array in arrays.items()},
            f"head of {package}",
        )
        return head_of(arrays[HEAD_WEIGHT], arrays[HEAD_BIAS])

    @property
    def identity(self) -> dict[str, str]:
        """What a head that is made for this bundle belongs to.

        `bundle` is the SHA-256 over the fingerprints of every parameter of the packages of the personality
        model; `vocabulary` and `encoder` are as the manifest has them.
        """
        tensors = {
            part: {str(entry["name"]): str(entry["fingerprint"]) for entry in package["tensors"]}
            for part, package in self.manifest["packages"].items()
            if part != ENCODER
        }
        digest = hashlib.sha256(json.dumps(tensors, sort_keys=True).encode()).hexdigest()
        return {
            "bundle": digest,
            "vocabulary": str(self.manifest["vocabulary"]["fingerprint"]),
            "encoder": str(self.manifest["encoder"]["fingerprint"]),
        }


def head_of(weight: NDArray[Any], bias: NDArray[Any]) -> Head:
    """A head from arrays, copied; float16 numbers are widened."""
    return Head(torch.tensor(weight, dtype=torch.float32), torch.tensor(bias, dtype=torch.float32))


def read_place(package: Path, place: Place) -> NDArray[Any]:
    """The tensor that a package has at a place; a copy, in the dtype that is stored.

    Raises:
        DataError: the file is missing or ends before.
    """
    try:
        with (package / place.file).open("rb") as file:
            file.seek(place.offset)
            data = file.read(place.size)
    except FileNotFoundError:
        raise DataError(f"{package / place.file}: must hold {place.name}, is missing") from None
    if len(data) != place.size:
        raise DataError(f"{package / place.file}: must hold {place.name} at {place.offset}, is truncated")
    dtype = np.dtype(place.dtype).newbyteorder("<")
    return np.frombuffer(data, dtype).reshape(place.shape).astype(np.dtype(place.dtype))


def _inside(file: Any) -> str:
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise DataError(f"a manifest names files inside of the bundle, got {file!r}")
    return str(file)
