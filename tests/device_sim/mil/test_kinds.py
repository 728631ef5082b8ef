"""Kinds of models that are one function of their features, against scikit-learn and hand-made values."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from mil_specs import classifier, pipeline, save, spec
from sklearn.datasets import load_iris, make_regression
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction import DictVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import Normalizer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR

from device_sim.mil import load_mil
from device_sim.mil.kinds import KINDS, REFUSED
from device_sim.mil.loading import MODELS
from personality_common.coreml.proto import Model_pb2
from personality_common.errors import DataError

Predict = Callable[..., dict[str, Any]]
X, Y = load_iris(return_X_y=True)
X = X.astype(np.float32).astype(np.float64)  # scikit-learn's trees compare in float32
ROWS = X[::7]
FOUR = {"x": "array:4"}
NAMES = ["setosa", "versicolor", "virginica"]


@pytest.fixture
def load(tmp_path: Path) -> Callable[[Any], Predict]:
    """The model's `predict`, with inputs as keywords."""

    def loaded(model: Any) -> Predict:
        opened = load_mil(save(tmp_path / "m.mlmodel", model))
        return lambda **inputs: opened.predict(inputs)

    return loaded


def add_tree(ensemble: Any, tree: Any, number: int, leaf: Callable[[Any], Mapping[int, float]]) -> None:
    for at in range(tree.node_count):
        node = ensemble.nodes.add(treeId=number, nodeId=at)
        if tree.children_left[at] < 0:
            node.nodeBehavior = 6
            for index, value in leaf(tree.value[at]).items():
                node.evaluationInfo.add(evaluationIndex=index, evaluationValue=value)
        else:
            node.branchFeatureIndex, node.branchFeatureValue = tree.feature[at], tree.threshold[at]
            node.trueChildNodeId, node.falseChildNodeId = tree.children_left[at], tree.children_right[at]


def base(ensemble: Any, *values: float) -> None:
    ensemble.numPredictionDimensions = len(values)
    ensemble.basePredictionValue.extend(values)


def agrees(predict: Predict, rows: Any, probabilities: Any, labels: list[Any], atol: float = 1e-9) -> None:
    for x, wanted in zip(rows, probabilities, strict=True):
        found = predict(x=x)
        assert list(found["scores"]) == labels
        np.testing.assert_allclose(list(found["scores"].values()), wanted, rtol=0, atol=atol)
        assert found["label"] == labels[int(np.argmax(wanted))]


def test_forest_regressor(load: Any) -> None:
    trained = RandomForestRegressor(4, max_depth=4, random_state=0).fit(X, X[:, 0] * X[:, 2])
    model = spec(FOUR, {"y": "double"})
    ensemble = model.treeEnsembleRegressor.treeEnsemble
    base(ensemble, 0.0)
    for number, tree in enumerate(trained.estimators_):
        add_tree(ensemble, tree.tree_, number, lambda value: {0: value[0, 0] / 4})
    predict = load(model)
    found = [predict(x=x)["y"] for x in ROWS]
    np.testing.assert_allclose(found, trained.predict(ROWS), rtol=1e-12)
    assert isinstance(found[0], float)


def test_forest_classifier(load: Any) -> None:
    trained = RandomForestClassifier(5, max_depth=4, random_state=0).fit(X, Y)
    model = classifier(FOUR, NAMES, "treeEnsembleClassifier")
    base(model.treeEnsembleClassifier.treeEnsemble, 0, 0, 0)
    for number, tree in enumerate(trained.estimators_):
        add_tree(
            model.treeEnsembleClassifier.treeEnsemble,
            tree.tree_,
            number,
            lambda value: dict(enumerate(value[0] / value[0].sum() / 5)),
        )
    agrees(load(model), ROWS, trained.predict_proba(ROWS), NAMES)


