"""Neural networks and pipelines, made with coremltools' builder, against PyTorch."""

import time
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder
from mil_convert import convert
from mil_harness import package_of
from torch import nn
from torch.nn import functional as F

from device_sim.mil import Limits, NetworkModel, PipelineModel, Record, load_mil
from personality_common.coreml.package import Package
from personality_common.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
RNG = np.random.default_rng(0)


def _builder(
    inputs: dict[str, tuple[int, ...]], output: tuple[int, ...], exact: bool = True
) -> NeuralNetworkBuilder:
    return NeuralNetworkBuilder(
        [(name, datatypes.Array(*shape)) for name, shape in inputs.items()],
        [("y", datatypes.Array(*output))],
        disable_rank5_shape_mapping=exact,
    )


def _run(builder: NeuralNetworkBuilder, **inputs: np.ndarray) -> np.ndarray:
    return load_mil(package_of(builder.spec)).predict(inputs)["y"]


def _check(got: np.ndarray, expected: torch.Tensor, atol: float = 1e-6) -> None:
    """Up to a few units of the last place of values around 1, or sums of tens of them."""
    assert got.shape == tuple(expected.shape)
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-6, atol=atol)


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6), (2, 3, 1, 2), (2, 1, 3, 1, 2)])
def test_inner_product_of_every_rank(shape: tuple[int, ...]) -> None:
    weight, bias = RNG.normal(size=(4, 6)).astype(np.float32), RNG.normal(size=4).astype(np.float32)
    x = RNG.normal(size=shape).astype(np.float32)
    # Rank 4 and 5 multiply their last three axes, and keep two of them as ones.
    flat = torch.from_numpy(x.reshape(*shape[:-3], 6) if len(shape) > 3 else x)
    expected = F.linear(flat, torch.from_numpy(weight), torch.from_numpy(bias))
    expected = expected[..., None, None] if len(shape) > 3 else expected
    builder = _builder({"x": shape}, tuple(expected.shape))
    builder.add_inner_product("p", weight, bias, 6, 4, True, "x", "y")
    _check(_run(builder, x=x), expected)


@pytest.mark.parametrize(
    ("kind", "parameters", "reference"),
    [
        ("RELU", None, F.relu),
        ("LEAKYRELU", [0.3], lambda x: F.leaky_relu(x, 0.3)),
        ("THRESHOLDEDRELU", 0.3, lambda x: torch.where(x < 0.3, 0, x)),
        ("LINEAR", [0.5, 2.0], lambda x: x * 0.5 + 2),
        ("TANH", None, torch.tanh),
        ("SCALED_TANH", [0.5, 2.0], lambda x: 0.5 * torch.tanh(2 * x)),
        ("SIGMOID", None, torch.sigmoid),
        ("SIGMOID_HARD", [0.5, 0.25], lambda x: (x * 0.5 + 0.25).clamp(0, 1)),
        ("ELU", 0.7, lambda x: F.elu(x, 0.7)),
        ("SOFTSIGN", None, F.softsign),
        ("SOFTPLUS", None, F.softplus),
    ],
)
def test_activations(kind: str, parameters: Any, reference: Any) -> None:
    x = RNG.normal(size=(3, 5)).astype(np.float32) * 2
    builder = _builder({"x": (3, 5)}, (3, 5))
    builder.add_activation("a", kind, "x", "y", parameters)
    _check(_run(builder, x=x), reference(torch.from_numpy(x)))


def test_a_first_state_that_is_left_out_is_zero() -> None:
    """Optional without a default value, as converters of recurrent networks leave their states."""
    torch.manual_seed(0)
    cell = nn.RNNCell(3, 4)
    weights = [p.detach().numpy() for p in (cell.weight_hh, cell.weight_ih, cell.bias_ih + cell.bias_hh)]
    builder = _builder({"x": (3,)}, (4,), exact=False)
    builder.add_simple_rnn("r", *weights, 4, 3, "TANH", ["x", "before"], ["y", "after"])
    builder.add_optionals([("before", 4)], [("after", 4)])
    model = load_mil(package_of(builder.spec))
    state: torch.Tensor | None = None
    before: dict[str, np.ndarray] = {}
    for x in torch.randn(2, 3):
        found = model.predict({"x": x.numpy()} | before)
        before = {"before": found["after"]}
        with torch.no_grad():
            state = cell(x, state)
        for name in ("y", "after"):
            np.testing.assert_allclose(found[name], state.numpy(), atol=1e-6)


def test_activations_with_a_parameter_per_channel() -> None:
    x = RNG.normal(size=(3, 2, 2)).astype(np.float32)
    alpha, beta = np.array([0.1, 0.5, 2.0]), np.array([1.0, 2.0, 0.5])
    per_channel = torch.from_numpy(np.stack([alpha, beta]).astype(np.float32)).reshape(2, 3, 1, 1)
    builder = _builder({"x": (3, 2, 2)}, (3, 2, 2))
    builder.add_activation("a", "PRELU", "x", "h", alpha)
    builder.add_activation("b", "PARAMETRICSOFTPLUS", "h", "y", [alpha, beta])
    h = F.prelu(torch.from_numpy(x)[None], per_channel[0].flatten())[0]
    _check(_run(builder, x=x), per_channel[0] * F.softplus(h * per_channel[1]))


