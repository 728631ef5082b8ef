"""`pt pretrain` as a process: killed, interrupted, out of space, started twice."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import warm

FIXTURE = Path(__file__).parents[3] / "fixtures" / "conversations.jsonl"
PT = str(Path(__file__).parents[2] / "faults" / "hash_encoder.py")
PATIENCE = 120


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "some.jsonl"
    path.write_text("".join(FIXTURE.read_text().splitlines(keepends=True)[:50]))
    return path


def arguments(data: Path, run: Path, *more: str) -> list[str]:
    options = ["--data", str(data), "--output-dir", str(run), "--device", "cpu", "--json"]
    return [PT, "pretrain", *options, "--batch-size", "64", *more]


def environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1"}


def finish(data: Path, run: Path, *more: str) -> tuple[dict[str, object], str]:
    done = warm.run(arguments(data, run, *more), timeout=PATIENCE, env=environment())
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result, done.stderr


def start(data: Path, run: Path, *more: str) -> warm.Warm:
    return warm.Warm(arguments(data, run, *more), env=environment())


def stop_when(process: warm.Warm, happened: Callable[[], object], how: signal.Signals) -> str:
    """Send a signal as soon as something is true; returns what the process said on stderr."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, f"ended before it could be stopped: {process.communicate()[1]}"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(how)
    return process.communicate(timeout=PATIENCE)[1]


def weights(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.glob("*.safetensors")}


def texts_in(shard: Path) -> int:
    return len(np.load(shard)["key"])


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    run = tmp_path_factory.mktemp("whole")
    finish(data, run)
    assert len(weights(run)) == 3  # model, projector, reference texts
    return run


@pytest.fixture
def embedded(whole: Path, tmp_path: Path) -> Path:
    """A run's folder in which all embeddings are there already."""
    shutil.copytree(whole / "cache", tmp_path / "run" / "cache")
    return tmp_path / "run"


def test_killed_while_embedding(data: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(data, run)
    stop_when(process, lambda: list(run.rglob("shard-*.npy")), signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    (finished,) = run.rglob("shard-*.npy")
    kept = texts_in(finished)
    assert kept > 0
    result, _ = finish(data, run)
    # What the finished shard holds is not embedded again.
    assert result["embedded"] == sum(map(texts_in, whole.rglob("shard-*.npy"))) - kept
    assert weights(run) == weights(whole)
    assert finish(data, run, "--overwrite")[0]["embedded"] == 0


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("checkpoints/epoch_1_valloss_*[0-9].safetensors", id="between-epochs"),
        pytest.param("checkpoints/.epoch_2_*.state.safetensors.*.tmp", id="writing-a-checkpoint"),
        pytest.param("checkpoints/epoch_2_*.state.safetensors", id="state-without-weights"),
    ],
)
def test_killed_while_training(data: Path, whole: Path, embedded: Path, moment: str) -> None:
    work = embedded / "in-progress"
    process = start(data, embedded)
    stop_when(process, lambda: list(work.glob(moment)), signal.SIGKILL)
    result, said = finish(data, embedded, "--resume")
    assert result["embedded"] == 0
    assert "resuming after epoch" in said
    assert weights(embedded) == weights(whole)
    assert not work.exists()


def test_ctrl_c_exits_130_and_can_be_resumed(data: Path, whole: Path, embedded: Path) -> None:
    work = embedded / "in-progress"
    process = start(data, embedded)
    said = stop_when(
        process, lambda: list(work.glob("checkpoints/epoch_1_*[0-9].safetensors")), signal.SIGINT
    )
    assert process.returncode == 130
    assert "--resume goes on" in said
    assert "Traceback" not in said
    refused = warm.run(arguments(data, embedded), timeout=PATIENCE, env=environment())
    assert refused.returncode == 4
    assert "--resume" in refused.stderr
    finish(data, embedded, "--resume")
    assert weights(embedded) == weights(whole)


def test_second_run_in_one_folder_stops(data: Path, embedded: Path) -> None:
    first = start(data, embedded)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (embedded / ".lock").exists() or not (embedded / ".lock").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        second = warm.run(arguments(data, embedded), timeout=PATIENCE, env=environment())
        assert second.returncode == 4
        assert f"process {first.pid} is working in this folder" in second.stderr
        assert len(second.stderr.splitlines()) == 1
    finally:
        first.kill()
        first.communicate()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk needs the right to mount a tmpfs")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_full_disk_is_one_clear_line_and_keeps_what_was_finished(
    data: Path, whole: Path, small_disk: Path
) -> None:
    run = small_disk / "run"
    shutil.copytree(whole / "cache", run / "cache")
    failed = warm.run(arguments(data, run), timeout=PATIENCE, env=environment())
    assert failed.returncode == 4
    assert "No space left on device" in failed.stderr.splitlines()[-1]
    assert "Traceback" not in failed.stderr
    assert not list(run.rglob("*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=600m", small_disk], check=True)
    result, _ = finish(data, run, "--resume")
    assert result["embedded"] == 0
    assert weights(run) == weights(whole)
