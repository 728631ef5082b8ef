"""Mutated packages: an answer or a clean error; never a crash, a hang, or memory beyond the limits."""

import random
import resource
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
import torch
from coremltools.models.neural_network import NeuralNetworkBuilder
from mil_convert import convert
from mutants import field_places, flip, rewrite
from torch import nn

from device_sim.mil import Limits, load_mil
from personality_common.coreml.proto import Model_pb2
from personality_common.errors import ToolkitError

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MUTANTS = 1_500
"""Over all packages and kinds of mutation; `make fuzz` tries more."""
SMALL = Limits(value_bytes=1 << 24, live_bytes=1 << 26, seconds=1)
ALLOWED_GROWTH = 400 << 20
"""Bytes of resident memory: temporaries of kernels under `SMALL`, the parsed protobufs, the allocator."""


class Block(nn.Module):
    """Small, with ops of many families."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 16)
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 24), nn.Linear(24, 16)

    def forward(self, x: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        x = x + self.table(tokens).mean(1)
        x = x + self.down(nn.functional.gelu(self.up(self.norm(x))))
        heads = x.reshape(-1, 4, 4)
        mixed = torch.softmax(heads @ heads.transpose(1, 2), -1) @ heads
        y = torch.cat([mixed.reshape(-1, 16), x], 1)
        values, index = torch.topk(y, 3)
        return torch.where(y > 0, y, -y) / (1 + y.pow(2).sum(1, keepdim=True)) + values[:, :1] + index[:, :1]


class Picture(nn.Module):
    """Convolutions, pooling, resizing, an LSTM, and a GRU, which becomes a loop over a list."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, 2, 1)
        self.depthwise = nn.Conv2d(4, 4, 3, 1, "same", groups=4)
        self.up = nn.ConvTranspose2d(4, 2, 2, 2)
        self.lstm, self.gru = nn.LSTM(8, 3, bidirectional=True), nn.GRU(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.max_pool2d(torch.relu(self.first(x)), 3, 1, 1)
        y = self.up(nn.functional.avg_pool2d(self.depthwise(y), 2))
        y = nn.functional.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.gru(self.lstm(y[0])[0])[0]


PICTURE = {"x": np.linspace(-1, 1, 128, dtype=np.float32).reshape(1, 2, 8, 8)}


def _network() -> Any:
    features = [("x", ct.models.datatypes.Array(16))], [("y", ct.models.datatypes.Array(8))]
    builder = NeuralNetworkBuilder(*features, disable_rank5_shape_mapping=True)
    rng = np.random.default_rng(0)
    builder.add_inner_product("a", rng.normal(size=(8, 16)), rng.normal(size=8), 16, 8, True, "x", "h")
    builder.add_activation("b", "PRELU", "h", "i", np.array([0.1]))
    builder.add_softmax_nd("c", "i", "j", -1)
    builder.add_elementwise("d", ["i", "j"], "k", "ADD", 1.0)
    builder.add_reshape_static("e", "k", "y", [8])
    return builder.spec


def _wide_network() -> Any:
    """Convolution, pooling, a recurrent layer and a loop in one."""
    features = [("x", ct.models.datatypes.Array(1, 2, 6, 6))], [("y", ct.models.datatypes.Array(1))]
    builder = NeuralNetworkBuilder(*features, disable_rank5_shape_mapping=True)
    rng = np.random.default_rng(0)
    size = {"height": 3, "width": 3, "stride_height": 1, "stride_width": 1}
    builder.add_convolution(
        "a", 2, 3, border_mode="same", groups=1, W=rng.normal(size=(3, 3, 2, 3)), b=None, has_bias=False,
        input_name="x", output_name="h", **size,
    )  # fmt: skip
    builder.add_pooling(
        "b", layer_type="AVERAGE", padding_type="VALID", input_name="h", output_name="i", **size
    )
    builder.add_upsample("c", 2, 2, "i", "j", mode="BILINEAR")
    builder.add_lrn("d", "j", "k", 0.1, 0.7, 3)
    builder.add_flatten("e", 0, "k", "l")
    builder.add_expand_dims("f", "l", "m", [0])
    weights = [rng.normal(size=(2, 2))] * 4, [rng.normal(size=(2, 192))] * 4
    builder.add_unilstm("g", *weights, None, 2, 192, ["m"], ["n"])
    builder.add_copy("h", "n", "o")
    body = NeuralNetworkBuilder(
        nn_spec=builder.add_loop("i", max_iterations=3).loop.bodyNetwork, disable_rank5_shape_mapping=True
    )
    body.add_elementwise("j", ["o"], "p", "MULTIPLY", alpha=2)
    body.add_copy("k", "p", "o")
    builder.add_reduce_sum("l", "o", "y", [-3], keepdims=False)
    builder.spec.description.output[0].type.multiArrayType.ClearField("shape")
    return builder.spec


INPUTS = {
    "x": np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 16),
    "tokens": np.array([[1, 2, 3], [8, 0, 4]], np.int32),
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, np.ndarray]]]:
    folder = tmp_path_factory.mktemp("packages")
    torch.manual_seed(0)
    models = {
        "float32": convert(Block(), INPUTS),
        "float16": convert(Block(), INPUTS, precision="FLOAT16"),
        "int8": cto.linear_quantize_weights(
            convert(Block(), INPUTS, target="iOS18"),
            cto.OptimizationConfig(cto.OpLinearQuantizerConfig(weight_threshold=16)),
        ),
    }
    found: dict[str, tuple[Path, dict[str, np.ndarray]]] = {}
    for name, model in models.items():
        model.save(str(folder / f"{name}.mlpackage"))
        found[name] = (folder / f"{name}.mlpackage", INPUTS)
    convert(Picture(), PICTURE, most=None).save(str(folder / "picture.mlpackage"))
    found["picture"] = (folder / "picture.mlpackage", PICTURE)
    network = folder / "network.mlmodel"
    network.write_bytes(_network().SerializeToString())
    found["network"] = (network, {"x": np.linspace(-1, 1, 16)})
    wide = folder / "wide.mlmodel"
    wide.write_bytes(_wide_network().SerializeToString())
    found["wide"] = (wide, {"x": np.linspace(-1, 1, 72).reshape(1, 2, 6, 6)})
    return found


