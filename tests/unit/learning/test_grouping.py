"""Clusters of what is asked about: alike images together, numbered by rank, never what was drawn uniformly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.unit.learning.factories import make_recipe, make_snapshot
from tests.unit.learning.test_learner import run
from worker.learning.devices import seeded
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.grouping import cluster_ranked

NONE = np.zeros(0, bool)


def heaps(count: int, each: int) -> torch.Tensor:
    """Return points around ``count`` far corners, dealt out in turns."""
    corners = 10 * torch.eye(count)
    noise = torch.randn(count * each, count, generator=seeded("heaps"))
    return corners.repeat(each, 1) + 0.1 * noise


def test_images_that_look_alike_are_in_one_cluster_and_others_are_not():
    clusters = cluster_ranked(heaps(5, 12), np.zeros(60, bool), 5, seeded("clusters"))
    assert clusters.tolist() == [1, 2, 3, 4, 5] * 12, "numbered by the best ranked image of each"


def test_what_was_drawn_uniformly_is_in_no_cluster_and_moves_no_other():
    points, is_random = heaps(4, 15), np.zeros(60, bool)
    is_random[::7] = True
    clusters = cluster_ranked(points, is_random, 4, seeded("clusters"))
    assert not clusters[is_random].any() and clusters[~is_random].all()
    away = points.clone()
    away[torch.from_numpy(is_random)] = 1000.0
    assert cluster_ranked(away, is_random, 4, seeded("clusters")).tolist() == clusters.tolist()


@pytest.mark.parametrize(
    ("ranked", "class_count", "expected"),
    [(240, 2, 10), (240, 20, 20), (240, 1000, 40), (60, 10, 10), (5, 10, 1), (1, 2, 1), (4800, 2, 64)],
)
def test_there_are_about_as_many_clusters_as_pages_and_at_least_as_many_as_classes(ranked, class_count, expected):
    points = torch.randn(ranked, 3, generator=seeded("points"))
    clusters = cluster_ranked(points, np.zeros(ranked, bool), class_count, seeded("clusters"))
    assert set(clusters.tolist()) == set(range(1, expected + 1))


def test_the_same_seed_gives_the_same_clusters():
    points, nothing = torch.randn(100, 4, generator=seeded("points")), np.zeros(100, bool)
    first, again = (cluster_ranked(points, nothing, 3, seeded("clusters", 1)) for _ in range(2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != cluster_ranked(points, nothing, 3, seeded("clusters", 2)).tolist()


def test_nothing_ranked_and_only_uniform_draws_make_no_clusters():
    assert cluster_ranked(torch.empty(0, 4), NONE, 3, seeded("clusters")).tolist() == []
    assert cluster_ranked(torch.ones(3, 4), np.ones(3, bool), 3, seeded("clusters")).tolist() == [0, 0, 0]


def test_equal_images_are_one_cluster():
    assert cluster_ranked(torch.ones(60, 4), np.zeros(60, bool), 10, seeded("clusters")).tolist() == [1] * 60


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ShapeError, match="points_KD"):
        cluster_ranked(torch.ones(4), np.zeros(4, bool), 2, seeded("clusters"))
    with pytest.raises(ShapeError, match="is_random_K"):
        cluster_ranked(torch.ones(4, 2), np.zeros(3, bool), 2, seeded("clusters"))
    with pytest.raises(NotFiniteError):
        cluster_ranked(torch.full((4, 2), float("nan")), np.zeros(4, bool), 2, seeded("clusters"))


def test_a_round_clusters_what_its_strategy_chose_if_asked_and_asks_the_same_otherwise():
    recipe, snapshot = make_recipe(acquisition="entropy", random_share=0.4), make_snapshot()
    ranking = run(recipe, snapshot, with_clusters=True).ranking
    assert ranking.is_random.any() and not ranking.is_random.all()
    assert (ranking.clusters > 0).tolist() == (~ranking.is_random).tolist()
    plain = run(recipe, snapshot).ranking
    assert plain.clusters is None
    np.testing.assert_array_equal(plain.rows, ranking.rows)


def test_a_seed_set_that_clusters_chose_is_clustered_and_one_that_is_drawn_is_not():
    chosen = run(make_recipe(cold_start="clusters"), make_snapshot(labelled=0), with_clusters=True).ranking
    assert (chosen.clusters > 0).tolist() == (~chosen.is_random).tolist() and chosen.clusters.any()
    drawn = run(make_recipe(cold_start="random"), make_snapshot(labelled=0), with_clusters=True).ranking
    assert drawn.is_random.all() and not drawn.clusters.any()
