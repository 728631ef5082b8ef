"""What `pt diff` finds, against values worked out by hand; and that it misses nothing."""

import copy
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mil_protobufs as mil
import mil_specs
import mutants
import numpy as np
import pytest

from personality_common.coreml.proto import MIL_pb2
from personality_common.errors import DataError
from personality_common.inspection import comparing, weight_changes
from personality_common.inspection.comparing import compare_paths
from personality_common.inspection.difference import Change, Comparison, ModelDifference

FLOAT32, UINT4 = 2, 11
"""Codes of weight files."""
Diff = Callable[[Any, Any], ModelDifference]


def edited(model: Any, edit: Callable[[Any], object]) -> Any:
    changed = copy.deepcopy(model)
    edit(changed)
    return changed


def test_weights_by_hand(diff: Diff) -> None:
    a = mil.network({
        "one": mil.dense([[3, 4], [0, 0]], [1, 2]), "two": mil.dense([[1, 1]]),
        "gone": mil.dense([[2, 1, 2]]), "moved": mil.dense([[5, 6]]), "wide": mil.dense([[1, 2]]),
    })  # fmt: skip
    b = mil.network({
        "one": mil.dense([[3, 4.5], [0, -0.0]], [1, 2]), "two": mil.dense([[1, 1]]),
        "new": mil.dense([[0, 8]]), "here": mil.dense([[5, 6]]), "wide": mil.dense([[1, 2, 2]]),
    })  # fmt: skip
    found = diff(a, b).weights
    assert (found.same, found.count) == (2, 5)
    first, second = found.changed
    assert (first.a.name, first.a.shape, first.a.dtype) == ("one.weights", (2, 2), "float32")
    # 4 -> 4.5, and 0 -> -0, which is another number and no distance.
    assert (first.changed, first.max_difference) == (2, 0.5)
    assert (first.a.norm, first.relative) == (5.0, 0.1)
    assert first.b.norm == pytest.approx(math.sqrt(9 + 20.25), rel=1e-12)
    assert first.a.fingerprint == mil.print_of("float32", "2,2", struct.pack("<4f", 3, 4, 0, 0))
    assert first.b.fingerprint == mil.print_of("float32", "2,2", struct.pack("<4f", 3, 4.5, 0, -0.0))
    assert (second.a.name, second.a.shape, second.b.shape, second.b.norm) == (
        "wide.weights",
        (1, 2),
        (1, 3),
        3,
    )
    assert (second.changed, second.max_difference, second.relative) == (None, None, None)
    assert [(w.name, w.shape, w.norm) for w in found.only_a] == [("gone.weights", (1, 3), 3.0)]
    assert [(w.name, w.shape, w.norm) for w in found.only_b] == [("new.weights", (1, 2), 8.0)]
    assert found.renamed == (("moved.weights", "here.weights"),)


def test_numbers_that_are_none(diff: Diff) -> None:
    nan, inf = float("nan"), float("inf")

    def change(a: list[float], b: list[float]) -> Any:
        return diff(mil.network({"d": mil.dense([a])}), mil.network({"d": mil.dense([b])})).weights.changed[0]

    same_nan = change([nan, 3, 4], [nan, 3, 5])
    assert (same_nan.changed, same_nan.max_difference) == (1, 1.0)
    made = change([1, 3, 4], [nan, 3, 4])
    assert made.changed == 1
    assert math.isnan(made.max_difference)
    assert change([1, 3], [inf, 3]).max_difference == inf
    signalling = np.array([0x7F800001], "<u4").view("<f4")

    def signals(layer: Any) -> None:
        mil.dense([[0]])(layer)
        layer.innerProduct.weights.ClearField("floatValue")
        layer.innerProduct.weights.MergeFromString(b"\x0a\x04" + signalling.tobytes())

    (found,) = diff(mil.network({"d": mil.dense([[1]])}), mil.network({"d": signals})).weights.changed
    assert found.max_difference is not None
    assert math.isnan(found.max_difference)
    zero = change([0, 0], [0, 2])
    assert (zero.a.norm, zero.max_difference, zero.relative) == (0.0, 2.0, None)


