"""Acquisitions that compare posterior samples, against naive formulas in float64."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from app.errors import RecipeError
from app.recipes import ACQUISITIONS as CHOICES
from app.recipes import parse_recipe
from tests.unit.learning.factories import make_snapshot
from tests.unit.learning.test_acquisitions import DISAGREEING, make_log_probs, probabilities
from worker.learning.acquisitions.bald import bald_scores, expected_entropy
from worker.learning.acquisitions.variation_ratio import variation_ratio_scores
from worker.learning.errors import ShapeError
from worker.learning.learner import step


def naive_entropy(probs):
    return math.fsum(-p * math.log(p) for p in probs if p > 0)


def naive_bald(probs_SNC, image):
    samples = [sample[image] for sample in probs_SNC]
    mean = [math.fsum(column) / len(samples) for column in zip(*samples, strict=True)]
    return naive_entropy(mean) - math.fsum(naive_entropy(sample) for sample in samples) / len(samples)


def naive_variation_ratio(probs_SNC, image):
    votes = Counter(int(np.argmax(sample[image])) for sample in probs_SNC)
    return 1 - max(votes.values()) / len(probs_SNC)


@pytest.mark.parametrize(
    ("fast", "naive"), [(bald_scores, naive_bald), (variation_ratio_scores, naive_variation_ratio)]
)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(probs_SNC=probabilities())
def test_formulas_agree_with_their_definitions(fast, naive, probs_SNC):
    probs_SNC = np.concatenate([probs_SNC, probs_SNC[::-1, ::-1]])
    with np.errstate(divide="ignore"):
        log_probs = torch.from_numpy(np.log(probs_SNC))
    # Equal probabilities have no favourite; logarithms keep their order but for such ties.
    expected = [naive(np.exp(log_probs.numpy()).tolist(), image) for image in range(probs_SNC.shape[1])]
    np.testing.assert_allclose(fast(log_probs).numpy(), expected, atol=1e-12)


def test_bald_in_single_precision_is_close_to_the_formula():
    log_probs = make_log_probs(samples=100, count=50, classes=10)
    expected = [naive_bald(log_probs.double().exp().tolist(), image) for image in range(50)]
    np.testing.assert_allclose(bald_scores(log_probs).numpy(), expected, atol=2e-6)


def test_scores_keep_to_their_documented_range():
    sure = torch.eye(4, dtype=torch.float64).log().unsqueeze(1)
    assert bald_scores(sure).item() == pytest.approx(math.log(4))
    assert expected_entropy(sure).item() == 0
    assert variation_ratio_scores(sure).item() == pytest.approx(0.75)
    agreed = make_log_probs(samples=1).expand(5, -1, -1)
    assert (bald_scores(agreed) >= 0).all() and bald_scores(agreed).max() < 1e-6
    assert (variation_ratio_scores(agreed) == 0).all()


def test_one_sample_is_refused_by_bald_and_never_disagrees_with_itself():
    with pytest.raises(ShapeError, match=r"expected shape \[S >= 2, N, C >= 2\], got \[1, 7, 4\]"):
        bald_scores(make_log_probs(samples=1))
    assert (variation_ratio_scores(make_log_probs(samples=1)) == 0).all()


@pytest.mark.parametrize("name", DISAGREEING)
def test_a_recipe_of_one_sample_is_refused_with_the_posteriors_to_use(name):
    with pytest.raises(RecipeError) as told:
        parse_recipe({"acquisition": name})
    assert told.value.subject == "acquisition"
    assert f"{name} compares 2 or more posterior samples and plugin has 1" in told.value.reason
    assert "mc_dropout, laplace, committee" in told.value.remedy


@pytest.mark.parametrize("posterior", ["mc_dropout", "laplace", "committee"])
@pytest.mark.parametrize("name", DISAGREEING)
def test_every_posterior_of_samples_feeds_it(name, posterior):
    quick = {"epochs": 2, "least_steps": 1}
    recipe = parse_recipe({"image_side": 8, "fitting": quick, "acquisition": name, "posterior": posterior})
    result = step(recipe, make_snapshot(), count=5, round_number=1, device="cpu")
    assert len(result.ranking.rows) == 5
    assert CHOICES.choice(name).least_samples == 2 and result.scores.max() > 0