def test_arithmetic_concat_reshape_softmax_constants() -> None:
    x, z = RNG.normal(size=(2, 6)).astype(np.float32), RNG.normal(size=(2, 6)).astype(np.float32)
    constant = RNG.normal(size=(1, 6)).astype(np.float32)
    builder = _builder({"x": (2, 6), "z": (2, 6)}, (2, 2, 12))
    builder.add_load_constant_nd("c", "c", constant, (1, 6))
    builder.add_add_broadcastable("1", ["x", "c"], "a")
    builder.add_multiply_broadcastable("2", ["a", "z"], "b")
    builder.add_subtract_broadcastable("3", ["b", "x"], "d")
    builder.add_divide_broadcastable("4", ["d", "c"], "e")
    builder.add_elementwise("5", ["e", "x"], "f", "ADD")
    builder.add_elementwise("6", ["f"], "g", "MULTIPLY", alpha=0.5)
    builder.add_gelu("7", "g", "h", mode="EXACT")
    builder.add_concat_nd("8", ["h", "x", "z", "a"], "i", axis=1)
    builder.add_reshape_static("9", "i", "j", (2, 2, 12))
    builder.add_softmax_nd("10", "j", "y", axis=-1)
    tx, tz, tc = map(torch.from_numpy, (x, z, constant))
    h = F.gelu((((tx + tc) * tz - tx) / tc + tx) * 0.5)
    expected = torch.softmax(torch.cat([h, tx, tz, tx + tc], 1).reshape(2, 2, 12), -1)
    _check(_run(builder, x=x, z=z), expected)


def test_normalizations_and_unary() -> None:
    x = RNG.uniform(0.5, 2, (3, 2, 4)).astype(np.float32)
    mean, variance, gamma, beta = (RNG.uniform(0.5, 2, 3).astype(np.float32) for _ in range(4))
    builder = _builder({"x": (3, 2, 4)}, (3, 2, 4))
    builder.add_batchnorm("1", 3, gamma, beta, mean, variance, "x", "a", epsilon=1e-3)
    builder.add_layer_normalization("2", "a", "b", [4], np.ones(4), np.zeros(4), eps=1e-3)
    builder.add_unary("3", "b", "c", "exp")
    builder.add_unary("4", "c", "d", "power", alpha=0.5, shift=1.0, scale=2.0)
    builder.add_unary("5", "d", "e", "log")
    builder.add_unary("6", "e", "y", "threshold", alpha=0.5)
    tensors = [torch.from_numpy(v) for v in (x, mean, variance, gamma, beta)]
    of_x, of_mean, of_variance, of_gamma, of_beta = tensors
    a = F.batch_norm(of_x[None], of_mean, of_variance, of_gamma, of_beta, eps=1e-3)[0]
    b = F.layer_norm(a, [4], eps=1e-3)
    _check(_run(builder, x=x), torch.log((1 + 2 * b.exp()).sqrt() + 1e-6).clamp(min=0.5), atol=5e-6)


def test_old_networks_see_five_axes() -> None:
    """A classic MLP: rank 1 in and out; channel softmax; a network that EXACT mapping cannot read."""
    first, second = nn.Linear(6, 8), nn.Linear(8, 4)
    builder = _builder({"x": (6,)}, (4,), exact=False)
    for name, layer, source, target in (("1", first, "x", "a"), ("2", second, "b", "c")):
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        builder.add_inner_product(
            name, weight, bias, layer.in_features, layer.out_features, True, source, target
        )
        if name == "1":
            builder.add_activation("r", "RELU", "a", "b")
    builder.add_softmax("s", "c", "y")
    x = RNG.normal(size=6).astype(np.float32)
    _check(_run(builder, x=x), torch.softmax(second(first(torch.from_numpy(x)).relu()), 0).detach())


def test_old_networks_with_images_of_channels() -> None:
    x = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    builder = _builder({"x": (2, 3, 4)}, (4, 3, 4), exact=False)
    builder.add_reshape("1", "x", "a", (2, 4, 3), mode=0)
    builder.add_reshape("2", "a", "b", (2, 3, 4), mode=0)
    builder.add_elementwise("3", ["b", "x"], "c", "CONCAT")
    builder.add_softmax("4", "c", "y")
    t = torch.from_numpy(x)
    _check(_run(builder, x=x), torch.softmax(torch.cat([t, t], 0), 0))


def test_half_precision_weights_and_policies() -> None:
    weight = RNG.normal(size=(4, 6)).astype(np.float16)
    builder = _builder({"x": (2, 6)}, (2, 4))
    builder.add_inner_product("p", weight.astype(np.float32), None, 6, 4, False, "x", "y")
    params = builder.spec.neuralNetwork.layers[0].innerProduct.weights
    params.ClearField("floatValue")
    params.float16Value = weight.tobytes()
    x = RNG.normal(size=(2, 6))
    exact = x.astype(np.float32) @ weight.T.astype(np.float32)
    np.testing.assert_allclose(_run(builder, x=x), exact, rtol=1e-5)
    sharp = load_mil(package_of(builder.spec), policy="float64").predict({"x": x})["y"]
    assert sharp.dtype == np.float64
    np.testing.assert_allclose(sharp, x @ weight.T.astype(np.float64), rtol=1e-14)
    rough = load_mil(package_of(builder.spec), policy="fp16-accumulate").predict({"x": x})["y"]
    assert 1e-5 < np.abs(rough - exact).max() < 1e-2


