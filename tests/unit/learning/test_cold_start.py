import numpy as np
import torch

from tests.unit.learning.factories import make_blobs
from worker.learning import cold_start
from worker.learning.cold_start import typical_positions


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_first_images_are_one_of_each_kind():
    images, labels = make_blobs(90, classes=4, side=16)
    rows = np.arange(90)[::-1].copy()
    for seed in range(5):
        first = labels[rows[typical_positions(images, rows, 4, 4, seeded(seed)).numpy()]]
        assert sorted(first) == [0, 1, 2, 3]


def test_all_images_are_ranked_and_a_drawn_part_is_clustered(monkeypatch):
    images, _ = make_blobs(60)
    rows = np.arange(60)
    assert sorted(typical_positions(images, rows, 5, 60, seeded()).tolist()) == list(range(60))
    monkeypatch.setattr(cold_start, "MOST_IMAGES", 20)
    found = typical_positions(images, rows, 5, 60, seeded()).tolist()
    assert sorted(found) == list(range(60))
    drawn = torch.randperm(60, generator=seeded())
    assert set(found[:20]) == set(drawn[:20].tolist())
    assert found[20:] == drawn[20:].tolist()


def test_no_images_and_images_without_a_difference_are_ranked():
    images = np.zeros((7, 8, 8, 1), np.uint8)
    assert typical_positions(images, np.empty(0, np.int64), 3, 3, seeded()).tolist() == []
    assert sorted(typical_positions(images, np.arange(7), 3, 7, seeded()).tolist()) == list(range(7))
