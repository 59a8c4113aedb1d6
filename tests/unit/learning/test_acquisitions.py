import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.recipes import ACQUISITIONS as CHOICES
from app.recipes import parse_pick
from worker.learning.acquisitions import ACQUISITIONS, Evidence, Sight, top_two
from worker.learning.acquisitions.entropy import entropy_scores
from worker.learning.acquisitions.least_confidence import least_confidence_scores
from worker.learning.acquisitions.margin import margin_scores
from worker.learning.acquisitions.random import random_scores
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.reading import Reading, mean_log_probs
from worker.learning.scoring import score

ALL = pytest.mark.parametrize("name", ACQUISITIONS.names())
SEEING = pytest.mark.parametrize(
    "name", [name for name in ACQUISITIONS.names() if ACQUISITIONS.get(name).sight is not Sight.NOTHING]
)
# Those that ask how unsure the mean prediction is, how much samples disagree, or where the features lie.
LIKENESS = ("kmeans_boundary", "redundancy")
DISAGREEING = [name for name in ACQUISITIONS.names() if CHOICES.choice(name).least_samples > 1]
POOL = [name for name in ACQUISITIONS.names() if ACQUISITIONS.get(name).sight is Sight.POOL]
UNSURE = [name for name in ACQUISITIONS.names() if name not in (*LIKENESS, *DISAGREEING, "random")]


def make_log_probs(samples=2, count=7, classes=4, seed=0, dtype=torch.float32):
    draws = torch.randn(samples, count, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.log_softmax(3 * draws, dim=-1).to(dtype)


def make_features(count, width=3, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator, dtype=torch.float64).abs().to(dtype)


def scores_of(name, log_probs_SNC, seed=0, features_ND=None):
    count = log_probs_SNC.shape[1]
    features_ND = make_features(count, dtype=log_probs_SNC.dtype) if features_ND is None else features_ND
    reading = Reading(log_probs_SNC, features_ND)
    generator = torch.Generator().manual_seed(seed)
    parameters = parse_pick(CHOICES, name).parameters
    return score(ACQUISITIONS.get(name), Evidence(count, generator, parameters, reading))


@ALL
@pytest.mark.parametrize(("samples", "count", "classes"), [(1, 1, 2), (1, 5, 2), (3, 6, 10), (1, 0, 3)])
def test_there_is_one_finite_score_an_image(name, samples, count, classes):
    samples = max(samples, CHOICES.choice(name).least_samples)
    scores = scores_of(name, make_log_probs(samples, count, classes))
    assert scores.shape == (count,)
    assert torch.isfinite(scores).all()


@ALL
def test_certain_predictions_have_finite_scores(name):
    certain = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]]]).log()
    assert torch.isfinite(scores_of(name, certain.expand(2, 3, 3))).all()


@ALL
def test_predictions_of_one_class_for_the_whole_pool_are_scored(name):
    scores = scores_of(name, torch.tensor([0.9, 0.05, 0.05]).log().expand(2, 6, 3))
    assert scores.shape == (6,)


@ALL
def test_the_same_seed_scores_the_same(name):
    assert torch.equal(scores_of(name, make_log_probs(), seed=3), scores_of(name, make_log_probs(), seed=3))


@SEEING
def test_scores_follow_their_images(name):
    log_probs, order = make_log_probs(), torch.tensor([6, 2, 0, 1, 5, 3, 4])
    turned = scores_of(name, log_probs[:, order], features_ND=make_features(7)[order])
    torch.testing.assert_close(turned, scores_of(name, log_probs)[order])


@SEEING
def test_samples_and_classes_have_no_order(name):
    log_probs = make_log_probs(samples=3)
    turned = log_probs[[2, 0, 1]][..., [3, 1, 0, 2]]
    torch.testing.assert_close(scores_of(name, turned), scores_of(name, log_probs))


@SEEING
def test_float32_agrees_with_float64(name):
    single = scores_of(name, make_log_probs())
    torch.testing.assert_close(
        single.double(), scores_of(name, make_log_probs(dtype=torch.float64)).double(), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("name", UNSURE)
def test_what_cannot_be_told_apart_is_asked_before_what_is_certain(name):
    certain_then_open = torch.tensor([[[0.98, 0.01, 0.01], [0.34, 0.33, 0.33]]]).log()
    certain, opened = scores_of(name, certain_then_open, features_ND=torch.ones(2, 3))
    assert opened > certain


@pytest.mark.parametrize("name", DISAGREEING)
def test_what_samples_disagree_about_is_asked_before_what_all_find_open(name):
    agreed, split = [0.5, 0.5 - 1e-3, 1e-3], [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05]]
    all_open, disputed = scores_of(name, torch.tensor([[agreed, split[0]], [agreed, split[1]]]).log())
    assert disputed > all_open + 0.1


@pytest.mark.parametrize("name", [*UNSURE, *DISAGREEING])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_prediction_that_is_not_finite_is_refused(name, broken):
    log_probs = make_log_probs(samples=2)
    log_probs[0, 3, 1] = broken
    with pytest.raises(NotFiniteError, match="scores_N"):
        scores_of(name, log_probs)


@pytest.mark.parametrize("name", POOL)
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_feature_that_is_not_finite_is_refused(name, broken):
    features = make_features(7)
    features[3, 1] = broken
    with pytest.raises(NotFiniteError, match=r"scores_N|features_ND"):
        scores_of(name, make_log_probs(), features_ND=features)


