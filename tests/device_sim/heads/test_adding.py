"""What `pt grpo` writes has no dead end: export, parity, run, the store of versions, and another update."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from json_results import followed

from device_sim.heads.adding import add_head
from device_sim.heads.heads import open_heads
from device_sim.heads.shipped import open_shipped, shipped_head
from device_sim.runtimes.config import RunConfig
from device_sim.runtimes.running import run_package
from device_sim.simulate.config import TuneConfig
from device_sim.simulate.one_update import tune_from_file
from grpo.config import GRPOConfig
from personality_common.cli import main
from personality_common.contract import HEAD_BIAS, HEAD_WEIGHT, STATEFUL_PACKAGE, UPDATABLE_PACKAGE
from personality_common.errors import ConfigError, MismatchError, ToolkitError
from personality_common.files.tensors import load_tensors, save_tensors
from personality_common.vocabulary import load_vocabulary
from pretrain.personality.run import load_run

Tune = Callable[..., Path]
CLI = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tune(tmp_path: Path, openai_run: Path) -> Tune:
    """An update of the shared run, or of a bundle: `tune("one")`."""
    tokens = load_vocabulary().tokens
    lines = []
    for i in range(4):
        base = np.eye(1536)[i].tolist()
        candidates = [
            {"tokens": list(tokens[8 * k : 8 * k + 8]), "reward": float((k + i) % 2)} for k in range(3)
        ]
        lines.append(json.dumps({"id": str(i), "base_embedding": base, "candidates": candidates}))
    feedback = tmp_path / "feedback.jsonl"
    feedback.write_text("\n".join(lines))

    def update(name: str, model: Path = openai_run, start: Path | None = None) -> Path:
        out = tmp_path / f"{name}.safetensors"
        grpo = GRPOConfig(inner_iterations=3, gate=None)
        tune_from_file(TuneConfig(model, feedback, out, start=start, grpo=grpo))
        return out

    return update


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> CLI:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def test_from_update_to_bundle(tune: Tune, openai_run: Path, tmp_path: Path, cli: CLI) -> None:
    head, bundle = tune("one"), tmp_path / "bundle"
    code, _, err = cli("export", openai_run, "--head", head, "--out", bundle, "--only", "model")
    assert code == 0, err
    wanted, _ = load_tensors(head)
    shipped = shipped_head(open_shipped(bundle))
    assert torch.equal(shipped.weight, wanted[HEAD_WEIGHT])
    assert torch.equal(shipped.bias, wanted[HEAD_BIAS])
    parity = ("parity", bundle, "--runtimes", "torch,mil", "--run", openai_run)
    assert cli(*parity, "--head", head)[0] == 0
    code, out, _ = cli(*parity)
    assert code == 1
    assert "name it with --head" in " ".join(out.split())
    assert cli("parity", bundle, "--head", head)[0] == 2
    # A head of the run is the start of an update of that bundle, and what comes of it is for the run, too.
    second = tune("two", bundle, start=head)
    assert load_run(openai_run, second).fingerprint == load_run(openai_run).fingerprint


def test_a_package_runs_with_a_head(
    tune: Tune, openai_run: Path, openai_bundle: Path, tmp_path: Path
) -> None:
    head = tune("one")
    x = np.random.default_rng(0).standard_normal((3, 1536)).astype(np.float32)
    np.savez(tmp_path / "x.npz", embedding=x)
    package = openai_bundle / "PersonalityModel.mlpackage"
    before = {p: p.read_bytes() for p in package.rglob("*") if p.is_file()}
    config = RunConfig(package, tmp_path / "x.npz", tmp_path / "y.npz", head=head)
    found = run_package(config).outputs["logits"]
    with torch.inference_mode():
        model = load_run(openai_run, head).model
        expected = model.head(model.backbone(torch.from_numpy(x))).numpy()
        shipped = load_run(openai_run).model
        other = shipped.head(shipped.backbone(torch.from_numpy(x))).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected - other).max() > 1e-3
    assert before == {p: p.read_bytes() for p in package.rglob("*") if p.is_file()}
    for name, says in ((UPDATABLE_PACKAGE, "in a weight file"), (STATEFUL_PACKAGE, "once")):
        with pytest.raises(MismatchError, match=says):
            run_package(RunConfig(openai_bundle / name, tmp_path / "x.npz", tmp_path / "z.npz", head=head))
    with pytest.raises(ConfigError, match="beside it"):
        run_package(RunConfig(tmp_path / "x.npz", tmp_path / "x.npz", tmp_path / "z.npz", head=head))


def test_a_head_becomes_a_version(tune: Tune, openai_bundle: Path, tmp_path: Path, cli: CLI) -> None:
    store = tmp_path / "heads"
    one = tune("one")
    code, out, _ = cli("heads", "add", store, one, "--bundle", openai_bundle, "--json")
    added = followed(out, "device_sim/heads/heads")
    assert (code, added["passed"]) == (0, True)
    opened = open_heads(store)
    shipped = opened.active
    assert shipped.startswith("h0001-")
    record = opened.show(added["version"]).record
    assert record.parents == (shipped,)
    assert record.before["reward_mean"] == pytest.approx(0.5)
    assert record.settings["learner"] == "grpo"
    assert 0.7 <= record.after["overlap_shipped"] <= 1
    assert cli("heads", "activate", store, "h0002")[0] == 0

    version, record = add_head(store, tune("two", start=one), openai_bundle)
    assert record.parents == (added["version"],)
    assert version.startswith("h0003-")
    assert open_heads(store).active == added["version"]


def test_a_head_that_drifted_is_kept_and_not_activated(
    tune: Tune, openai_bundle: Path, tmp_path: Path, cli: CLI
) -> None:
    tensors, metadata = load_tensors(tune("one"))
    far = tmp_path / "far.safetensors"
    draw = torch.Generator().manual_seed(0)
    save_tensors(far, {n: torch.randn(t.shape, generator=draw) for n, t in tensors.items()}, metadata)
    code, out, _ = cli("heads", "add", tmp_path / "heads", far, "--bundle", openai_bundle)
    assert code == 0
    assert "cannot be activated" in out
    store = open_heads(tmp_path / "heads")
    with pytest.raises(ToolkitError, match="must pass its gates"):
        store.activate(store.resolve("h0002"))
    save_tensors(far, tensors, metadata | {"run_fingerprint": "0" * 64})
    code, _, err = cli("heads", "add", tmp_path / "heads", far, "--bundle", openai_bundle)
    assert code == 3
    assert "of something else" in err
    save_tensors(far, tensors, metadata | {"settings": "[]"})
    code, _, err = cli("heads", "add", tmp_path / "heads", far, "--bundle", openai_bundle)
    assert code == 3
    assert "settings must be what pt grpo writes" in err
    assert len(store.versions()) == 2