def test_another_dtype_of_the_same_numbers(diff: Diff) -> None:
    def halved(layer: Any) -> None:
        mil.dense([[0, 0]])(layer)
        layer.innerProduct.weights.ClearField("floatValue")
        layer.innerProduct.weights.float16Value = np.array([3, 4], "<f2").tobytes()

    (found,) = diff(mil.network({"d": mil.dense([[3, 4.25]])}), mil.network({"d": halved})).weights.changed
    assert (found.a.dtype, found.b.dtype, found.changed, found.max_difference) == (
        "float32",
        "float16",
        1,
        0.25,
    )


def test_weight_files_in_pieces(tmp_path: Path, milblob: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_changes, "PIECE", 8)
    rng = np.random.default_rng(0)
    first = rng.integers(-8, 8, 21).astype("<f4")
    second = first.copy()
    second[[0, 7, 8, 20]] += [1, -2, 4, 2]
    packed = bytes(range(10)), bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 0x99])

    def package(name: str, entries: list[tuple[int, bytes, int]], offsets: tuple[int, int]) -> Path:
        weight = mil.const("w", mil.blob("float32", (3, 7), offsets[0]))
        indices = mil.const("i", mil.blob("uint4", (19,), offsets[1]))
        model = mil.program(weight, indices, mil.op("op", "y", w="w", i="i"))
        return mil.save_package(tmp_path / name, model, milblob(entries))

    # An entry is 64 bytes and its data, from a multiple of 64 on.
    a = package("a.mlpackage", [(FLOAT32, first.tobytes(), 0), (UINT4, packed[0], 4)], (64, 256))
    moved = package("m.mlpackage", [(UINT4, packed[0], 4), (FLOAT32, first.tobytes(), 0)], (192, 64))
    b = package("b.mlpackage", [(FLOAT32, second.tobytes(), 0), (UINT4, packed[1], 4)], (64, 256))
    assert compare_paths(a, moved).same
    (found,) = compare_paths(a, b).models
    floats, integers = found.weights.changed
    assert (floats.changed, floats.max_difference) == (4, 4.0)
    norm = math.sqrt(float((first.astype(float) ** 2).sum()))
    assert floats.a.norm == pytest.approx(norm, rel=1e-12)
    assert floats.relative == pytest.approx(5 / norm, rel=1e-12)  # 1 + 4 + 16 + 4
    # 09 -> 99: the low half is the last of 19, the high one padding.
    assert (integers.a.dtype, integers.changed) == ("uint4", 0)
    assert (integers.max_difference, integers.relative, integers.a.norm) == (None, None, None)
    assert (found.graphs, found.other) == ((), ())


def test_indices_packed_in_bytes(diff: Diff) -> None:
    """As up to iOS 17: four bits for an index into 16 numbers, two of them a byte."""

    def model(indices: bytes) -> Any:
        operation = mil.op("constexpr_lut_to_dense", "w", (3,))
        packed = MIL_pb2.Value(type=mil.value_type("uint8", (len(indices),)))
        packed.immediateValue.tensor.bytes.values = indices
        shape = mil.inline([3])
        lut = mil.inline(np.arange(16, dtype=np.float32))
        for key, value in {"indices": packed, "lut": lut, "shape": shape}.items():
            operation.attributes[key].CopyFrom(value)
        return mil.program(operation, mil.op("add", "y", x="x", y="w"))

    (change,) = diff(model(b"\x21\x05"), model(b"\x34\x05")).weights.changed
    assert (change.a.name, change.a.dtype, change.a.shape) == ("w.indices", "uint4", (3,))
    assert (change.changed, change.max_difference) == (2, None)


def test_weights_of_one_name_in_two_functions(diff: Diff) -> None:
    def model(other: float) -> Any:
        made = mil.program(mil.const("w", mil.inline([1.0, 2.0])), mil.op("add", "y", x="x", y="w"))
        operations = mil.const("w", mil.inline([1.0, other])), mil.op("add", "y", x="x", y="w")
        mil.add_function(made, "other", *operations)
        return made

    (change,) = diff(model(2.5), model(3.5)).weights.changed
    assert (change.a.name, change.max_difference) == ("w (2)", 1.0)
    assert [w.name for w in diff(model(2.0), model(3.5)).weights.only_b] == ["w (2)"]


