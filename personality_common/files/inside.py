"""Paths that somebody else's file names."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from personality_common.errors import DataError


def inside(folder: Path, relative: str) -> Path:
    """`folder/relative`, which stays below the folder and passes no symbolic link on the way.

    Links are refused wherever they lead: what is behind one may change after it was looked at. Whether there
    is such a file, whoever opens it says. The folder itself is the caller's and may be reached through links.

    Raises:
        DataError: absolute, with `..`, without a name, or through a link.
    """
    shown, pure = repr(relative[:200]), PurePosixPath(relative)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\0" in relative:
        raise DataError(f"{folder}: a path must stay inside of it, got {shown}")
    path = folder
    for part in pure.parts:
        path = path / part
        if os.path.islink(path):  # noqa: PTH114 - a name that no file can have is no link, and no error
            raise DataError(f"{folder}: a path must lead through no link, {shown} does; put the file there")
    return path