@pytest.mark.parametrize("classes", [2, 3])
def test_boosted_classifier(load: Any, classes: int) -> None:
    """Of two classes one sum goes through a logistic, of three a softmax."""
    some = classes > Y
    trained = GradientBoostingClassifier(n_estimators=4, max_depth=2, random_state=0).fit(X[some], Y[some])
    labels = list(range(classes))
    model = classifier(FOUR, labels, "treeEnsembleClassifier")
    proto = model.treeEnsembleClassifier
    proto.postEvaluationTransform = 2 if classes == 2 else 1
    base(proto.treeEnsemble, *trained._raw_predict_init(X[:1])[0])
    for number, tree in enumerate(trained.estimators_.flatten()):
        index = number % (1 if classes == 2 else classes)
        add_tree(
            proto.treeEnsemble,
            tree.tree_,
            number,
            partial(lambda index, v: {index: v[0, 0] * trained.learning_rate}, index),
        )
    agrees(load(model), ROWS, trained.predict_proba(ROWS), labels)


def small_tree() -> Any:
    """x[0] <behavior> 1 ? 10 : 20, as a regressor."""
    model = spec({"x": "array:1"}, {"y": "double"})
    ensemble = model.treeEnsembleRegressor.treeEnsemble
    base(ensemble, 0.5)
    ensemble.nodes.add(branchFeatureValue=1, trueChildNodeId=1, falseChildNodeId=2)
    for node, value in ((1, 10.0), (2, 20.0)):
        leaf = ensemble.nodes.add(nodeId=node, nodeBehavior=6)
        leaf.evaluationInfo.add(evaluationValue=value)
    return model


@pytest.mark.parametrize(
    ("behavior", "below", "equal", "above"),
    [(0, 1, 1, 0), (1, 1, 0, 0), (2, 0, 1, 1), (3, 0, 0, 1), (4, 0, 1, 0), (5, 1, 0, 1)],
)
def test_branches(load: Any, behavior: int, below: int, equal: int, above: int) -> None:
    model = small_tree()
    model.treeEnsembleRegressor.treeEnsemble.nodes[0].nodeBehavior = behavior
    predict = load(model)
    found = [predict(x=np.array([x]))["y"] for x in (0.0, 1.0, 2.0)]
    assert found == [10.5 if yes else 20.5 for yes in (below, equal, above)]


@pytest.mark.parametrize("tracks_true", [False, True])
def test_missing_values(load: Any, tracks_true: bool) -> None:
    model = small_tree()
    model.treeEnsembleRegressor.treeEnsemble.nodes[0].missingValueTracksTrueChild = tracks_true
    model.description.input[0].type.isOptional = True
    predict = load(model)
    wanted = 10.5 if tracks_true else 20.5
    assert predict(x=np.array([np.nan]))["y"] == predict()["y"] == wanted


def test_zero_class_reference(load: Any) -> None:
    model = classifier({"x": "array:1"}, ["a", "b", "c"], "treeEnsembleClassifier")
    proto = model.treeEnsembleClassifier
    proto.postEvaluationTransform = 3
    base(proto.treeEnsemble, np.log(2), np.log(5))
    proto.treeEnsemble.nodes.add(nodeBehavior=6)
    agrees(load(model), [np.zeros(1)], [[1 / 8, 2 / 8, 5 / 8]], ["a", "b", "c"])


def set_weights(proto: Any, weights: Any, offset: Any) -> None:
    for row in np.atleast_2d(weights):
        proto.weights.add(value=row)
    proto.offset.extend(np.atleast_1d(offset))


def test_linear_regression(load: Any) -> None:
    """Of several inputs, in the order of the description."""
    x, y = make_regression(20, 4, random_state=0)
    trained = LinearRegression().fit(x, y)
    model = spec({"b": "double", "a": "array:3"}, {"y": "double"})
    set_weights(model.glmRegressor, trained.coef_, trained.intercept_)
    predict = load(model)
    found = [predict(a=row[1:], b=row[0])["y"] for row in x]
    np.testing.assert_allclose(found, trained.predict(x), rtol=1e-12)


