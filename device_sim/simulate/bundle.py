"""A bundle as the simulation needs it: verified, with its head and its vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sim.routes.bundle import Bundle, Place, head_of, read_place
from grpo.head import Head
from personality_common.contract import GOLDEN_DIR, HEAD_BIAS, HEAD_WEIGHT, MANIFEST_FILE, TOKENS_FILE
from personality_common.coreml.package import Package
from personality_common.errors import DataError, MismatchError
from personality_common.files.atomic import file_sha256, read_json_object
from personality_common.files.fingerprint import fingerprint
from personality_common.text.identity import EncoderIdentity
from personality_common.vocabulary import Vocabulary, load_vocabulary, require_same_vocabulary

PART: Final = "model"
"""The part whose backbone computes the latents, and which the patch route changes."""
_SCHEMA: Final = 1


@dataclass(frozen=True)
class VerifiedBundle(Bundle):
    """A bundle whose files are those of its manifest.

    Attributes:
        vocabulary: in output order.
        encoder: identity of the encoder that its texts must be embedded with.
        head: that ships, float32.
    """

    vocabulary: Vocabulary = field(repr=False)
    encoder: EncoderIdentity
    head: Head = field(repr=False)

    @property
    def run_fingerprint(self) -> str:
        return str(self.manifest["run"]["fingerprint"])

    def golden(self, name: str) -> NDArray[np.float32]:
        """An array of the golden vectors."""
        record = read_json_object(self.path / self.manifest["golden"])["arrays"][name]
        data = (self.path / GOLDEN_DIR / record["file"]).read_bytes()
        return np.frombuffer(data, "<f4").reshape(record["shape"]).astype(np.float32)


def open_bundle(path: Path) -> VerifiedBundle:
    """Open a bundle and verify that its parts belong together.

    Raises:
        DataError: no bundle, or a file of it is not as the manifest says.
        MismatchError: manifest, vocabulary and package speak of different vocabularies, or the bundle lacks
            PersonalityModel.mlpackage.
    """
    if not (path / MANIFEST_FILE).is_file():
        raise DataError(f"{path}: must be a bundle, has no {MANIFEST_FILE}; pt export makes one")
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    try:
        if manifest["schema"] != _SCHEMA:
            raise MismatchError(f"{path / MANIFEST_FILE}: schema must be {_SCHEMA}, is {manifest['schema']}")
        encoder = EncoderIdentity(**manifest["encoder"]["identity"])
        stated = str(manifest["vocabulary"]["fingerprint"])
        files = {str(name): str(entry["sha256"]) for name, entry in manifest["files"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path / MANIFEST_FILE}: not the manifest of a bundle: {error!r}") from None
    if not bundle.has(PART):
        raise MismatchError(f"{path}: must have PersonalityModel.mlpackage; export it without --only")
    # The vocabulary first: a swapped one should be called that, and not a damaged file.
    vocabulary = load_vocabulary(path / TOKENS_FILE)
    require_same_vocabulary(stated, vocabulary.fingerprint, str(path / TOKENS_FILE))
    _require_files(path, files)
    package = Package.open(bundle.package(PART))
    named = package.spec.description.metadata.userDefined.get("vocabulary", "")
    if named != vocabulary.joined():
        raise MismatchError(
            f"{package.path}: its metadata must name the tokens of {TOKENS_FILE} in their order, and names"
            " others; export the run again"
        )
    return VerifiedBundle(path, manifest, vocabulary, encoder, bundle.shipped_head())


def read_head(package: Path, places: tuple[Place, ...]) -> Head:
    """The head from its places in a package, as float32."""
    named = {place.name: place for place in places}
    return head_of(*(read_place(package, named[name]) for name in (HEAD_WEIGHT, HEAD_BIAS)))


def head_fingerprint(head: Head) -> str:
    """Fingerprints of weight and bias, of each the first 16 digits."""
    return "-".join(fingerprint(tensor.numpy())[:16] for tensor in head)


def _require_files(path: Path, files: dict[str, str]) -> None:
    for name, expected in files.items():
        file = path / name
        if not file.resolve().is_relative_to(path.resolve()) or not file.is_file():
            raise DataError(f"{file}: the manifest names it, and there is no such file in the bundle")
        if file_sha256(file) != expected:
            raise DataError(f"{file}: must have the SHA-256 that {MANIFEST_FILE} names; export it again")
