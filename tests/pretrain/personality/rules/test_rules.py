"""Core ML's rules for models that a device may update, each broken once."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from personality_common.coreml.package import Package
from personality_common.coreml.proto import Model_pb2
from personality_common.errors import MismatchError
from pretrain.personality.export.head import head_model
from pretrain.personality.rules.interface import INTERFACES
from pretrain.personality.rules.rules import model_rules, require_rules

FLOAT32, DOUBLE, FLOAT16 = 65568, 65600, 65552


@pytest.fixture
def pipeline(bundle: Any) -> Any:
    return Package.open(bundle / "PersonalityModelUpdatable.mlpackage").spec


@pytest.fixture
def head() -> Any:
    return head_model(np.ones((3, 4), np.float32), np.ones(3, np.float32))


def test_every_package_follows_the_rules(bundle: Any, read_manifest: Any) -> None:
    for entry in read_manifest(bundle)["packages"].values():
        assert model_rules(Package.open(bundle / entry["file"]).spec) == []


def test_head_is_what_coremltools_builds_but_for_what_it_gets_wrong(ct: Any, head: Any) -> None:
    datatypes, network = ct.models.datatypes, ct.models.neural_network
    builder = network.NeuralNetworkBuilder(
        [("latent", datatypes.Array(1, 4))],
        [("logits", datatypes.Array(1, 3))],
        disable_rank5_shape_mapping=True,
    )
    weight, bias = np.ones((3, 4), np.float32), np.ones(3, np.float32)
    builder.add_inner_product("projection", weight, bias, 4, 3, True, "latent", "logits")
    builder.make_updatable(["projection"])
    with contextlib.redirect_stdout(io.StringIO()):
        builder.set_mean_squared_error_loss("loss", ("logits", datatypes.Array(1, 3)))
    sgd = network.SgdParams(lr=0.01, batch=16, momentum=0)
    sgd.set_lr(0.01, 1e-8, 10)
    builder.set_sgd_optimizer(sgd)
    builder.set_epochs(1)
    theirs = Model_pb2.Model.FromString(builder.spec.SerializeToString())
    for features in (
        theirs.description.input,
        theirs.description.output,
        theirs.description.trainingInput,
    ):
        for feature in features:
            assert feature.type.multiArrayType.dataType == DOUBLE
            feature.type.multiArrayType.dataType = FLOAT32
    assert theirs.description.trainingInput[1].name == "logits_true"
    theirs.description.trainingInput[1].name = "target"
    update = theirs.neuralNetwork.updateParams
    update.lossLayers[0].meanSquaredErrorLossLayer.target = "target"
    update.optimizer.sgdOptimizer.miniBatchSize.range.maxValue = 64
    update.optimizer.sgdOptimizer.miniBatchSize.range.minValue = 1
    update.epochs.range.maxValue = 100
    update.epochs.range.minValue = 1
    update.seed.defaultValue = 0
    update.seed.range.maxValue = 2**31 - 1
    # Zeros, which the builder leaves unset or sets; equal on the wire to readers.
    update.seed.range.minValue = 0
    for model in (theirs, head):
        momentum = model.neuralNetwork.updateParams.optimizer.sgdOptimizer.momentum
        assert (momentum.defaultValue, momentum.range.minValue, momentum.range.maxValue) == (0, 0, 1)
    assert theirs == head


def sgd(spec: Any) -> Any:
    return spec.neuralNetwork.updateParams.optimizer.sgdOptimizer


def layer(spec: Any) -> Any:
    return spec.neuralNetwork.layers[0]


def loss(spec: Any) -> Any:
    return spec.neuralNetwork.updateParams.lossLayers[0]


def quantize(spec: Any) -> None:
    layer(spec).innerProduct.weights.quantization.numberOfBits = 8


def to_float16(spec: Any) -> None:
    weights = layer(spec).innerProduct.weights
    weights.float16Value = np.array(weights.floatValue, np.float16).tobytes()
    weights.ClearField("floatValue")


def set_range(parameter: Any, default: Any, low: Any, high: Any) -> None:
    parameter.defaultValue, parameter.range.minValue, parameter.range.maxValue = default, low, high


HEAD_RULES = {
    "loss is another": (
        lambda s: setattr(loss(s).categoricalCrossEntropyLossLayer, "input", "logits"),
        "mean squared error",
    ),
    "two losses": (lambda s: s.neuralNetwork.updateParams.lossLayers.add(name="second"), "one loss"),
    "no loss": (lambda s: s.neuralNetwork.updateParams.ClearField("lossLayers"), "one loss"),
    "loss reads what nothing makes": (
        lambda s: setattr(loss(s).meanSquaredErrorLossLayer, "input", "nothing"),
        "which a layer makes",
    ),
    "target is made by a layer": (
        lambda s: setattr(loss(s).meanSquaredErrorLossLayer, "target", "logits"),
        "which none makes",
    ),
    "loss has a layer's name": (lambda s: setattr(loss(s), "name", "projection"), "distinct"),
    "Adam": (
        lambda s: s.neuralNetwork.updateParams.optimizer.adamOptimizer.SetInParent(),
        "optimizer must be SGD",
    ),
    "no layer updatable": (lambda s: setattr(layer(s), "isUpdatable", False), "an updatable layer"),
    "weights not updatable": (
        lambda s: setattr(layer(s).innerProduct.weights, "isUpdatable", False),
        "weights of layer 'projection' must be updatable",
    ),
    "bias not updatable": (
        lambda s: setattr(layer(s).innerProduct.bias, "isUpdatable", False),
        "bias of layer 'projection' must be updatable",
    ),
    "updatable softmax": (lambda s: layer(s).softmax.SetInParent(), "cannot be updatable"),
    "quantized": (quantize, "not quantized"),
    "half precision": (to_float16, "must be float32"),
    "rank 5 mapping": (
        lambda s: setattr(s.neuralNetwork, "arrayInputShapeMapping", 0),
        "EXACT_ARRAY_MAPPING",
    ),
    "no target": (lambda s: s.description.trainingInput.pop(), "target 'target'"),
    "training input of another type": (
        lambda s: setattr(s.description.trainingInput[0].type.multiArrayType, "dataType", DOUBLE),
        "an input of the model",
    ),
    "no learning rate": (lambda s: sgd(s).ClearField("learningRate"), "must state learningRate"),
    "no mini-batch": (lambda s: sgd(s).ClearField("miniBatchSize"), "must state miniBatchSize"),
    "no epochs": (lambda s: s.neuralNetwork.updateParams.ClearField("epochs"), "must state epochs"),
    "narrow learning rate": (lambda s: set_range(sgd(s).learningRate, 0.01, 0.01, 0.01), "learningRate"),
    "default out of range": (
        lambda s: set_range(sgd(s).learningRate, 11.0, 1e-8, 10.0),
        "must be within its range",
    ),
    "zero mini-batch": (lambda s: set_range(sgd(s).miniBatchSize, 16, 0, 64), "miniBatchSize"),
    "listed mini-batches": (lambda s: sgd(s).miniBatchSize.set.values.extend([16]), "miniBatchSize"),
    "narrow epochs": (lambda s: set_range(s.neuralNetwork.updateParams.epochs, 1, 1, 1), "epochs"),
}


@pytest.mark.parametrize("rule", HEAD_RULES)
def test_rules_of_an_updatable_network(head: Any, rule: Any) -> None:
    spoil, words = HEAD_RULES[rule]
    assert model_rules(head) == []
    spoil(head)
    assert words in "; ".join(model_rules(head))


def array(feature: Any) -> Any:
    return feature.type.multiArrayType


def drop_names(spec: Any) -> None:
    del spec.pipeline.names[:]
    spec.pipeline.names.extend(["same", "same"])


def swap(spec: Any) -> None:
    models = [spec.pipeline.models[1], spec.pipeline.models[0]]
    copies = [Model_pb2.Model.FromString(m.SerializeToString()) for m in models]
    del spec.pipeline.models[:]
    spec.pipeline.models.extend(copies)


PIPELINE_RULES = {
    "latent of another dtype": (
        lambda s: setattr(array(s.pipeline.models[0].description.output[0]), "dataType", DOUBLE),
        "differs in type from what comes in",
    ),
    "latent of another rank": (
        lambda s: array(s.pipeline.models[0].description.output[0]).shape.pop(),
        "differs in type from what comes in",
    ),
    "latent of another size": (
        lambda s: array(s.pipeline.models[0].description.output[0]).shape.__setitem__(1, 513),
        "differs in type from what comes in",
    ),
    "latent without shape": (
        lambda s: array(s.pipeline.models[0].description.output[0]).ClearField("shape"),
        "differs in type from what comes in",
    ),
    "latent of another name": (
        lambda s: setattr(s.pipeline.models[0].description.output[0], "name", "hidden"),
        "made by no model before it",
    ),
    "wrong order": (swap, "made by no model before it"),
    "ML Program updatable": (
        lambda s: setattr(s.pipeline.models[0], "isUpdatable", True),
        "mlProgram cannot be updatable",
    ),
    "last not updatable": (
        lambda s: setattr(s.pipeline.models[1], "isUpdatable", False),
        "the last model of an updatable pipeline must be updatable",
    ),
    "pipeline not updatable": (
        lambda s: setattr(s, "isUpdatable", False),
        "only the last one of an updatable",
    ),
    "version too low": (lambda s: setattr(s, "specificationVersion", 1), "specification version 1 is below"),
    "output of another type": (
        lambda s: setattr(array(s.description.output[0]), "dataType", DOUBLE),
        "output 'logits'",
    ),
    "names alike": (drop_names, "must be distinct"),
    "no target": (lambda s: s.description.trainingInput.pop(), "must have 'target'"),
    "no input to train on": (
        lambda s: s.description.trainingInput.__delitem__(0),
        "must have the input 'embedding'",
    ),
    "no models": (lambda s: s.pipeline.ClearField("models"), "must have a model"),
    "a rule of the head": (
        lambda s: s.pipeline.models[1].neuralNetwork.updateParams.ClearField("epochs"),
        "model 1: the update must state epochs",
    ),
}


@pytest.mark.parametrize("rule", PIPELINE_RULES)
def test_rules_of_an_updatable_pipeline(pipeline: Any, rule: Any) -> None:
    spoil, words = PIPELINE_RULES[rule]
    assert model_rules(pipeline) == []
    spoil(pipeline)
    assert words in "; ".join(model_rules(pipeline))


INTERFACE = {
    "renamed output": (lambda s: setattr(s.description.output[1], "name", "scores"), "outputs must be"),
    "output of another dtype": (
        lambda s: setattr(array(s.description.output[0]), "dataType", DOUBLE),
        "outputs must be",
    ),
    "no batch": (lambda s: array(s.description.input[0]).ClearField("shapeRange"), "inputs must be"),
    "smaller batch": (
        lambda s: setattr(array(s.description.input[0]).shapeRange.sizeRanges[0], "upperBound", 32),
        "inputs must be",
    ),
    "extra input": (lambda s: s.description.input.add(name="more"), "inputs must be"),
    "missing output": (lambda s: s.description.output.pop(), "outputs must be"),
    "version": (lambda s: setattr(s, "specificationVersion", 9), "specification version must be 8"),
    "updatable": (lambda s: setattr(s, "isUpdatable", True), "isUpdatable must be False"),
    "metadata": (
        lambda s: s.description.metadata.userDefined.update({"vocab_size": "324"}),
        "metadata vocab_size must be '325'",
    ),
}


@pytest.mark.parametrize("case", INTERFACE)
def test_interface_of_a_package(bundle: Any, case: Any) -> None:
    spoil, words = INTERFACE[case]
    package = Package.open(bundle / "PersonalityModel.mlpackage")
    require_rules(package, INTERFACES["model"], {"vocab_size": "325"})
    spoil(package.spec)
    with pytest.raises(MismatchError, match=words):
        require_rules(package, INTERFACES["model"], {"vocab_size": "325"})


def test_interfaces_are_the_contract(bundle: Any, read_manifest: Any) -> None:
    """By hand from the table that apps rely on."""
    rows = {
        entry["file"]: (
            entry["specification_version"],
            *(
                {f["name"]: (f["dtype"], tuple(f["shape"]), (f.get("ranges") or [None])[0]) for f in entry[k]}
                for k in ("inputs", "outputs", "states", "training_inputs")
            ),
        )
        for entry in read_manifest(bundle)["packages"].values()
    }
    batch = [1, 64]
    flexible = (
        {"embedding": ("float32", (1, 1536), batch)},
        {"latent": ("float32", (1, 512), batch), "logits": ("float32", (1, 325), batch)},
    )
    embedding, latent = {"embedding": ("float32", (1, 1536), None)}, {"latent": ("float32", (1, 512), None)}
    logits, target = {"logits": ("float32", (1, 325), None)}, {"target": ("float32", (1, 325), None)}
    states = {
        "projection_weight": ("float16", (325, 512), None),
        "output_bias": ("float16", (325,), None),
    }
    assert rows == {
        "PersonalityModel.mlpackage": (8, *flexible, {}, {}),
        "PersonalityModelUpdatable.mlpackage": (8, embedding, logits, {}, embedding | target),
        "PersonalityHead.mlpackage": (4, latent, logits, {}, latent | target),
        "PersonalityModelStateful.mlpackage": (9, *flexible, states, {}),
    }


def test_metadata_is_in_every_package(bundle: Any, run: Any, read_manifest: Any) -> None:
    for entry in read_manifest(bundle)["packages"].values():
        metadata = Package.open(bundle / entry["file"]).spec.description.metadata.userDefined
        assert metadata["updatable_parameters"] == "projection.weight,output_bias"
        assert metadata["vocabulary"].split(",") == list(run.vocabulary.tokens)
        assert metadata["vocab_size"] == "325"
        assert metadata["embedding_dim"] == "1536"
        assert metadata["encoder_version"] == "encoder_v1"
        assert metadata["vocabulary_fingerprint"] == run.record.content["vocabulary"]["fingerprint"]
        assert metadata["encoder_fingerprint"] == run.record.content["encoder"]["fingerprint"]
        assert metadata["run_fingerprint"] == run.fingerprint
        assert metadata["route"] == entry["route"]
