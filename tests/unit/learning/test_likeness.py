"""Acquisitions that look at features: the fast formulas against their definitions."""

import math

import numpy as np
import pytest
import torch

from app.recipes import ACQUISITIONS as CHOICES
from app.recipes import parse_pick
from worker.learning.acquisitions import ACQUISITIONS, Evidence
from worker.learning.acquisitions.entropy import entropy_scores
from worker.learning.acquisitions.entropy_redundancy import entropy_redundancy_scores
from worker.learning.acquisitions.information_density import information_density_scores
from worker.learning.acquisitions.kmeans_boundary import kmeans_boundary_scores
from worker.learning.acquisitions.redundancy import mean_similarity
from worker.learning.reading import Reading


def draw(*sizes, seed=0, dtype=torch.float32):
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def mean_similarity_by_definition(features_ND):
    """The N x N matrix of cosine similarities without its diagonal, in float64."""
    rows = features_ND.double().numpy()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    similar = unit @ unit.T
    np.fill_diagonal(similar, 0.0)
    return similar.sum(axis=1) / len(rows)


def score(name, log_probs, features, seed=0, **parameters):
    parameters = parse_pick(CHOICES, {"name": name, **parameters}).parameters
    generator = torch.Generator().manual_seed(seed)
    return ACQUISITIONS.get(name).score(Evidence(len(features), generator, parameters, Reading(log_probs, features)))


@pytest.mark.parametrize("shift", [0.0, 3.0])
@pytest.mark.parametrize(("count", "width"), [(1, 4), (2, 1), (500, 64), (1500, 8)])
def test_mean_similarity_agrees_with_all_pairs(count, width, shift):
    features = draw(count, width) + shift
    expected = mean_similarity_by_definition(features)
    np.testing.assert_allclose(mean_similarity(features).numpy(), expected, atol=1e-5)


def test_an_image_without_features_is_like_nothing():
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    np.testing.assert_allclose(mean_similarity(features).numpy(), [0, 1 / 3, 1 / 3], atol=1e-7)


def test_likeness_does_not_depend_on_the_scale_of_an_image():
    features, scales = draw(50, 6), draw(50, 1, seed=1).abs() + 0.1
    np.testing.assert_allclose(mean_similarity(features * scales), mean_similarity(features), atol=1e-6)


def test_redundancy_asks_about_the_odd_one_first():
    features = torch.tensor([[1.0, 0.0]] * 9 + [[0.0, 1.0]])
    assert score("redundancy", draw(1, 10, 3).log_softmax(-1), features).argmax() == 9


@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_the_hybrid_is_entropy_less_alpha_times_redundancy(alpha):
    log_probs, features = draw(3, 40, 5).log_softmax(-1), draw(40, 7, seed=1).abs()
    mean = log_probs.double().exp().mean(0).numpy()
    expected = -(mean * np.log(mean)).sum(1) - alpha * mean_similarity_by_definition(features)
    np.testing.assert_allclose(entropy_redundancy_scores(log_probs, features, alpha), expected, atol=1e-5)
    np.testing.assert_allclose(score("entropy_redundancy", log_probs, features, alpha=alpha), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("uncertainty", "formula"),
    [
        ("entropy", lambda mean: -(mean * np.log(mean)).sum(1)),
        ("least_confidence", lambda mean: 1 - mean.max(1)),
        ("margin", lambda mean: 1 - np.diff(np.sort(mean, axis=1)[:, -2:]).squeeze(1)),
    ],
)
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_information_density_agrees_with_its_definition(uncertainty, formula, beta):
    log_probs, features = draw(2, 60, 4).log_softmax(-1), draw(60, 5, seed=1) + 0.3
    density = np.maximum(mean_similarity_by_definition(features), 0)
    assert (density == 0).any() and (density > 0).any()
    expected = formula(log_probs.double().exp().mean(0).numpy()) * density**beta
    found = score("information_density", log_probs, features, uncertainty=uncertainty, beta=beta)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_denser_of_two_equally_open_images_is_asked_first():
    features = torch.tensor([[1.0, 0.0]] * 9 + [[0.0, 1.0]])
    scores = information_density_scores(torch.ones(10), features, 1.0)
    assert scores[9] < scores[:9].min()


def test_boundaries_are_halfway_between_clusters():
    left, right = draw(50, 2) * 0.05 - 1, draw(50, 2, seed=1) * 0.05 + 1
    scores = kmeans_boundary_scores(torch.cat([left, right, torch.zeros(1, 2)]), 2, torch.Generator().manual_seed(0))
    assert scores.argmax() == 100
    assert scores[100] > -0.1
    assert scores[:100].max() < -2


@pytest.mark.parametrize(("clusters", "classes", "used"), [(2, 5, 5), (12, 5, 12), (12, 1000, 30)])
def test_clusters_are_never_fewer_than_classes_nor_more_than_images(clusters, classes, used):
    features, log_probs = draw(30, 3), draw(1, 30, classes).log_softmax(-1)
    scores = score("kmeans_boundary", log_probs, features, clusters=clusters)
    expected = kmeans_boundary_scores(features, used, torch.Generator().manual_seed(0))
    torch.testing.assert_close(scores, expected)
    assert (scores <= 0).all()


def test_boundary_scores_follow_their_images_in_any_order():
    features, order = draw(400, 6), torch.randperm(400, generator=torch.Generator().manual_seed(3))
    first = kmeans_boundary_scores(features, 12, torch.Generator().manual_seed(0))
    turned = kmeans_boundary_scores(features[order], 12, torch.Generator().manual_seed(0))
    torch.testing.assert_close(turned, first[order])
    assert len(first.unique()) > 300


def test_entropy_alone_is_what_is_left_without_likeness():
    log_probs = draw(1, 20, 3).log_softmax(-1)
    torch.testing.assert_close(
        score("entropy_redundancy", log_probs, torch.zeros(20, 4)).float(), entropy_scores(log_probs)
    )
    assert math.isclose(float(score("redundancy", log_probs, torch.zeros(20, 4)).abs().max()), 0.0)