def test_features(diff: Diff) -> None:
    a = mil_specs.spec({"x": "array:1,2", "n": "int64", "old": "string"}, {"y": "array:2"})
    b = mil_specs.spec({"x": "array:1,3", "n": "int64?", "new": "dict:string"}, {"y": "array:2"})
    a.description.input[0].type.multiArrayType.dataType = mil.FLOAT
    a.description.output[0].shortDescription = "what comes out"
    b.description.output[0].type.multiArrayType.shapeRange.sizeRanges.add(lowerBound=1, upperBound=-1)
    b.description.state.add(name="s").type.stateType.arrayType.shape.append(4)
    assert diff(a, b).features == (
        Change("input x: type", "multiArray float32", "multiArray float64"),
        Change("input x: shape", "(1, 2)", "(1, 3)"),
        Change("input n: optional", "false", "true"),
        Change("input old", "string", None),
        Change("output y: shape", "(2)", "(1..)"),
        Change("output y: description", "what comes out", None),
        Change("output y: default shape", None, "(2)"),
        Change("input new", None, "dictionary string"),
        Change("state s", None, "state invalid_array_data_type (4)"),
    )


def test_functions(diff: Diff) -> None:
    def model(*names: str, size: int = 2) -> Any:
        made = mil.program(mil.op("relu", "y", x="x"), function=names[0])
        del made.description.input[:], made.description.output[:]
        made.description.defaultFunctionName = names[0]
        for name in names:
            if name != names[0]:
                mil.add_function(made, name, mil.op("relu", "y", x="x"))
            described = made.description.functions.add(name=name)
            mil_specs.describe(described.input.add(name="x"), f"array:1,{size if name == 'b' else 2}")
        return made

    found = diff(model("a", "b"), model("a", "b", "c", size=3))
    assert Change("function c", None, "there") in found.features
    assert Change("b: input x: shape", "(1, 2)", "(1, 3)") in found.features
    assert Change("c: input x", None, "multiArray float64 (1, 2)") in found.features
    assert len(found.features) == 3
    assert found.graphs == ()
    found = diff(model("a", "b"), model("b", "a"))
    assert Change("default function", "a", "b") in found.model


def test_metadata_versions_labels_and_training(diff: Diff) -> None:
    a = mil.network({"d": mil.dense([[1, 2], [3, 4]])}, "neuralNetworkClassifier")
    a.description.metadata.author = "Ada"
    a.description.metadata.userDefined["run"] = "1"
    a.neuralNetworkClassifier.stringClassLabels.vector.extend(["cat", "dog", "owl"])
    b = copy.deepcopy(a)
    b.description.metadata.author = "Bob"
    b.description.metadata.versionString = "2"
    b.description.metadata.userDefined["run"] = "2"
    b.specificationVersion = 5
    b.isUpdatable = True
    del b.neuralNetworkClassifier.stringClassLabels.vector[:]
    b.neuralNetworkClassifier.stringClassLabels.vector.extend(["owl", "cat", "elk"])
    b.neuralNetworkClassifier.layers[0].isUpdatable = True
    update = b.neuralNetworkClassifier.updateParams
    update.epochs.defaultValue = 3
    update.optimizer.sgdOptimizer.learningRate.defaultValue = 0.5
    update.optimizer.sgdOptimizer.learningRate.range.maxValue = 1
    found = diff(a, b)
    assert found.metadata == (
        Change("author", "Ada", "Bob"), Change("run", "1", "2"), Change("version", None, "2"),
    )  # fmt: skip
    assert found.model == (
        Change("specification version", "4", "5"),
        Change("needs", "iOS 13, macOS 10.15", "iOS 14, macOS 11"),
        Change("updatable", "false", "true"),
        Change("class labels of one alone", "1: dog", "1: elk"),
        Change("order of class labels", "cat, …", "owl, …"),
    )
    assert found.update == (
        Change("layer d", None, "updatable"),
        Change("optimizer", None, "sgd"),
        Change("learningRate", None, "0.5 (0 to 1)"),
        Change("epochs", None, "3"),
    )
    (graph,) = found.graphs
    assert graph.places[0].changes == (Change("isUpdatable", None, "true"),)
    assert found.other == ()
    assert diff(b, b).same


