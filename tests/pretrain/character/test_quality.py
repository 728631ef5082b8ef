"""Figures against sums by hand, scipy and scikit-learn."""

import numpy as np
import pytest
from scipy import special, stats

from pretrain.character.baselines import BASELINE_NAMES, predict_baseline
from pretrain.character.calibration import (
    expected_calibration_error,
    fit_temperatures,
    isotonic,
    probabilities,
)
from pretrain.character.quality import measure
from pretrain.character.records import Examples
from pretrain.character.schema import load_schema

V2 = load_schema("v2")


def examples(labels: np.ndarray, expected: np.ndarray | None, features: np.ndarray | None = None) -> Examples:
    count = len(labels)
    return Examples(
        schema=V2,
        features=np.zeros((count, 453), np.float32) if features is None else features,
        labels=labels.astype(np.float32),
        expected=None if expected is None else expected.astype(np.float32),
        cells=np.array([str(i) for i in range(count)]),
        archetypes=np.array(["one"] * count),
        fingerprint="",
    )


def drawn(rng: np.random.Generator, expected: np.ndarray) -> np.ndarray:
    """Labels from their expectation."""
    labels = expected.copy()
    for output in V2.of_kind("class", "binary"):
        place = V2.places[output.key]
        own = expected[:, place]
        if output.kind == "binary":
            labels[:, place] = rng.random(own.shape) < own
        else:
            index = (own.cumsum(axis=1) > rng.random((len(own), 1))).argmax(axis=1)
            labels[:, place] = np.eye(output.size)[index]
    return labels


