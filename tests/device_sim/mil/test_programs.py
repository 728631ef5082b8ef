"""Whole modules, converted by coremltools, against PyTorch."""

from collections.abc import Callable
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

# coremltools leaves its temporary folders to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SIZE, HEADS, TOKENS = 32, 4, 6


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(SIZE, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, SIZE), nn.Tanh()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class GatedMlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(SIZE, 64), nn.Linear(SIZE, 64), nn.Linear(64, SIZE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.down(F.silu(self.gate(x)) * self.up(x))
        return x + y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-5)


class Transformer(nn.Module):
    """A block as encoders have it: tokens, additive mask, attention, masked mean."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, SIZE)
        self.query, self.key, self.value, self.out = (nn.Linear(SIZE, SIZE) for _ in range(4))
        self.norm = nn.LayerNorm(SIZE)
        self.mlp = Mlp()

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        heads = [
            part(x).view(-1, TOKENS, HEADS, SIZE // HEADS).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        ]
        added = (1.0 - mask[:, None, None, :].float()) * -1e4
        scores = heads[0] @ heads[1].transpose(-1, -2) / (SIZE // HEADS) ** 0.5 + added
        mixed = (torch.softmax(scores, -1) @ heads[2]).transpose(1, 2).reshape(-1, TOKENS, SIZE)
        x = self.norm(x + self.out(mixed))
        x = x + self.mlp(x)
        weight = mask.unsqueeze(-1).float()
        mean = (x * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        return F.normalize(mean, dim=-1)


class AttentionBySdpa(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = x.view(-1, TOKENS, HEADS, SIZE // HEADS).transpose(1, 2)
        return F.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).reshape(-1, TOKENS * SIZE)


def _vectors(rng: np.random.Generator, batch: int) -> dict[str, np.ndarray]:
    return {"x": rng.normal(size=(batch, SIZE)).astype(np.float32)}


def _tokens(rng: np.random.Generator, batch: int) -> dict[str, np.ndarray]:
    lengths = rng.integers(1, TOKENS + 1, batch)
    return {
        "tokens": rng.integers(0, 50, (batch, TOKENS)).astype(np.int32),
        "mask": (np.arange(TOKENS) < lengths[:, None]).astype(np.int32),
    }


def _wide(rng: np.random.Generator, batch: int) -> dict[str, np.ndarray]:
    return {"x": rng.normal(size=(batch, TOKENS * SIZE)).astype(np.float32)}


MODULES: dict[str, tuple[Callable[[], nn.Module], Callable[..., dict[str, np.ndarray]]]] = {
    "mlp": (Mlp, _vectors),
    "gated mlp": (GatedMlp, _vectors),
    "transformer": (Transformer, _tokens),
    "sdpa": (AttentionBySdpa, _wide),
}


def _compare(module: nn.Module, package: Any, make: Any, atol: float, path: Path) -> float:
    package.save(str(path))
    model = load_mil(path)
    rng = np.random.default_rng(1)
    worst = 0.0
    for batch in (1, 2, 8):
        inputs = make(rng, batch)
        with torch.no_grad():
            expected = module(*(torch.from_numpy(v) for v in inputs.values())).numpy()
        y = model.predict(inputs)["y"]
        assert y.shape == expected.shape
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, expected, atol=atol)
        # An observer sees each value as float16; without one it stays float32, and no bit is another.
        observed = model.predict(inputs, observe=lambda record: None)["y"]
        assert observed.tobytes() == y.tobytes()
        worst = max(worst, float(np.abs(y - expected).max()))
    return worst


@pytest.fixture(params=MODULES)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Callable[..., dict[str, np.ndarray]]]:
    build, make = MODULES[request.param]
    torch.manual_seed(0)
    return build().eval(), make


@pytest.mark.parametrize("target", ["iOS15", "iOS17", "iOS18"])
def test_float32(case: Any, target: str, tmp_path: Path) -> None:
    module, make = case
    package = convert(module, make(np.random.default_rng(0), 2), target=target)
    _compare(module, package, make, 5e-6, tmp_path / "m.mlpackage")  # values around 1, sums of 64 terms


def test_float16(case: Any, tmp_path: Path) -> None:
    module, make = case
    package = convert(module, make(np.random.default_rng(0), 2), precision="FLOAT16")
    worst = _compare(module, package, make, 2e-2, tmp_path / "m.mlpackage")
    assert worst > 1e-5, "rounding to float16 must show"


def _int8(package: Any) -> Any:
    config = cto.OptimizationConfig(
        cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=128)
    )
    return cto.linear_quantize_weights(package, config)


def _palettized(package: Any) -> Any:
    config = cto.OptimizationConfig(cto.OpPalettizerConfig(nbits=6, mode="uniform", weight_threshold=128))
    return cto.palettize_weights(package, config)


def _sparse(package: Any) -> Any:
    config = cto.OptimizationConfig(cto.OpMagnitudePrunerConfig(target_sparsity=0.3, weight_threshold=128))
    return cto.prune_weights(package, config)


@pytest.mark.parametrize("compress", [_int8, _palettized, _sparse])
@pytest.mark.parametrize("target", ["iOS17", "iOS18"])
def test_compressed(compress: Any, target: str, tmp_path: Path) -> None:
    """Against the module with the very weights that coremltools decompresses to."""
    torch.manual_seed(0)
    module = Transformer().eval()
    package = compress(convert(module, _tokens(np.random.default_rng(0), 2), target=target))
    restored = cto.decompress_weights(package)
    weights = _matrices(restored)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            mil_name = name.replace(".", "_")
            if mil_name in weights:
                assert not np.array_equal(weights[mil_name], parameter.numpy()), "compression must show"
                parameter.copy_(torch.from_numpy(weights.pop(mil_name)))
    assert not weights, f"no parameter has the name of {sorted(weights)}"
    _compare(module, package, _tokens, 5e-6, tmp_path / "m.mlpackage")


def _matrices(package: Any) -> dict[str, np.ndarray]:
    """Compressed weights as coremltools restores them; their constants take the name of the parameter."""
    block = package._mil_program.functions["main"]
    found = {}
    for operation in block.operations:
        if (
            operation.op_type == "const"
            and operation.outputs[0].rank == 2
            and operation.outputs[0].val.size > 128
        ):
            name = operation.outputs[0].name.removesuffix("_quantized").removesuffix("_palettized")
            found[name.removesuffix("_sparsified")] = np.asarray(operation.outputs[0].val, np.float32)
    return found