@pytest.mark.parametrize("name", [*UNSURE, *DISAGREEING])
def test_wrong_axes_are_refused_naming_both_shapes(name):
    with pytest.raises(ShapeError, match=r"expected shape \[S >= \d, N, C >= 2\], got \[2, 7, 1\]"):
        scores_of(name, make_log_probs()[..., :1])


@pytest.mark.parametrize("name", POOL)
def test_features_of_wrong_axes_are_refused_naming_both_shapes(name):
    with pytest.raises(ShapeError, match=r"features_ND: expected shape \[N, D\], got \[7, 3, 1\]"):
        scores_of(name, make_log_probs(), features_ND=make_features(7).unsqueeze(2))


@pytest.mark.parametrize("name", POOL)
@pytest.mark.parametrize("features_ND", [torch.zeros(6, 3), torch.ones(6, 3)], ids=["nothing", "alike"])
def test_images_that_look_all_alike_have_finite_scores(name, features_ND):
    assert torch.isfinite(scores_of(name, make_log_probs(count=6), features_ND=features_ND)).all()


@pytest.mark.parametrize("name", [*UNSURE, *DISAGREEING])
def test_an_image_has_named_numbers_behind_its_score(name):
    log_probs = make_log_probs()
    parts = ACQUISITIONS.get(name).parts(Reading(log_probs, torch.ones(7, 3)))
    assert parts
    assert all(values.shape == (7,) and torch.isfinite(values).all() for values in parts.values())


def test_an_acquisition_that_looks_is_not_scored_blindly():
    with pytest.raises(ValueError, match="there is none"):
        score(ACQUISITIONS.get("entropy"), Evidence(3, torch.Generator(), {}))


def naive_mean(probs_SNC, image):
    return [math.fsum(sample[image][c] for sample in probs_SNC) / len(probs_SNC) for c in range(len(probs_SNC[0][0]))]


def naive_entropy(mean):
    return math.fsum(-p * math.log(p) for p in mean if p > 0)


def naive_margin(mean):
    first, second = sorted(mean, reverse=True)[:2]
    return second - first


def naive_least_confidence(mean):
    return 1 - max(mean)


@st.composite
def probabilities(draw):
    samples, count, classes = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(2, 6))
    weight = st.integers(0, 1000)
    vector = st.lists(weight, min_size=classes, max_size=classes).filter(any)
    image = st.lists(vector, min_size=count, max_size=count)
    weights = np.array(draw(st.lists(image, min_size=samples, max_size=samples)), dtype=np.float64)
    return weights / weights.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("fast", "naive"),
    [
        (entropy_scores, naive_entropy),
        (margin_scores, naive_margin),
        (least_confidence_scores, naive_least_confidence),
    ],
)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(probs_SNC=probabilities())
def test_formulas_agree_with_their_definitions(fast, naive, probs_SNC):
    expected = [naive(naive_mean(probs_SNC.tolist(), image)) for image in range(probs_SNC.shape[1])]
    with np.errstate(divide="ignore"):
        log_probs = torch.from_numpy(np.log(probs_SNC))
    np.testing.assert_allclose(fast(log_probs).numpy(), expected, atol=1e-12)


def test_scores_keep_to_their_documented_range():
    log_probs = make_log_probs(count=200, classes=5, dtype=torch.float64)
    even = torch.full((1, 1, 5), 0.2, dtype=torch.float64).log()
    for scores, low, high in (
        (partial(entropy_scores), 0.0, math.log(5)),
        (partial(margin_scores), -1.0, 0.0),
        (partial(least_confidence_scores), 0.0, 0.8),
    ):
        assert low <= scores(log_probs).min() <= scores(log_probs).max() <= high
        assert scores(even).item() == pytest.approx(high)


def test_random_scores_are_every_order_alike():
    scores = random_scores(4, torch.Generator().manual_seed(0))
    assert sorted(scores.tolist()) == [0.125, 0.375, 0.625, 0.875]
    generator = torch.Generator().manual_seed(1)
    first = torch.stack([random_scores(4, generator).argmax() for _ in range(4000)])
    shares = first.bincount(minlength=4) / 4000
    # Four standard deviations of a share of 1/4.
    assert (shares - 0.25).abs().max() < 4 * math.sqrt(0.25 * 0.75 / 4000)


def test_random_scores_of_a_million_images_survive_float32_without_ties():
    assert len(random_scores(1_000_000, torch.Generator().manual_seed(0)).float().unique()) == 1_000_000


def test_the_mean_of_samples_is_taken_over_probabilities():
    log_probs = torch.tensor([[[0.8, 0.2]], [[0.4, 0.6]]]).log()
    torch.testing.assert_close(mean_log_probs(log_probs).exp(), torch.tensor([[0.6, 0.4]]))


def test_the_two_likeliest_classes_come_likeliest_first():
    probs, classes = top_two(torch.tensor([[[0.1, 0.6, 0.3], [0.5, 0.1, 0.4]]]).log())
    assert classes.tolist() == [[1, 2], [0, 2]]
    torch.testing.assert_close(probs, torch.tensor([[0.6, 0.3], [0.5, 0.4]]))
