"""Text leaves the machine after a word only, and nothing that was received can make it leave."""

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from device_sim.fleet import worker
from personality_common.errors import DataError, MismatchError, ToolkitError
from personality_common.terminal.progress import SILENT
from personality_common.text.consent import remember_run, require_consent
from personality_common.text.encoder import find_minilm, load_encoder
from personality_common.text.identity import EncoderIdentity
from pretrain.personality.export.bundle import export
from pretrain.personality.export.config import ExportConfig
from pretrain.personality.run import load_run

Pt = Callable[..., Any]
HOSTED = EncoderIdentity("text-embedding-3-small", "2024-01-25", "", "", 8191, 1536)
TEXTS = Path(__file__).parents[2] / "fixtures" / "conversations.jsonl"
WARNING = "every text leaves this machine: it is sent to the.service"


class Service:
    """In the place of OpenAI's client."""

    identity, source, compute_dtype = HOSTED, "the.service", "float32"
    sent: list[str]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.sent += texts
        return np.eye(1536, dtype=np.float32)[: len(texts)]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was sent away."""
    Service.sent = []
    monkeypatch.setattr("personality_common.text.openai.OpenAIEncoder", Service)
    return Service.sent


@pytest.fixture(scope="module")
def hosted(make_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("hosted") / "run", encoder="openai", mine=False, seed=77)


@pytest.fixture
def feedback(tmp_path: Path, hosted: Path) -> Path:
    tokens = json.loads((hosted / "personality-tokens.json").read_text())["tokens"]
    good, bad = ({"tokens": tokens[i : i + 3], "reward": r} for i, r in ((0, 1.0), (9, 0.0)))
    path = tmp_path / "feedback.jsonl"
    path.write_text(json.dumps({"id": "1", "text": "mine", "candidates": [good, bad]}))
    return path


def commands(hosted: Path, feedback: Path, out: Path) -> list[tuple[object, ...]]:
    return [
        ("predict", hosted, "mine"),
        ("grpo", hosted, "--feedback", feedback, "--overwrite", "--out", out),
    ]


def test_a_received_run_sends_nothing_unasked(
    pt: Pt, hosted: Path, feedback: Path, tmp_path: Path, sent: list[str]
) -> None:
    for command in commands(hosted, feedback, tmp_path / "head"):
        said = pt(*command)
        assert said.code == 4
        assert "was not made here, and its encoder 'text-embedding-3-small' is hosted" in said.err
        assert sent == []
        said = pt(*command, "--allow-remote-encoder")
        assert said.code == 0, said.err
        assert WARNING in said.err
        assert sent == ["mine"]
        sent.clear()


def test_one_s_own_run_sends_with_a_warning_each_time(
    pt: Pt, hosted: Path, feedback: Path, tmp_path: Path, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    remember_run(load_run(hosted).fingerprint)
    for command in commands(hosted, feedback, tmp_path / "head") * 2:
        said = pt(*command)
        assert said.code == 0, said.err
        assert said.err.count(WARNING) == 1
    assert sent == ["mine"] * 4


class Alike(Service):
    """Gives a text the same embedding in any company."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.sent += texts
        return np.eye(1536, dtype=np.float32)[[zlib.crc32(text.encode()) % 1536 for text in texts]]


@contextmanager
def in_this_process(module: str, arguments: Sequence[str], *_: object) -> Iterator[SimpleNamespace]:
    """A fleet's worker, where its encoder can be replaced."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [module, *arguments])
        worker.main()
    yield SimpleNamespace(running=False)


def test_a_fleet_s_workers_send_what_was_allowed(
    pt: Pt, hosted: Path, tmp_path: Path, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("personality_common.text.openai.OpenAIEncoder", Alike)
    monkeypatch.setattr("device_sim.fleet.fleet.started", in_this_process)
    export(ExportConfig(hosted, tmp_path / "bundle", only=("model",)), SILENT)
    (tmp_path / "texts.jsonl").write_text("".join(TEXTS.read_text().splitlines(keepends=True)[:12]))
    spend = ("--devices", 1, "--nights", 1, "--interactions", 2, "--group", 2)
    command = ("fleet", tmp_path / "bundle", "--data", tmp_path / "texts.jsonl", *spend, "--user", "profile")
    for out, source in (("bundle's", ()), ("run's", ("--run", hosted))):
        said = pt(*command, *source, "--out", tmp_path / out)
        assert said.code == 4
        assert "was not made here" in said.err
        assert sent == []
        said = pt(*command, *source, "--out", tmp_path / out, "--allow-remote-encoder")
        assert said.code == 0, said.err
        assert said.err.count(WARNING) == 1
        assert len(sent) > 325  # the vocabulary, and some texts
        sent.clear()


def test_consent_is_for_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    remember_run("a" * 64)
    require_consent("a" * 64, HOSTED, Path("run"), allowed=False)
    for other in ("b" * 64, "", ".", "../runs", "a" * 63, "/etc/passwd"):
        with pytest.raises(ToolkitError, match="was not made here"):
            require_consent(other, HOSTED, Path("run"), allowed=False)
    # Where no note can be kept, it is asked for.
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    remember_run("a" * 64)
    with pytest.raises(ToolkitError, match="was not made here"):
        require_consent("a" * 64, HOSTED, Path("run"), allowed=False)


def test_a_folder_is_compared_before_any_of_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("was loaded")

    monkeypatch.setattr("personality_common.text.sentence._load", load)
    expected = EncoderIdentity("x", "", "0" * 64, "", 256, 384)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Pooling"}]))
    with pytest.raises(MismatchError, match="nothing of it was loaded"):
        load_encoder(str(tmp_path), "cpu", torch.float32, expected)
    own = "sentence_transformers"
    for kind in ("os.system", f"{own}_evil.X", own, f"x.{own}.Y"):
        (tmp_path / "modules.json").write_text(json.dumps([{"type": kind}]))
        with pytest.raises(DataError, match="modules must be sentence-transformers' own, got"):
            load_encoder(str(tmp_path), "cpu", torch.float32)


def test_the_real_encoder_has_modules_of_its_own() -> None:
    from personality_common.text.sentence import _require_own_modules

    folder = find_minilm()[0]
    assert len(json.loads((folder / "modules.json").read_text())) > 1
    _require_own_modules(folder)  # does not refuse them
