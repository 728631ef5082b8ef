"""The file that a linked model names, which must lie beside it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

from personality_common.coreml.package import Package
from personality_common.errors import DataError
from personality_common.files.inside import inside

_MOST_PATHS: Final = 16


def linked_package(package: Package) -> Package:
    """Open the model that a `linkedModel` names.

    The name is that of a compiled model; its source (`.mlmodel` or `.mlpackage` of the same name) is looked
    for in the folders of the search path, below the model's own folder.

    Raises:
        DataError: a path that leads out of that folder, or into an app's bundle;
            no such file, or a malformed one.
    """
    link = package.spec.linkedModel.linkedModelFile
    name = link.linkedModelFileName.defaultValue
    searched = (link.linkedModelSearchPath.defaultValue or ".").split(":")
    if not name or len(searched) > _MOST_PATHS:
        raise DataError(
            f"linkedModelFileName must be given, linkedModelSearchPath has {_MOST_PATHS} paths at most"
        )
    folder = package.model_file.parent
    for path in searched:
        if path.startswith("$"):
            raise DataError(
                f"linkedModelSearchPath {path[:80]!r} is in an app's bundle, not beside the model"
            )
        for suffix in (".mlmodel", ".mlpackage"):
            place = inside(folder, str(PurePosixPath(path or ".") / PurePosixPath(name).with_suffix(suffix)))
            if place.exists():
                return Package.open(place, package.limits)
    raise DataError(
        f"linkedModelFileName {name[:80]!r}: no such .mlmodel or .mlpackage beside {package.model_file}"
    )
