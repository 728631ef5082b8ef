"""Tensor fingerprints: equal exactly when dtype, shape and every byte are equal.

A fingerprint is the SHA-256, in lower-case hexadecimal, of

    <dtype name, ASCII> 00 <shape in decimal, joined by commas, ASCII> 00 <bytes>

where the bytes are the elements in C order, little-endian: `float32`, `325,512` and 665,600
bytes for the head's weight. A scalar has the empty shape. The dtype names are NumPy's, plus
`bfloat16` and the sub-byte types of weight files (`int4`, `uint1`, …), whose bytes are the
packed ones. -0.0 differs from 0.0, and NaNs by their payload: this is identity, not closeness.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import MismatchError


def fingerprint(array: NDArray[np.generic]) -> str:
    """Fingerprint of an array of booleans or numbers, whatever its strides and byte order.

    Raises:
        TypeError: the dtype is not a plain number (object, string, structured).
    """
    if array.dtype.kind not in "biufc":
        raise TypeError(f"a fingerprint is of numbers, got dtype {array.dtype}")
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    return fingerprint_bytes(array.dtype.name, array.shape, little.reshape(-1).view(np.uint8).data)


def fingerprint_bytes(dtype: str, shape: Iterable[int], data: bytes | memoryview) -> str:
    """Fingerprint from parts, for types that NumPy does not have; `data` as the module describes."""
    digest = hashlib.sha256()
    digest.update(f"{dtype}\0{','.join(map(str, shape))}\0".encode("ascii"))
    digest.update(data)
    return digest.hexdigest()


@dataclass(frozen=True)
class FingerprintDifference:
    """How two sets of named fingerprints differ; names are sorted."""

    missing: tuple[str, ...]
    """Expected, but not there."""
    extra: tuple[str, ...]
    """There, but not expected."""
    changed: tuple[str, ...]

    @property
    def equal(self) -> bool:
        return not (self.missing or self.extra or self.changed)

    def __str__(self) -> str:
        parts = [f"{kind} {_shorten(names)}" for kind, names in vars(self).items() if names]
        return "; ".join(parts) or "no difference"


def compare_fingerprints(expected: Mapping[str, str], actual: Mapping[str, str]) -> FingerprintDifference:
    """Which names are missing, extra or changed in `actual`."""
    return FingerprintDifference(
        missing=tuple(sorted(expected.keys() - actual.keys())),
        extra=tuple(sorted(actual.keys() - expected.keys())),
        changed=tuple(sorted(n for n in expected.keys() & actual.keys() if expected[n] != actual[n])),
    )


def require_equal_fingerprints(expected: Mapping[str, str], actual: Mapping[str, str], what: str) -> None:
    """Raise MismatchError, naming the tensors, unless both sets are the same.

    Args:
        what: subject of the message: "backbone of PersonalityModel.mlpackage".
    """
    difference = compare_fingerprints(expected, actual)
    if not difference.equal:
        raise MismatchError(f"{what}: tensors differ from what is expected: {difference}")


def _shorten(names: tuple[str, ...], limit: int = 5) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
