"""`pt trace` on more than arrays: optional inputs, images, pipelines, linked models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from mil_specs import pipeline, save, spec
from PIL import Image

from device_sim.trace.cli import trace
from device_sim.trace.config import TraceConfig
from device_sim.trace.records import OpTrace
from device_sim.trace.trace import trace_file, trace_package
from personality_common.errors import DataError

ABOVE_HALF = np.float32(1 + 2**-12)
"""Float16 makes 1 of it."""


def summing(z: str, default: float | None = None) -> Any:
    """y = x + z, as a network; `z` is described so."""
    model = spec({"x": "array:2", "z": z}, {"y": "array:2"})
    if default is not None:
        model.description.input[1].type.multiArrayType.floatDefaultValue = default
    model.neuralNetwork.arrayInputShapeMapping = 1
    layer = model.neuralNetwork.layers.add(name="sum", input=["x", "z"], output=["y"])
    layer.addBroadcastable.SetInParent()
    return model


def doubling(kind: str = "double") -> Any:
    model = spec({"n": kind}, {"x": "array:2"})
    model.featureVectorizer.inputList.add(inputColumn="n", inputDimensions=1)
    model.featureVectorizer.inputList.add(inputColumn="n", inputDimensions=1)
    return model


def records(path: Path, inputs: dict[str, Any], against: str = "float16") -> dict[str, OpTrace]:
    return {record.output: record for record in trace_package(path, inputs, against)}


@pytest.mark.parametrize(("default", "expected"), [(None, ABOVE_HALF), (7.0, 7 + ABOVE_HALF)])
def test_optional_inputs_that_are_left_out(tmp_path: Path, default: float | None, expected: float) -> None:
    """Zeros, as of a first state, or their default value."""
    path = save(tmp_path / "m.mlmodel", summing("array:2?", default))
    found = records(path, {"x": np.full(2, ABOVE_HALF)})
    assert found["y"].high == pytest.approx(expected, rel=1e-9)
    assert found["y"].accumulated.max_abs == pytest.approx(2**-12)
    (tmp_path / "in.json").write_text(json.dumps({"x": [1, 2]}))
    assert trace_file(TraceConfig(path, tmp_path / "in.json")).records[-1].high == 2 + (default or 0)
    (tmp_path / "in.json").write_text(json.dumps({"x": [1, 2], "z": [0, 40]}))
    assert trace_file(TraceConfig(path, tmp_path / "in.json")).records[-1].high == 42


def test_optional_inputs_inside_of_a_pipeline(tmp_path: Path) -> None:
    """The default is the inner model's; the other input comes from a model without ops."""
    outer = pipeline({"n": "double"}, {"y": "array:2"}, doubling(), summing("array:2?", 7.0))
    found = records(save(tmp_path / "p.mlmodel", outer), {"n": 1 + 2**-12})
    assert found["y"].high == 8 + 2**-12
    assert found["y"].accumulated.relative == pytest.approx(2**-12 / (8 + 2**-12), rel=1e-3)
    outer = pipeline({"n": "double"}, {"y": "array:2"}, doubling(), summing("array:2"))
    with pytest.raises(DataError, match="takes 'z', which nothing before it gives"):
        records(save(tmp_path / "p.mlmodel", outer), {"n": 1})


def test_models_without_ops(tmp_path: Path) -> None:
    path = save(tmp_path / "m.mlmodel", doubling())
    with pytest.raises(DataError, match=r"this is of kind featureVectorizer, and has neither"):
        list(trace_package(path, {"n": 1}))
    outer = save(tmp_path / "p.mlmodel", pipeline({"n": "double"}, {"x": "array:2"}, doubling()))
    with pytest.raises(DataError, match=r"this is of kind pipeline, and has neither"):
        list(trace_package(outer, {"n": 1}))


def test_a_linked_model(tmp_path: Path) -> None:
    save(tmp_path / "sum.mlmodel", summing("array:2?", 7.0))
    model = spec({"x": "array:2"}, {"y": "array:2"})
    model.linkedModel.linkedModelFile.linkedModelFileName.defaultValue = "sum.mlmodelc"
    found = records(save(tmp_path / "m.mlmodel", model), {"x": np.full(2, ABOVE_HALF)})
    assert found["y"].high == pytest.approx(7 + ABOVE_HALF, rel=1e-9)
    assert found["y"].accumulated.max_abs == pytest.approx(2**-12)


def test_an_image(tmp_path: Path) -> None:
    """Its record is of what the layers see: scaled, where float16 loses something."""
    model = spec({}, {"y": "array:1,1,2"})
    image = model.description.input.add(name="photo").type.imageType
    image.height, image.width, image.colorSpace = 1, 2, 10
    scaler = model.neuralNetwork.preprocessing.add(featureName="photo").scaler
    scaler.channelScale, scaler.grayBias = 1 / 256, 1
    layer = model.neuralNetwork.layers.add(name="y", input=["photo"], output=["y"])
    layer.activation.linear.alpha = 1
    path = save(tmp_path / "m.mlmodel", model)
    Image.fromarray(np.array([[1, 255]], np.uint8)).save(tmp_path / "p.png")
    done = CliRunner().invoke(trace, [str(path), "--input", str(tmp_path / "p.png"), "--json"])
    assert done.exit_code == 0, done.output
    found = {record["output"]: record for record in json.loads(done.stdout)["accumulated"]}
    for name in ("photo", "y"):
        assert (found[name]["low"], found[name]["high"]) == (1 + 1 / 256, 1 + 255 / 256)


def test_several_rows(tmp_path: Path) -> None:
    path = save(tmp_path / "m.mlmodel", summing("array:2?"))
    (tmp_path / "in.json").write_text(json.dumps([{"x": [1, 2]}] * 2))
    with pytest.raises(DataError, match=r"in\.json: a trace is of one row of inputs, this has 2"):
        trace_file(TraceConfig(path, tmp_path / "in.json"))
