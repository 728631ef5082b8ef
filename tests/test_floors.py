"""Versions: the oldest that we allow are those that CI tries; what we develop with is allowed, and locked."""

import re
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


LOCKED = re.compile(
    r"([\w.-]+)==(\S+)( ; sys_platform == '(?:darwin|linux)')? \\\n"
    r"((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)"
)


def test_the_lock_is_of_what_we_develop_with() -> None:
    """All that constraints.txt pins, each with a checksum or more, and nothing else: no address."""
    text = "".join(
        line for line in (ROOT / "requirements-dev.lock").read_text().splitlines(True) if line[0] != "#"
    )
    assert LOCKED.sub("", text) == ""
    locked = {str(canonicalize_name(found[1])): Version(found[2]) for found in LOCKED.finditer(text)}
    assert locked == pinned("constraints.txt")


def test_the_lock_has_all_that_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [
        *project["dependencies"],
        *(line for e in project["optional-dependencies"].values() for line in e),
    ]
    ours = pinned("constraints.txt")
    for requirement in map(Requirement, lines):
        assert ours[canonicalize_name(requirement.name)] in requirement.specifier, requirement