def random_truth(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Raw outputs, and the probabilities that they have at a temperature of 1."""
    flat = rng.normal(0, 1.5, (count, 49)).astype(np.float32)
    return flat, probabilities(flat, V2, {})


def test_probabilities_are_scipys() -> None:
    flat, found = random_truth(np.random.default_rng(0), 20)
    np.testing.assert_allclose(found[:, :6], special.softmax(flat[:, :6].astype(float), axis=1), rtol=1e-6)
    np.testing.assert_allclose(found[:, 41:], special.expit(flat[:, 41:].astype(float)), rtol=1e-6)
    np.testing.assert_array_equal(found[:, 33:41], flat[:, 33:41])
    extreme = probabilities(np.full((1, 49), -1e4, np.float32), V2, {})
    assert np.isfinite(extreme).all()


def test_the_truth_reaches_the_ceiling() -> None:
    rng = np.random.default_rng(1)
    _, truth = random_truth(rng, 4000)
    found = measure(truth, examples(drawn(rng, truth), truth))
    for key in ("action.type", "action.context", "speech.occurs", "thought.dominant", "emotion.shift"):
        assert found[key].share == pytest.approx(1, abs=1e-6)
        assert found[key].kl == pytest.approx(0, abs=1e-6)
        assert found[key].ece == pytest.approx(0, abs=1e-6)
        assert found[key].least_ece == 0
        # Drawn labels agree as often as they should, within 4 standard errors.
        assert found[key].accuracy == pytest.approx(found[key].expected_accuracy, abs=0.03)
    assert found["emotion.delta"].error == pytest.approx(0, abs=1e-6)


def test_divergence_is_scipys() -> None:
    rng = np.random.default_rng(2)
    _, truth = random_truth(rng, 50)
    _, other = random_truth(rng, 50)
    found = measure(other, examples(drawn(rng, truth), truth))
    by_scipy = np.mean([stats.entropy(p, q) for p, q in zip(truth[:, :6], other[:, :6], strict=True)])
    assert found["action.type"].kl == pytest.approx(by_scipy, rel=1e-5)
    pair = (truth[:, 14], other[:, 14])
    both = [stats.entropy([p, 1 - p], [q, 1 - q]) for p, q in zip(*pair, strict=True)]
    assert found["speech.occurs"].kl == pytest.approx(np.mean(both), rel=1e-5)


def test_expected_accuracy_by_hand() -> None:
    truth = np.tile(probabilities(np.zeros((1, 49), np.float32), V2, {}), (2, 1))
    truth[:, :6] = [[0.5, 0.3, 0.2, 0, 0, 0], [0.1, 0.2, 0.7, 0, 0, 0]]
    predicted = truth.copy()
    predicted[1, :6] = [0.1, 0.6, 0.3, 0, 0, 0]
    labels = drawn(np.random.default_rng(0), truth)
    found = measure(predicted, examples(labels, truth))["action.type"]
    assert found.expected_accuracy == pytest.approx((0.5 + 0.2) / 2)
    assert found.ceiling == pytest.approx((0.5 + 0.7) / 2)
    assert found.share == pytest.approx(0.35 / 0.6)


def test_calibration_error_by_hand() -> None:
    # Two bins: three said 0.9 and one was wrong; one said 0.5 and was right.
    confidence, truth = np.array([0.9, 0.9, 0.9, 0.5]), np.array([1.0, 1.0, 0.0, 1.0])
    assert expected_calibration_error(confidence, truth) == pytest.approx((2.7 - 2 + 0.5) / 4)
    assert expected_calibration_error(np.array([1.0]), np.array([1.0])) == 0


def test_labels_alone_leave_an_error_even_to_who_is_right() -> None:
    rng = np.random.default_rng(6)
    _, truth = random_truth(rng, 500)
    found = [measure(truth, examples(drawn(rng, truth), None))["action.type"] for _ in range(20)]
    least = np.mean([quality.least_ece for quality in found])
    # Seven of fifteen bins hold almost all: 0.8 deviations of a share, over about 70 examples each.
    assert 0.02 < least < 0.06
    assert np.mean([quality.ece for quality in found]) == pytest.approx(least, rel=0.15)


def test_a_slope_is_mended_to_the_step_that_labels_show() -> None:
    rng = np.random.default_rng(5)
    truth = np.tile(probabilities(np.zeros((1, 49), np.float32), V2, {}), (4000, 1))
    tension = rng.random(4000)
    place = V2.places["speech.register"]
    truth[:, place] = np.where(tension[:, None] > 0.7, [0, 0.6, 0.4, 0], [0, 1, 0, 0])
    found = truth.copy()
    slope = 0.4 * np.clip((tension - 0.5) / 0.4, 0, 1)
    found[:, place] = np.stack([0 * slope, 0.99 - slope, slope, 0 * slope + 0.01], axis=1)
    labels = drawn(rng, truth).astype(np.float32)
    mended = isotonic(found[:3000], labels[:3000], found[3000:], V2)
    np.testing.assert_allclose(mended[:, place].sum(axis=1), 1, rtol=1e-9)
    assert mended[:, place.start + 3].max() < 1e-6  # in no label
    assert np.abs(mended[:, place] - truth[3000:, place]).mean() < 0.01
    assert np.abs(found[3000:, place] - truth[3000:, place]).mean() > 0.02
    real = V2.places["emotion.delta"]
    np.testing.assert_array_equal(mended[:, real], found[3000:, real])


def test_temperatures_are_found_again() -> None:
    rng = np.random.default_rng(3)
    flat, truth = random_truth(rng, 3000)
    hot = flat.copy()
    hot[:, :6] *= 2.5
    hot[:, 41:] /= 2
    found = fit_temperatures(hot, truth.astype(np.float32), V2)
    assert found["action.type"] == pytest.approx(2.5, rel=1e-3)
    assert found["emotion.shift"] == pytest.approx(0.5, rel=1e-3)
    assert found["speech.register"] == pytest.approx(1, rel=1e-3)
    assert set(found) == {output.key for output in V2.of_kind("class", "binary")}


def test_baselines() -> None:
    rng = np.random.default_rng(4)
    features = np.zeros((600, 453), np.float32)
    features[:, :10] = rng.normal(0, 1, (600, 10))
    # One feature decides the action's class, another the valence; all else is always the same.
    index = (features[:, 3] > 0).astype(int) + (features[:, 3] > 1)
    labels = np.zeros((600, 49))
    for output in V2.of_kind("class"):
        labels[:, V2.places[output.key].start] = 1
    labels[:, :6] = np.eye(6)[index]
    labels[:, 8] = features[:, 5]
    train = examples(labels[:500], None, features[:500])
    predicted = {name: predict_baseline(name, train, features[500:], 0) for name in BASELINE_NAMES}
    frequencies = train.labels.mean(axis=0)
    np.testing.assert_allclose(predicted["majority"], np.tile(frequencies, (100, 1)), atol=1e-6)
    # The linear one is held back by its penalty.
    for name, least in (("linear", 0.7), ("boosting", 0.9)):
        found = predicted[name]
        assert (found[:, :6].argmax(axis=1) == index[500:]).mean() > least, name
        assert np.corrcoef(found[:, 8], features[500:, 5])[0, 1] > 0.95
        np.testing.assert_allclose(found[:, :6].sum(axis=1), 1, rtol=1e-6)
        # Classes that never occur are never predicted, nor is what never changes.
        assert not found[:, 3:6].any()
        np.testing.assert_allclose(found[:, 9:], labels[500:, 9:])
