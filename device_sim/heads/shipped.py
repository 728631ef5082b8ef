"""The head of a bundle: where it is, what it belongs to, and its values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from grpo.config import GRPOConfig
from grpo.head import Head, overlap_of
from grpo.reference import Reference
from personality_common.bundle.bundle import Bundle, VerifiedBundle, open_bundle, verify
from personality_common.bundle.stored import StoredTensor
from personality_common.contract import HEAD_BIAS, HEAD_PARAMETERS, HEAD_WEIGHT, TOP_K
from personality_common.errors import ConfigError, DataError, MismatchError
from personality_common.files.fingerprint import fingerprint, require_equal_fingerprints
from personality_common.registry.identity import Identity
from pretrain.personality.rules.family import PERSONALITY

PART: Final = "model"
"""The part whose backbone computes the latents, and which the patch route changes."""
ALIKE: Final = 0.98
"""Share of the reference's top 8 that the head must give: a package in float16 swaps a few near ties."""


def open_shipped(path: Path) -> VerifiedBundle:
    """A bundle that a device can live with: verified, and with the model that gives latents.

    Raises:
        DataError, MismatchError: see `personality_common.bundle.bundle.verify`.
        ConfigError: it was exported without PersonalityModel.mlpackage.
    """
    bundle = verify(open_bundle(path, PERSONALITY))
    bundle.part(PART)
    return bundle


def identity(bundle: Bundle) -> Identity:
    """Fingerprints of what a head that is made for this bundle belongs to.

    `bundle` is SHA-256 over those of every parameter of the packages of the personality model.
    """
    packages = bundle.manifest.packages.items()
    tensors = {part: {t.name: t.fingerprint for t in e.tensors} for part, e in packages if part != "encoder"}
    digest = hashlib.sha256(json.dumps(tensors, sort_keys=True).encode()).hexdigest()
    return {
        "bundle": digest,
        "vocabulary": bundle.manifest.vocabulary.fingerprint,
        "encoder": bundle.manifest.encoder.fingerprint,
    }


def shipped_head(bundle: Bundle) -> Head:
    """The head that the bundle ships; from a float32 package if there is one.

    Raises:
        ConfigError: no package has it.
        MismatchError: its bytes are not those that the manifest names.
    """
    parts = [part for part in ("head", "updatable", "model") if bundle.has(part)]
    if not parts:
        raise ConfigError(f"{bundle.path}: no package of the bundle holds the head")
    package, places = bundle.package(parts[0]), head_places(bundle, parts[0])
    arrays = {place.name: place.read(package) for place in places}
    require_equal_fingerprints(
        {place.name: place.fingerprint for place in places},
        {name: fingerprint(array) for name, array in arrays.items()},
        f"head of {package}",
    )
    return head_of(arrays[HEAD_WEIGHT], arrays[HEAD_BIAS])


def shipped_reference(bundle: Bundle, config: GRPOConfig) -> Reference:
    """The sample of texts that the bundle ships, with what its head says of them.

    Raises:
        ConfigError: a bundle of an earlier version, which has none.
        MismatchError: files are not those that the manifest names, or the top 8 are another head's.
        DataError: latents of another width, or not finite.
    """
    sample = bundle.manifest.reference
    if sample is None:
        raise ConfigError(
            f"{bundle.path}: must have a sample of texts on which budgets are measured, has none; train the"
            " run with this version if it was by an earlier one, and export it again"
        )
    latents, top = sample.latents.read(bundle.path), sample.top.read(bundle.path)
    require_equal_fingerprints(
        {"latents": sample.latents.fingerprint, "top": sample.top.fingerprint},
        {"latents": fingerprint(latents), "top": fingerprint(top)},
        f"reference of {bundle.path}",
    )
    head = shipped_head(bundle)
    width = head.weight.shape[1]
    fits = latents.shape[1:] == (width,) and top.shape == (len(latents), TOP_K) and len(latents) > 1
    if not fits or not np.isfinite(latents).all():
        raise DataError(
            f"{bundle.path}: the reference must be finite latents (texts, {width}) and top (texts, {TOP_K}),"
            f" is {latents.shape} and {top.shape}"
        )
    reference = Reference(torch.tensor(latents, dtype=torch.float32), head, config)
    same = float(overlap_of(reference.top, torch.from_numpy(top.astype(np.int64))).mean())
    if same < ALIKE:
        raise MismatchError(
            f"{bundle.path}: the reference's top {TOP_K} must be those of the head that ships,"
            f" {same:.1%} are; export it again"
        )
    return reference


def head_places(bundle: Bundle, part: str) -> tuple[StoredTensor, StoredTensor]:
    """Those of weight and bias.

    Raises:
        MismatchError: the package does not have the head once.
        DataError: it is neither float32 nor float16.
    """
    found = [p for name in HEAD_PARAMETERS for p in bundle.places(part) if p.name == name]
    if [p.name for p in found] != list(HEAD_PARAMETERS):
        raise MismatchError(
            f"{bundle.package(part)}: must have {', '.join(HEAD_PARAMETERS)} once, has"
            f" {[p.name for p in found]}"
        )
    for place in found:
        if place.dtype not in ("float32", "float16"):
            raise DataError(
                f"{bundle.package(part)}: {place.name} must be float32 or float16, is {place.dtype}"
            )
    return found[0], found[1]


def read_head(package: Path, places: Sequence[StoredTensor]) -> Head:
    """The head from its places in a package, or a copy of it, as float32."""
    named = {place.name: place for place in places}
    return head_of(*(named[name].read(package) for name in HEAD_PARAMETERS))


def head_of(weight: NDArray[Any], bias: NDArray[Any]) -> Head:
    """A head from arrays, copied; float16 numbers are widened."""
    return Head(torch.tensor(weight, dtype=torch.float32), torch.tensor(bias, dtype=torch.float32))


def head_fingerprint(head: Head) -> str:
    """Fingerprints of weight and bias, of each the first 16 digits."""
    return "-".join(fingerprint(tensor.numpy())[:16] for tensor in head)
