"""The public names at the top of each package."""

import importlib
import inspect
import subprocess
import sys

import pytest

PACKAGES = ("personality_common", "pretrain", "grpo", "device_sim")


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules);"
        "import personality_common.vocabulary, pretrain, grpo, device_sim;"
        "new = {m.split('.')[0] for m in set(sys.modules) - before};"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(sorted(["lazy_loader", *PACKAGES]))


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
