"""What an unset field means: one row for each default that the format documents.

The values are those of the comments of Apple's NeuralNetwork.proto, written out here a second time. The
network of each row leaves the field unset, and must give what the documented value gives by hand or by torch.
"""

import inspect
import warnings
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry
from coremltools.proto import NeuralNetwork_pb2
from layer_harness import LayerCase, case, check, fields
from mil_harness import package_of
from torch.nn import functional as F

from device_sim.mil import load_mil
from device_sim.mil.layers.defaults import DEFAULTS
from device_sim.mil.registry import all_ops

X = np.array([1e-3, 2.0, 4.0], np.float32).reshape(1, 3, 1, 1)
ZERO = np.array([0, 1e-6, 1], np.float32).reshape(1, 3, 1, 1)
IMAGE = np.random.default_rng(2).normal(size=(1, 2, 6, 6)).astype(np.float32)
T = torch.from_numpy(IMAGE)
W = np.random.default_rng(3).normal(size=(2, 2, 3, 3)).astype(np.float32)
ONES, NONE = np.ones(3, np.float32), np.zeros(3, np.float32)
LSTM = "uniDirectionalLSTM"


def _steep(builder: Any, inputs: list[str], outputs: list[str]) -> None:
    """One linear unit with weights of 1: it grows beyond any bound."""
    one = np.ones(1, np.float32)
    gates = ("inputGate", "forgetGate", "blockInput", "outputGate")
    weights = {f"{g}{kind}Matrix": one for g in gates for kind in ("Weight", "Recursion")}
    layer = fields(LSTM, inputVectorSize=1, outputVectorSize=1, params={}, weightParams=weights)
    layer(builder, inputs, outputs)
    for _ in range(3):
        linear = builder.nn_spec.layers[0].uniDirectionalLSTM.activations.add().linear
        linear.alpha = 1


