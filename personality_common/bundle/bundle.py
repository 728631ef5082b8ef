"""A folder that was exported, as it arrives: opened, and then perhaps verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NewType

from personality_common.bundle.family import Family
from personality_common.bundle.golden import Golden, read_golden
from personality_common.bundle.golden_night import GoldenNight, read_golden_night
from personality_common.bundle.manifest import Manifest, PackageEntry, read_manifest
from personality_common.bundle.stored import Array, StoredTensor
from personality_common.contract import MANIFEST_FILE
from personality_common.coreml.package import Package
from personality_common.errors import ConfigError, DataError, MismatchError
from personality_common.evidence.tolerances import Tolerance
from personality_common.files.atomic import file_sha256
from personality_common.files.inside import inside, refuse_links
from personality_common.text.identity import EncoderIdentity
from personality_common.vocabulary import Vocabulary, load_vocabulary, require_same_vocabulary


@dataclass(frozen=True)
class Part:
    """A package of a bundle.

    Attributes:
        name: what the family calls it: `model`, `encoder`, …
        path: the package.
        entry: what the manifest says of it.
    """

    name: str
    path: Path
    entry: PackageEntry = field(repr=False)

    @property
    def file(self) -> str:
        return self.entry.file

    @property
    def title(self) -> str:
        return self.file.removesuffix(".mlpackage")

    @property
    def precision(self) -> str:
        return self.entry.precision

    @property
    def tensors(self) -> tuple[StoredTensor, ...]:
        return self.entry.tensors

    @property
    def places(self) -> tuple[StoredTensor, ...]:
        """Tensors that lie in a file, and are not inline in the program."""
        return tuple(tensor for tensor in self.tensors if tensor.offset is not None)

    def parameters(self) -> dict[str, Array]:
        """All parameters of the package by PyTorch's name, as stored."""
        return {tensor.name: tensor.read(self.path) for tensor in self.tensors}


@dataclass(frozen=True)
class Bundle:
    """A folder that was exported; only read.

    As it is opened, its manifest is bounded and typed, its paths stay inside, and nothing more is believed.
    `verify` makes a `VerifiedBundle` of it.

    Attributes:
        tolerances: those of the manifest, and this toolkit's where the manifest has none.
    """

    path: Path
    family: Family = field(repr=False)
    manifest: Manifest = field(repr=False)
    tolerances: Mapping[str, Tolerance] = field(repr=False)

    def has(self, part: str) -> bool:
        return part in self.manifest.packages

    def part(self, name: str) -> Part:
        """A package by the name of its part.

        Raises:
            ConfigError: the bundle was exported without it.
        """
        if not self.has(name):
            reason = self.manifest.left_out.get(name, "unknown to it")
            raise ConfigError(f"{self.path}: the bundle has no part {name!r}: {reason}")
        entry = self.manifest.packages[name]
        return Part(name, self.path / entry.file, entry)

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(map(self.part, self.manifest.packages))

    def package(self, part: str) -> Path:
        """Folder of a package; ConfigError as `part`."""
        return self.part(part).path

    def places(self, part: str) -> tuple[StoredTensor, ...]:
        """Where a package has each parameter; ConfigError as `part`."""
        return self.part(part).places

    @property
    def run_fingerprint(self) -> str:
        return self.manifest.run.fingerprint

    @property
    def encoder(self) -> EncoderIdentity:
        """What the bundle's texts must be embedded with."""
        return self.manifest.encoder.identity

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """In output order; DataError if it is missing or malformed."""
        return load_vocabulary(self._file(self.manifest.vocabulary.file))

    @cached_property
    def golden(self) -> Golden:
        """What PyTorch computed at export; DataError if it is missing or malformed."""
        return read_golden(self._file(self.manifest.golden), self.family.golden)

    @cached_property
    def golden_night(self) -> GoldenNight | None:
        """Nights of the default learner; None in a bundle without. DataError if missing or malformed."""
        name = self.manifest.golden_night
        return None if name is None else read_golden_night(self._file(name))

    def _file(self, relative: str) -> Path:
        path = inside(self.path, relative)
        if not path.is_file():
            raise DataError(f"{path}: the manifest names it, and there is no such file in the bundle")
        return path


VerifiedBundle = NewType("VerifiedBundle", Bundle)
"""Its files are those of the manifest, and manifest, vocabulary and packages speak of the same tokens."""


def open_bundle(path: Path, family: Family) -> Bundle:
    """Open a bundle without believing it.

    Raises:
        DataError: no bundle; a link in it; a manifest that is malformed, names parts that the family has not,
            or leads out of the folder.
    """
    refuse_links(path)
    manifest = read_manifest(path)
    for name, entry in manifest.packages.items():
        if entry.file != family.parts.get(name):
            raise DataError(
                f"{path / MANIFEST_FILE}: no part of a bundle is called {name[:80]!r} and is in"
                f" {entry.file[:80]!r}"
            )
        inside(path, entry.file)
        for file in {tensor.file for tensor in entry.tensors}:
            inside(path / entry.file, file)
        for state in entry.states:
            inside(path, state.initial.file)
    sample = () if manifest.reference is None else (manifest.reference.latents, manifest.reference.top)
    stored = (array.file for array in sample)
    nights = () if manifest.golden_night is None else (manifest.golden_night,)
    for file in (manifest.vocabulary.file, manifest.golden, *nights, *stored, *manifest.files):
        inside(path, file)
    tolerances = {tolerance.name: tolerance for tolerance in (*family.tolerances, *manifest.tolerances)}
    return Bundle(path, family, manifest, tolerances)


def verify(bundle: Bundle) -> VerifiedBundle:
    """Read every file that the manifest names, and believe the bundle if all of them are as it says.

    Raises:
        DataError: a file is missing or another.
        MismatchError: manifest, vocabulary and packages speak of different vocabularies, or the encoder's
            identity is not the one that its fingerprint is of.
    """
    manifest, vocabulary = bundle.manifest, bundle.vocabulary
    tokens_file = manifest.vocabulary.file
    # The vocabulary first: a swapped one should be called that, and not a damaged file.
    require_same_vocabulary(
        manifest.vocabulary.fingerprint, vocabulary.fingerprint, str(bundle.path / tokens_file)
    )
    for name, stated in manifest.files.items():
        if file_sha256(file := bundle._file(name)) != stated.sha256:
            raise DataError(f"{file}: must have the SHA-256 that {MANIFEST_FILE} names; export it again")
    if bundle.encoder.fingerprint != manifest.encoder.fingerprint:
        raise MismatchError(
            f"{bundle.path / MANIFEST_FILE}: the encoder's fingerprint must be that of its identity"
            f" ({bundle.encoder.fingerprint[:12]}…), is {manifest.encoder.fingerprint[:12]}…; export it again"
        )
    for part in bundle.parts:
        named = Package.open(part.path).spec.description.metadata.userDefined.get("vocabulary", "")
        if named != vocabulary.joined():
            raise MismatchError(
                f"{part.path}: its metadata must name the tokens of {tokens_file} in their order, and names"
                " others; export the run again"
            )
    return VerifiedBundle(bundle)
