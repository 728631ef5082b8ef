"""The oldest versions that we allow are those that CI tries, and not above what we develop with."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def pinned(file: str) -> dict[str, Version]:
    lines = [line.split("==") for line in (ROOT / file).read_text().splitlines()]
    return {canonicalize_name(name): Version(version) for name, version in lines}


def floors() -> dict[str, Version]:
    found = {}
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        requirement = Requirement(line)
        (floor,) = (Version(s.version) for s in requirement.specifier if s.operator == ">=")
        found[str(canonicalize_name(requirement.name))] = floor
    return found


def test_minimum_versions_are_the_floors() -> None:
    tried = pinned("constraints-minimum.txt")
    # Matplotlib 3.8 calls what pyparsing 3.3 deprecates, and warnings are errors in tests.
    del tried["pyparsing"]
    assert tried == floors()


def test_what_we_develop_with_is_allowed() -> None:
    ours = pinned("constraints.txt")
    assert [name for name, floor in floors().items() if ours[name] < floor] == []
