"""What an interrupted command left half written is cleared by the next one, and never published."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personality_common.files.atomic import atomic_writer, clear_unfinished, write_json
from personality_common.runs.folder import hold_run, publish, take_up
from personality_common.terminal.progress import SILENT

Pt = Callable[..., Any]
KILLED = """
import os, sys
from pathlib import Path
from personality_common.files.atomic import atomic_writer
for path in sys.argv[1:]:
    writer = atomic_writer(Path(path))
    writer.__enter__().write(b"half")
    globals()[path] = writer
os.kill(os.getpid(), 9)
"""


def leave(*paths: Path) -> list[Path]:
    """What a process that is killed while it writes these files leaves."""
    subprocess.run([sys.executable, "-c", KILLED, *map(str, paths)], check=False, timeout=60)
    found = [file for path in paths for file in path.parent.glob(f".{path.name}.*.tmp")]
    assert len(found) == len(paths)
    return found


@pytest.mark.parametrize("resume", [False, True])
def test_of_a_run(tmp_path: Path, resume: bool) -> None:
    run = tmp_path / "run"
    leave(
        run / "learning_curve.png",
        run / "cache" / "0123" / "shard-0.npy",
        run / "in-progress" / "personality-tokens.json",
        run / "in-progress" / "checkpoints" / "epoch_1_valloss_0.1.safetensors",
    )
    plan = {"seed": 1}
    write_json(run / "in-progress" / "plan.json", plan)
    with hold_run(run, resume):
        assert not list(run.rglob("*.tmp"))
        take_up(run, plan, resume, SILENT)
        # Of this very job, in a process beside this one.
        leave(run / "in-progress" / "checkpoints" / "epoch_2_valloss_0.1.safetensors")
        publish(run, {})
    assert not list(run.rglob("*.tmp"))


def test_of_a_store(received: Path, pt: Pt) -> None:
    leave(received / "store" / "store.json")
    assert pt("heads", "list", received / "store").code == 0
    assert len(list(received.rglob("*.tmp"))) == 1  # listing changes nothing
    assert pt("heads", "pin", received / "store", "h0002").code == 0
    assert not list(received.rglob("*.tmp"))


def test_what_somebody_is_writing_stays(tmp_path: Path) -> None:
    """A fleet's worker on another machine."""
    (dead,) = leave(tmp_path / "chunks" / "00000.json")
    with atomic_writer(tmp_path / "chunks" / "00001.json") as file:
        file.write(b"1")
        clear_unfinished(tmp_path)
        assert not dead.exists()
    assert os.listdir(tmp_path / "chunks") == ["00001.json"]  # noqa: PTH208
