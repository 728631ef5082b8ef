"""A package of a bundle with another head, in a copy that goes when it was used."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from device_sim.heads.shipped import head_places
from personality_common.bundle.bundle import open_bundle
from personality_common.bundle.stored import Array, stored_values
from personality_common.contract import HEAD_BIAS, HEAD_WEIGHT, MANIFEST_FILE
from personality_common.coreml.patching import patched_copy
from personality_common.errors import ConfigError, MismatchError
from pretrain.personality.head_file import head_metadata, read_head_file
from pretrain.personality.rules.family import PERSONALITY


@contextlib.contextmanager
def with_head(package: Path, file: Path) -> Iterator[Path]:
    """The copy.

    Args:
        package: in its bundle, which says where the head is.
        file: the head, of `pt grpo`.

    Raises:
        ConfigError: the package is in no bundle.
        DataError: bundle or head are damaged.
        MismatchError: the head is of another run, or the package has none in a weight file.
    """
    folder = package.absolute().parent
    if not (folder / MANIFEST_FILE).is_file():
        raise ConfigError(f"--head needs a package in its bundle, {package} has no {MANIFEST_FILE} beside it")
    bundle = open_bundle(folder, PERSONALITY)
    part = next((part.name for part in bundle.parts if part.path.name == package.name), None)
    if part is None:
        raise ConfigError(f"--head needs a package of the bundle {folder}, {package.name} is none")
    head = read_head_file(file, head_metadata(bundle.run_fingerprint, bundle.vocabulary.fingerprint))
    values = {HEAD_WEIGHT: head.weight.numpy(), HEAD_BIAS: head.bias.numpy()}
    patches: dict[str | int, Array] = {}
    for place in head_places(bundle, part):
        if place.metadata_offset is None:
            raise MismatchError(
                f"{package}: --head must find {place.name} in a weight file, it is in {place.file}; take"
                " PersonalityModel.mlpackage"
            )
        patches[place.metadata_offset] = stored_values(place.name, values[place.name], place.dtype)
    with tempfile.TemporaryDirectory(prefix="pt-run-") as scratch:
        patched_copy(package, target := Path(scratch) / package.name, patches)
        yield target
