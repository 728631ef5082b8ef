"""A run is opened only as what it says it is."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from personality_common.cli import cli
from personality_common.errors import DataError, MismatchError
from pretrain.lm.run import Run, load_run


@pytest.fixture
def copied(lm_run: Run, tmp_path: Path) -> Path:
    shutil.copytree(lm_run.path, tmp_path / "run")
    return tmp_path / "run"


def rewrite(run: Path, **changes: Any) -> None:
    content = json.loads((run / "run.json").read_text())
    content["model"] |= changes.pop("model", {})
    (run / "run.json").write_text(json.dumps(content | changes))


def test_a_run_is_what_was_saved(lm_run: Run, copied: Path) -> None:
    again = load_run(copied)
    assert again.weights_sha256 == lm_run.weights_sha256
    assert again.model.config == lm_run.model.config
    assert not again.model.training
    rewrite(copied, model={"rope_base": 3_001.0})
    # Nothing in the weights depends on it, and all that comes out does.
    assert load_run(copied).weights_sha256 != lm_run.weights_sha256


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": {"heads": 3}}, DataError, "even number"),
        ({"model": {"layers": 1}}, MismatchError, "must hold the tensors"),
        ({"model": {"layers": 1 << 40}}, DataError, "holds fewer"),
        ({"model": {"vocab_size": 639}}, MismatchError, "tokenizer's 640 tokens"),
        ({"model": {"feed_forward_size": 1 << 50}}, DataError, "holds fewer"),
        ({"model": {"layers": "2"}}, DataError, "layers must be a whole number"),
        ({"tokenizer_sha256": "0" * 64}, MismatchError, "tokenizer_sha256"),
        ({"trainer": "character"}, MismatchError, "trainer must be lm"),
    ],
)
def test_other_claims_are_refused(
    copied: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    rewrite(copied, **changes)
    with pytest.raises(error, match=message):
        load_run(copied)


def test_damaged_files_are_refused(copied: Path) -> None:
    weights = copied / "lm_weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        load_run(copied)
    (copied / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="no such file"):
        load_run(copied)


def test_the_command_exports(copied: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["lm", "export", str(copied), "--out", str(out), "--formats", "gguf,hf", "--quantize", "f16"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert "model-f16.gguf" in done.output
    found = {path.name for path in out.iterdir()}
    assert found == {"golden.json", "hf", "manifest.json", "model-f16.gguf"}
    done = CliRunner().invoke(cli, [*arguments, "--json"])
    assert json.loads(done.stdout.splitlines()[-1])["settings"]["quantize"] == ["f16"]