@pytest.mark.parametrize(
    ("transform", "wanted"), [(0, 0.5), (1, 0.6224593312018546), (2, 0.6914624612740131)]
)
def test_links(load: Any, transform: int, wanted: float) -> None:
    """Tables: logistic(0.5), and the normal distribution at 0.5."""
    model = spec({"x": "double"}, {"y": "double"})
    set_weights(model.glmRegressor, [[2.0]], [-0.5])
    model.glmRegressor.postEvaluationTransform = transform
    assert load(model)(x=0.5)["y"] == pytest.approx(wanted, abs=1e-15)


def test_logistic_regression(load: Any) -> None:
    """One against the rest of three, and of two; a reference class: a multinomial one, less its first row."""
    rest = OneVsRestClassifier(LogisticRegression()).fit(X, Y)
    model = classifier(FOUR, NAMES, "glmClassifier")
    model.glmClassifier.classEncoding = 1
    for one in rest.estimators_:
        set_weights(model.glmClassifier, one.coef_, one.intercept_)
    agrees(load(model), ROWS, rest.predict_proba(ROWS), NAMES)
    two = LogisticRegression().fit(X[:100], Y[:100])
    for encoding in (0, 1):
        model = classifier(FOUR, NAMES[:2], "glmClassifier")
        model.glmClassifier.classEncoding = encoding
        set_weights(model.glmClassifier, two.coef_, two.intercept_)
        agrees(load(model), ROWS, two.predict_proba(ROWS), NAMES[:2])
    all_ = LogisticRegression().fit(X, Y)
    model = classifier(FOUR, NAMES, "glmClassifier")
    set_weights(model.glmClassifier, all_.coef_[1:] - all_.coef_[0], all_.intercept_[1:] - all_.intercept_[0])
    agrees(load(model), ROWS, all_.predict_proba(ROWS), NAMES)


def test_probit_classifier(load: Any) -> None:
    model = classifier({"x": "double"}, ["no", "yes"], "glmClassifier")
    set_weights(model.glmClassifier, [[1.0]], [0.0])
    model.glmClassifier.postEvaluationTransform = 1
    agrees(load(model), [0.5], [[1 - 0.6914624612740131, 0.6914624612740131]], ["no", "yes"], 1e-15)


KERNELS = {
    "linear": {},
    "rbf": {"gamma": 0.3},
    "poly": {"gamma": 0.2, "coef0": 1.0, "degree": 3},
    "sigmoid": {"gamma": 0.01, "coef0": -0.2},
}


def set_kernel(proto: Any, name: str, gamma: float = 0, coef0: float = 0, degree: int = 0) -> None:
    kernel = getattr(proto.kernel, f"{name}Kernel")
    kernel.SetInParent()
    for field, value in (("gamma", gamma), ("c", coef0), ("degree", degree)):
        if value:
            setattr(kernel, field, value)


def set_vectors(proto: Any, vectors: Any, sparse: bool) -> None:
    for vector in vectors:
        if sparse:
            nodes = proto.sparseSupportVectors.vectors.add().nodes
            for index, value in enumerate(vector):
                if value:
                    nodes.add(index=index + 1, value=value)
        else:
            proto.denseSupportVectors.vectors.add(values=vector)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("sparse", [False, True])
def test_support_vector_regressor(load: Any, name: str, sparse: bool) -> None:
    rows = np.where(X > 1, X, 0)  # so that sparse vectors are
    trained = SVR(kernel=name, C=2, **KERNELS[name]).fit(rows[::3], X[::3, 0])
    model = spec(FOUR, {"y": "double"})
    proto = model.supportVectorRegressor
    set_kernel(proto, name, **cast(Any, KERNELS[name]))
    set_vectors(proto, trained.support_vectors_, sparse)
    proto.coefficients.alpha.extend(trained.dual_coef_[0])
    proto.rho = -trained.intercept_[0]
    predict = load(model)
    found = [predict(x=x)["y"] for x in rows[::9]]
    np.testing.assert_allclose(found, trained.predict(rows[::9]), rtol=1e-9)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("probability", [False, True])
