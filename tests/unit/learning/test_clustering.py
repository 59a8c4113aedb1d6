import math

import pytest
import torch

from worker.learning.clustering import draw_by_weight, k_means, squared_gaps
from worker.learning.errors import NotFiniteError, ShapeError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make_heaps(heaps=4, size=25, seed=0):
    """Heaps far apart, so there is one right answer."""
    centres = 20 * torch.eye(heaps, 6)
    points = centres.repeat_interleave(size, dim=0) + torch.randn(heaps * size, 6, generator=seeded(seed))
    return points, torch.arange(heaps).repeat_interleave(size)


def test_heaps_are_found_and_their_means_are_the_centres():
    points, heap = make_heaps()
    clusters = k_means(points, 4, seeded())
    for one in range(4):
        [cluster] = clusters.assigned_N[heap == one].unique().tolist()
        torch.testing.assert_close(clusters.centres_KD[cluster], points[heap == one].mean(0), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_every_point_belongs_to_its_nearest_centre(offset):
    points = torch.rand(300, 5, generator=seeded(1)) + offset
    clusters = k_means(points, 7, seeded(2))
    gaps = torch.cdist(points.double(), clusters.centres_KD.double()).square()
    reached = gaps.gather(1, clusters.assigned_N[:, None]).squeeze(1)
    torch.testing.assert_close(reached, gaps.min(1).values, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(clusters.squares_N.double(), reached, atol=1e-2, rtol=1e-2)


def test_it_is_as_tight_as_scikit_learns():
    from sklearn.cluster import KMeans

    points = torch.rand(300, 8, generator=seeded(3))
    ours = min(float(k_means(points, 10, seeded(seed), most_passes=100).squares_N.sum()) for seed in range(5))
    theirs = KMeans(10, n_init=5, random_state=0).fit(points.numpy()).inertia_
    assert ours < 1.02 * theirs


@pytest.mark.parametrize(("distinct", "wanted", "made"), [(1, 5, 1), (3, 5, 3), (5, 5, 5), (9, 2, 2)])
def test_there_are_never_more_clusters_than_distinct_points(distinct, wanted, made):
    points = torch.arange(distinct).repeat(4)[:, None].float()
    clusters = k_means(points, wanted, seeded())
    assert len(clusters.centres_KD) == made
    assert set(clusters.assigned_N.tolist()) == set(range(made))


def test_no_cluster_is_empty_in_the_end():
    for seed in range(20):
        points = torch.randn(60, 2, generator=seeded(seed)).round()
        clusters = k_means(points, 12, seeded(seed))
        assert len(clusters.assigned_N.unique()) == len(clusters.centres_KD)


def test_the_number_of_cores_changes_nothing():
    points, before = torch.rand(3000, 16, generator=seeded(4)), torch.get_num_threads()
    found = []
    for cores in (1, 2):
        torch.set_num_threads(cores)
        try:
            found.append(k_means(points, 20, seeded(5)).assigned_N)
        finally:
            torch.set_num_threads(before)
    assert torch.equal(*found)


def test_no_points_make_no_clusters_and_broken_ones_are_refused():
    assert k_means(torch.empty(0, 3), 4, seeded()).assigned_N.shape == (0,)
    with pytest.raises(ShapeError, match=r"points_ND: expected shape \[N, D\], got \[3\]"):
        k_means(torch.zeros(3), 2, seeded())
    with pytest.raises(NotFiniteError, match="a point is NaN"):
        k_means(torch.tensor([[0.0], [math.nan]]), 2, seeded())
    with pytest.raises(ValueError, match="0 clusters"):
        k_means(torch.zeros(3, 1), 0, seeded())


def test_positions_are_drawn_by_their_weights_and_never_without_one():
    weights, generator = torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0]), seeded()
    drawn = torch.tensor([draw_by_weight(weights, generator) for _ in range(2000)]).bincount(minlength=5) / 2000
    # Four standard deviations of a share of 1/4.
    assert torch.allclose(drawn, torch.tensor([0.0, 0.25, 0.0, 0.75, 0.0]), atol=4 * math.sqrt(0.25 * 0.75 / 2000))


def test_the_gap_of_equal_points_is_exactly_nothing():
    points = torch.full((3, 64), 1234.567)
    assert squared_gaps(points, points[0]).tolist() == [0, 0, 0]
