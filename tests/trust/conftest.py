"""One of each folder that may come from outside, and the commands."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from personality_common.cli import main
from personality_common.terminal.progress import Silent


class Said(NamedTuple):
    """What a command ended with."""

    code: object
    out: str
    err: str


Pt = Callable[..., Said]


@pytest.fixture
def pt(capsys: pytest.CaptureFixture[str]) -> Pt:
    """A command in this process: `pt("heads", "list", store)`."""

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return Said(end.value.code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def shelf(make_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`run`, `bundle`, `store` (two versions, the second active) and `feedback.jsonl`, all of one model."""
    from device_sim.heads.heads import create_heads
    from device_sim.heads.shipped import identity, open_shipped, shipped_head
    from grpo.head import Head
    from personality_common.registry.record import Gate, Record
    from pretrain.personality.export.bundle import export
    from pretrain.personality.export.config import ExportConfig

    shelf = tmp_path_factory.mktemp("shelf")
    run = make_run(shelf / "run")
    export(ExportConfig(run, shelf / "bundle", only=("model",)), Silent())
    bundle = open_shipped(shelf / "bundle")
    shipped = shipped_head(bundle)
    store = create_heads(shelf / "store", identity(bundle), shipped)
    record = Record(identity(bundle), "2026-01-02T03:04:05+00:00", (store.active,), gates=(Gate("g", True),))
    store.activate(store.add(Head(shipped.weight, shipped.bias + 0.5), record))
    tokens = bundle.vocabulary.tokens
    lines = [
        {
            "id": str(i),
            "latent": torch.randn(512, generator=torch.Generator().manual_seed(i)).tolist(),
            "candidates": [
                {"tokens": tokens[i : i + 3], "reward": 1.0},
                {"tokens": tokens[i + 9 : i + 12], "reward": 0.0},
            ],
        }
        for i in range(8)
    ]
    (shelf / "feedback.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return shelf


@pytest.fixture
def received(shelf: Path, tmp_path: Path) -> Path:
    """A copy of the shelf that a test may spoil."""
    return Path(shutil.copytree(shelf, tmp_path / "received"))