def test_support_vector_classifier(load: Any, classes: int, probability: bool) -> None:
    some = classes > Y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # probabilities are on their way out of scikit-learn
        trained = SVC(gamma=0.3, probability=probability, random_state=0).fit(X[some], Y[some])
        labels = list(range(classes))
        model = classifier(FOUR, labels, "supportVectorClassifier")
        proto = model.supportVectorClassifier
        set_kernel(proto, "rbf", gamma=0.3)
        set_vectors(proto, trained.support_vectors_, False)
        proto.numberOfSupportVectorsPerClass.extend(trained.n_support_)
        for row in trained._dual_coef_:
            proto.coefficients.add(alpha=row)
        proto.rho.extend(-trained._intercept_)
        rows = X[some][::5]
        if probability:
            proto.probA.extend(trained.probA_)
            proto.probB.extend(trained.probB_)
            # scikit-learn couples probabilities of two classes too, to LIBSVM's 0.005 / classes.
            atol = 2.5e-3 if classes == 2 else 1e-9
            agrees(load(model), rows, trained.predict_proba(rows), labels, atol)
            return
        del model.description.output[1]
        predict = load(model)
        assert [predict(x=x)["label"] for x in rows] == trained.predict(rows).tolist()


def test_sparse_vectors_leave_out_trailing_zeros(load: Any) -> None:
    """A vector of (1, 0) from (1, 2) is 2 away: exp(-4 / 4)."""
    model = spec({"x": "array:2"}, {"y": "double"})
    proto = model.supportVectorRegressor
    set_kernel(proto, "rbf", gamma=0.25)
    set_vectors(proto, [[1.0, 0.0]], sparse=True)
    proto.coefficients.alpha.append(1)
    assert load(model)(x=np.array([1.0, 2.0]))["y"] == pytest.approx(0.36787944117144233)


def test_votes_are_no_probabilities(load: Any) -> None:
    model = classifier({"x": "double"}, ["a", "b"], "supportVectorClassifier")
    proto = model.supportVectorClassifier
    set_kernel(proto, "linear")
    set_vectors(proto, [[1.0], [-1.0]], False)
    proto.numberOfSupportVectorsPerClass.extend([1, 1])
    proto.coefficients.add(alpha=[1, -1])
    proto.rho.append(0)
    with pytest.raises(DataError, match="output 'scores' of a classifier is described as dictionary"):
        load(model)


def neighbors(inverse: bool = False) -> Any:
    model = classifier({"x": "array:4"}, [NAMES[y] for y in Y[::3]], "kNearestNeighborsClassifier")
    proto = model.kNearestNeighborsClassifier
    proto.nearestNeighborsIndex.numberOfDimensions = 4
    for row in X[::3]:
        proto.nearestNeighborsIndex.floatSamples.add(vector=row)
    proto.numberOfNeighbors.defaultValue = 5
    (proto.inverseDistanceWeighting if inverse else proto.uniformWeighting).SetInParent()
    return model


@pytest.mark.parametrize("inverse", [False, True])
def test_nearest_neighbors(load: Any, inverse: bool) -> None:
    def weights(distances: Any) -> Any:
        with np.errstate(divide="ignore"):
            near = 1 / distances**2
        return np.where(np.isinf(near).any(1, keepdims=True), np.isinf(near), near)

    trained = KNeighborsClassifier(5, weights=weights if inverse else "uniform", algorithm="brute")
    trained.fit(X[::3], Y[::3])
    agrees(load(neighbors(inverse)), X[1::5], trained.predict_proba(X[1::5]), NAMES, 1e-9)


def test_a_vote_counts_the_inverse_of_the_squared_distance(load: Any) -> None:
    """1 / 1² against 1 / 2² + 1 / 2²; with plain distances it would be 1 to 1."""
    model = classifier({"x": "double"}, ["near", "far", "far"], "kNearestNeighborsClassifier")
    proto = model.kNearestNeighborsClassifier
    proto.nearestNeighborsIndex.numberOfDimensions = 1
    proto.nearestNeighborsIndex.squaredEuclideanDistance.SetInParent()
    for sample in (1, 2, -2):
        proto.nearestNeighborsIndex.floatSamples.add(vector=[sample])
    proto.numberOfNeighbors.defaultValue = 3
    proto.inverseDistanceWeighting.SetInParent()
    found = load(model)(x=0)
    assert found["label"] == "near"
    assert found["scores"] == {"near": pytest.approx(2 / 3), "far": pytest.approx(1 / 3)}


