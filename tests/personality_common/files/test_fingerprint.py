"""Fingerprints against digests of bytes that are written out by hand."""

import hashlib
import struct
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from personality_common.errors import MismatchError
from personality_common.files.fingerprint import (
    compare_fingerprints,
    fingerprint,
    fingerprint_bytes,
    require_equal_fingerprints,
)

BYTES = struct.pack("<6f", 1, 2, 3, 4, 5, 6)
EXPECTED = hashlib.sha256(b"float32\x002,3\x00" + BYTES).hexdigest()
ARRAY = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


@pytest.mark.parametrize(
    "same",
    [
        ARRAY,
        np.asfortranarray(ARRAY),
        ARRAY.astype(">f4"),
        np.repeat(ARRAY, 2, axis=1)[:, ::2],
        torch.from_numpy(ARRAY).numpy(),
        torch.from_numpy(ARRAY.T.copy()).T.numpy(),
    ],
)
def test_documented_bytes_whatever_the_layout(same: np.ndarray) -> None:
    assert fingerprint(same) == EXPECTED == fingerprint_bytes("float32", (2, 3), BYTES)


def test_scalar_and_empty() -> None:
    assert (
        fingerprint(np.array(7, np.int64)) == hashlib.sha256(b"int64\0\0" + struct.pack("<q", 7)).hexdigest()
    )
    assert fingerprint(np.zeros((0, 3), np.float16)) == hashlib.sha256(b"float16\x000,3\0").hexdigest()


def test_every_kind_of_difference_shows() -> None:
    nan = np.array([0x7FC00001], np.uint32).view(np.float32)
    arrays: list[NDArray[Any]] = [
        np.zeros(4, np.float32),
        -np.zeros(4, np.float32),
        np.zeros((2, 2), np.float32),
        np.zeros((4, 1), np.float32),
        np.zeros(4, np.int32),
        np.zeros(2, np.float64),
        np.array([np.nan], np.float32),
        nan,
    ]
    assert len({fingerprint(a) for a in arrays}) == len(arrays)


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.zeros(2, [("a", "f4")])])
def test_only_numbers(array: np.ndarray) -> None:
    with pytest.raises(TypeError, match="a fingerprint is of numbers"):
        fingerprint(array)


def test_comparison() -> None:
    expected = {"a": "1", "b": "2", "c": "3"}
    difference = compare_fingerprints(expected, {"b": "2", "c": "4", "d": "5"})
    assert (difference.missing, difference.extra, difference.changed) == (("a",), ("d",), ("c",))
    assert not difference.equal
    assert str(difference) == "missing a; extra d; changed c"
    assert compare_fingerprints(expected, dict(expected)).equal
    require_equal_fingerprints(expected, dict(expected), "head")
    with pytest.raises(MismatchError, match="head: tensors differ from what is expected: missing a, b, c"):
        require_equal_fingerprints(expected, {}, "head")
