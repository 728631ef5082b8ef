"""Keys of texts, and the set that holds them, against Python's own."""

import hashlib
import random

import numpy as np

from pretrain.data.keys import KeySet, text_key, text_keys


def test_a_key_is_the_hash_of_the_text() -> None:
    assert text_key("é") == hashlib.blake2b(b"\xc3\xa9", digest_size=16).digest()
    keys = text_keys(["a", "é"])
    assert keys.shape == (2,)
    assert keys.dtype == "S16"
    assert keys.tobytes() == text_key("a") + text_key("é")


def test_the_set_is_a_set() -> None:
    draws = random.Random(0)
    ours, theirs = KeySet(), set[bytes]()
    for _ in range(20_000):
        key = draws.randbytes(2).rjust(16, b"k") if draws.random() < 0.5 else draws.randbytes(16)
        assert ours.add(key) == (key not in theirs)
        theirs.add(key)
        if draws.random() < 0.3:
            assert not ours.add(draws.choice((key, bytes(key))))
    assert len(ours) == len(theirs)


def test_arrays_of_keys_compare_byte_by_byte() -> None:
    # Zeros within and at the end are where strings of other libraries would end.
    keys = [b"a" * 8 + b"\0" * 8, b"a" * 8 + b"\0" * 7 + b"b", b"\0" * 16, b"\xff" * 16, b"a" * 16]
    array = np.frombuffer(b"".join(keys), "S16")
    assert [key.ljust(16, b"\0") for key in np.sort(array).tolist()] == sorted(keys)
    assert len(np.unique(array)) == 5


def test_the_set_s_keys_are_in_the_order_of_adding() -> None:
    ours = KeySet()
    keys = [random.Random(i).randbytes(16) for i in range(9_000)]
    for key in keys + keys[::-1]:
        ours.add(key)
    assert bytes(ours.keys) == b"".join(keys)
