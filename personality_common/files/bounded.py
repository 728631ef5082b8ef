"""Files from outside, read without waiting for a pipe and without more memory than allowed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from personality_common.errors import DataError

_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"
"""How a text file begins that Git LFS leaves in the place of a large one; it is 200 bytes at most."""


def open_regular(path: Path) -> int:
    """Open a regular file for reading; devices, pipes and folders are refused without blocking.

    Returns:
        A file descriptor, which the caller closes.

    Raises:
        DataError: it is no regular file, cannot be read, or is what Git LFS left in the place of one.
    """
    try:
        if stat.S_ISREG(path.stat().st_mode):
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
            elif os.pread(descriptor, len(_LFS_POINTER), 0) == _LFS_POINTER:
                os.close(descriptor)
                raise DataError(f"{path}: a pointer of Git LFS, not the file itself; run: git lfs pull")
            else:
                return descriptor
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        reason = (error.strerror or repr(error)) if isinstance(error, OSError) else repr(error)
        raise DataError(f"{path}: cannot be read: {reason}") from error
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
