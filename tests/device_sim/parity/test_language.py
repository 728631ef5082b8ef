"""`pt parity` of a language model: what is broken on purpose must be named."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from device_sim.parity.cli import parity as command
from device_sim.parity.config import ParityConfig
from device_sim.parity.language import language_parity
from device_sim.parity.report import Report
from personality_common.errors import ConfigError, DataError, MismatchError
from personality_common.files.atomic import file_sha256
from personality_common.terminal.progress import Silent
from pretrain.lm.bundle.gguf_file import read_gguf
from pretrain.lm.config import ExportConfig, ModelConfig, TokenizerConfig
from pretrain.lm.export.folder import export
from pretrain.lm.model import Decoder
from pretrain.lm.tokenizer import train_tokenizer

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`run` and `folder`, of a model in which everything matters."""
    here = tmp_path_factory.mktemp("parity")
    conftest = importlib.util.spec_from_file_location("lm_conftest", ROOT / "tests/pretrain/lm/conftest.py")
    assert conftest is not None
    assert conftest.loader is not None
    module: Any = importlib.util.module_from_spec(conftest)
    conftest.loader.exec_module(module)
    lines = [line for name in module.TEXTS for line in (ROOT / name).read_text().splitlines()]
    tokenizer = train_tokenizer(lines, TokenizerConfig(600))
    torch.manual_seed(0)
    model = Decoder(ModelConfig(600, 128, 2, 2, 64, 96))
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.manual_seed(index)) * 0.1)
    module.make_run(here / "run", model, tokenizer)
    export(ExportConfig(here / "run", here / "folder", quantize=("f32", "f16", "q8_0", "q4_0")), Silent())
    return here


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "folder", tmp_path / "folder"))


def report_of(
    folder: Path, runtimes: tuple[str, ...] | None = ("torch", "llama"), run: Path | None = None
) -> Report:
    return language_parity(ParityConfig(folder, runtimes, run), Silent())


def failed(report: Report) -> dict[str, str]:
    """Id and package -> detail, or what was measured."""
    return {f"{c.id} {c.package}".strip(): c.detail or c.against for c in report.failures}