def test_operations_are_counted(diff: Diff) -> None:
    a = mil.program(mil.op("relu", "r", x="x"), mil.op("relu", "y", x="r"))
    b = mil.program(mil.op("relu", "r", x="x"), mil.op("exp", "y", x="r"))
    found = [(count.function, count.type, count.a, count.b) for count in diff(a, b).operations]
    assert found == [("main", "relu", 2, 1), ("main", "exp", 0, 1)]


def test_fields_without_a_section(diff: Diff, monkeypatch: pytest.MonkeyPatch) -> None:
    def edit(model: Any) -> None:
        nodes = model.treeEnsembleRegressor.treeEnsemble.nodes
        nodes[0].branchFeatureValue = 2.5
        nodes[2].nodeBehavior = 0
        nodes.add(treeId=1)

    a = mil.trees()
    path = "treeEnsembleRegressor.treeEnsemble.nodes"
    found = diff(a, edited(a, edit)).other
    assert found[:2] == (
        Change(f"{path}[0].branchFeatureValue", "1.5", "2.5"),
        Change(f"{path}[2].nodeBehavior", "LeafNode", "BranchOnValueLessThanEqual"),
    )
    assert (found[2].what, found[2].a, len(found)) == (f"{path}[3]", None, 3)
    monkeypatch.setattr(comparing, "MOST_OTHER", 2)
    cut = diff(a, edited(a, edit))
    assert (len(cut.other), cut.other_is_all) == (2, False)
    program = mil.program(mil.op("relu", "y", x="x"))
    stamped = edited(program, lambda m: m.mlProgram.attributes["build"].CopyFrom(mil.inline("1")))
    assert [change.what for change in diff(program, stamped).other] == ["mlProgram.attributes"]
    # A field that this version of the format does not have: number 4000, a varint.
    newer = type(a).FromString(a.SerializeToString() + b"\x80\xfa\x01\x07")
    assert diff(a, newer).other == (Change("fields of a newer format", "0", "1"),)


def test_another_kind_is_not_walked(diff: Diff) -> None:
    found = diff(mil.trees(), mil.network({"d": mil.dense([[1, 2]])}))
    assert found.model[0] == Change("kind", "treeEnsembleRegressor", "neuralNetwork")
    assert found.other == ()


def whole_models() -> Iterator[Any]:
    """With something in every section."""
    program = mil.program(
        mil.const("w", mil.inline([[1.0, 2.0]])), mil.const("axes", mil.inline([0, 1])),
        mil.op("add", "a", x="x", y="w"), mil.op("sum", "y", x="a", axes="axes", keep=mil.inline(True)),
    )  # fmt: skip
    cond = mil.op("cond", "z", pred=mil.inline(True))
    for type_ in ("relu", "exp"):
        cond.blocks.add(outputs=["q"]).operations.append(mil.op(type_, "q", x="x"))
    mil.add_function(program, "other", cond, outputs=("z",))
    program.description.predictedFeatureName = "y"
    program.description.state.add(name="s").type.stateType.arrayType.shape.append(2)
    yield program
    network = mil.network({"d": mil.dense([[1, 2], [3, 4]], [5, 6]), "e": mil.activation("tanh")})
    inner = network.neuralNetwork
    inner.preprocessing.add(featureName="x").scaler.channelScale = 0.5
    inner.layers[0].innerProduct.weights.quantization.numberOfBits = 8
    inner.layers[0].innerProduct.weights.quantization.linearQuantization.scale.append(0.5)
    inner.layers[0].isUpdatable = True
    inner.updateParams.epochs.defaultValue = 3
    inner.updateParams.lossLayers.add(name="loss").meanSquaredErrorLossLayer.input = "y"
    inner.updateParams.optimizer.sgdOptimizer.learningRate.defaultValue = 0.5
    inner.arrayInputShapeMapping = 1
    image = network.description.input.add(name="i", shortDescription="an image").type.imageType
    image.width, image.height, image.colorSpace = 4, 5, 20
    image.imageSizeRange.widthRange.lowerBound = 4
    yield network
    classifier = mil_specs.classifier({"x": "array:2"}, ["a", "b"], "glmClassifier")
    classifier.glmClassifier.weights.add(value=[1, 2])
    classifier.glmClassifier.offset.append(0.5)
    yield classifier
    yield mil_specs.pipeline({"x": "double"}, {"y": "double"}, mil.trees(), mil.trees())


