"""From a run to a report through the command line, with the bundle's own encoder and with MiniLM itself."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import warm

from device_sim.heads.shipped import open_shipped
from device_sim.simulate.texts import Embedder
from personality_common.bundle.bundle import VerifiedBundle
from personality_common.errors import MismatchError, ToolkitError
from personality_common.terminal.progress import SILENT

TEXTS = Path(__file__).parents[3] / "fixtures" / "conversations.jsonl"


@pytest.fixture(scope="module")
def exported(minilm_run: Path, minilm_bundle: Path) -> tuple[Path, Path]:
    """A run, and its bundle with the text encoder."""
    return minilm_run, minilm_bundle


def test_two_nights_with_the_bundle_alone(exported: tuple[Path, Path], tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("".join(TEXTS.read_text().splitlines(keepends=True)[:70]))
    arguments = [
        "simulate", exported[1], "--user", "profile", "--data", few, "--nights", 2, "--interactions", 20,
        "--html", tmp_path / "report.html", "--json", tmp_path / "figures.json",
    ]  # fmt: skip
    done = warm.run([*warm.PT, *arguments])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "night 2/2" in done.stderr
    assert "ETA" in done.stderr
    document = json.loads((tmp_path / "figures.json").read_text())
    assert document["passed"] is True
    assert document["measured_texts"] == 65
    assert document["nights"][1]["held_out"]["low"] > 0
    page = (tmp_path / "report.html").read_text()
    assert "Verdict: passed" in page
    assert page.count("<figure>") == 4


def test_the_bundles_encoder_does_what_the_runs_does(
    exported: tuple[Path, Path], make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run, folder = exported
    bundle = open_shipped(folder)
    texts = ["no", "I baked all day, and nobody came.", "今天天气很好", "Why does this ALWAYS happen to me?!"]
    ours, theirs = (Embedder(bundle, given, SILENT).embed(texts) for given in (None, run))
    for mine, other, width in zip(ours, theirs, (384, 1536), strict=True):
        assert (mine.shape, mine.dtype) == (other.shape, other.dtype) == ((4, width), np.float32)
        # Weights of the package are int8; issue and tolerances ask for 0.995 in the mean.
        assert (mine * other).sum(1).min() > 0.99
    with pytest.raises(MismatchError, match=r"must be the run that .* was exported from"):
        Embedder(bundle, make_run(tmp_path / "other", seed=1), SILENT)
    packages = {part: entry for part, entry in bundle.manifest.packages.items() if part != "encoder"}
    without = VerifiedBundle(replace(bundle, manifest=replace(bundle.manifest, packages=packages)))
    with pytest.raises(ToolkitError, match=r"has no text encoder; .* --run"):
        Embedder(without, None, SILENT).embed(texts)
