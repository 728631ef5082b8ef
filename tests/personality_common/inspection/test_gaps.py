"""What `pt inspect` must not leave out: packed weights, classes, preprocessing, functions, pointers."""

import json
import shutil
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from personality_common.coreml.package import Package
from personality_common.coreml.proto import Model_pb2
from personality_common.coreml.weights import WeightFile
from personality_common.errors import DataError
from personality_common.inspection.cli import inspect

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 90\n".format("0" * 64)


def report(path: Path) -> Any:
    done = CliRunner().invoke(inspect, [str(path), "--weights", "--json"], catch_exceptions=False)
    return json.loads(done.stdout)["model"]


def shown(path: Path, columns: str = "200") -> str:
    return CliRunner(env={"COLUMNS": columns}).invoke(inspect, [str(path)], catch_exceptions=False).stdout


def saved(spec: Any, path: Path) -> Path:
    path.write_bytes(spec.SerializeToString())
    return path


@pytest.fixture(scope="module")
def compressed(ct: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A linear layer (8, 6), so small that its indices are inline or not as coremltools likes."""
    folder = tmp_path_factory.mktemp("compressed")
    mb, cto = ct.converters.mil.mil.Builder, ct.optimize.coreml
    weight = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for target in (ct.target.iOS16, ct.target.iOS18):
            program = mb.program(input_specs=[mb.TensorSpec((1, 6))], opset_version=target)(
                lambda x: mb.linear(x=x, weight=weight, name="y")
            )
            model = ct.convert(program, minimum_deployment_target=target, skip_model_load=True)
            for bits in (1, 2, 4, 6):
                config = cto.OpPalettizerConfig(mode="uniform", nbits=bits, weight_threshold=0)
                palette = cto.palettize_weights(model, cto.OptimizationConfig(config))
                found[f"{target.name} {bits}"] = folder / f"{target.name}-{bits}.mlpackage"
                palette.save(str(found[f"{target.name} {bits}"]))
            config = cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=0)
            found[f"{target.name} sparse"] = folder / f"{target.name}-sparse.mlpackage"
            pruned = cto.prune_weights(model, cto.OptimizationConfig(config))
            pruned.save(str(found[f"{target.name} sparse"]))
    return found


@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
def test_packed_weights_are_counted_as_elements(compressed: dict[str, Path], target: str) -> None:
    for bits in (1, 2, 4, 6):
        counts = {c["dtype"]: c for c in report(compressed[f"{target} {bits}"])["parameters"]}
        assert counts[f"uint{bits}"] == {
            "dtype": f"uint{bits}", "tensors": 1, "elements": 48, "bytes": 48 * bits // 8,
        }  # fmt: skip
    counts = {c["dtype"]: c for c in report(compressed[f"{target} sparse"])["parameters"]}
    assert (counts["uint1"]["elements"], counts["uint1"]["bytes"]) == (48, 6)


@pytest.mark.parametrize("bits", [1, 3, 4])
def test_packed_weights_of_networks_have_the_shapes_that_they_had(
    ct: ModuleType, tmp_path: Path, bits: int, capsys: Any
) -> None:
    """By coremltools' own packing, of layers whose sizes are no multiples of 8."""
    array, rng = ct.models.datatypes.Array, np.random.default_rng(0)
    builder = ct.models.neural_network.NeuralNetworkBuilder([("x", array(5))], [("y", array(3))])
    scale, bias = rng.normal(size=(5, 1, 1)), rng.normal(size=(5, 1, 1))
    builder.add_scale("scale", scale, bias, True, "x", "a", shape_scale=[5, 1, 1], shape_bias=[5, 1, 1])
    builder.add_bias("bias", rng.normal(size=5), "a", "b", shape_bias=[5])
    builder.add_inner_product("dense", rng.normal(size=(7, 5)), rng.normal(size=7), 5, 7, True, "b", "c")
    builder.add_batchnorm("norm", 7, *rng.uniform(size=(4, 7)), input_name="c", output_name="d")
    across, again = ([rng.normal(size=(3, width)) for _ in range(4)] for width in (7, 3))
    states = ["h", "s"], ["h2", "s2"]
    builder.add_unilstm(
        "lstm", again, across, list(rng.normal(size=(4, 3))), 3, 7, ["d", *states[0]], ["y", *states[1]]
    )
    before = report(saved(builder.spec, tmp_path / "float.mlmodel"))
    ct.models.neural_network.quantization_utils._quantize_spec_weights(
        builder.spec, bits, "_linear_quantization"
    )
    capsys.readouterr()
    after = report(saved(builder.spec, tmp_path / "packed.mlmodel"))
    shapes = {weight["name"]: weight["shape"] for weight in before["tensors"]}
    assert {weight["name"]: weight["shape"] for weight in after["tensors"]} == shapes
    assert shapes["dense.bias"] == [7]
    lstm = 4 * 3 * (7 + 3 + 1)
    assert sum(kind["elements"] for kind in after["parameters"]) == 3 * 5 + 7 * 6 + 4 * 7 + lstm


def _network(ct: ModuleType) -> Any:
    builder = ct.models.neural_network.NeuralNetworkBuilder(
        [("x", ct.models.datatypes.Array(3, 4, 4))], [("y", ct.models.datatypes.Array(3, 4, 4))]
    )
    for name in ("a", "b"):
        custom = ct.proto.NeuralNetwork_pb2.CustomLayerParams(className="Whirl")
        builder.add_custom(name, ["x" if name == "a" else "a"], ["a" if name == "a" else "y"], custom)
    builder.set_pre_processing_parameters(image_input_names=["x"], image_scale=0.0039, red_bias=-0.5)
    return builder.spec


def test_custom_layers_and_preprocessing(ct: ModuleType, tmp_path: Path) -> None:
    path = saved(_network(ct), tmp_path / "n.mlmodel")
    model = report(path)
    assert model["custom_layers"] == {"Whirl": 2}
    (step,) = model["preprocessing"]
    assert (step["feature"], step["type"]) == ("x", "scaler")
    assert step["values"]["channelScale"] == pytest.approx(0.0039)
    assert step["values"]["redBias"] == -0.5
    for columns in ("80", "200"):
        text = shown(path, columns)
        assert "Whirl 2" in text
        assert "Preprocessing of x" in text
        assert max(map(len, text.splitlines())) <= int(columns) + len(str(path))


def test_class_labels(ct: ModuleType, packages: dict[str, Path], tmp_path: Path) -> None:
    labels = report(packages["classifier.mlmodel"])["labels"]
    assert len(labels) == 4
    assert str(labels[0]) in shown(packages["classifier.mlmodel"])
    mb = ct.converters.mil.mil.Builder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = mb.program(input_specs=[mb.TensorSpec((1, 3))], opset_version=ct.target.iOS16)(
            lambda x: mb.softmax(x=x, axis=-1)
        )
        ct.convert(
            program,
            classifier_config=ct.ClassifierConfig(["cat", "dog", "owl"]),
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        ).save(str(tmp_path / "c.mlpackage"))
    assert report(tmp_path / "c.mlpackage")["labels"] == ["cat", "dog", "owl"]
    assert "cat, dog, owl" in shown(tmp_path / "c.mlpackage")


def test_training_parameters_of_nearest_neighbours(tmp_path: Path) -> None:
    spec = Model_pb2.Model(specificationVersion=4, isUpdatable=True)
    neighbours = spec.kNearestNeighborsClassifier
    neighbours.numberOfNeighbors.defaultValue = 5
    neighbours.numberOfNeighbors.range.maxValue = 9
    neighbours.inverseDistanceWeighting.SetInParent()
    neighbours.stringClassLabels.vector.extend(["yes", "no"])
    index = neighbours.nearestNeighborsIndex
    index.numberOfDimensions = 2
    index.squaredEuclideanDistance.SetInParent()
    index.singleKdTreeIndex.leafSize = 30
    model = report(path := saved(spec, tmp_path / "k.mlmodel"))
    details = model["details"]
    assert (model["updatable"], model["labels"]) == (True, ["yes", "no"])
    assert details["numberOfNeighbors.defaultValue"] == 5
    assert details["numberOfNeighbors.range.maxValue"] == 9
    assert details["WeightingScheme"] == "inverseDistanceWeighting"
    assert details["nearestNeighborsIndex.DistanceFunction"] == "squaredEuclideanDistance"
    assert details["nearestNeighborsIndex.singleKdTreeIndex.leafSize"] == 30
    assert "inverseDistanceWeighting" in shown(path)


def test_functions_have_features_of_their_own(packages: dict[str, Path], tmp_path: Path) -> None:
    path = Path(shutil.copytree(packages["mlp.mlpackage"], tmp_path / "m.mlpackage"))
    file = Package.open(path).model_file
    spec = Model_pb2.Model.FromString(file.read_bytes())
    spec.mlProgram.functions["four"].CopyFrom(spec.mlProgram.functions["main"])
    for name, size in (("main", 1), ("four", 4)):
        described = spec.description.functions.add(name=name)
        described.input.extend(spec.description.input)
        described.input[0].type.multiArrayType.ClearField("shapeRange")
        described.input[0].type.multiArrayType.shape[0] = size
        described.output.extend(spec.description.output)
    del spec.description.input[:], spec.description.output[:]
    spec.description.defaultFunctionName = "four"
    file.write_bytes(spec.SerializeToString())
    model = report(path)
    shapes = {f["name"]: f["inputs"][0]["shape"] for f in model["functions"]}
    assert shapes == {"main": [1, 16], "four": [4, 16]}
    assert model["default_function"] == "four"
    text = shown(path)
    assert "Features of four (default)" in text
    assert "Features of main\n" in text
    assert "(1, 16)" in text
    assert "(4, 16)" in text


def test_a_pointer_of_git_lfs_is_named(packages: dict[str, Path], weights_of: Any, tmp_path: Path) -> None:
    from device_sim.runtimes.arrays import read_arrays

    for name in ("m.mlmodel", "m.onnx", "m.npz", "m.bin"):
        (tmp_path / name).write_text(POINTER)
    opens: dict[str, Any] = {"m.npz": lambda p: read_arrays(p, ()), "m.bin": WeightFile.open}
    for name in ("m.mlmodel", "m.onnx", "m.npz", "m.bin"):
        read = opens.get(name, report)
        with pytest.raises(DataError, match=rf"{name}: a pointer of Git LFS, .* git lfs pull"):
            read(tmp_path / name)
    path = Path(shutil.copytree(packages["mlp.mlpackage"], tmp_path / "m.mlpackage"))
    weights_of(path).write_text(POINTER)
    assert "a pointer of Git LFS" in report(path)["problems"][0]
