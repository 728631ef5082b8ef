"""Paths that somebody else's file names."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Final

from personality_common.errors import DataError

LONGEST_NAME: Final = 255
"""Characters of a name; no file system has longer ones."""
MOST_ENTRIES: Final = 1 << 17
"""Files and folders that a folder from outside may have in it; the cache of a run has most, 16,384."""


def inside(folder: Path, relative: str) -> Path:
    """`folder/relative`, which stays below the folder and passes no symbolic link on the way.

    Links are refused wherever they lead: what is behind one may change after it was looked at. Whether there
    is such a file, whoever opens it says. The folder itself is the caller's and may be reached through links.

    Raises:
        DataError: absolute, with `..`, without a name or with one that no file can have, or through a link.
    """
    shown, pure = repr(relative[:200]), PurePosixPath(relative)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\0" in relative:
        raise DataError(f"{folder}: a path must stay inside of it, got {shown}")
    if max(map(len, pure.parts)) > LONGEST_NAME:
        raise DataError(f"{folder}: a name must have at most {LONGEST_NAME} characters, got {shown}")
    path = folder
    for part in pure.parts:
        path = path / part
        if os.path.islink(path):  # noqa: PTH114 - a name that no file can have is no link, and no error
            raise DataError(f"{folder}: a path must lead through no link, {shown} does; put the file there")
    return path


def refuse_links(folder: Path, most: int = MOST_ENTRIES) -> None:
    """Raise DataError if anything below a folder is a link, or neither file nor folder, or is too much.

    For folders that come from outside as a whole: runs, stores, bundles, packages. What is in one is written,
    moved and removed by its name, and must not be somebody else's file under that name. The folder itself is
    the caller's, as for `inside`; one that is not there has nothing in it.
    """
    count, waiting = 0, [folder] if folder.is_dir() else []
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                count += 1
                if count > most:
                    raise DataError(f"{folder}: may have {most:,} files and folders in it, has more")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False):
                    shown = repr(os.path.relpath(entry.path, folder)[:200])
                    link = entry.is_symlink()
                    what = "must lead through no link" if link else "must be of a file or a folder"
                    kind = "one" if link else "something else"
                    raise DataError(f"{folder}: a path {what}, {shown} is {kind}; remove it")
