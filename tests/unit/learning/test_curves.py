import math

import numpy as np
import pytest

from worker.learning.curves import (
    Curve,
    area_under_curve,
    labelling_efficiency,
    labels_to_target,
    mean_curve,
    mean_pool_entropy,
)
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.evaluation import evaluate


def make_curve(*points):
    labels, accuracies = zip(*points, strict=True)
    return Curve(np.array(labels), np.array(accuracies, dtype=np.float64))


CURVE = make_curve((10, 0.2), (20, 0.6), (40, 0.8))


@pytest.mark.parametrize(
    ("first", "last", "mean"),
    [
        (10, 40, (10 * 0.4 + 20 * 0.7) / 30),
        (10, 20, 0.4),
        (15, 30, (5 * 0.5 + 10 * 0.65) / 15),
        (22, 24, 0.63),
        (30, 30, 0.7),
        (10, 10, 0.2),
    ],
)
def test_the_area_is_the_mean_height_of_straight_lines(first, last, mean):
    assert area_under_curve(CURVE, first, last) == pytest.approx(mean)


@pytest.mark.parametrize(("first", "last"), [(9, 40), (10, 41), (9, 9), (30, 20)])
def test_an_area_beyond_the_curve_is_refused(first, last):
    with pytest.raises(ValueError, match="the curve goes from 10 to 40"):
        area_under_curve(CURVE, first, last)


def test_labels_to_a_target_are_those_of_the_first_round_that_reaches_it():
    dips = make_curve((10, 0.2), (20, 0.6), (30, 0.5), (40, 0.8))
    assert labels_to_target(dips, 0.6) == 20
    assert labels_to_target(dips, 0.61) == 40
    assert labels_to_target(dips, 0.1) == 10
    assert labels_to_target(dips, 0.81) is None


def test_between_rounds_the_curve_is_straight():
    assert labels_to_target(CURVE, 0.4, between_rounds=True) == pytest.approx(15)
    assert labels_to_target(CURVE, 0.65, between_rounds=True) == pytest.approx(25)
    assert labels_to_target(CURVE, 0.1, between_rounds=True) == 10
    assert labels_to_target(CURVE, 0.9, between_rounds=True) is None


def test_a_mean_curve_covers_what_all_its_curves_cover():
    mean = mean_curve([CURVE, make_curve((15, 0.0), (25, 1.0))])
    np.testing.assert_array_equal(mean.labels_R, [15, 20, 25])
    np.testing.assert_allclose(mean.accuracies_R, [(0.4 + 0.0) / 2, (0.6 + 0.5) / 2, (0.65 + 1.0) / 2])
    with pytest.raises(ValueError, match="no labels in common: one begins at 50, one ends at 40"):
        mean_curve([CURVE, make_curve((50, 0.1), (60, 0.2))])


def ramp(slope):
    """Accuracy grows by ``slope`` a label, from 0 at 0 labels to 100 labels."""
    return make_curve(*((labels, slope * labels) for labels in range(0, 101, 10)))


def test_an_arm_that_learns_twice_as_fast_needs_half_the_labels():
    got = labelling_efficiency([ramp(0.02)] * 3, [ramp(0.01)] * 3, 0.5, generator=np.random.default_rng(0))
    assert (got.ratio, got.low, got.high) == pytest.approx((2, 2, 2))
    assert (got.is_least, got.share_reached) == (False, 1.0)


def test_the_interval_of_the_efficiency_is_that_of_all_resamples():
    arm, random = [ramp(0.02), ramp(0.012)], [ramp(0.01), ramp(0.01)]
    got = labelling_efficiency(arm, random, 0.5, generator=np.random.default_rng(0), resamples=400)
    # Two seeds have three different resamples: the better twice, each once, the worse twice.
    assert (got.low, got.ratio, got.high) == pytest.approx((1.2, 1.6, 2.0))


