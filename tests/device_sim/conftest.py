"""One run and one bundle for the tests of runtimes and parity."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Spoil = Callable[[Path], None]


@pytest.fixture(scope="session")
def run_folder(openai_run: Path) -> Path:
    return openai_run


@pytest.fixture(scope="session")
def bundle(openai_bundle: Path) -> Path:
    return openai_bundle


@pytest.fixture
def small(bundle: Path, tmp_path: Path) -> Path:
    """A copy with two of the packages, which a test may spoil."""
    copy = Path(shutil.copytree(bundle, tmp_path / "small"))
    manifest = json.loads((copy / "manifest.json").read_text())
    for part in ("updatable", "stateful"):
        shutil.rmtree(copy / manifest["packages"].pop(part)["file"])
    (copy / "manifest.json").write_text(json.dumps(manifest))
    amend(copy)
    return copy


@pytest.fixture(scope="session")
def amend_manifest() -> Spoil:
    """Make a bundle's manifest agree with the files, so that no fingerprint tells."""
    return amend


def amend(bundle: Path) -> None:
    import numpy as np

    from personality_common.bundle.files import file_table
    from personality_common.files.fingerprint import fingerprint

    manifest: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    for entry in manifest["packages"].values():
        for tensor in entry["tensors"]:
            data = (bundle / entry["file"] / tensor["file"]).read_bytes()
            count = int(np.prod(tensor["shape"]))
            array = np.frombuffer(data, tensor["dtype"], count, tensor["offset"]).reshape(tensor["shape"])
            tensor["fingerprint"] = fingerprint(array)
    manifest["files"] = {name: vars(file) for name, file in file_table(bundle).items()}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
