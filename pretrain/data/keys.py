"""What stands for a text where texts are too many to hold: 16 bytes of its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEY_BYTES: Final = 16
KEY_DTYPE: Final = f"S{KEY_BYTES}"
"""Of arrays of keys. NumPy compares such strings byte by byte; all are equally long, so its padding with
zeros is harmless."""

_FIRST_SLOTS: Final = 1 << 12
_FULLEST: Final = 2 / 3


def text_key(text: str) -> bytes:
    """BLAKE2b-128 of the text's UTF-8 bytes: among a billion texts, two share one with probability 1e-21."""
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest()


def text_keys(texts: Iterable[str]) -> NDArray[np.bytes_]:
    """(N,) keys."""
    import numpy as np  # here, since `pt --help` does without

    return np.frombuffer(b"".join(map(text_key, texts)), KEY_DTYPE)


class KeySet:
    """A set of keys in 24 to 48 bytes each, where Python's own takes 100: open addressing, linear probing."""

    def __init__(self) -> None:
        self._slots = _FIRST_SLOTS
        self._table = bytearray(self._slots * KEY_BYTES)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, key: bytes) -> bool:
        """Whether the key was not here before; it is now.

        A slot of zeros is empty: that a text has this key is as unlikely as any other.
        """
        if not self._insert(key):
            return False
        self._count += 1
        if self._count > _FULLEST * self._slots:
            self._grow()
        return True

    def _insert(self, key: bytes) -> bool:
        table = self._table
        # Python salts the hash, so no data can be made to fall on one slot.
        at = hash(key) % self._slots * KEY_BYTES
        while True:
            there = table[at : at + KEY_BYTES]
            if there == key:
                return False
            if not any(there):
                table[at : at + KEY_BYTES] = key
                return True
            at = (at + KEY_BYTES) % len(table)

    def _grow(self) -> None:
        old = self._table
        self._slots *= 2
        self._table = bytearray(self._slots * KEY_BYTES)
        for at in range(0, len(old), KEY_BYTES):
            key = bytes(old[at : at + KEY_BYTES])
            if any(key):
                self._insert(key)