def test_all_that_is_not_supported_is_named() -> None:
    builder = _builder({"x": (6,)}, (6,))
    first = builder.add_custom("a", ["x"], ["h"])
    first.custom.className = "Mine"
    loop = builder.add_loop("b", max_iterations=1)
    builder.add_activation("c", "RELU", "h", "y")
    unknown = loop.loop.bodyNetwork.layers.add(name="d", input=["h"], output=["i"])
    unknown.custom.className = "Other"
    with pytest.raises(
        DataError,
        match=r"layer 'a' of type custom, class 'Mine', output 'h' \(layer 0\); "
        r"layer 'd' of type custom, class 'Other', output 'i' \(layer 2\): not supported",
    ):
        load_mil(package_of(builder.spec))


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 12), nn.GELU(), nn.Linear(12, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """An ML Program, then an updatable head: how a model that learns on the device is shipped."""
    torch.manual_seed(0)
    module, head = Backbone(), nn.Linear(8, 5)
    program = convert(module, {"x": np.zeros((1, 16), np.float32)}, most=None)
    ct.utils.rename_feature(program._spec, "y", "latent")
    builder = NeuralNetworkBuilder(
        [("latent", datatypes.Array(1, 8))], [("y", datatypes.Array(1, 5))], disable_rank5_shape_mapping=True
    )
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    builder.add_inner_product("head", weight, bias, 8, 5, True, "latent", "y")
    spec = ct.proto.Model_pb2.Model(specificationVersion=8)
    spec.pipeline.models.add().CopyFrom(program._spec)
    spec.pipeline.models.add().CopyFrom(builder.spec)
    spec.pipeline.names.extend(["backbone", "head"])
    spec.description.input.add().CopyFrom(program._spec.description.input[0])
    spec.description.output.add().CopyFrom(builder.spec.description.output[0])
    path = tmp_path_factory.mktemp("pipeline") / "Updatable.mlpackage"
    ct.models.MLModel(spec, weights_dir=program.weights_dir, skip_model_load=True).save(str(path))
    return path, nn.Sequential(module, head)


def test_pipeline_of_program_and_network(pipeline: tuple[Path, nn.Module]) -> None:
    path, module = pipeline
    model = load_mil(path)
    assert isinstance(model, PipelineModel)
    assert isinstance(model.parts[1], NetworkModel)
    x = RNG.normal(size=(1, 16)).astype(np.float32)
    seen: list[Record] = []
    y = model.predict({"x": x}, observe=seen.append)["y"]
    with torch.no_grad():
        _check(y, module(torch.from_numpy(x)))
    assert [(r.model, r.op) for r in seen] == [
        ("backbone", "linear"), ("backbone", "gelu"), ("backbone", "linear"), ("head", "innerProduct"),
    ]  # fmt: skip


def test_pipeline_in_float64_does_not_round_between_models(pipeline: tuple[Path, nn.Module]) -> None:
    path, module = pipeline
    x = RNG.normal(size=(1, 16)).astype(np.float32)
    y = load_mil(path, policy="float64").predict({"x": x})["y"]
    with torch.no_grad():
        expected = module.double()(torch.from_numpy(x).double()).numpy()
    module.float()
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-14)


def test_models_of_a_pipeline_share_one_budget(
    pipeline: tuple[Path, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = pipeline
    model = load_mil(path)
    operations = model.budget.ops - 1
    assert operations > 3
    with pytest.raises(
        DataError, match=rf"{operations + 1} layers; the limit is {operations} \(Limits.ops\)"
    ):
        load_mil(path, limits=Limits(ops=operations))
    assert isinstance(model, PipelineModel)
    held = load_mil(path, policy="float64").budget.held
    with pytest.raises(DataError, match=r"\(head\): layer 'head' .* would bring the values held to"):
        load_mil(path, policy="float64", limits=Limits(live_bytes=held - 1))
    # Its clock is one, too.
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def late(record: Record) -> None:
        nonlocal now
        now += 100

    with pytest.raises(DataError, match=r"layer 'head' .*: the time is up after 300.0 s"):
        load_mil(path, limits=Limits(seconds=250)).predict({"x": np.zeros((1, 16))}, observe=late)


def test_pipelines_that_do_not_chain(pipeline: tuple[Path, nn.Module]) -> None:
    package = Package.open(pipeline[0])
    package.spec.pipeline.models[1].description.input[0].name = "other"
    package.spec.pipeline.models[1].neuralNetwork.layers[0].input[0] = "other"
    with pytest.raises(DataError, match="model 'head' takes 'other', which nothing before it gives"):
        load_mil(package)
