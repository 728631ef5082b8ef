"""What the registry must know of a kind of thing; the kind's own package says it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from personality_common.registry.identity import Identity

T = TypeVar("T")


class Codec(ABC, Generic[T]):
    """A kind of thing that has versions, and their files.

    Attributes:
        kind: its name in `store.json`, in messages, and, in the plural, of its command.
        letter: what its version ids begin with, a to z.
        files: names that a version's files may have, and the most bytes of each. The first is the thing
            itself, which every version has; the others lie beside it where there are any.
    """

    kind: ClassVar[str]
    letter: ClassVar[str]
    files: ClassVar[Mapping[str, int]]

    @property
    def itself(self) -> str:
        """Name of the file that is the thing itself."""
        return next(iter(self.files))

    @abstractmethod
    def write(self, value: T, folder: Path) -> None:
        """Write the files of a value into an empty folder; the same value gives the same bytes."""

    @abstractmethod
    def read(self, files: Mapping[str, Path]) -> T:
        """The value, exactly as it was written.

        Args:
            files: those that the version has, by name; their checksums held.

        Raises:
            DataError: they are not files of this kind.
        """

    @abstractmethod
    def fingerprint(self, value: T) -> str:
        """Of the content, in hex; a version's id carries 12 digits of it."""

    @abstractmethod
    def check(self, value: T) -> None:
        """Raise DataError unless a version may hold this value: finite, of the right dtype, …"""

    def shapes(self, value: T) -> dict[str, tuple[int, ...]]:
        """Of the tensors that have one shape in all versions of a store, by name."""
        return {}

    def identity(self, value: T) -> Identity:
        """What the value itself says that it belongs to, where it does; its record cannot say otherwise."""
        return {}

    def modern_store(self, content: dict[str, Any]) -> dict[str, Any]:
        """`store.json` of an earlier schema in the present one; as it is where there was none."""
        return content

    def modern_record(self, content: dict[str, Any]) -> dict[str, Any]:
        """`record.json` of an earlier schema in the present one; as it is where there was none."""
        return content
