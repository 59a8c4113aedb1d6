import json
import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.evaluation import (
    brier_score,
    calibration_error,
    confusion_matrix,
    entropies,
    evaluate,
    one_vs_rest_roc_aucs,
    wilson_interval,
)

PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
LABELS = np.array([0, 1, 1, 2])


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [
        # 0 of n is [0, z^2 / (n + z^2)], n of n its mirror image, and half of n is 1/2 -+ z / (2 sqrt(n + z^2)).
        (0, 10, 0.0, 3.8414588207 / 13.8414588207),
        (10, 10, 10 / 13.8414588207, 1.0),
        (
            50,
            100,
            0.5 - 1.9599639845 / (2 * math.sqrt(103.8414588207)),
            0.5 + 1.9599639845 / (2 * math.sqrt(103.8414588207)),
        ),
        # Newcombe 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_has_its_published_values(correct, count, low, high):
    got_low, got_high = wilson_interval(correct, count)
    assert (round(got_low, 4), round(got_high, 4)) == (round(low, 4), round(high, 4))


@pytest.mark.parametrize(("correct", "count"), [(0, 0), (3, 2), (-1, 2)])
def test_what_is_no_share_has_no_interval(correct, count):
    with pytest.raises(ValueError, match="not a share"):
        wilson_interval(correct, count)


def test_an_evaluation_counts_and_averages():
    got = evaluate(np.log(PROBS), LABELS)
    assert (got.count, got.correct, got.accuracy) == (4, 3, 0.75)
    assert (got.accuracy_low, got.accuracy_high) == wilson_interval(3, 4)
    assert got.nll == pytest.approx(-(math.log(0.7) + math.log(0.8) + math.log(0.3) + math.log(0.6)) / 4)
    assert got.mean_entropy == pytest.approx(float(-(PROBS * np.log(PROBS)).sum() / 4))
    assert got.confusion == ((1, 0, 0), (1, 1, 0), (0, 0, 1))
    assert got.recalls == (1.0, 0.5, 1.0)
    assert got.precisions == (0.5, 1.0, 1.0)
    # Every image is alone in its bin: |0.7 - 1|, |0.8 - 1|, |0.5 - 0|, |0.6 - 1|.
    assert got.ece == pytest.approx((0.3 + 0.2 + 0.5 + 0.4) / 4)


def test_a_class_without_images_has_no_recall_and_one_never_predicted_no_precision():
    got = evaluate(np.log(PROBS[:2]), np.array([0, 0]))
    assert got.recalls == (0.5, None, None)
    assert got.precisions == (1.0, 0.0, None)


def test_a_truth_of_probability_zero_leaves_the_mean_finite():
    with np.errstate(divide="ignore"):
        got = evaluate(np.log(np.array([[1.0, 0.0], [1.0, 0.0]])), np.array([0, 1]))
    assert got.nll == pytest.approx(-math.log(1e-12) / 2)
    assert got.mean_entropy == 0.0
    assert got.ece == 0.5


def test_an_evaluation_is_json():
    got = evaluate(np.log(PROBS).astype(np.float32), LABELS).as_json()
    assert json.loads(json.dumps(got, allow_nan=False)) == json.loads(json.dumps(got))
    assert got["confusion"][1] == [1, 1, 0] or got["confusion"][1] == (1, 1, 0)


@pytest.mark.parametrize(
    ("log_probs", "labels", "told"),
    [
        (np.zeros((2, 3)), np.zeros(3, int), r"labels_N: expected shape \[2\], got \[3\]"),
        (np.zeros(3), np.zeros(3, int), r"expected shape \[N >= 1, C >= 2\], got \[3\]"),
        (np.zeros((0, 3)), np.zeros(0, int), r"expected shape \[N >= 1, C >= 2\], got \[0, 3\]"),
        (np.zeros((2, 1)), np.zeros(2, int), r"expected shape \[N >= 1, C >= 2\], got \[2, 1\]"),
    ],
)
def test_wrong_shapes_are_refused_naming_both(log_probs, labels, told):
    with pytest.raises(ShapeError, match=told):
        evaluate(log_probs, labels)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_prediction_that_is_not_finite_is_refused(broken):
    log_probs = np.log(PROBS)
    log_probs[1, 1] = broken
    with pytest.raises(NotFiniteError):
        evaluate(log_probs, LABELS)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_outside_the_classes_is_refused(label):
    with pytest.raises(ValueError, match="do not fit 3"):
        evaluate(np.log(PROBS), np.array([0, 1, 2, label]))


def naive_calibration_error(confidences, correct, bins):
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [i for i, p in enumerate(confidences) if low < p <= high]
        if inside:
            confidence = sum(confidences[i] for i in inside) / len(inside)
            accuracy = sum(correct[i] for i in inside) / len(inside)
            total += len(inside) / len(confidences) * abs(confidence - accuracy)
    return total


# Multiples of 1/64 are exact, and so are their edges in sixteenths.
@settings(max_examples=80, deadline=None, derandomize=True)
@given(images=st.lists(st.tuples(st.integers(1, 64), st.booleans()), min_size=1, max_size=40))
def test_calibration_error_agrees_with_its_definition(images):
    confidences = np.array([confidence / 64 for confidence, _ in images])
    correct = np.array([is_correct for _, is_correct in images])
    got = calibration_error(confidences, correct, bins=16)
    assert got == pytest.approx(naive_calibration_error(confidences, correct, 16), abs=1e-12)


def test_confusion_has_the_truth_in_its_rows():
    assert confusion_matrix(np.array([0, 0, 1]), np.array([1, 1, 1]), 3).tolist() == [[0, 2, 0], [0, 1, 0], [0, 0, 0]]


def make_predictions(count, classes, seed, levels=None):
    """Predictions better than chance; with ``levels`` the scores have many ties."""
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, classes, count)
    logits = draws.normal(size=(count, classes)) + 1.5 * np.eye(classes)[labels]
    logits = logits if levels is None else np.round(logits * levels) / levels
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), labels


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_figures_agree_with_scikit_learn(classes, seed):
    log_probs, labels = make_predictions(60, classes, seed)
    got, predicted, each = evaluate(log_probs, labels), log_probs.argmax(axis=1), range(classes)
    kinds = sklearn.metrics.precision_recall_fscore_support(labels, predicted, labels=each, zero_division=0)
    for ours, theirs in zip((got.precisions, got.recalls, got.f1s), kinds, strict=False):
        np.testing.assert_allclose(ours, theirs)
    assert got.macro_f1 == pytest.approx(sklearn.metrics.f1_score(labels, predicted, average="macro"))
    probs = np.exp(log_probs)
    areas = [sklearn.metrics.roc_auc_score(labels == label, probs[:, label]) for label in each]
    np.testing.assert_allclose(got.roc_aucs, areas)
    assert got.roc_auc == pytest.approx(np.mean(areas))
    assert got.nll == pytest.approx(sklearn.metrics.log_loss(labels, probs))
    assert got.brier == pytest.approx(((probs - np.eye(classes)[labels]) ** 2).sum(axis=1).mean())


