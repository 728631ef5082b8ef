"""Folders that are complete or absent: built aside, flushed, then put in place in one step."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from personality_common.errors import DataError
from personality_common.files.atomic import folder_lock, short_name, sync_folder
from personality_common.files.inside import refuse_links

_AT_FDCWD: Final = -100 if sys.platform != "darwin" else -2
_EXCHANGE: Final = 2  # RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS


@contextlib.contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """A new folder that takes the place of `target` only if the block ends well.

    It is built in `.NAME.partial` beside the target, flushed to the disk, and renamed. An existing
    target is swapped with it in one step; where the file system cannot swap, it is renamed aside
    first, and a kill between the two renames is mended by the next call. What a kill leaves
    aside is removed by the next call too.

    Args:
        target: absent, or a folder that may be replaced.

    Raises:
        ToolkitError: another process is building the same target.
        DataError: what lies aside is a link, or has one in it.
        OSError: no space, no permission; the target is as it was.
    """
    aside = _aside(target)
    new, old = aside / "new", aside / "old"
    _require_no_link(aside)
    with folder_lock(aside):
        refuse_links(aside)
        try:
            if old.exists() and not target.exists():
                old.rename(target)
            for leftover in (new, old):
                shutil.rmtree(leftover, ignore_errors=True)
            new.mkdir()
            yield new
            _flush(new)
            _put_in_place(new, target, old)
        except OSError as error:
            if error.filename is None:
                error.filename = str(target)  # a write that fails does not say where
            raise
        finally:
            if target.exists() or not old.exists():
                shutil.rmtree(aside, ignore_errors=True)


def clear_aside(target: Path) -> None:
    """Remove what a kill left beside a target that is in place, where no next `staged_folder` will.

    Raises:
        ToolkitError: another process is building the target.
    """
    aside = _aside(target)
    _require_no_link(aside)
    if aside.is_dir() and target.exists():
        with folder_lock(aside):
            shutil.rmtree(aside)


def _aside(target: Path) -> Path:
    return target.parent / f".{short_name(target.name)}.partial"


def _require_no_link(aside: Path) -> None:
    if aside.is_symlink():
        raise DataError(f"{aside}: must be a folder, is a link; remove it")


def _flush(folder: Path) -> None:
    for here, _, files in os.walk(folder):
        for name in files:
            with (Path(here) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(here))


def _put_in_place(new: Path, target: Path, old: Path) -> None:
    if not target.exists():
        new.rename(target)
    elif not _exchange(new, target):
        target.rename(old)
        try:
            new.rename(target)
        except OSError:
            old.rename(target)
            raise
    sync_folder(target.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    swap = getattr(libc, "renameatx_np" if sys.platform == "darwin" else "renameat2", None)
    if swap is None:
        return False
    done: int = swap(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _EXCHANGE)
    return done == 0