def restate(folder: Path) -> None:
    """Let the manifest name what is there, as a careless or hostile hand would."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in manifest["files"]:
        file = folder / name
        manifest["files"][name] = {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
    path.write_text(json.dumps(manifest))


def put(path: Path, find: bytes, by: bytes) -> None:
    data = path.read_bytes()
    assert data.count(find) >= 1
    path.write_bytes(data.replace(find, by, 1))


def change_matrix(path: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor, data = read_gguf(path).tensors[name], bytearray(path.read_bytes())
    place = slice(tensor.offset, tensor.offset + tensor.bytes)
    values = np.frombuffer(data[place], np.float32).reshape(tensor.shape)
    data[place] = np.ascontiguousarray(change(values)).tobytes()
    path.write_bytes(data)


def test_a_good_folder_passes_in_every_runtime(made: Path) -> None:
    report = report_of(made / "folder", None, made / "run")
    assert failed(report) == {}
    # ggml's table is nearly all that differs.
    furthest = {c.runtimes: c.measures.max_abs for c in report.comparisons if c.package == "model-f32.gguf"}
    table, plain = furthest["llama / torch, GELU as ggml"], furthest["llama / torch"]
    assert table is not None
    assert plain is not None
    assert table < plain / 2
    used = {s.name for s in report.runtimes if s.unavailable is None}
    assert used - {"mlx"} == {"torch", "transformers", "llama"}
    assert ("mlx" in used) == (importlib.util.find_spec("mlx_lm") is not None)
    pairs = {(c.package, c.runtimes) for c in report.comparisons if "mlx" not in c.runtimes}
    assert pairs == {
        ("hf", "transformers / torch"),
        ("model-f32.gguf", "llama / torch"),
        ("model-f32.gguf", "llama / torch, GELU as ggml"),
        ("model-f16.gguf", "llama / torch, GELU as ggml"),
        ("model-q8_0.gguf", "llama / torch, the file's weights"),
        ("model-q4_0.gguf", "llama / torch, the file's weights"),
    }
    assert {c.id for c in report.checks if c.package == "model-f32.gguf"} == {
        *("model", "template", "tokenizer", "tensors", "token-ids", "greedy", "top-1"),
        "log-probabilities.max-abs",
    }
    without = report_of(made / "folder")
    assert failed(without) == {}
    left_out = [s.name for s in without.runtimes if s.unavailable == "not asked for (--runtimes)"]
    assert "transformers" in left_out


def test_a_transposed_matrix_is_named(folder: Path) -> None:
    change_matrix(folder / "model-f32.gguf", "blk.1.attn_q.weight", np.transpose)
    found = failed(report_of(folder))
    assert found["files"] == "model-f32.gguf has another SHA-256"
    assert "blk.1.attn_q.weight in F32 must be the checkpoint's" in found["tensors model-f32.gguf"]
    assert "must be ≤ 0.003" in found["log-probabilities.max-abs model-f32.gguf"]
    assert "must be" in found["greedy model-f32.gguf"]


def test_weights_that_were_changed_everywhere_are_not_those_of_the_golden_rows(folder: Path) -> None:
    """As one would who knows of every check but this: in the manifest, the GGUF file and the safetensors."""
    path = folder / "hf" / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.0.mlp.c_fc.weight"
    tensors[name] = tensors[name] * 1.01
    save_file(tensors, path, {"format": "pt"})
    change_matrix(folder / "model-f32.gguf", "blk.0.ffn_up.weight", lambda m: m * np.float32(1.01))
    restate(folder)
    found = failed(report_of(folder))
    assert "log-probabilities.golden golden.json" in found
    assert "tensors model-f16.gguf" in found


@pytest.mark.parametrize(
    ("find", "by", "check", "words"),
    [
        (
            b"tokenizer.ggml.pre",
            b"tokenizer.ggml.prf",
            "model",
            "tokenizer.ggml.pre must be 'gpt-2' or 'smollm'",
        ),
        (b"gpt-2", b"gpt-3", "model", "tokenizer.ggml.pre must be 'gpt-2' or 'smollm', is 'gpt-3'"),
        (b"<|user|>", b"<|usar|>", "model", "the special tokens must be <|pad|>"),
        (b"{%- macro json", b"{%- macro jsom", "template", "it is another"),
    ],
)
def test_another_tokenizer_or_template_is_named(
    folder: Path, find: bytes, by: bytes, check: str, words: str
) -> None:
    put(folder / "model-f16.gguf", find, by)
    restate(folder)
    found = failed(report_of(folder))
    assert list(found) == [f"{check} model-f16.gguf"]
    assert words in found[f"{check} model-f16.gguf"]


def test_swapped_tokens_are_named(folder: Path) -> None:
    path = folder / "model-q8_0.gguf"
    data = path.read_bytes()
    # Two ordinary tokens of one length change places.
    at = [data.index(b"\x01\0\0\0\0\0\0\0" + letter) + 8 for letter in (b"a", b"b")]
    swapped = bytearray(data)
    swapped[at[0]], swapped[at[1]] = swapped[at[1]], swapped[at[0]]
    path.write_bytes(swapped)
    restate(folder)
    found = failed(report_of(folder))
    assert "must be 'a', is 'b'" in found["tokenizer model-q8_0.gguf"]
    assert "token-ids model-q8_0.gguf" in found


def test_a_broken_byte_is_found_wherever_it_is(folder: Path) -> None:
    for name in ("model-q4_0.gguf", "Modelfile", "hf/tokenizer_config.json", "golden.json"):
        path = folder / name
        before = path.read_bytes()
        data = bytearray(before)
        data[-20] ^= 1
        path.write_bytes(data)
        try:
            found = failed(report_of(folder, runtimes=("torch",)))
            assert found["files"] == f"{name} has another SHA-256"
        except DataError as error:
            assert name in str(error)  # noqa: PT017 - golden rows may no longer be JSON
        path.write_bytes(before)


def test_other_files_are_named(folder: Path) -> None:
    put(folder / "Modelfile", b"FROM ./model-q8_0.gguf", b"FROM /model-q8_0.gguf ")
    put(folder / "hf" / "config.json", b'"num_attention_heads": 2', b'"num_attention_heads": 4')
    put(folder / "hf" / "chat_template.jinja", b"<|none|>", b"<|text|>")
    restate(folder)
    found = failed(report_of(folder, None))
    assert found.keys() == {"template Modelfile", "model hf", "template hf"}
    assert "FROM and a GGUF file of the folder" in found["template Modelfile"]
    assert found["model hf"] == "num_attention_heads must be 2, is 4"


def test_what_does_not_belong_together_is_refused(made: Path, folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["run"]["fingerprint"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(MismatchError, match="--run must be the run"):
        report_of(folder, run=made / "run")
    with pytest.raises(ConfigError, match="--data and --tolerance"):
        language_parity(ParityConfig(folder, tolerances=(("float32.logits", 1.0),)), Silent())
    manifest["model"]["heads"] = 3
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="even number"):
        report_of(folder)


def test_the_command_reports_it(made: Path, tmp_path: Path) -> None:
    arguments = [str(made / "folder"), "--runtimes", "torch,llama", "--json", str(tmp_path / "r.json")]
    done = CliRunner().invoke(command, [*arguments, "--html", str(tmp_path / "r.html")])
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["passed"]
    assert report["settings"]["family"] == "lm"
    assert "model-q8_0.gguf" in (tmp_path / "r.html").read_text()
