import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.pool_pictures import confidence_curve, pixel_centroids


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_bands(sizes, side=4):
    """Images of one level of grey a group, the groups mixed."""
    levels = np.repeat(np.arange(len(sizes)) * 60, sizes)
    np.random.default_rng(0).shuffle(levels)
    return np.broadcast_to(levels[:, None, None, None], (len(levels), side, side, 1)).astype(np.uint8), levels


def test_centroids_are_the_means_of_their_clusters_the_largest_first():
    images, levels = make_bands([5, 20, 11])
    rows = np.arange(len(images), dtype=np.int64)
    found = pixel_centroids(images, rows, 3, generator())
    assert found.images_KHWC[:, 0, 0, 0].tolist() == [60, 120, 0]
    assert np.bincount(found.assigned_M).tolist() == [20, 11, 5]
    np.testing.assert_array_equal(found.images_KHWC[found.assigned_M, 0, 0, 0], levels)


def test_only_the_rows_of_the_pool_are_looked_at():
    images, _ = make_bands([5, 20, 11])
    dark = np.flatnonzero(images[:, 0, 0, 0] == 0)
    found = pixel_centroids(images, dark, 3, generator())
    assert found.images_KHWC.tolist() == np.zeros((1, 4, 4, 1)).tolist()
    assert set(found.rows_M) == set(dark)


def test_a_large_pool_is_sampled_and_the_draw_depends_on_the_generator(monkeypatch):
    monkeypatch.setattr("worker.learning.pool_pictures.MOST_IMAGES", 10)
    images, _ = make_bands([5, 20, 11])
    rows = np.arange(len(images), dtype=np.int64)
    first, same, other = (pixel_centroids(images, rows, 2, generator(seed)).rows_M for seed in (0, 0, 1))
    assert len(first) == 10 and first.tolist() == sorted(set(first))
    np.testing.assert_array_equal(first, same)
    assert first.tolist() != other.tolist()


def test_no_pool_has_no_centroids():
    with pytest.raises(ValueError, match="no images"):
        pixel_centroids(np.zeros((3, 4, 4, 1), np.uint8), np.empty(0, np.int64), 3, generator())


@given(st.lists(st.tuples(st.floats(0.1, 1.0), st.booleans()), min_size=1, max_size=60), st.integers(2, 30))
def test_the_curve_equals_a_naive_sort_at_its_points(pool, points):
    confidences, rights = (np.array(part) for part in zip(*pool, strict=True))
    found = confidence_curve(confidences, rights, points)
    order = sorted(range(len(pool)), key=lambda at: (-confidences[at], at))
    for share, confidence, precision in zip(found.shares_P, found.confidences_P, found.precisions_P, strict=True):
        count = round(share * len(pool))
        assert confidence == confidences[order[count - 1]]
        assert precision == pytest.approx(sum(rights[at] for at in order[:count]) / count)
    assert len(found.shares_P) == points
    assert found.shares_P[-1] == 1
    assert found.confidences_P[0] == confidences.max() and found.confidences_P[-1] == confidences.min()


def test_without_truth_there_is_no_precision():
    assert confidence_curve(np.array([0.5, 0.9]), None).precisions_P is None


def test_what_is_no_pool_is_refused():
    with pytest.raises(ShapeError):
        confidence_curve(np.empty(0), None)
    with pytest.raises(ShapeError):
        confidence_curve(np.array([0.5, 0.9]), np.array([True]))
    with pytest.raises(NotFiniteError):
        confidence_curve(np.array([0.5, np.nan]), None)
