"""`pt fleet` with real workers and the bundle's own encoder, beside `pt simulate`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personality_common.terminal.progress import Silent
from pretrain.personality.export.bundle import export
from pretrain.personality.export.config import ExportConfig

TEXTS = Path(__file__).parents[3] / "fixtures" / "conversations.jsonl"
SPEND = ("--nights", 2, "--interactions", 10, "--group", 4, "--seed", 3)
ROOT = Path(__file__).parents[3]
LINUX = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds workers in /proc")


@pytest.fixture(scope="module")
def bundle(make_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the text encoder."""
    folder = tmp_path_factory.mktemp("fleet")
    run = make_run(folder / "run")
    export(ExportConfig(run, folder / "bundle", only=("model", "encoder")), Silent())
    return folder / "bundle"


def pt(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "personality_common.cli", *map(str, arguments)]


def fleet(bundle: Path, out: Path, *more: object) -> list[str]:
    return pt("fleet", bundle, "--data", TEXTS, "--out", out, *SPEND, *more)


def run(command: list[str], threads: int = 1) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)


def devices_of(out: Path) -> list[dict[str, Any]]:
    return [
        d for file in sorted((out / "chunks").glob("*.json")) for d in json.loads(file.read_text())["devices"]
    ]


@pytest.fixture(scope="module")
def finished(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fleet") / "out"
    mix = ("--devices", 70, "--user", "1*profile+1*thumbs:answers=0.4", "--workers", 2)
    done = run(fleet(bundle, out, *mix))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lived again alone, with the same heads bit for bit: devices 0, " in done.stdout
    assert "living 140/140" in done.stderr
    return out


def test_a_device_has_the_head_that_pt_simulate_gives_it(
    bundle: Path, finished: Path, tmp_path: Path
) -> None:
    """Through the real commands, the package patched and read back every night; on one thread, and on two."""
    devices = devices_of(finished)
    assert [d["device"] for d in devices] == list(range(70))
    for kind, user in enumerate(("profile", "thumbs:answers=0.4")):
        one = next(d for d in devices[20:] if d["kind"] == kind)
        figures = tmp_path / f"{kind}.json"
        arguments = ("--nights", 2, "--interactions", 10, "--group", 4, "--seed", one["seed"])
        command = pt("simulate", bundle, "--data", TEXTS, "--user", user, *arguments, "--json", figures)
        # The exit code is the verdict, which so short a life may fail.
        run(command, threads=1 + kind)
        simulated = json.loads(figures.read_text())
        assert one["seed"] == 3 + one["device"]
        assert simulated["heads"]["last"] == one["head"] != simulated["heads"]["shipped"]
        assert simulated["nights"][-1]["held_out"]["rise"] == pytest.approx(one["gain"], abs=1e-5)
        assert simulated["nights"][-1]["drift"]["overlap"] == pytest.approx(one["overlap"])


def test_figures_and_report(finished: Path) -> None:
    document = json.loads((finished / "fleet.json").read_text())
    assert [(g["name"], g["devices"]) for g in document["groups"]] == [
        ("all", 70), ("profile", 35), ("thumbs:answers=0.4", 35),
    ]  # fmt: skip
    devices = devices_of(finished)
    everyone = document["groups"][0]
    assert everyone["gain"] == pytest.approx(sum(d["gain"] for d in devices) / 70)
    assert sum(everyone["histogram"]) == 70
    worst = min(devices, key=lambda d: d["gain"])
    assert [d["device"] for d in document["worst"]] == [worst["device"]]
    assert f"--seed {worst['seed']}" in document["worst"][0]["command"]
    page = (finished / "report.html").read_text()
    assert "70 devices, 2 nights" in page
    assert "://" not in page
    assert not list(finished.rglob("*.tmp"))


def test_a_finished_fleet_says_so_and_another_is_refused(bundle: Path, finished: Path) -> None:
    mix = ("--user", "1*profile+1*thumbs:answers=0.4")
    before = {path: path.stat().st_mtime_ns for path in (finished / "chunks").iterdir()}
    again = run(fleet(bundle, finished, "--devices", 70, *mix, "--workers", 1))
    assert again.returncode == 0, again.stderr
    assert "every device had lived before; nothing was left to do" in again.stdout
    other = run(fleet(bundle, finished, "--devices", 71, *mix))
    assert other.returncode == 1
    assert "it differs in devices" in other.stderr
    assert before == {path: path.stat().st_mtime_ns for path in (finished / "chunks").iterdir()}


def test_a_head_that_is_not_pt_simulate_s_fails_the_fleet(
    bundle: Path, finished: Path, tmp_path: Path
) -> None:
    spoilt = Path(shutil.copytree(finished, tmp_path / "spoilt"))
    file = spoilt / "chunks" / "00000.json"
    document = json.loads(file.read_text())
    head = document["devices"][0]["head"]
    document["devices"][0]["head"] = ("1" if head[0] == "0" else "0") + head[1:]
    file.write_text(json.dumps(document))
    mix = ("--devices", 70, "--user", "1*profile+1*thumbs:answers=0.4")
    done = run(fleet(bundle, spoilt, *mix))
    assert done.returncode == 1
    assert "error: device 0 must have the head that pt simulate gives it" in done.stderr


def workers_of(out: Path) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"torch.distributed.run" not in words and {b"device_sim.fleet.worker", os.fsencode(out)} <= set(
            words
        ):
            found.append(int(file.parent.name))
    return found


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    deadline = time.monotonic() + 120
    while not (found := what()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@LINUX
def test_a_killed_worker_and_ctrl_c_lose_nothing_that_was_finished(
    bundle: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = fleet(bundle, out, "--devices", 640, "--user", "profile", "--workers", 2)
    start: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}

    def chunks() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in sorted((out / "chunks").glob("*.json"))}

    process = subprocess.Popen(command, **start)
    wait_for(chunks, process)
    os.kill(wait_for(lambda: workers_of(out), process)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    kept = chunks()
    assert 1 <= len(kept) < 10
    assert "error: all devices must live to the end, and a worker failed" in said
    first = next(i for i in range(10) if f"{i:05}.json" not in {file.name for file in kept})
    assert f"missing: devices {first * 64}-" in said
    assert said.rstrip().endswith("the same command goes on with them")
    assert len(said.rstrip().splitlines()[-1]) < 400

    # The same command goes on, and is interrupted.
    process = subprocess.Popen(command, **start)
    wait_for(lambda: len(chunks()) > len(kept), process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert not workers_of(out)
    more = chunks()
    assert len(more) > len(kept)

    done = run(command)
    assert done.returncode == 0, done.stderr
    everything = chunks()
    assert len(everything) == 10
    assert {file: everything[file] for file in more} == more
    assert {file: more[file] for file in kept} == kept
    # As if nothing had happened: a chunk again, by one worker.
    (out / "chunks" / "00000.json").unlink()
    done = run([*command[:-1], "1"])
    assert done.returncode == 0, done.stderr
    assert chunks() == everything


def test_a_worker_s_own_words_are_passed_on(bundle: Path, finished: Path, tmp_path: Path) -> None:
    """A reward function that raises, in a worker."""
    (tmp_path / "moody.py").write_text(
        "def likes(texts, actions, night, generator):\n    raise KeyError(0)\n"
    )
    out = Path(shutil.copytree(finished, tmp_path / "out", ignore=shutil.ignore_patterns("chunks")))
    plan = json.loads((out / "plan.json").read_text())
    (out / "plan.json").write_text(json.dumps(plan | {"user": "moody:likes"}))
    command = fleet(bundle, out, "--devices", 70, "--user", "moody:likes", "--workers", 1)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 1
    assert "a worker failed: the reward function moody:likes must not raise, got KeyError" in done.stderr
    assert "missing: devices 0-69;" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--user", "1*nobody"), "--user: a user must be"),
        (("--devices", 0), "--devices must be 1 or more"),
        (("--workers", 0), "--workers must be 1 or more"),
        (("--nights", 0), "nights must be 1 or more"),
    ],
)
def test_wrong_usage(bundle: Path, tmp_path: Path, arguments: tuple[object, ...], message: str) -> None:
    done = run(pt("fleet", bundle, "--data", TEXTS, "--out", tmp_path / "out", *arguments))
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()
