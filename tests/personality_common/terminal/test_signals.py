"""`pt` ended by signals, in real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BUSY = """
import sys, time
import personality_common.cli as cli, click

@click.command()
def busy():
    try:
        print("busy", flush=True)
        time.sleep(60)
    finally:
        time.sleep({cleaning})
        print("let go", flush=True)

cli.LazyGroup.get_command = lambda self, context, name: busy
sys.argv = ["pt", "busy"]
cli.main()
"""


def begin(cleaning: float = 0.0, **more: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY.format(cleaning=cleaning)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
    )  # type: ignore[call-overload]  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    return process


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "hung up"),
    ],
)
def test_one_line_and_what_was_held_is_let_go(number: signal.Signals, code: int, word: str) -> None:
    process = begin()
    process.send_signal(number)
    out, said = process.communicate(timeout=30)
    assert (process.returncode, out, said.split("\n")[-2:]) == (code, "let go\n", [word, ""])
    assert "Traceback" not in said


def test_four_quick_ones_are_one() -> None:
    process = begin(cleaning=0.3)
    for _ in range(4):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    out, said = process.communicate(timeout=30)
    assert (process.returncode, out, said.strip()) == (130, "let go\n", "interrupted")


def test_a_later_one_ends_at_once() -> None:
    process = begin(cleaning=60)
    process.send_signal(signal.SIGINT)
    time.sleep(1.3)
    process.send_signal(signal.SIGTERM)
    out, said = process.communicate(timeout=30)
    assert (process.returncode, out) == (143, "")
    assert "Traceback" not in said


def test_what_was_ignored_stays_ignored(tmp_path: Path) -> None:
    """As under nohup."""
    process = begin(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
