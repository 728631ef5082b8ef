"""What stands for a text where texts are too many to hold: 16 bytes of its hash."""

from __future__ import annotations

import hashlib
from array import array
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
_SLOT_BYTES: Final = 4


def text_key(text: str) -> bytes:
    """BLAKE2b-128 of the text's UTF-8 bytes: among a billion texts, two share one with probability 1e-21."""
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest()


def text_keys(texts: Iterable[str]) -> NDArray[np.bytes_]:
    """(N,) keys."""
    import numpy as np  # here, since `pt --help` does without

    return np.frombuffer(b"".join(map(text_key, texts)), KEY_DTYPE)


class KeySet:
    """A set of keys in 22 to 30 bytes each, where Python's own takes 100: open addressing, linear probing.

    Attributes:
        keys: the keys, one after the other, in the order in which they were added.
    """

    def __init__(self) -> None:
        self.keys = bytearray()
        self._table = _empty(_FIRST_SLOTS)
        """In each slot a key's number, from 1; 0 in an empty one."""

    def __len__(self) -> int:
        return len(self.keys) // KEY_BYTES

    def add(self, key: bytes) -> bool:
        """Whether the key was not here before; it is now.

        Raises OverflowError: the table counts to 4 billion keys.
        """
        table, keys = self._table, self.keys
        # Python salts the hash, so no data can be made to fall on one slot.
        at = hash(key) % len(table)
        while number := table[at]:
            if keys[(number - 1) * KEY_BYTES : number * KEY_BYTES] == key:
                return False
            at = (at + 1) % len(table)
        keys += key
        table[at] = len(self)
        if len(self) > _FULLEST * len(table):
            del table  # or it would stay beside the new one
            self._grow()
        return True

    def _grow(self) -> None:
        slots = 2 * len(self._table)
        del self._table  # the keys are enough to make it anew
        self._table = table = _empty(slots)
        for number in range(1, len(self) + 1):
            at = hash(bytes(self.keys[(number - 1) * KEY_BYTES : number * KEY_BYTES])) % len(table)
            while table[at]:
                at = (at + 1) % len(table)
            table[at] = number


def _empty(slots: int) -> array[int]:
    return array("I", bytes(_SLOT_BYTES)) * slots
