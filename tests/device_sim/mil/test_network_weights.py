"""However weights are stored, their length is that of the values, and the network gives the same."""

from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder, quantization_utils
from layer_harness import case, check, fields
from mil_harness import package_of
from torch.nn import functional as F

from device_sim.mil import load_mil
from personality_common.coreml.network import weights
from personality_common.errors import DataError

RNG = np.random.default_rng(6)


def _network() -> Any:
    """Layers of every shape of weights that coremltools quantizes: also 83 values, no multiple of 8."""
    builder = NeuralNetworkBuilder(
        [("x", datatypes.Array(1, 3, 6, 6))], [("y", datatypes.Array(1))], disable_rank5_shape_mapping=True
    )
    common = {
        "height": 3,
        "width": 3,
        "stride_height": 1,
        "stride_width": 1,
        "border_mode": "valid",
        "groups": 1,
    }
    builder.add_convolution(
        "conv",
        kernel_channels=3,
        output_channels=5,
        W=RNG.normal(size=(3, 3, 3, 5)),
        b=RNG.normal(size=5),
        has_bias=True,
        input_name="x",
        output_name="a",
        **common,
    )
    builder.add_convolution(
        "deconv",
        kernel_channels=5,
        output_channels=2,
        W=RNG.normal(size=(3, 3, 5, 2)),
        b=None,
        has_bias=False,
        is_deconv=True,
        input_name="a",
        output_name="b",
        **common,
    )
    builder.add_scale("scale", RNG.normal(size=2), None, False, "b", "c", shape_scale=[2])
    builder.add_inner_product("dense", RNG.normal(size=(7, 72)), RNG.normal(size=7), 72, 7, True, "c", "d")
    builder.add_squeeze("s", "d", "e", [-1, -2])
    builder.add_batched_mat_mul(
        "product", ["e"], "f", weight_matrix_rows=7, weight_matrix_columns=3, W=RNG.normal(size=(7, 3))
    )
    builder.add_load_constant_nd("constant", "g", RNG.normal(size=(83,)), (83,))
    builder.add_concat_nd("h", ["f", "i"], "y", -1)
    builder.add_expand_dims("j", "g", "i", [0])
    layers = builder.nn_spec.layers
    moved = layers.pop()
    layers.insert(len(layers) - 1, moved)
    builder.spec.description.output[0].type.multiArrayType.ClearField("shape")
    return builder.spec


@pytest.mark.parametrize(
    ("bits", "mode"),
    [
        (16, "_linear_quantization"),
        *((bits, "_linear_quantization") for bits in range(1, 9)),
        (8, "_linear_quantization_symmetric"),
        *((bits, "_lookup_table_quantization_linear") for bits in (1, 4, 6, 8)),
    ],
)
def test_quantized_weights_against_coremltools_own_dequantizing(bits: int, mode: str, capsys: Any) -> None:
    spec = _network()
    quantization_utils._quantize_spec_weights(spec, bits, mode)
    quantized = type(spec).FromString(spec.SerializeToString())
    if bits < 16:
        quantization_utils._dequantize_nn_spec(spec.neuralNetwork)
    else:
        for layer in spec.neuralNetwork.layers:
            for found in weights(type(spec.neuralNetwork)(layers=[layer])):
                found.params.floatValue.extend(np.frombuffer(found.params.float16Value, np.float16))
                found.params.ClearField("float16Value")
    x = RNG.normal(size=(1, 3, 6, 6)).astype(np.float32)
    plain, packed = (load_mil(package_of(s)).predict({"x": x})["y"] for s in (spec, quantized))
    np.testing.assert_allclose(packed, plain, rtol=1e-5, atol=1e-5)
    assert packed.shape == (1, 86)
    capsys.readouterr()