ROWS: dict[tuple[str, str], list[LayerCase]] = {
    ("UnaryFunctionLayerParams", "scale"): [
        case("unary", fields("unary", type="SQRT"), [X], np.sqrt(X)),
        case("unary", fields("unary", type="POWER", alpha=2.0), [X], X**2),
        case("unary", fields("unary", type="EXP"), [X], np.exp(X)),
        case("unary", fields("unary", type="ABS"), [-X], X),
        case("unary", fields("unary", type="THRESHOLD", alpha=2.0), [X], np.maximum(X, 2)),
    ],
    ("UnaryFunctionLayerParams", "epsilon"): [
        case("unary", fields("unary", type="RSQRT"), [ZERO], 1 / np.sqrt(ZERO + 1e-6), atol=1e-3),
        case("unary", fields("unary", type="INVERSE"), [ZERO], 1 / (ZERO + 1e-6), atol=1),
        case("unary", fields("unary", type="LOG"), [ZERO], np.log(ZERO + 1e-6)),
    ],
    ("BatchnormLayerParams", "epsilon"): [
        case(
            "batchnorm",
            fields("batchnorm", channels=3, gamma=ONES, beta=NONE, mean=NONE, variance=NONE),
            [X],
            X / np.sqrt(1e-5),
            atol=1e-3,
        )
    ],
    ("MeanVarianceNormalizeLayerParams", "epsilon"): [
        case(
            "mvn",
            fields("mvn", normalizeVariance=True),
            [IMAGE * 1e-3],
            F.instance_norm(T * 1e-3, eps=1e-6),
            atol=1e-5,
        )
    ],
    ("L2NormalizeLayerParams", "epsilon"): [
        case("l2normalize", fields("l2normalize"), [X * 1e-3], X * 1e-3 / np.sqrt((X**2).sum() * 1e-6 + 1e-6))
    ],
    ("LRNLayerParams", "k"): [
        case("lrn", fields("lrn", alpha=0.5, beta=2.0, localSize=1), [X], X / (1 + 0.5 * X**2) ** 2)
    ],
    ("ReduceLayerParams", "epsilon"): [
        case("reduce", fields("reduce", mode="LOGSUM", axis="C"), [ZERO], [[[[np.log(ZERO + 1e-6).sum()]]]])
    ],
    ("ConvolutionLayerParams", "nGroups"): [
        case(
            "convolution",
            fields("convolution", outputChannels=2, kernelChannels=2, kernelSize=[3, 3], weights=W, valid={}),
            [IMAGE],
            F.conv2d(T, torch.from_numpy(W)),
            atol=5e-6,
        )
    ],
    ("ConvolutionLayerParams", "kernelSize"): [
        case(
            "convolution",
            fields("convolution", outputChannels=2, kernelChannels=2, nGroups=1, weights=W, valid={}),
            [IMAGE],
            F.conv2d(T, torch.from_numpy(W)),
            atol=5e-6,
        )
    ],
    ("ConvolutionLayerParams", "stride"): [
        case(
            "convolution",
            fields(
                "convolution", outputChannels=2, kernelChannels=2, dilationFactor=[2, 1], weights=W, valid={}
            ),
            [IMAGE],
            F.conv2d(T, torch.from_numpy(W), dilation=(2, 1)),
            atol=5e-6,
        )
    ],
    ("ConvolutionLayerParams", "dilationFactor"): [
        case(
            "convolution",
            fields("convolution", outputChannels=2, kernelChannels=2, stride=[2, 1], weights=W, valid={}),
            [IMAGE],
            F.conv2d(T, torch.from_numpy(W), stride=(2, 1)),
            atol=5e-6,
        )
    ],
    ("ValidPadding", "paddingAmounts"): [
        case("pooling", fields("pooling", kernelSize=[2, 2], valid={}), [IMAGE], F.max_pool2d(T, 2, 1))
    ],
    ("PoolingLayerParams", "kernelSize"): [
        case("pooling", fields("pooling", stride=[2, 2], valid={}), [IMAGE], F.max_pool2d(T, 3, 2))
    ],
    ("PoolingLayerParams", "stride"): [
        case("pooling", fields("pooling", kernelSize=[3, 2], valid={}), [IMAGE], F.max_pool2d(T, (3, 2), 1))
    ],
    ("ValidCompletePadding", "paddingAmounts"): [
        case(
            "pooling",
            fields("pooling", kernelSize=[3, 3], stride=[2, 2], includeLastPixel={}),
            [IMAGE],
            F.max_pool2d(T, 3, 2, ceil_mode=True),
        )
    ],
    ("PermuteLayerParams", "axis"): [case("permute", fields("permute"), [IMAGE[None]], T[None])],
    ("UpsampleLayerParams", "scalingFactor"): [case("upsample", fields("upsample"), [IMAGE], T)],
    ("UpsampleLayerParams", "fractionalScalingFactor"): [
        case("upsample", fields("upsample", mode="BILINEAR"), [IMAGE], T)
    ],
    ("ResizeBilinearLayerParams", "targetSize"): [
        case("resizeBilinear", fields("resizeBilinear"), [IMAGE], T[..., :1, :1])
    ],
    ("CropResizeLayerParams", "targetSize"): [
        case(
            "cropResize",
            fields("cropResize", spatialScale=1.0),
            [IMAGE[None], np.array([2, 3, 4, 5]).reshape(1, 1, 4, 1, 1)],
            T[None, ..., 2:3, 3:4],
        )
    ],
    ("CropResizeLayerParams", "spatialScale"): [
        case(
            "cropResize",
            fields("cropResize", targetSize=[2, 2]),
            [IMAGE[None], np.array([2, 3, 3, 4]).reshape(1, 1, 4, 1, 1)],
            T[None, ..., 2:4, 3:5],
        )
    ],
    ("SequenceRepeatLayerParams", "nRepetitions"): [
        case("sequenceRepeat", fields("sequenceRepeat"), [IMAGE[None]], T[None])
    ],
    # i = f = z = 200 clipped to 50; c = 50 * 0 + 50 * 50, clipped; y = c * o.
    ("LSTMParams", "cellClipThreshold"): [
        case(LSTM, _steep, [np.full((1, 1, 1, 1, 1), 200)], np.full((1, 1, 1, 1, 1), 50 * 50.0))
    ],
    # All of the probability is on entry 2; 1e-10 of it on the others.
    ("CategoricalDistributionLayerParams", "eps"): [
        case(
            "categoricalDistribution",
            fields("categoricalDistribution", numSamples=5, temperature=1.0),
            [[0, 0, 1]],
            [2] * 5,
        )
    ],
    # A temperature of 0 would divide by it.
    ("CategoricalDistributionLayerParams", "temperature"): [
        case(
            "categoricalDistribution",
            fields("categoricalDistribution", numSamples=5, isLogits=True),
            [[-20, 20, 0]],
            [1] * 5,
        )
    ],
}
WRITTEN: dict[tuple[str, str], Any] = {
    ("BatchnormLayerParams", "epsilon"): 1e-5,
    ("CategoricalDistributionLayerParams", "eps"): 1e-10,
    ("CategoricalDistributionLayerParams", "temperature"): 1.0,
    ("LSTMParams", "cellClipThreshold"): 50.0,
}
"""As the format's comments have them, where a network shows the default's size only."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: ".".join(row))
def test_an_unset_field_means_what_the_format_documents(row: tuple[str, str]) -> None:
    for one in ROWS[row]:
        check(one)
    if row in WRITTEN:
        assert DEFAULTS[row[0]][row[1]] == WRITTEN[row]


def test_the_epsilon_of_a_logarithm() -> None:
    """The format's formula for LOG is without one, but coremltools' converter hands MIL's log(x + epsilon)
    over in this field, and its builder writes 1e-45, which it would not need if 0 were none."""
    x = np.array([0.001, 0.5, 4], np.float32)
    program = mb.program(input_specs=[mb.TensorSpec((3,))])(lambda x: mb.log(x=x, epsilon=0.5, name="y"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec = ct.convert(program, convert_to="neuralnetwork", skip_model_load=True).get_spec()
    found = load_mil(package_of(spec)).predict({"x": x})["y"]
    np.testing.assert_allclose(found, np.log(x + 0.5), rtol=1e-6)

    def builders(builder: Any, inputs: list[str], outputs: list[str]) -> None:
        builder.add_unary("l", inputs[0], outputs[0], "log")

    check(case("unary", builders, [X], np.log(X)))


def test_every_default_has_a_row_and_is_a_field_of_the_format() -> None:
    assert {(message, field) for message, own in DEFAULTS.items() for field in own} == set(ROWS)
    for message, field in ROWS:
        where: Any = NeuralNetwork_pb2
        where = where.PoolingLayerParams if message == "ValidCompletePadding" else where
        assert field in getattr(where, message).DESCRIPTOR.fields_by_name


def test_defaults_of_mil_ops_are_those_of_coremltools() -> None:
    """Every optional parameter of every kernel, against `default_inputs` of the op's class."""
    compared, differ = 0, []
    for op in all_ops():
        versions = {version.name: cls for version, cls in SSAOpRegistry.core_ops.get(op.name, {}).items()}
        documented = _documented(versions[op.opset]) if op.opset in versions else {}
        for name, parameter in inspect.signature(op.kernel).parameters.items():
            expected = documented.get(name)
            if parameter.default in (inspect.Parameter.empty, None) or expected is None:
                continue  # required, or worked out from the input
            compared += 1
            if parameter.default != (tuple(expected) if isinstance(expected, list | tuple) else expected):
                differ.append(f"{op.name} of {op.opset}: {name} = {parameter.default}, documented {expected}")
    assert not differ
    assert compared > 60


def _documented(cls: Any) -> dict[str, Any]:
    """`default_inputs` of an op; a default that is worked out from its inputs is left out."""
    try:
        return dict(cls.default_inputs(object.__new__(cls)).items())
    except AttributeError:
        return {}
