"""The toolkit's core and its extras, as its own metadata names what they need."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from personality_common.errors import ToolkitError

TOOLKIT: Final = "personality-toolkit"
CORE: Final = "core"
State = Literal["works", "absent", "broken"]


@dataclass(frozen=True)
class Package:
    """A distribution that a part needs.

    Attributes:
        name: canonical.
        wanted: versions, such as `>=1.17`; "" for any.
        version: that is installed; None for none.
        fits: the version is among those wanted.
    """

    name: str
    wanted: str
    version: str | None
    fits: bool


def installed_parts() -> dict[str, tuple[Package, ...]]:
    """Part -> what it needs on this system; the core first. An extra for another system needs nothing.

    Raises:
        ToolkitError: the toolkit has no metadata.
    """
    try:
        metadata = importlib.metadata.metadata(TOOLKIT)
    except importlib.metadata.PackageNotFoundError:
        raise ToolkitError(f"{TOOLKIT} must be installed, is only on Python's path: pip install it") from None
    return needed(metadata.get_all("Requires-Dist") or (), metadata.get_all("Provides-Extra") or ())


def needed(lines: Iterable[str], extras: Iterable[str]) -> dict[str, tuple[Package, ...]]:
    """As `installed_parts`, from the lines of `Requires-Dist` and `Provides-Extra`."""
    requirements = [Requirement(line) for line in lines]

    def of(extra: str) -> list[Requirement]:
        return [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": extra})]

    core = of("")
    parts = {CORE: core} | {extra: [r for r in of(extra) if r not in core] for extra in extras}
    return {name: tuple(map(_package, found)) for name, found in parts.items()}


def install_line(extra: str) -> str:
    """What installs an extra."""
    return f"pip install '{TOOLKIT}[{extra}]'"


def _package(requirement: Requirement) -> Package:
    version = _version(requirement.name)
    fits = version is not None and requirement.specifier.contains(version, prereleases=True)
    return Package(str(canonicalize_name(requirement.name)), str(requirement.specifier), version, fits)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
