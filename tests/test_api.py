"""The public names at the top of each package."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import personality_toolkit

PACKAGES = ("personality_common", "pretrain", "grpo", "device_sim")


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules);"
        "import personality_common.vocabulary, pretrain, grpo, device_sim, personality_toolkit;"
        "new = {m.split('.')[0] for m in set(sys.modules) - before};"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(sorted(["lazy_loader", "personality_toolkit", *PACKAGES]))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_with_a_docstring(package: str) -> None:
    module = importlib.import_module(package)
    assert len(module.__all__) >= 5
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        public = getattr(module, name)
        assert public.__module__.startswith(f"{package}."), name
        assert inspect.getdoc(public), name
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = module.nothing_like_it


def test_one_package_names_them_all_once() -> None:
    names = [(name, package) for package in PACKAGES for name in importlib.import_module(package).__all__]
    assert len({name for name, _ in names}) == len(names)
    assert sorted(name for name, _ in names) == dir(personality_toolkit)
    for name, package in names:
        assert getattr(personality_toolkit, name) is getattr(importlib.import_module(package), name)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = personality_toolkit.nothing_like_it  # type: ignore[attr-defined]
    # What type checkers and editors read.
    stub = Path(str(personality_toolkit.__file__)).with_suffix(".pyi").read_text()
    imported = {
        (name, package)
        for package, lines in re.findall(r"from (\w+) import \((.*?)\)", stub, re.S)
        for name in re.findall(r"(\w+) as \1,", lines)
    }
    assert imported == set(names)