def test_no_neighbors(load: Any) -> None:
    model = classifier({"x": "array:4"}, ["a"], "kNearestNeighborsClassifier")
    model.kNearestNeighborsClassifier.stringClassLabels.ClearField("vector")
    model.kNearestNeighborsClassifier.numberOfNeighbors.defaultValue = 1
    model.kNearestNeighborsClassifier.defaultStringLabel = "nobody"
    assert load(model)(x=np.zeros(4)) == {"label": "nobody", "scores": {"nobody": 1.0}}


def test_one_hot_encoder(load: Any) -> None:
    words = np.array([["red"], ["green"], ["blue"]])
    trained = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(words)
    model = spec({"x": "string"}, {"y": "array:3"})
    model.oneHotEncoder.stringCategories.vector.extend(trained.categories_[0])
    with pytest.raises(DataError, match="input 'x': 'pink' is not among the model's categories"):
        load(model)(x="pink")
    model.oneHotEncoder.handleUnknown = 1
    predict = load(model)
    for word in ("red", "green", "blue", "pink"):
        np.testing.assert_array_equal(predict(x=word)["y"], trained.transform([[word]])[0])
    model = spec({"x": "int64"}, {"y": "dict:int64"})
    model.oneHotEncoder.int64Categories.vector.extend([7, 9])
    model.oneHotEncoder.outputSparse = True
    assert load(model)(x=9)["y"] == {1: 1.0}


def test_dict_vectorizer(load: Any) -> None:
    rows = [{"a": 4.0, "c": 8.0}, {"z": 1.0}, {}]
    trained = DictVectorizer(sparse=False).fit(rows)
    model = spec({"x": "dict:string"}, {"y": "array:3"})
    model.dictVectorizer.stringToIndex.vector.extend(trained.feature_names_)
    predict = load(model)
    for row in rows:
        np.testing.assert_array_equal(predict(x=row)["y"], trained.transform(row)[0])
    with pytest.raises(DataError, match="input 'x': 'q' is not among"):
        predict(x={"q": 1.0})


def test_categorical_mapping(load: Any) -> None:
    model = spec({"x": "string"}, {"y": "int64"})
    model.categoricalMapping.stringToInt64Map.map.update({"a": 3, "b": -1})
    predict = load(model)
    assert predict(x="b")["y"] == -1
    with pytest.raises(DataError, match="'c' is not among"):
        predict(x="c")
    model = spec({"x": "int64"}, {"y": "string"})
    model.categoricalMapping.int64ToStringMap.map.update({3: "a"})
    model.categoricalMapping.strValue = "other"
    assert [load(model)(x=x)["y"] for x in (3, 4)] == ["a", "other"]


def test_feature_vectorizer(load: Any) -> None:
    model = spec({"n": "int64", "d": "dict:int64", "x": "array:2"}, {"y": "array:6"})
    for name, size in (("x", 2), ("d", 3), ("n", 1)):
        model.featureVectorizer.inputList.add(inputColumn=name, inputDimensions=size)
    predict = load(model)
    np.testing.assert_array_equal(predict(n=7, d={2: 5.0}, x=np.array([1.0, 2.0]))["y"], [1, 2, 0, 0, 5, 7])
    with pytest.raises(DataError, match="input 'd': its keys must be 0 to 2, got '3'"):
        predict(n=7, d={3: 5.0}, x=np.zeros(2))


