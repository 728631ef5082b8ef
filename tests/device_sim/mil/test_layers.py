"""Each layer of neural networks against torch, or values by hand."""

from typing import Any

import numpy as np
import pytest
from layer_cases import LAYER_CASES
from layer_harness import LAYER_TYPES, LayerCase, case, check, fields, given, network
from mil_harness import package_of

from device_sim.mil import Limits, load_mil
from device_sim.mil.layers import LAYERS
from device_sim.mil.layers.control_flow import CONTROL
from personality_common.errors import DataError

RANDOM: dict[str, tuple[dict[str, Any], float, float]] = {
    "randomNormal": ({"mean": 2.0, "stdDev": 3.0}, 2.0, 3.0),
    "randomUniform": ({"minVal": -1.0, "maxVal": 5.0}, 2.0, 6 / 12**0.5),
    "randomBernoulli": ({"prob": 0.25}, 0.25, (0.25 * 0.75) ** 0.5),
}
"""Parameters, mean and standard deviation."""
ELSEWHERE = {*CONTROL, "custom"}
"""Control flow is in test_network_control.py."""


def _random_cases() -> list[tuple[LayerCase, float, float]]:
    shape = (200, 100)
    found = []
    for name, (own, mean, deviation) in RANDOM.items():
        expected = np.zeros(shape)
        for kind, more, inputs in (
            ("Like", {}, [np.zeros(shape)]),
            ("Static", {"outputShape": shape}, []),
            ("Dynamic", {}, [shape]),
        ):
            layer = name + kind
            found.append(
                (case(layer, fields(layer, seed=-1, **own, **more), inputs, expected), mean, deviation)
            )
    return found


def _run(layer: LayerCase, **options: Any) -> dict[str, np.ndarray]:
    return load_mil(package_of(network(layer)), **options).predict(given(layer))


@pytest.mark.parametrize("case", LAYER_CASES, ids=lambda case: case.name)
def test_layer(case: LayerCase) -> None:
    check(case)


@pytest.mark.parametrize(
    ("layer", "mean", "deviation"), _random_cases(), ids=lambda v: getattr(v, "name", "")
)
def test_random_layers_have_the_distribution_and_repeat(
    layer: LayerCase, mean: float, deviation: float
) -> None:
    """20,000 draws: the mean errs by 0.7% of the deviation, the deviation by about as much."""
    y = _run(layer)["y0"]
    assert y.shape == (200, 100)
    assert abs(y.mean() - mean) < 0.04 * deviation
    assert abs(y.std() - deviation) < 0.04 * deviation
    np.testing.assert_array_equal(_run(layer)["y0"], y)


@pytest.mark.parametrize(
    ("own", "x"),
    [({}, [[0.1, 0.2, 0.7], [1, 0, 0]]), ({"isLogits": True}, np.log([[0.1, 0.2, 0.7], [1, 1e-9, 1e-9]]))],
)
def test_categorical_distribution(own: dict[str, Any], x: Any) -> None:
    layer = fields("categoricalDistribution", numSamples=20_000, seed=5, **own)
    y = _run(case("categoricalDistribution", layer, [x], np.zeros((2, 20_000))))["y0"]
    assert y.shape == (2, 20_000)
    shares = np.array([[float((row == k).mean()) for k in range(3)] for row in y])
    np.testing.assert_allclose(shares, np.array([[0.1, 0.2, 0.7], [1, 0, 0]]), atol=0.015)  # 4.6 deviations


def test_lstm_with_peepholes_coupled_gates_and_clipping() -> None:
    """One unit, one step, weights of 1: by hand from the format's equations."""
    one = np.ones(1, np.float32)
    gates = ("inputGate", "forgetGate", "blockInput", "outputGate")
    weights = {f"{g}{kind}": one for g in gates for kind in ("WeightMatrix", "RecursionMatrix")}
    weights |= {f"{g}PeepholeVector": one for g in gates if g != "blockInput"}

    def run(h: float, c: float, **params: Any) -> list[float]:
        def make(builder: Any, inputs: list[str], outputs: list[str]) -> None:
            fields(
                "uniDirectionalLSTM",
                inputVectorSize=1,
                outputVectorSize=1,
                params={"hasPeepholeVectors": True, **params},
                weightParams=weights,
            )(builder, inputs, outputs)
            p = builder.nn_spec.layers[0].uniDirectionalLSTM
            for kind in ("sigmoid", "linear", "linear"):
                getattr(p.activations.add(), kind).SetInParent()
                if kind == "linear":
                    p.activations[-1].linear.alpha = 1

        states = [np.full((1, 1, 1, 1, 1), v) for v in (2.0, h, c)]
        found = _run(case("uniDirectionalLSTM", make, states, *[np.zeros(1)] * 3))
        return [float(found[f"y{i}"].item()) for i in range(3)]

    def sigmoid(v: float) -> float:
        return float(1 / (1 + np.exp(-v)))

    x, h, c = 2.0, 0.5, -0.25
    i = f = sigmoid(x + h + c)
    new = f * c + i * (x + h)
    o = sigmoid(x + h + new)
    np.testing.assert_allclose(run(h, c), [o * new, o * new, new], rtol=1e-6)
    coupled = (1 - i) * c + i * (x + h)
    assert run(h, c, coupledInputAndForgetGate=True)[2] == pytest.approx(coupled, rel=1e-6)
    biased = sigmoid(x + h + c + 1) * c + i * (x + h)
    assert run(h, c, forgetBias=True)[2] == pytest.approx(biased, rel=1e-6)
    # What an activation sees is clipped to [-50, 50], the cell to its threshold, 50 by default.
    assert run(1000, 0)[2] == pytest.approx(50 * sigmoid(1002), rel=1e-6)
    assert run(0, 1000)[2] == 50
    assert run(0, 1000, cellClipThreshold=7)[2] == 7


