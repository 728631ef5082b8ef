"""Images as outputs: what style transfer gives, and a next model takes."""

import warnings
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder
from mil_specs import pipeline, save

from device_sim.mil import load_mil
from personality_common.coreml.proto import Model_pb2
from personality_common.errors import DataError

PIXELS = np.arange(18, dtype=np.float32).reshape(3, 2, 3) * 10
SPACES = {"gray": 10, "rgb": 20, "bgr": 30, "gray16": 40}


def image(feature: Any, space: str = "rgb", height: int = 2) -> None:
    feature.type.imageType.height, feature.type.imageType.width = height, 3
    feature.type.imageType.colorSpace = SPACES[space]


def network(space: str = "rgb", name: str = "x", out: str = "y", rank5: bool = False, height: int = 2) -> Any:
    """Image to image: 2 x - 40."""
    builder = NeuralNetworkBuilder(
        [(name, datatypes.Array(3, 2, 3))], [(out, None)], disable_rank5_shape_mapping=not rank5
    )
    builder.add_activation("a", "LINEAR", name, out, [2.0, -40.0])
    spec = builder.spec
    image(spec.description.input[0])
    spec.description.output[0].ClearField("type")
    spec.description.output[0].name = out
    image(spec.description.output[0], space, height)
    return spec


@pytest.mark.parametrize("rank5", [False, True])
def test_pixels_are_cut_and_not_rounded(tmp_path: Path, rank5: bool) -> None:
    model = load_mil(save(tmp_path / "m.mlmodel", network(rank5=rank5)))
    found = model.predict({"x": PIXELS + 0.25})["y"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.minimum(np.maximum(2 * PIXELS - 39.5, 0), 255))
    assert found[0, 0].tolist() == [0, 0, 0.5]
    assert found.max() == 255


def test_a_pipeline_hands_images_on(tmp_path: Path) -> None:
    """The second sees what the first one's pixels were cut to: 2 (2 x - 40) - 40, with 0 and 255 between."""
    model = pipeline({}, {}, network(out="z"), network(name="z", out="y"))
    image(model.description.input.add(name="x"))
    image(model.description.output.add(name="y"))
    found = load_mil(save(tmp_path / "m.mlmodel", model)).predict({"x": PIXELS})["y"]
    between = np.clip(2 * PIXELS - 40, 0, 255)
    np.testing.assert_array_equal(found, np.clip(2 * between - 40, 0, 255))


@pytest.mark.parametrize(("space", "height"), [("gray", 2), ("gray16", 2), ("rgb", 3)])
def test_an_image_of_another_shape_is_refused(tmp_path: Path, space: str, height: int) -> None:
    model = load_mil(save(tmp_path / "m.mlmodel", network(space, height=height)))
    with pytest.raises(
        DataError, match=r"output 'y' is described as an image of \d channels, \(\d, 3\), got"
    ):
        model.predict({"x": PIXELS})


def test_gray_of_16_bits_is_any_number(tmp_path: Path) -> None:
    spec = network("gray16")
    image(spec.description.input[0], "gray")
    model = load_mil(save(tmp_path / "m.mlmodel", spec))
    found = model.predict({"x": PIXELS[:1] * 2})["y"]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, 4 * PIXELS[:1] - 40)
    assert found.min() == -40


def test_a_program_gives_an_image(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((1, 3, 2, 3))], opset_version=ct.target.iOS16)
    def brighter(x: Any) -> Any:
        return mb.sub(x=mb.mul(x=x, y=2.0), y=40.0, name="y")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = ct.convert(
            brighter,
            inputs=[ct.ImageType("x", shape=(1, 3, 2, 3))],
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        )
    package.save(str(tmp_path / "m.mlpackage"))
    file = tmp_path / "m.mlpackage/Data/com.apple.CoreML/model.mlmodel"
    spec = Model_pb2.Model.FromString(file.read_bytes())
    image(spec.description.output[0])  # coremltools does so for what torch converts alone
    save(file, spec)
    found = load_mil(tmp_path / "m.mlpackage").predict({"x": PIXELS})["y"]
    np.testing.assert_array_equal(found, np.clip(2 * PIXELS - 40, 0, 255))