def test_parameters_of_an_activation_in_half_precision() -> None:
    """`PReLU.alpha` and `parametricSoftplus` take their length from whatever is stored."""
    x = RNG.normal(size=(3, 2, 2)).astype(np.float32)
    alpha, beta = np.array([0.1, 0.2, 0.3], np.float16), np.array([1, 2, 0.5], np.float16)
    slope = fields("activation", PReLU={"alpha": {"float16Value": alpha.tobytes()}})
    check(
        case("activation", slope, [x], F.prelu(torch.from_numpy(x)[None], torch.from_numpy(alpha).float())[0])
    )
    soft = {"alpha": {"float16Value": alpha.tobytes()}, "beta": {"float16Value": beta.tobytes()}}
    a, b = (torch.from_numpy(v).float().reshape(3, 1, 1) for v in (alpha, beta))
    expected = a * F.softplus(torch.from_numpy(x) * b)
    check(case("activation", fields("activation", parametricSoftplus=soft), [x], expected))


def test_raw_weights_are_packed_from_the_highest_bit_on() -> None:
    """By hand: 3 bits each, 0b001_010_01 0b1_100_0000: 1, 2, 3, 4; times 2, plus 10, 20, 30, 40."""
    stored: dict[str, Any] = {
        "rawValue": bytes([0b00101001, 0b11000000]),
        "quantization": {"numberOfBits": 3},
    }

    def make(builder: NeuralNetworkBuilder, inputs: list[str], outputs: list[str]) -> None:
        fields("loadConstantND", shape=[4], data=stored)(builder, inputs, outputs)
        linear = builder.nn_spec.layers[0].loadConstantND.data.quantization.linearQuantization
        linear.scale.append(2)
        linear.bias.extend([10, 20, 30, 40])

    check(case("loadConstantND", make, [], [12, 24, 36, 48]))


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"rawValue": b"1234"}, "raw values need a quantization of 1 to 8 bits, got 0"),
        ({"rawValue": b"1234", "quantization": {"numberOfBits": 9}}, "1 to 8 bits, got 9"),
        ({"rawValue": b"123", "quantization": {"numberOfBits": 8}}, "must have 4 values .* got 3"),
        ({"rawValue": b"1234", "quantization": {"numberOfBits": 8}}, "quantization None is not supported"),
        (
            {"rawValue": b"1234", "quantization": {"numberOfBits": 8, "lookupTableQuantization": {}}},
            "a table of 256 is expected, got 0",
        ),
        (
            {"rawValue": b"1234", "quantization": {"numberOfBits": 8, "linearQuantization": {}}},
            "1 or 4 scales and biases are expected, got 0 and 1",
        ),
        ({"float16Value": b"123"}, "no whole number of float16"),
        ({"float16Value": b"12", "floatValue": [1.0]}, "stored as floatValue and float16Value"),
        ({}, "must have 4 values .* got 0"),
    ],
)
def test_malformed_weights_are_named(stored: dict[str, Any], message: str) -> None:
    layer = case("loadConstantND", fields("loadConstantND", shape=[4], data=stored), [], np.zeros(4))
    with pytest.raises(DataError, match=rf"layer 'l' \(loadConstantND, layer 0\): data.*{message}"):
        check(layer)


def _classifier(labels: list[Any], **more: Any) -> Any:
    builder = NeuralNetworkBuilder(
        [("x", datatypes.Array(3))], [("scores", None)], mode="classifier", disable_rank5_shape_mapping=True
    )
    builder.add_softmax_nd("s", "x", "scores", -1)
    builder.set_class_labels(labels, predicted_feature_name="label", **more)
    return builder.spec


@pytest.mark.parametrize("labels", [["cat", "dog", "fox"], [7, -1, 3]])
def test_a_classifier_gives_a_label_and_the_scores_of_all(labels: list[Any]) -> None:
    x = np.array([0.5, 2.0, -1.0], np.float32)
    found = load_mil(package_of(_classifier(labels))).predict({"x": x})
    assert found["label"] == labels[1]
    expected = torch.softmax(torch.from_numpy(x), 0).tolist()
    assert list(found["scores"]) == labels
    assert list(found["scores"].values()) == pytest.approx(expected, rel=1e-6)