def test_dynamic_quantization_is_near_the_product() -> None:
    """coremltools asks for a signal-to-noise ratio of 40 dB (test_inner_product_dynamic_quantization)."""
    rng = np.random.default_rng(1)
    weight, x = rng.integers(-127, 128, (23, 24), np.int8), rng.random((5, 24), np.float32) * 5

    def make(builder: Any, inputs: list[str], outputs: list[str]) -> None:
        fields(
            "innerProduct",
            inputChannels=24,
            outputChannels=23,
            int8DynamicQuantize=True,
            weights={"int8RawValue": weight.tobytes(), "quantization": {"numberOfBits": 8}},
        )(builder, inputs, outputs)
        quantization = builder.nn_spec.layers[0].innerProduct.weights.quantization
        quantization.linearQuantization.scale.append(0.02)

    expected = x.astype(np.float64) @ (weight.T * 0.02)
    got = _run(case("innerProduct", make, [x], expected))["y0"]
    noise = np.square(got - expected).mean()
    assert 10 * np.log10(np.square(expected).mean() / noise) > 40
    assert noise > 0


@pytest.mark.parametrize(
    ("layer", "values", "inputs"),
    [
        ("fillStatic", {"targetShape": [1 << 20, 1 << 20]}, []),
        ("fillDynamic", {}, [[1 << 20, 1 << 20]]),
        ("tile", {"reps": [1 << 40]}, [[1, 2]]),
        ("constantPad", {"padAmounts": [0, 1 << 40]}, [[1, 2]]),
        ("rangeStatic", {"endValue": 1e15, "stepSizeValue": 1}, []),
        ("upsample", {"scalingFactor": [1 << 20, 1 << 20]}, [np.ones((1, 2, 2))]),
        ("resizeBilinear", {"targetSize": [1 << 20, 1 << 20]}, [np.ones((1, 2, 2))]),
        ("oneHot", {"oneHotVectorSize": 1 << 40}, [[1, 2]]),
        ("broadcastToStatic", {"targetShape": [1 << 20, 1 << 20]}, [[1]]),
        ("padding", {"reflection": {}, "paddingAmounts": {}}, [np.ones((2,))]),
        ("sequenceRepeat", {"nRepetitions": 1 << 40}, [np.ones((1, 1, 1, 1, 2))]),
        ("randomNormalStatic", {"outputShape": [1 << 20, 1 << 20]}, []),
        ("categoricalDistribution", {"numSamples": 1 << 40}, [[0.5, 0.5]]),
        (
            "NonMaximumSuppression",
            {"maxBoxes": 1 << 40},
            [np.ones((1, 2, 4)), np.ones((1, 2, 1))],
        ),
        (
            "cropResize",
            {"targetSize": [1 << 20, 1 << 20]},
            [np.ones((1, 1, 1, 2, 2)), np.ones((1, 1, 4, 1, 1))],
        ),
        (
            "pooling",
            {
                "kernelSize": [1 << 20, 1 << 20],
                "stride": [1, 1],
                "includeLastPixel": {"paddingAmounts": [1 << 30] * 2},
            },
            [np.ones((1, 1, 2, 2))],
        ),
    ],
)
def test_what_a_layer_makes_is_held_against_the_limits(layer: str, values: Any, inputs: list[Any]) -> None:
    """Before it is made: the limit is small, and nothing near it is allocated."""
    small = Limits(value_bytes=1 << 20, live_bytes=1 << 22, seconds=1)
    with pytest.raises(DataError, match=rf"layer 'l' \({layer}, layer 0\): .+"):
        _run(case(layer, fields(layer, **values), inputs, np.zeros(1)), limits=small)


def test_every_layer_has_a_case() -> None:
    covered = {case.layer for case in LAYER_CASES} | {layer.layer for layer, _, _ in _random_cases()}
    covered |= {"categoricalDistribution"}
    assert set(LAYERS) - covered == set()
    assert set(LAYER_TYPES) - set(LAYERS) == ELSEWHERE
