"""One run and one bundle for the tests of runtimes and parity; a language model for those of adapters."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .tiny_llama import random_adapter, write_tiny_llama

Spoil = Callable[[Path], None]


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model that loads in no time, F32. Read only."""
    return write_tiny_llama(tmp_path_factory.mktemp("tiny-llama") / "tiny.gguf")


@pytest.fixture(scope="session")
def make_tiny_llama() -> Callable[..., Path]:
    return write_tiny_llama


@pytest.fixture(scope="session")
def make_adapter(tiny_llama: Path) -> Callable[..., Any]:
    """A random adapter of a tiny llama: `make_adapter(seed, base=…, rank=4, size=0.2)`."""

    def make(seed: int = 1, base: Path | None = None, **settings: Any) -> Any:
        return random_adapter(base or tiny_llama, seed, **settings)

    return make


@pytest.fixture(scope="session")
def run_folder(make_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a local encoder, so that nothing loads sentence-transformers."""
    return make_run(tmp_path_factory.mktemp("parity-run") / "run", encoder="openai")


@pytest.fixture(scope="session")
def bundle(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four packages of the personality model, float32. Read only."""
    from personality_common.terminal.progress import SILENT
    from pretrain.personality.export.bundle import export
    from pretrain.personality.export.config import ExportConfig

    out = tmp_path_factory.mktemp("parity-bundle") / "bundle"
    export(ExportConfig(run_folder, out, target="iOS18"), SILENT)
    return out


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