def _protobuf(package: Path) -> Path:
    return package / "Data/com.apple.CoreML/model.mlmodel" if package.is_dir() else package


def _outcome(package: Path, inputs: dict[str, np.ndarray]) -> str:
    try:
        outputs = load_mil(package, limits=SMALL).predict(inputs)
    except ToolkitError as error:
        message = str(error)
    else:
        assert all(isinstance(value, np.ndarray) for value in outputs.values())
        return "answer"
    assert message.isprintable()
    assert len(message) < 2000
    return "error"


@pytest.mark.parametrize("kind", ["bytes", "fields", "weights"])
def test_mutated_packages(packages: dict[str, Any], kind: str, tmp_path: Path) -> None:
    share = {"bytes": 2, "fields": 2, "weights": 1}[kind]
    chosen = [name for name in packages if kind != "weights" or name not in ("network", "wide")]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    outcomes: Counter[str] = Counter()
    for name in chosen:
        package, inputs = packages[name]
        assert _outcome(package, inputs) == "answer"
        copy = tmp_path / package.name
        shutil.copytree(package, copy) if package.is_dir() else shutil.copy(package, copy)
        target = copy / "Data/com.apple.CoreML/weights/weight.bin" if kind == "weights" else _protobuf(copy)
        original = target.read_bytes()
        rng = random.Random(f"{kind} {name}")
        places = list(field_places(Model_pb2.Model.FromString(original))) if kind == "fields" else []
        for _ in range(MUTANTS * share // 5 // len(chosen)):
            target.unlink()  # the last mutant may still be mapped
            target.write_bytes(rewrite(original, rng, places) if places else flip(original, rng))
            outcomes[_outcome(copy, inputs)] += 1
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
    assert growth < ALLOWED_GROWTH, f"{growth >> 20} MiB"
    # Both must come, or the mutations are too tame or too wild to test anything.
    assert min(outcomes["answer"], outcomes["error"]) > outcomes.total() // 100, outcomes
