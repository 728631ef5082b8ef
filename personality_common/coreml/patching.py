"""Replace tensors of a package in a copy of it; the package that came in is never written to."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from personality_common.coreml.blob_types import BlobType
from personality_common.coreml.limits import DEFAULT_LIMITS, Limits
from personality_common.coreml.package import MANIFEST, Package
from personality_common.coreml.program import Constant, constants
from personality_common.coreml.values import BlobLocation, blob_type
from personality_common.coreml.weights import patch
from personality_common.errors import DataError, MismatchError
from personality_common.files.staging import staged_folder


def patched_copy(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    patches: Mapping[str | int, NDArray[Any]],
    limits: Limits = DEFAULT_LIMITS,
) -> Package:
    """Copy a package and overwrite tensors in its weight file, all or nothing.

    The copy is made beside the target, patched, and takes its place as a `staged_folder` does: a kill at any
    moment leaves the old package or the new one.

    Args:
        source: an `.mlpackage`; only read.
        target: new, or an earlier package, which is replaced.
        patches: by a constant's name in the program, or by the metadata offset if the package has
            one weight file; arrays of the constant's dtype (`BlobType.storage`) and, by name,
            shape (packed ones are of any shape).

    Returns:
        The package at `target`.

    Raises:
        DataError: the source is malformed, or an array's dtype or size differs from the tensor's.
        MismatchError: no such constant, or several, or one whose bytes others share; the target is
            the source, or is not a package.
        ToolkitError: another process is writing the target.
    """
    package = Package.open(source, limits)
    located = [(_locate(package, key, array), array) for key, array in patches.items()]

    def edit(copy: Path) -> None:
        copied = Package.open(copy, limits)
        for (location, dtype), array in located:
            patch(copied.weights(location.file).path, location.offset, array, dtype, limits)

    return edited_copy(source, target, edit, limits)


def edited_copy(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    edit: Callable[[Path], None],
    limits: Limits = DEFAULT_LIMITS,
) -> Package:
    """Copy a package, let `edit` change the copy, and put it at `target`; all or nothing, as `patched_copy`.

    Args:
        source: an `.mlpackage`; only read.
        target: new, or an earlier package, which is replaced.
        edit: given the copy's folder before it is at the target.

    Raises:
        DataError: the source is malformed.
        MismatchError: the source is a single file; the target is the source, or is not a package.
        ToolkitError: another process is writing the target.
    """
    source, target = Path(source), Path(target)
    if not source.is_dir():
        raise MismatchError(f"{source}: an .mlpackage folder is expected, this is a single file")
    _check_target(source, target)
    with staged_folder(target) as copy:
        _copy_tree(source.resolve(), copy, limits)
        edit(copy)
    return Package.open(target, limits)


def _check_target(source: Path, target: Path) -> None:
    resolved, origin = target.resolve(), source.resolve()
    if resolved == origin or origin in resolved.parents or resolved in origin.parents:
        raise MismatchError(f"{target}: a copy must lie outside of its source {source}, and not contain it")
    if os.path.lexists(target) and (target.is_symlink() or not (target / MANIFEST).is_file()):
        raise MismatchError(f"{target}: only a Core ML package is replaced, this is something else")


def _locate(package: Package, key: str | int, array: NDArray[Any]) -> tuple[BlobLocation, BlobType | None]:
    every = list(constants(package))
    if isinstance(key, int):
        files = sorted({c.location.file for c in every if c.location})
        if len(files) != 1:
            raise MismatchError(
                f"{package.path}: an offset needs one weight file, the program names {files[:8]}; "
                "patch by name"
            )
        location, named = BlobLocation(files[0], key), None
    else:
        named = _one_constant(package, every, key)
        if named.location is None:
            raise MismatchError(
                f"{package.path}: constant {key!r} is inline in the program, not in a weight file"
            )
        location = named.location
    sharing = [c.name for c in every if c.location == location]
    if len(sharing) > 1:
        raise MismatchError(f"{package.path}: the bytes at {location.offset} are shared by {sharing[:8]}")
    entry = package.weights(location.file).entry(location.offset)
    if named is None:
        return location, None
    if entry.dtype.bits >= 8 and tuple(array.shape) != named.type.shape:
        raise DataError(
            f"{package.path}: constant {key!r} has shape {named.type.shape}, the patch {array.shape}"
        )
    return location, blob_type(named.type.dtype)


def _one_constant(package: Package, every: list[Constant], name: str) -> Constant:
    found = [c for c in every if c.name == name]
    if len(found) != 1:
        stored = [c.name for c in every if c.location]
        count = "several constants are" if found else "no constant is"
        raise MismatchError(f"{package.path}: {count} named {name!r}; stored ones: {stored[:8]} …")
    return found[0]


def _copy_tree(source: Path, target: Path, limits: Limits) -> None:
    """Copy folders and regular files; contents only, so that the copy is ours to write."""
    count = 0
    for folder, folders, files in os.walk(source):
        here = Path(folder)
        (target / here.relative_to(source)).mkdir(exist_ok=True)
        count += len(folders) + len(files)
        if count > limits.package_files:
            raise DataError(f"{source}: a package may have {limits.package_files} files, this has more")
        for name in folders + files:
            mode = (here / name).lstat().st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                raise DataError(f"{here / name}: a package has files and folders only, no links or devices")
        for name in files:
            shutil.copyfile(here / name, target / here.relative_to(source) / name)
