"""The mood by the interpreter, against the same bundle's model and head in PyTorch."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from device_sim.companion import mood
from device_sim.companion.config import CompanionConfig
from device_sim.companion.mood import BundleMood
from device_sim.companion.opening import _open_mood
from device_sim.heads.heads import create_heads
from device_sim.heads.shipped import identity, open_shipped, shipped_head
from device_sim.mil import load_mil
from device_sim.runtimes.opening import open_mirror
from grpo.head import Head
from personality_common.contract import EMBEDDING, LATENT, LOGITS
from personality_common.errors import ConfigError, MismatchError
from personality_common.registry.record import Gate, Record, now

TEXTS = ("I got the job!", "Whatever.")


@pytest.fixture
def encoded(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """The bundle as if it had an encoder, whose embeddings these are: the packages of one cost a minute."""
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((len(TEXTS), 1, 1536)).astype(np.float32)
    found = dict(zip(TEXTS, rows / np.linalg.norm(rows, axis=-1, keepdims=True), strict=True))
    opened = open_shipped(bundle)
    load = load_mil
    monkeypatch.setattr(type(opened), "has", lambda self, name: True)
    monkeypatch.setattr(
        type(opened),
        "package",
        lambda self, name: self.path / ("" if name == "encoder" else self.part(name).path.name),
    )
    monkeypatch.setattr(mood, "load_mil", lambda path: SimpleNamespace() if path == bundle else load(path))
    monkeypatch.setattr(BundleMood, "_words", lambda self, path: None)
    monkeypatch.setattr(BundleMood, "_embed", lambda self, text: (found[text], found[text]))
    return found


def expected(bundle: Path, embedding: np.ndarray, head: Head | None = None) -> tuple[str, ...]:
    """The top eight by PyTorch."""
    opened = open_shipped(bundle)
    found = open_mirror(opened.package("model"), opened.places("model")).predict({EMBEDDING: embedding})
    logits = torch.from_numpy(found[LOGITS][0])
    if head is not None:
        logits = head.weight @ torch.from_numpy(found[LATENT][0]) + head.bias
    return tuple(opened.vocabulary.tokens[i] for i in logits.topk(8).indices.tolist())


def test_the_top_tokens_are_those_of_pytorch(bundle: Path, encoded: dict[str, np.ndarray]) -> None:
    reader = BundleMood(bundle)
    assert reader.head is None
    for text in TEXTS:
        assert reader.read(text) == expected(bundle, encoded[text])
    assert reader.encode(TEXTS).shape == (2, 1536)


def test_the_active_head_reads_the_mood(bundle: Path, encoded: dict[str, np.ndarray], tmp_path: Path) -> None:
    opened = open_shipped(bundle)
    shipped = shipped_head(opened)
    changed = Head(shipped.weight.flip(0).contiguous(), shipped.bias)
    store = create_heads(tmp_path / "heads", identity(opened), changed)
    reader = BundleMood(bundle, tmp_path / "heads")
    assert reader.head == store.active
    assert reader.read(TEXTS[0]) == expected(bundle, encoded[TEXTS[0]], changed)
    assert reader.read(TEXTS[0]) != expected(bundle, encoded[TEXTS[0]])
    create_heads(tmp_path / "others", dict(identity(opened)) | {"bundle": "0" * 64}, changed)
    with pytest.raises(MismatchError, match="bundle"):
        BundleMood(bundle, tmp_path / "others")


def test_a_chat_reads_with_the_head_that_a_night_taught(
    bundle: Path, encoded: dict[str, np.ndarray], tmp_path: Path
) -> None:
    opened = open_shipped(bundle)
    shipped = shipped_head(opened)
    changed = Head(shipped.weight.flip(0).contiguous(), shipped.bias)
    for name, belongs in (("own", identity(opened)), ("other", {**identity(opened), "bundle": "0" * 64})):
        said: list[str] = []
        reporter = SimpleNamespace(warn=said.append)
        config = CompanionConfig(tmp_path / name, bundle=bundle)
        heads = create_heads(tmp_path / name / "learned", belongs, shipped)
        assert _open_mood(config, reporter).head is None
        gates = (Gate("head.gate", True),)
        heads.activate(heads.add(changed, Record(belongs, now(), (heads.active,), gates=gates)))
        reader = _open_mood(config, reporter)
        if name == "own":
            assert reader.head == heads.active
            assert reader.read(TEXTS[0]) == expected(bundle, encoded[TEXTS[0]], changed)
            assert said == []
            heads.rollback()
            assert _open_mood(config, reporter).head is None
        else:
            assert reader.head is None
            assert reader.read(TEXTS[0]) == expected(bundle, encoded[TEXTS[0]])
            assert len(said) == 1
            assert "000000000000" in said[0]


def test_a_bundle_without_its_encoder_is_refused(bundle: Path) -> None:
    with pytest.raises(ConfigError, match="must have its text encoder"):
        BundleMood(bundle)