def test_seeds_stay_paired():
    slopes = [0.011, 0.015, 0.02, 0.03]
    arm, random = [ramp(2 * slope) for slope in slopes], [ramp(slope) for slope in slopes]
    got = labelling_efficiency(arm, random, 0.3, generator=np.random.default_rng(0), resamples=200)
    assert (got.low, got.high) == pytest.approx((2, 2))


def test_one_seed_has_an_efficiency_and_no_interval():
    got = labelling_efficiency([ramp(0.02)], [ramp(0.01)], 0.5, generator=np.random.default_rng(0))
    assert (got.ratio, got.low, got.high, got.share_reached) == (2.0, None, None, 1.0)


def test_the_size_of_a_batch_does_not_round_the_efficiency():
    coarse = make_curve((0, 0.0), (50, 0.5), (100, 1.0))
    got = labelling_efficiency([ramp(0.02)] * 2, [coarse] * 2, 0.3, generator=np.random.default_rng(0))
    assert got.ratio == pytest.approx(30 / 15)


def test_where_random_never_gets_there_the_efficiency_is_a_least_one():
    got = labelling_efficiency([ramp(0.02)], [ramp(0.004)], 0.5, generator=np.random.default_rng(0), resamples=5)
    assert got.ratio == pytest.approx(100 / 25)
    assert got.is_least


def test_where_the_arm_never_gets_there_is_no_efficiency():
    assert labelling_efficiency([ramp(0.004)], [ramp(0.01)], 0.5, generator=np.random.default_rng(0)) is None


def test_resamples_that_miss_the_target_are_counted():
    arm, random = [ramp(0.02), ramp(0.006)], [ramp(0.01)] * 2
    got = labelling_efficiency(arm, random, 0.9, generator=np.random.default_rng(0), resamples=1000)
    # The worse run alone, a quarter of the resamples, ends at 0.6.
    assert got.share_reached == pytest.approx(0.75, abs=0.05)


def test_the_same_generator_gives_the_same_interval():
    arm, random = [ramp(0.02), ramp(0.012), ramp(0.03)], [ramp(0.01)] * 3
    first, same, other = (
        labelling_efficiency(arm, random, 0.5, generator=np.random.default_rng(seed), resamples=20)
        for seed in (0, 0, 1)
    )
    assert first == same != other


def test_arms_that_cannot_be_paired_are_refused():
    for arm, random in (([CURVE], [CURVE] * 2), ([], [])):
        with pytest.raises(ValueError, match="cannot be paired"):
            labelling_efficiency(arm, random, 0.5, generator=np.random.default_rng(0))


def test_the_entropy_of_a_pool_is_that_of_its_images_whatever_the_chunks():
    logits = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    got = mean_pool_entropy([log_probs[:7], log_probs[7:8], log_probs[8:]])
    assert got == pytest.approx(evaluate(log_probs, np.zeros(30, int)).mean_entropy)
    assert mean_pool_entropy([np.log(np.full((3, 5), 0.2))]) == pytest.approx(math.log(5))


def test_the_entropy_of_nothing_and_of_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="no images"):
        mean_pool_entropy([])
    with pytest.raises(NotFiniteError):
        mean_pool_entropy([np.array([[math.nan, 0.0]])])


@pytest.mark.parametrize(
    ("labels", "accuracies", "error", "told"),
    [
        ([], [], ShapeError, r"labels_R: expected shape \[R >= 1\], got \[0\]"),
        ([1, 2], [0.5], ShapeError, r"accuracies_R: expected shape \[2\], got \[1\]"),
        ([1, 1], [0.5, 0.6], ValueError, "have to grow"),
        ([1, 2], [0.5, math.nan], NotFiniteError, "NaN"),
    ],
)
def test_what_is_no_curve_is_refused(labels, accuracies, error, told):
    with pytest.raises(error, match=told):
        Curve(np.array(labels), np.array(accuracies))
