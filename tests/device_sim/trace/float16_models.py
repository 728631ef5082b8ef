"""Small torch modules, converted for real in float32 and in float16: what `pt trace` must predict."""

import itertools
import logging
import math
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import coremltools as ct

    logging.disable(logging.NOTSET)

from device_sim.mil import load_mil
from device_sim.trace.trace import trace_package

Arrays = dict[str, np.ndarray]


class Of(nn.Module):
    """A function as a module, with what it holds."""

    def __init__(self, function: Callable[..., Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs, *self.parts)


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Attention(nn.Module):
    def __init__(self, masked: float | None = None) -> None:
        super().__init__()
        self.qkv, self.out, self.masked = nn.Linear(32, 96), nn.Linear(32, 32), masked

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).split(32, dim=-1)
        q, k, v = (t.reshape(2, 8, 4, 8).transpose(1, 2) for t in (q, k, v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(8)
        if self.masked is not None:
            scores = scores + self.masked * torch.triu(torch.ones(8, 8), 1)
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(2, 8, 32))


class Ids(nn.Module):
    def __init__(self, cast: bool) -> None:
        super().__init__()
        self.table, self.head, self.cast = nn.Embedding(32000, 8), nn.Linear(8, 4), cast

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids.to(torch.int32) if self.cast else ids))


class Rms(nn.Module):
    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps, self.gain = eps, nn.Parameter(torch.linspace(0.5, 2, 16))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.gain


def mlp(*widths: int, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1])


def _x(*shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape)


IDS = torch.tensor([[30001.0, 2049.0, 4097.0, 7.0]])

MODELS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "linear": lambda: (nn.Linear(64, 32), _x(8, 64)),
    "mlp": lambda: (mlp(32, 64, 64, 8), _x(8, 32)),
    "deep mlp": lambda: (mlp(32, *[32] * 10, 8, activation=nn.GELU), _x(8, 32)),
    "narrow to wide": lambda: (mlp(4, 256, 4, activation=nn.Tanh), _x(8, 4)),
    "layer norm": lambda: (nn.LayerNorm(16), _x(8, 16)),
    "layer norm, eps 1e-12, small values": lambda: (nn.LayerNorm(16, eps=1e-12), _x(8, 16, scale=1e-4)),
    "layer norm, eps 1e-5, small values": lambda: (nn.LayerNorm(16, eps=1e-5), _x(8, 16, scale=3e-3)),
    "rms norm": lambda: (Rms(1e-6), _x(8, 16)),
    "rms norm, eps 1e-8, small values": lambda: (Rms(1e-8), _x(8, 16, scale=1e-2)),
    "attention": lambda: (Attention(), _x(2, 8, 32)),
    "attention, mask -1e4": lambda: (Attention(-1e4), _x(2, 8, 32)),
    "attention, mask -1e9": lambda: (Attention(-1e9), _x(2, 8, 32)),
    "transformer block": lambda: (
        nn.Sequential(
            Residual(nn.Sequential(nn.LayerNorm(32), Attention())),
            Residual(nn.Sequential(nn.LayerNorm(32), mlp(32, 128, 32, activation=nn.GELU))),
            nn.LayerNorm(32),
        ),
        _x(2, 8, 32),
    ),
    "ids as floats": lambda: (Ids(True), IDS),
    "ids as integers": lambda: (Ids(False), IDS.int()),
    "softmax": lambda: (nn.Softmax(-1), _x(8, 32, scale=4)),
    "log softmax": lambda: (nn.LogSoftmax(-1), _x(8, 32, scale=4)),
    "cancellation": lambda: (Of(lambda x: torch.relu(x) + 100 - 99.5), _x(8, 16)),
    "large offset": lambda: (Of(lambda x, f: f(x + 1000) - 1, nn.Linear(16, 16)), _x(8, 16)),
    "cosine": lambda: (
        Of(lambda x, f: functional.normalize(f(x), dim=-1) @ torch.eye(16), nn.Linear(16, 16)),
        _x(8, 16),
    ),
    "variance": lambda: (Of(lambda x: (x * x).mean(-1) - x.mean(-1) ** 2), 3 + _x(8, 64)),
    "exp": lambda: (Of(lambda x: torch.exp(x)), _x(8, 16, scale=3)),
    "sigmoid gate": lambda: (
        Of(lambda x, f, g: torch.sigmoid(f(x)) * g(x), nn.Linear(32, 32), nn.Linear(32, 32)),
        _x(8, 32),
    ),
    "silu mlp": lambda: (mlp(32, 96, 96, 16, activation=nn.SiLU), _x(8, 32)),
    "leaky relu": lambda: (mlp(32, 64, 8, activation=lambda: nn.LeakyReLU(0.013)), _x(8, 32)),
    "division by a small number": lambda: (Of(lambda x: x / (x.abs().mean(-1, True) + 3e-7)), _x(8, 16)),
    "tiny factor": lambda: (Of(lambda x: torch.relu(x) * 1.3e-7 * 1e3), _x(8, 16)),
    "tiny factor that underflows": lambda: (Of(lambda x: torch.tanh(x * 1e-9 + x)), _x(8, 16)),
    "factor above 65504": lambda: (Of(lambda x: (torch.relu(x) + 1e-3) * 1e5 * 1e-4), _x(8, 16, scale=0.1)),
    "clamped": lambda: (Of(lambda x: x.clamp(-0.333, 0.777) * 3), _x(8, 16)),
    "power": lambda: (Of(lambda x: (x.abs() + 0.1) ** 2.5), _x(8, 16)),
    "pooled mean": lambda: (
        Of(lambda x, f: functional.normalize(f(x).mean(1), dim=-1), nn.Linear(32, 32)),
        _x(4, 64, 32),
    ),
}  # fmt: skip
"""Name -> a module and its input; seeded by `errors`."""