@pytest.mark.parametrize("model", list(whole_models()), ids=["program", "network", "classifier", "pipeline"])
def test_no_field_is_missed(tmp_path: Path, model: Any) -> None:
    """Each field that is set, set to something else: the models differ, or the other one cannot be read."""
    a = mil_specs.save(tmp_path / "a.mlmodel", model)
    assert compare_paths(a, a).same
    places = list(mutants.field_places(model))
    assert len(places) > 20
    for way, name in places:
        other = copy.deepcopy(model)
        message = other
        for step, key in way:
            inner = getattr(message, step)
            message = inner if key is None else inner[key]
        value = getattr(message, name)
        if isinstance(value, str):
            setattr(message, name, value + "_")
        elif isinstance(value, bool | int | float):
            setattr(message, name, not value if isinstance(value, bool) else 2 if value == 1 else 1)
        elif hasattr(value, "append") and not hasattr(value, "add"):
            first = value[0]
            value[0] = not first if isinstance(first, bool) else first + "_" if isinstance(first, str) else 7
        else:
            message.ClearField(name)
        try:
            same = compare_paths(a, mil_specs.save(tmp_path / "b.mlmodel", other)).same
        except DataError:
            continue
        assert not same, (way, name)


def test_pipelines(tmp_path: Path) -> None:
    def saved(name: str, *models: Any) -> Path:
        model = mil_specs.pipeline({"x": "double"}, {"y": "double"}, *models)
        model.pipeline.names.extend(["first", "second", "first"][: len(models)])
        return mil_specs.save(tmp_path / name, model)

    def edit(model: Any) -> None:
        model.treeEnsembleRegressor.treeEnsemble.nodes[0].branchFeatureValue = 9

    a = saved("a.mlmodel", mil.trees(), mil.trees(), mil.trees())
    found = compare_paths(a, saved("b.mlmodel", mil.trees(), mil.trees(), edited(mil.trees(), edit)))
    assert [(model.name, model.same) for model in found.models] == [
        ("", True), ("first", True), ("second", True), ("first", False),
    ]  # fmt: skip
    found = compare_paths(a, saved("c.mlmodel", mil.trees()))
    assert found.models[0].model == (
        Change("submodel second", "there", None), Change("submodel first (2)", "there", None),
    )  # fmt: skip


def test_a_real_package_and_its_quantized_twin(packages: dict[str, Path]) -> None:
    """By coremltools: the weights become 8 bits, and an operation each that makes floats of them."""
    found: Comparison = compare_paths(packages["mlp.mlpackage"], packages["int8.mlpackage"])
    (model,) = found.models
    counts = {count.type: (count.a, count.b) for count in model.operations}
    assert counts["constexpr_affine_dequantize"] == (0, 2)
    (graph,) = model.graphs
    assert [place.type for place in graph.places if place.a is None] == ["constexpr_affine_dequantize"] * 2
    assert [place.type for place in graph.places if place.a and place.b] == ["linear", "linear"]
    assert (len(model.weights.only_a), model.weights.same) == (2, 4)
    assert {weight.dtype for weight in model.weights.only_b} >= {"int8"}
    for package in packages.values():
        assert compare_paths(package, package).same