def test_a_classifier_whose_scores_have_another_name_and_one_that_lacks_labels() -> None:
    spec = _classifier(["a", "b", "c"])
    spec.neuralNetworkClassifier.ClearField("labelProbabilityLayerName")  # the last layer's
    spec.description.output[0].name = "probabilities"
    found = load_mil(package_of(spec)).predict({"x": np.array([3.0, 1, 2])})
    assert found["label"] == "a"
    assert max(found["probabilities"], key=found["probabilities"].get) == "a"
    spec.neuralNetworkClassifier.stringClassLabels.vector.pop()
    with pytest.raises(DataError, match=r"2 class labels need as many scores, got \[3\]"):
        load_mil(package_of(spec)).predict({"x": np.zeros(3)})
    spec.neuralNetworkClassifier.ClearField("stringClassLabels")
    with pytest.raises(DataError, match="a classifier without class labels"):
        load_mil(package_of(spec))


def test_a_regressor_is_a_network() -> None:
    builder = NeuralNetworkBuilder(
        [("x", datatypes.Array(3))],
        [("y", datatypes.Array(3))],
        mode="regressor",
        disable_rank5_shape_mapping=True,
    )
    builder.add_activation("l", "LINEAR", "x", "y", [2, 1])
    np.testing.assert_array_equal(
        load_mil(package_of(builder.spec)).predict({"x": np.arange(3.0)})["y"], [1, 3, 5]
    )


@pytest.mark.parametrize("space", ["RGB", "BGR", "GRAYSCALE"])
@pytest.mark.parametrize("rank5", [True, False])
def test_images_are_scaled_and_biased_by_channel(space: str, rank5: bool) -> None:
    """By hand from the format's equations; the first channel of a BGR image is blue."""
    count = 1 if space == "GRAYSCALE" else 3
    builder = NeuralNetworkBuilder(
        [("x", datatypes.Array(count, 2, 4))],
        [("y", datatypes.Array(1))],
        disable_rank5_shape_mapping=not rank5,
    )
    builder.add_activation("l", "LINEAR", "x", "y", [1, 0])
    spec = builder.spec
    image = spec.description.input[0].type.imageType
    image.height, image.width = 2, 4
    image.colorSpace = getattr(ct.proto.FeatureTypes_pb2.ImageFeatureType, space)
    spec.description.output[0].type.multiArrayType.ClearField("shape")
    spec.neuralNetwork.imageInputShapeMapping = 0 if rank5 else 1
    scaler = spec.neuralNetwork.preprocessing.add(featureName="x").scaler
    scaler.channelScale, scaler.redBias, scaler.greenBias, scaler.blueBias, scaler.grayBias = 0.5, 1, 2, 3, 4
    pixels = RNG.integers(0, 256, (count, 2, 4)).astype(np.uint8)
    biases = {"RGB": [1, 2, 3], "BGR": [3, 2, 1], "GRAYSCALE": [4]}[space]
    expected = pixels * 0.5 + np.array(biases).reshape(-1, 1, 1)
    got = load_mil(package_of(spec)).predict({"x": pixels})["y"]
    np.testing.assert_array_equal(got.reshape(expected.shape), expected)
    # A mean image instead.
    del spec.neuralNetwork.preprocessing[:]
    mean = RNG.normal(size=pixels.shape).astype(np.float32)
    spec.neuralNetwork.preprocessing.add(featureName="x").meanImage.meanImage.extend(mean.ravel())
    got = load_mil(package_of(spec)).predict({"x": pixels})["y"]
    np.testing.assert_allclose(got.reshape(mean.shape), pixels - mean, rtol=1e-6)
    with pytest.raises(DataError, match=rf"image 'x' must have {count} channels of \(2, 4\)"):
        load_mil(package_of(spec)).predict({"x": pixels[..., :3]})
    with pytest.raises(DataError, match="must have pixels from 0 to 255"):
        load_mil(package_of(spec)).predict({"x": pixels.astype(np.float32) - 300})
