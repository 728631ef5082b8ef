"""`pt run`; the files that it reads are tested with `device_sim.runtimes.arrays`."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warm

from device_sim.runtimes.config import RunConfig
from device_sim.runtimes.running import run_package
from personality_common.coreml.package import Package
from personality_common.errors import ConfigError, DataError, ToolkitError
from personality_common.terminal.progress import SILENT
from pretrain.personality.run import load_run


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_head(bundle: Path, run_folder: Path, tmp_path: Path) -> None:
    latent = np.random.default_rng(0).standard_normal((1, 512)).astype(np.float32)
    package = bundle / "PersonalityHead.mlpackage"
    config = RunConfig(package, save(tmp_path / "in.npz", latent=latent), tmp_path / "out.npz")
    run_package(config, SILENT)
    model = load_run(run_folder).model
    wanted = latent @ model.projection.weight.detach().numpy().T + model.output_bias.detach().numpy()
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        np.testing.assert_allclose(found["logits"], wanted, rtol=0, atol=1e-5)  # 512 float32 terms


def test_states_come_with_the_inputs(bundle: Path, tmp_path: Path) -> None:
    embedding = np.full((1, 1536), 0.02, np.float32)
    bias = np.arange(325, dtype=np.float16) / np.float16(8)
    path = save(tmp_path / "in.npz", embedding=embedding, output_bias=bias)
    config = RunConfig(bundle / "PersonalityModelStateful.mlpackage", path, tmp_path / "out.npz")
    result = run_package(config, SILENT)
    assert result.zero_states == ("projection_weight",)
    np.testing.assert_array_equal(result.outputs["logits"][0], bias)


def test_config() -> None:
    with pytest.raises(ConfigError, match=r"--output must be a \.npz"):
        RunConfig(Path("a"), Path("b.npz"), Path("c.txt"))
    with pytest.raises(ConfigError, match="--runtime must be one of"):
        RunConfig(Path("a"), Path("b.npz"), Path("c.npz"), "onnx")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--max-model-mib must be 1 or more, got 0"):
        RunConfig(Path("a"), Path("b.npz"), Path("c.npz"), max_model_mib=0)
    with pytest.raises(ConfigError, match="--max-seconds must be above 0, got nan"):
        RunConfig(Path("a"), Path("b.npz"), Path("c.npz"), max_seconds=float("nan"))


def test_no_coreml_here(bundle: Path, tmp_path: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("Core ML is available here")
    config = RunConfig(bundle / "PersonalityHead.mlpackage", tmp_path / "a.npz", tmp_path / "b.npz", "coreml")
    with pytest.raises(ToolkitError, match="--runtime coreml is not available here"):
        run_package(config, SILENT)


def test_limits_are_the_callers(bundle: Path, tmp_path: Path) -> None:
    package = bundle / "PersonalityHead.mlpackage"
    inputs = save(tmp_path / "in.npz", latent=np.zeros((1, 512), np.float32))
    config = RunConfig(package, inputs, tmp_path / "out.npz", max_seconds=1e-9)
    with pytest.raises(DataError, match=r"layer 'projection' .* the limit is 1e-09 s \(--max-seconds, "):
        run_package(config, SILENT)
    spec = Package.open(package).spec
    spec.description.metadata.userDefined["note"] = "x" * (1 << 20)
    large = tmp_path / "large.mlmodel"
    large.write_bytes(spec.SerializeToString())
    with pytest.raises(DataError, match=r"may have 1,048,576 bytes, .*; raise --max-model-mib"):
        run_package(RunConfig(large, inputs, tmp_path / "out.npz", max_model_mib=1), SILENT)
    assert run_package(RunConfig(large, inputs, tmp_path / "out.npz"), SILENT).outputs


def test_command(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(json.dumps({"latent": [[0.0] * 511]}))
    arguments = [
        str(bundle / "PersonalityHead.mlpackage"),
        *("--input", str(tmp_path / "in.json"), "--output", str(tmp_path / "out.npz")),
    ]
    done = warm.run([*warm.PT, "run", *arguments])
    assert done.returncode == 3
    assert "input 'latent' must have shape (1, 512), got (1, 511)" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out.npz").exists()