def test_ties_count_half_in_the_area():
    scores, labels = make_predictions(80, 3, 4, levels=1)
    scores = np.round(scores)
    assert len(np.unique(scores[:, 0])) < 10
    theirs = [sklearn.metrics.roc_auc_score(labels == label, scores[:, label]) for label in range(3)]
    np.testing.assert_allclose(one_vs_rest_roc_aucs(scores, labels), theirs)


def test_the_area_is_one_for_perfect_a_half_for_constant_and_none_for_missing_classes():
    perfect = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.3, 0.7, 0.0]])
    assert one_vs_rest_roc_aucs(perfect, np.array([0, 0, 1])) == (1.0, 1.0, None)
    assert one_vs_rest_roc_aucs(1 - perfect, np.array([0, 0, 1])) == (0.0, 0.0, None)
    assert one_vs_rest_roc_aucs(np.ones((4, 2)), np.array([0, 0, 1, 0])) == (0.5, 0.5)
    assert evaluate(np.log(PROBS[:2]), np.array([0, 0])).roc_auc is None


def test_macro_f1_leaves_out_classes_that_are_neither_there_nor_given():
    got = evaluate(np.log(PROBS[:2]), np.array([0, 0]))
    assert got.f1s == (pytest.approx(2 / 3), 0.0, None)
    assert got.macro_f1 == pytest.approx(1 / 3)
    assert got.macro_f1 == pytest.approx(sklearn.metrics.f1_score([0, 0], [0, 1], average="macro"))


def test_the_brier_score_is_nothing_for_the_truth_and_two_for_its_opposite():
    sure = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert brier_score(sure, np.array([0, 1])) == 0.0
    assert brier_score(sure, np.array([1, 0])) == 2.0
    two = sklearn.metrics.brier_score_loss([1, 0, 0], [0.7, 0.4, 0.1])
    assert brier_score(np.array([[0.3, 0.7], [0.6, 0.4], [0.9, 0.1]]), np.array([1, 0, 0])) == pytest.approx(2 * two)


def test_entropies_are_nothing_when_sure_and_the_logarithm_of_the_classes_when_not():
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.array([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0]], np.float32))
    np.testing.assert_allclose(entropies(log_probs), [0.0, math.log(3), math.log(2)], rtol=1e-6)
