"""`make demo` with a stand-in for `pt`: two halves at once, a stop in the middle, a failure in either."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LM = Path("runs/demo-lm")
PT = """#!/bin/sh
echo "$* [$OMP_NUM_THREADS]" >> calls
case "$*" in *"$FAIL"*) echo "error: the disk is full" >&2; exit 4;; esac
while [ $# -gt 1 ]; do
    case "$1" in
        --out) mkdir -p "$2"; echo {} > "$2/manifest.json";;
        --output-dir) mkdir -p "$2"; echo {} > "$2/run.json";;
    esac
    shift
done
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for file in ("pyproject.toml", "constraints.txt", "fixtures/conversations.jsonl", "pretrain/training.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
        os.utime(tmp_path / file, (1e9, 1e9))
    for package in ("personality_common", "grpo", "device_sim", ".venv", ".venv/bin"):
        (tmp_path / package).mkdir()
    (tmp_path / ".venv/bin/pt").write_text(PT)
    (tmp_path / ".venv/bin/pt").chmod(0o755)
    (tmp_path / ".venv/.ready").touch()
    os.utime(tmp_path / ".venv/.ready", (1.1e9, 1.1e9))
    return tmp_path


def demo(clone: Path, fail: str = "nothing") -> tuple[int, str, list[str]]:
    """Exit code, all that a terminal shows, and the commands with the threads that each was given."""
    (clone / "calls").write_text("")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "OMP_"))}
    made = subprocess.run(
        ["make", "demo"], cwd=clone, env=environment | {"FAIL": fail}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
    )  # fmt: skip
    return made.returncode, made.stdout, (clone / "calls").read_text().splitlines()


def call(calls: list[str], command: str) -> str:
    (found,) = (line for line in calls if line.startswith(command))
    return found


def test_while_two_things_run_each_has_one_thread(clone: Path) -> None:
    code, shown, calls = demo(clone)
    assert code == 0, shown
    assert call(calls, "pretrain").endswith("[1]")
    assert call(calls, "lm train").endswith("[1]")
    assert calls[-1].startswith("lm chat")
    assert "runs/demo-lm.log" in shown


@pytest.mark.parametrize("changed", [False, True])
def test_a_stopped_language_model_goes_on_unless_the_code_changed(clone: Path, changed: bool) -> None:
    plan = clone / LM / "in-progress" / "plan.json"
    plan.parent.mkdir(parents=True)
    plan.touch()
    os.utime(plan, (1.2e9, 1.2e9))
    if changed:
        (clone / "pretrain/training.py").touch()
    code, shown, calls = demo(clone)
    assert code == 0, shown
    assert ("--resume" in call(calls, "lm train")) is not changed
    assert ("--overwrite" in call(calls, "lm train")) is changed
    assert plan.exists() is not changed


def test_a_model_of_code_that_changed_since_is_trained_again(clone: Path) -> None:
    assert demo(clone)[0] == 0
    assert not [line for line in demo(clone)[2] if line.startswith("lm train")]
    os.utime(clone / LM / "run.json", (1e9 - 1, 1e9 - 1))
    code, shown, calls = demo(clone)
    assert code == 0, shown
    assert "--overwrite" in call(calls, "lm train")


@pytest.mark.parametrize("command", ["pretrain --data", "lm train", "lm tokenizer", "night report"])
def test_what_failed_is_said_and_nothing_is_called_done(clone: Path, command: str) -> None:
    code, shown, calls = demo(clone, command)
    assert code == 2
    assert "error: the disk is full" in shown
    assert "make demo: not done" in shown.splitlines()[-2]
    assert "reports  " not in shown
    assert not [line for line in calls if line.startswith("lm chat")]