def test_imputer(load: Any) -> None:
    trained = SimpleImputer().fit(np.where(X > 6, np.nan, X))
    model = spec(FOUR, {"y": "array:4"})
    model.imputer.imputedDoubleArray.vector.extend(trained.statistics_)
    model.imputer.replaceDoubleValue = np.nan
    predict = load(model)
    for row in np.where(X > 6, np.nan, X)[::9]:
        np.testing.assert_array_equal(predict(x=row)["y"], trained.transform(row[None])[0])
    model = spec({"x": "string?"}, {"y": "string"})
    model.imputer.imputedStringValue, model.imputer.replaceStringValue = "none", ""
    predict = load(model)
    assert [predict(x="")["y"], predict()["y"], predict(x="b")["y"]] == ["none", "none", "b"]
    model = spec({"x": "dict:string"}, {"y": "dict:string"})
    model.imputer.imputedStringDictionary.map["a"] = 2.0
    model.imputer.replaceDoubleValue = -1
    assert load(model)(x={"a": -1.0, "b": 3.0})["y"] == {"a": 2.0, "b": 3.0}


def test_scaler(load: Any) -> None:
    trained = StandardScaler().fit(X)
    model = spec(FOUR, {"y": "array:4"})
    model.scaler.shiftValue.extend(-trained.mean_)
    model.scaler.scaleValue.extend(1 / trained.scale_)
    predict = load(model)
    np.testing.assert_allclose([predict(x=x)["y"] for x in ROWS], trained.transform(ROWS), rtol=1e-12)


def test_scaler_of_integers(load: Any) -> None:
    """Scale 1 and shift 0 are the defaults; an integer that would be rounded is an error."""
    model = spec({"x": "int64"}, {"y": "int64"})
    model.scaler.SetInParent()
    assert load(model)(x=5)["y"] == 5
    model.scaler.scaleValue.append(0.5)
    assert load(model)(x=4)["y"] == 2
    with pytest.raises(DataError, match=r"output 'y' is described as a whole number, got 2\.5"):
        load(model)(x=5)


@pytest.mark.parametrize(("number", "norm"), [(0, "max"), (1, "l1"), (2, "l2")])
def test_normalizer(load: Any, number: int, norm: str) -> None:
    rows = np.array([[1.0, 2.0, 5.0, 0.0], [0.0, 0.0, 0.0, 0.0], [-3.0, 4.0, 0.5, 1.0]])
    model = spec(FOUR, {"y": "array:4"})
    model.normalizer.normType = number
    predict = load(model)
    np.testing.assert_allclose(
        [predict(x=x)["y"] for x in rows], Normalizer(norm).transform(rows), rtol=1e-15
    )


def test_greatest_number_keeps_its_sign(load: Any) -> None:
    """The format says max(x_i), where scikit-learn takes absolute values."""
    model = spec({"x": "array:2"}, {"y": "array:2"})
    model.normalizer.normType = 0
    np.testing.assert_array_equal(load(model)(x=np.array([-4.0, 2.0]))["y"], [-2, 1])


def test_array_feature_extractor(load: Any) -> None:
    model = spec({"x": "array:2,2"}, {"y": "array:2"})
    model.arrayFeatureExtractor.extractIndex.extend([3, 0])
    np.testing.assert_array_equal(load(model)(x=np.array([[1.0, 2.0], [3.0, 4.0]]))["y"], [4, 1])
    model = spec({"x": "array:2"}, {"y": "int64"})
    model.arrayFeatureExtractor.extractIndex.append(1)
    assert load(model)(x=np.array([1.5, 4.0]))["y"] == 4
    with pytest.raises(DataError, match=r"whole number, got 4\.5"):
        load(model)(x=np.array([1.5, 4.5]))


def test_identity(load: Any) -> None:
    model = spec({"a": "seq:string", "b": "double"}, {"b": "double", "a": "seq:string"})
    model.identity.SetInParent()
    assert load(model)(a=["x", "y"], b=2) == {"a": ["x", "y"], "b": 2.0}


def boxes(per_class: bool, **outputs: str) -> Any:
    model = spec({"c": "array", "b": "array", "iou": "double?"}, {"c2": "array", "b2": "array"} | outputs)
    p = model.nonMaximumSuppression
    p.pickTop.perClass = per_class
    p.iouThreshold, p.confidenceThreshold = 0.3, 0.2
    p.confidenceInputFeatureName, p.coordinatesInputFeatureName, p.iouThresholdInputFeatureName = (
        "c",
        "b",
        "iou",
    )
    p.confidenceOutputFeatureName, p.coordinatesOutputFeatureName = "c2", "b2"
    return model


