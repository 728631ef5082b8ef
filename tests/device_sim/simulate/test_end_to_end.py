"""From a run to a report through the command line, with the real encoder."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from personality_common.progress import Silent
from pretrain.export.bundle import export
from pretrain.export.config import ExportConfig

TEXTS = Path(__file__).parents[3] / "fixtures" / "conversations.jsonl"


def test_two_nights_with_minilm(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run, bundle = make_run(tmp_path / "run"), tmp_path / "bundle"
    export(ExportConfig(run, bundle, only=("model",)), Silent())
    arguments = [
        "simulate", bundle, "--run", run, "--user", "profile", "--data", TEXTS, "--nights", 2,
        "--interactions", 20, "--html", tmp_path / "report.html", "--json", tmp_path / "figures.json",
    ]  # fmt: skip
    command = [sys.executable, "-m", "personality_common.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "night 2/2" in done.stderr
    assert "ETA" in done.stderr
    document = json.loads((tmp_path / "figures.json").read_text())
    assert document["passed"] is True
    assert document["measured_texts"] == 300
    assert document["nights"][1]["held_out"]["low"] > 0
    page = (tmp_path / "report.html").read_text()
    assert "Verdict: <span" in page
    assert page.count("<figure>") == 4
