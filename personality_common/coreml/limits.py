"""How much a package from outside may ask of this machine."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from personality_common.errors import DataError

MODEL_MIB: Final = 64
"""Default of `--max-model-mib`. Of ML Programs, weights are in files of their own; networks hold theirs in
the protobuf, and large ones need more."""
SECONDS: Final = 300.0
"""Default of `--max-seconds`."""


@dataclass(frozen=True)
class Limits:
    """Bounds that hold before anything is read; raise one for a file you trust."""

    manifest_bytes: int = 1 << 20
    model_bytes: int = MODEL_MIB << 20
    """Of the protobuf, which takes up to 16 times its limit in memory: a packed number of one byte becomes 8,
    and of messages and strings, which become 100 bytes or more, `objects` are allowed."""
    models: int = 1_000
    """Of a pipeline, those of pipelines in it included."""
    weight_entries: int = 200_000
    package_files: int = 10_000

    @property
    def objects(self) -> int:
        """Messages and strings in the protobuf; a file of half the bytes cannot have as many."""
        return self.model_bytes // 16


DEFAULT_LIMITS: Final = Limits()


def require_at_most(count: int, most: int, what: str) -> None:
    """Refuse counts that no model has, before there is an object for each.

    Raises:
        DataError: there are more.
    """
    if count > most:
        raise DataError(f"{count:,} {what}; the limit is {most:,}")


def open_regular(path: Path) -> int:
    """Open a regular file for reading; devices, pipes and folders are refused without blocking.

    Returns:
        A file descriptor, which the caller closes.
    """
    try:
        if stat.S_ISREG(path.stat().st_mode):
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {_reason(error)}") from error
    raise DataError(f"{path}: a regular file is expected, this is a folder, a pipe or a device")


def read_bounded(path: Path, limit: int, what: str, hint: str = "") -> bytes:
    """The file's bytes, if they are at most `limit`; the size is checked before reading.

    Args:
        hint: how to raise the limit, for the error.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        # Files of /proc and the like claim 0 bytes and give any number.
        data = b"" if size > limit else file.read(max(size, 1))
        if size > limit or (len(data) >= size and file.read(1)):
            raise DataError(
                f"{path}: {what} may have {limit:,} bytes, this has {max(size, limit + 1):,}{hint}"
            )
    return data


def _reason(error: Exception) -> str:
    return (error.strerror or repr(error)) if isinstance(error, OSError) else repr(error)