BOXES = np.array([[1.0, 1, 2, 2], [1.0, 2, 2, 2], [5.0, 5, 1, 1], [1.0, 1, 2, 2]])
"""The second overlaps the first in 2 of 6 units of area, IOU 1/3; the fourth is the first."""
CONFIDENCE = np.array([[0.9, 0.0], [0.0, 0.8], [0.1, 0.0], [0.5, 0.0]])


@pytest.mark.parametrize(
    ("per_class", "inputs", "kept"),
    [(False, {}, [0]), (True, {}, [0, 1]), (False, {"iou": 0.34}, [0, 1]), (False, {"iou": 1.0}, [0, 1, 3])],
)
def test_non_maximum_suppression(
    load: Any, per_class: bool, inputs: dict[str, float], kept: list[int]
) -> None:
    found = load(boxes(per_class))(c=CONFIDENCE, b=BOXES, **inputs)
    np.testing.assert_array_equal(found["c2"], CONFIDENCE[kept])
    np.testing.assert_array_equal(found["b2"], BOXES[kept])


def test_number_of_boxes(load: Any) -> None:
    """A fixed shape is filled with zeros, or cuts."""
    found = load(boxes(False, c2="array:2,2"))(c=CONFIDENCE, b=BOXES)
    np.testing.assert_array_equal(found["b2"], [BOXES[0], np.zeros(4)])
    found = load(boxes(True, b2="array:1,4"))(c=CONFIDENCE, b=BOXES)
    np.testing.assert_array_equal(found["c2"], CONFIDENCE[:1])


def test_least_number_of_boxes(load: Any) -> None:
    model = boxes(False)
    sizes = model.description.output[1].type.multiArrayType.shapeRange.sizeRanges
    sizes.add(lowerBound=3, upperBound=9)
    sizes.add(lowerBound=4, upperBound=4)
    found = load(model)(c=CONFIDENCE, b=BOXES)
    np.testing.assert_array_equal(found["b2"], [BOXES[0], np.zeros(4), np.zeros(4)])


def test_recommender_of_numbers(load: Any) -> None:
    """Without names, items are 0, 1, …"""
    model = spec({"items": "dict:int64"}, {"list": "seq:int64", "s": "dict:int64"})
    p = model.itemSimilarityRecommender
    p.itemItemSimilarities.add(itemId=0).similarItemList.add(itemId=2, similarityScore=0.5)
    p.itemInputFeatureName = "items"
    p.recommendedItemListOutputFeatureName, p.recommendedItemScoreOutputFeatureName = "list", "s"
    assert load(model)(items={0: 4.0})["s"] == {2: 2.0, 1: 0.0}


def test_recommender(load: Any) -> None:
    """Scores by the formula: given a (2) and c (1), b has .5 * (2 - 1) + .25 * (1 - 1), d has .75 * 2."""
    model = spec(
        {"items": "dict:string", "k": "int64?", "not": "seq:string?"},
        {"list": "seq:string", "s": "dict:string"},
    )
    p = model.itemSimilarityRecommender
    p.itemStringIds.vector.extend("abcd")
    similar = {0: {1: 0.5, 3: 0.75}, 2: {1: 0.25}, 1: {}}
    for item, connected in similar.items():
        entry = p.itemItemSimilarities.add(itemId=item, itemScoreAdjustment=1.0 if item == 1 else 0)
        for other, score in connected.items():
            entry.similarItemList.add(itemId=other, similarityScore=score)
    p.itemInputFeatureName, p.numRecommendationsInputFeatureName = "items", "k"
    p.itemExclusionInputFeatureName = "not"
    p.recommendedItemListOutputFeatureName, p.recommendedItemScoreOutputFeatureName = "list", "s"
    predict = load(model)
    given = {"a": 2.0, "c": 1.0}
    assert predict(items=given) == {"list": ["d", "b"], "s": {"d": 1.5, "b": 0.5}}
    assert predict(items=given, k=1)["list"] == ["d"]
    assert predict(items=given, **{"not": ["d"]})["list"] == ["b", "a", "c"]


