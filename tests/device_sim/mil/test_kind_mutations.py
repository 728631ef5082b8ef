"""Mutated models of the kinds that are no network: an answer or one clean line, in bounded time."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil_specs import classifier, pipeline, save, spec
from mutants import field_places, flip, rewrite

from device_sim.mil import Limits, load_mil
from device_sim.mil.kinds import KINDS
from personality_common.coreml.proto import Model_pb2
from personality_common.errors import ToolkitError

MUTANTS = 3_000
"""Over all models and kinds of mutation."""
SMALL = Limits(value_bytes=1 << 24, live_bytes=1 << 26, seconds=1)


def table() -> Any:
    """Words and numbers to a linear model, through what prepares them."""
    words = spec({"word": "string?"}, {"known": "string"})
    words.imputer.imputedStringValue, words.imputer.replaceStringValue = "red", ""
    hot = spec({"known": "string"}, {"hot": "dict:int64"})
    hot.oneHotEncoder.stringCategories.vector.extend(["red", "blue"])
    hot.oneHotEncoder.outputSparse = True
    number = spec({"name": "string"}, {"code": "int64"})
    number.categoricalMapping.stringToInt64Map.map.update({"a": 1, "b": -1})
    counts = spec({"counts": "dict:string"}, {"listed": "array:2"})
    counts.dictVectorizer.stringToIndex.vector.extend(["x", "y"])
    vector = spec({"hot": "dict:int64", "code": "int64", "listed": "array:2"}, {"all": "array:5"})
    for column, size in (("hot", 2), ("code", 1), ("listed", 2)):
        vector.featureVectorizer.inputList.add(inputColumn=column, inputDimensions=size)
    scaled = spec({"all": "array:5"}, {"scaled": "array:5"})
    scaled.scaler.shiftValue.extend([0.5] * 5)
    scaled.scaler.scaleValue.extend([2.0] * 5)
    some = spec({"scaled": "array:5"}, {"some": "array:3"})
    some.arrayFeatureExtractor.extractIndex.extend([4, 0, 2])
    unit = spec({"some": "array:3"}, {"unit": "array:3"})
    unit.normalizer.normType = 2
    price = spec({"unit": "array:3"}, {"price": "double"})
    price.glmRegressor.weights.add(value=[1.0, -2.0, 3.0])
    price.glmRegressor.offset.append(0.5)
    same = spec({"word": "string?"}, {"word2": "string?"})
    same.identity.SetInParent()
    models = (words, hot, number, counts, vector, scaled, some, unit, price, same)
    inputs = {"word": "string?", "name": "string", "counts": "dict:string"}
    return pipeline(inputs, {"price": "double", "word2": "string?"}, *models)


def trees(kind: str) -> Any:
    if kind == "treeEnsembleRegressor":
        model = spec({"x": "array:2"}, {"y": "double"})
    else:
        model = classifier({"x": "array:2"}, ["no", "yes"], kind)
    parameters = getattr(model, kind).treeEnsemble
    parameters.numPredictionDimensions = 1
    parameters.basePredictionValue.append(0.25)
    for tree in range(2):
        parameters.nodes.add(
            treeId=tree, nodeId=0, branchFeatureIndex=tree, branchFeatureValue=0.5,
            trueChildNodeId=1, falseChildNodeId=2,
        )  # fmt: skip
        for leaf in (1, 2):
            node = parameters.nodes.add(treeId=tree, nodeId=leaf, nodeBehavior=6)
            node.evaluationInfo.add(evaluationIndex=0, evaluationValue=leaf - 1.5)
    return model


def vectors(kind: str) -> Any:
    model = (
        spec({"x": "array:2"}, {"y": "double"})
        if kind == "supportVectorRegressor"
        else classifier({"x": "array:2"}, ["no", "yes"], kind)
    )
    parameters = getattr(model, kind)
    parameters.kernel.rbfKernel.gamma = 0.5
    for values in ([1.0, 0.0], [0.0, 1.0]):
        parameters.denseSupportVectors.vectors.add(values=values)
    if kind == "supportVectorRegressor":
        parameters.coefficients.alpha.extend([1.0, -1.0])
        parameters.rho = 0.1
        return model
    parameters.coefficients.add(alpha=[1.0, -1.0])
    parameters.numberOfSupportVectorsPerClass.extend([1, 1])
    parameters.rho.append(0.1)
    parameters.probA.append(-1.0)
    parameters.probB.append(0.1)
    return model


def neighbors() -> Any:
    model = classifier({"x": "array:2"}, ["no", "yes", "no"], "kNearestNeighborsClassifier")
    parameters = model.kNearestNeighborsClassifier
    parameters.nearestNeighborsIndex.numberOfDimensions = 2
    for row in ([0.0, 1.0], [1.0, 0.0], [1.0, 1.0]):
        parameters.nearestNeighborsIndex.floatSamples.add(vector=row)
    parameters.numberOfNeighbors.defaultValue = 2
    parameters.inverseDistanceWeighting.SetInParent()
    return model


def linear() -> Any:
    model = classifier({"x": "array:2"}, ["no", "yes"], "glmClassifier")
    model.glmClassifier.weights.add(value=[1.0, -1.0])
    model.glmClassifier.offset.append(0.5)
    return model


def boxes() -> Any:
    model = spec({"c": "array", "b": "array", "iou": "double?"}, {"c2": "array", "b2": "array"})
    parameters = model.nonMaximumSuppression
    parameters.iouThreshold, parameters.confidenceThreshold = 0.3, 0.2
    parameters.confidenceInputFeatureName, parameters.coordinatesInputFeatureName = "c", "b"
    parameters.confidenceOutputFeatureName, parameters.coordinatesOutputFeatureName = "c2", "b2"
    parameters.iouThresholdInputFeatureName = "iou"
    return model


def recommender() -> Any:
    model = spec({"items": "dict:string", "k": "int64?"}, {"list": "seq:string", "s": "dict:string"})
    parameters = model.itemSimilarityRecommender
    parameters.itemStringIds.vector.extend("abc")
    parameters.itemItemSimilarities.add(itemId=0).similarItemList.add(itemId=1, similarityScore=0.5)
    parameters.itemInputFeatureName, parameters.numRecommendationsInputFeatureName = "items", "k"
    parameters.recommendedItemListOutputFeatureName = "list"
    parameters.recommendedItemScoreOutputFeatureName = "s"
    return model


X = {"x": np.array([0.25, 0.75])}
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "table": (table(), {"word": "", "name": "a", "counts": {"x": 2.0}}),
    "treeEnsembleRegressor": (trees("treeEnsembleRegressor"), X),
    "treeEnsembleClassifier": (trees("treeEnsembleClassifier"), X),
    "supportVectorRegressor": (vectors("supportVectorRegressor"), X),
    "supportVectorClassifier": (vectors("supportVectorClassifier"), X),
    "kNearestNeighborsClassifier": (neighbors(), X),
    "glmClassifier": (linear(), X),
    "nonMaximumSuppression": (boxes(), {"c": np.array([[0.9], [0.8]]), "b": np.ones((2, 4))}),
    "itemSimilarityRecommender": (recommender(), {"items": {"a": 1.0}, "k": 2}),
}


def outcome(path: Path, inputs: dict[str, Any]) -> str:
    try:
        load_mil(path, limits=SMALL).predict(inputs)
    except ToolkitError as error:
        message = str(error)
    else:
        return "answer"
    assert message.isprintable()
    assert len(message) < 2000
    return "error"


def test_every_kind_is_among_them() -> None:
    inner = {model.WhichOneof("Type") for model in MODELS["table"][0].pipeline.models}
    assert inner | MODELS.keys() >= KINDS.keys()


@pytest.mark.parametrize("name", MODELS)
def test_mutated_models(name: str, tmp_path: Path) -> None:
    model, inputs = MODELS[name]
    path = save(tmp_path / "m.mlmodel", model)
    assert outcome(path, inputs) == "answer"
    original = path.read_bytes()
    places = list(field_places(Model_pb2.Model.FromString(original)))
    rng, outcomes = random.Random(name), Counter[str]()
    for at in range(MUTANTS // len(MODELS)):
        path.write_bytes(rewrite(original, rng, places) if at % 2 else flip(original, rng))
        outcomes[outcome(path, inputs)] += 1
    # Both must come, or the mutations are too tame or too wild to test anything.
    assert min(outcomes["answer"], outcomes["error"]) > outcomes.total() // 20, outcomes