FEW = (
    "mlp", "layer norm, eps 1e-12, small values", "attention, mask -1e9", "ids as floats", "cancellation",
    "factor above 65504", "division by a small number", "tiny factor that underflows",
)  # fmt: skip
"""Those that each stand for a rule of the conversion."""


def save(module: nn.Module, x: Tensor, path: Path, precision: str, target: str = "iOS17") -> Path:
    """Convert; a float input stays float32 in both precisions."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        dtype = np.float32 if x.is_floating_point() else np.int32
        ct.convert(
            torch.jit.trace(module.eval(), x, check_trace=False),
            inputs=[ct.TensorType("x", shape=tuple(x.shape), dtype=dtype)],
            outputs=[ct.TensorType("y")],
            minimum_deployment_target=ct.target[target],
            compute_precision=ct.precision[precision],
            skip_model_load=True,
        ).save(str(path))
    return path


def errors(name: str, target: str = "iOS17") -> tuple[float, float]:
    """Relative error of the output, predicted from the float32 package and that of the real float16 one.

    Both against the float32 package in float64, root mean square over root mean square.
    """
    torch.manual_seed(0)
    module, x = MODELS[name]()
    with tempfile.TemporaryDirectory() as folder:
        wide, narrow = (
            save(module, x, Path(folder) / f"{precision}.mlpackage", precision, target)
            for precision in ("FLOAT32", "FLOAT16")
        )
        inputs = {"x": x.numpy()}
        (predicted,) = (r.accumulated.relative for r in trace_package(wide, inputs) if r.output == "y")
        expected = load_mil(wide, "float64").predict(inputs)["y"].astype(np.float64)
        got = load_mil(narrow).predict(inputs)["y"].astype(np.float64)
    with np.errstate(all="ignore"):
        real = np.sqrt(np.mean((got - expected) ** 2)) / np.sqrt(np.mean(expected**2))
    return predicted, float(real)