def test_pipeline(load: Any) -> None:
    """A word and a number, to a linear model of a one-hot vector: as in files that other tools write."""
    hot = spec({"color": "string"}, {"hot": "dict:int64"})
    hot.oneHotEncoder.stringCategories.vector.extend(["red", "blue"])
    hot.oneHotEncoder.outputSparse = True
    vector = spec({"hot": "dict:int64", "size": "double"}, {"x": "array:3"})
    vector.featureVectorizer.inputList.add(inputColumn="hot", inputDimensions=2)
    vector.featureVectorizer.inputList.add(inputColumn="size", inputDimensions=1)
    last = spec({"x": "array:3"}, {"price": "double"})
    set_weights(last.glmRegressor, [[10.0, 20.0, 3.0]], [0.5])
    model = pipeline(
        {"color": "string", "size": "double"},
        {"price": "double"},
        hot,
        vector,
        last,
        kind="pipelineRegressor",
    )
    assert load(model)(color="blue", size=2)["price"] == 26.5
    with pytest.raises(DataError, match="input 'size' must be a number, got 'two'"):
        load(model)(color="blue", size="two")


def test_pipeline_classifier(load: Any) -> None:
    mapping = spec({"word": "string"}, {"n": "int64"})
    mapping.categoricalMapping.stringToInt64Map.map.update({"yes": 1, "no": -1})
    last = classifier({"n": "int64"}, ["minus", "plus"], "glmClassifier")
    set_weights(last.glmClassifier, [[2.0]], [0.0])
    model = pipeline(
        {"word": "string"},
        {"label": "string", "scores": "dict:string"},
        mapping,
        last,
        kind="pipelineClassifier",
    )
    found = load(model)(word="no")
    assert found["label"] == "minus"
    assert found["scores"]["minus"] == pytest.approx(0.8807970779778823)  # logistic(2), from a table


def test_linked_model(tmp_path: Path) -> None:
    save(tmp_path / "scale.mlmodel", _doubling())
    model = spec({"x": "double"}, {"y": "double"})
    model.linkedModel.linkedModelFile.linkedModelFileName.defaultValue = "scale.mlmodelc"
    path = save(tmp_path / "outer.mlmodel", model)
    assert load_mil(path).predict({"x": 3}) == {"y": 6.0}
    for search in ("/etc", "..", "$BUNDLE_MAIN"):
        model.linkedModel.linkedModelFile.linkedModelSearchPath.defaultValue = search
        with pytest.raises(DataError, match=r"must stay inside|in an app's bundle"):
            load_mil(save(path, model))
    model.linkedModel.linkedModelFile.ClearField("linkedModelSearchPath")
    model.linkedModel.linkedModelFile.linkedModelFileName.defaultValue = "outer.mlmodel"
    with pytest.raises(DataError, match="16 linked models at most"):
        load_mil(save(path, model))
    (tmp_path / "link.mlmodel").symlink_to(tmp_path / "scale.mlmodel")
    model.linkedModel.linkedModelFile.linkedModelFileName.defaultValue = "link.mlmodel"
    with pytest.raises(DataError, match="must lead through no link"):
        load_mil(save(path, model))


def _doubling() -> Any:
    model = spec({"x": "double"}, {"y": "double"})
    model.scaler.scaleValue.append(2)
    return model


def test_every_kind_is_run_or_refused(load: Any) -> None:
    kinds = [field.name for field in Model_pb2.Model.DESCRIPTOR.oneofs_by_name["Type"].fields]
    networks = {"neuralNetworkClassifier", "neuralNetworkRegressor"}
    assert sorted({*MODELS, *REFUSED} - networks) == sorted(set(kinds) - networks)
    assert not set(MODELS) & REFUSED.keys()
    assert set(KINDS) < set(MODELS)
    for kind, reason in REFUSED.items():
        model = spec({"x": "string"}, {"y": "string"})
        getattr(model, kind).SetInParent()
        with pytest.raises(DataError, match=f"kind {kind} cannot be run here: {reason}"):
            load(model)
