"""Datasets: copies with noise, rare classes, and the same division for all arms of a seed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.errors import BadInput, UnreadableImage
from tests.unit.benchmark.factories import make_experiment
from worker.benchmark.datasets import Dataset, divide, draw_seed_set, open_dataset, repeated, thinned

NOWHERE = Path("/nowhere")


def make_dataset(count: int = 200, tests: int = 40, repeats: int = 1, classes: int = 5) -> Dataset:
    labels = np.concatenate([np.tile(np.arange(count) % classes, repeats), np.arange(tests) % classes])
    images = np.zeros((len(labels), 8, 8, 1), np.uint8)
    return Dataset(images, labels, tuple("abcdefghij"[:classes]), count, repeats)


def test_digits_come_as_they_are_and_from_the_cache_the_second_time(tmp_path: Path) -> None:
    data = make_experiment().data
    first = open_dataset(data, 8, NOWHERE, tmp_path)
    assert first.images_NHWC.shape == (1797, 8, 8, 1)
    assert first.labels_N[:3].tolist() == [0, 1, 2]
    assert int(first.images_NHWC.max()) == 255
    assert first.class_names == tuple("0123456789")
    [folder] = tmp_path.iterdir()
    np.save(folder / "labels.npy", np.zeros(1797, np.int64))
    assert not open_dataset(data, 8, NOWHERE, tmp_path).labels_N.any()
    assert open_dataset(data, 16, NOWHERE, tmp_path).images_NHWC.shape == (1797, 16, 16, 1)


def test_copies_stand_one_after_the_other_each_with_noise_of_its_own() -> None:
    images = np.full((50, 8, 8, 1), 128, np.uint8)
    copies = repeated(images, 3, 0.1)
    assert copies.shape == (150, 8, 8, 1)
    moved = copies.astype(float) - 128
    assert moved.std() == pytest.approx(25.5, rel=0.03)
    assert not np.array_equal(copies[:50], copies[50:100])
    np.testing.assert_array_equal(copies, repeated(images, 3, 0.1))
    np.testing.assert_array_equal(repeated(images, 2, 0.0), np.concatenate([images, images]))


def test_noise_is_cut_off_at_black_and_white() -> None:
    images = np.zeros((40, 8, 8, 1), np.uint8)
    images[20:] = 255
    copies = repeated(images, 1, 0.1)
    assert (copies[:20] == 0).mean() == pytest.approx(0.5, abs=0.05)
    assert (copies[20:] == 255).mean() == pytest.approx(0.5, abs=0.05)


def test_all_copies_of_an_image_are_in_the_pool_or_none() -> None:
    experiment = make_experiment(data={"repeats": 3}, splits={"pool": 40, "test": 20})
    division = divide(make_dataset(repeats=3), experiment, 0)
    assert len(division.pool_rows) == 120
    base, times = np.unique(division.pool_rows % 200, return_counts=True)
    assert len(base) == 40 and set(times) == {3}
    assert division.test_rows.min() >= 600


def test_pool_and_test_images_are_drawn_by_seed_and_do_not_meet() -> None:
    experiment = make_experiment(splits={"pool": 50, "test": 20})
    for tests in (0, 40):  # held out of the training images, or of the set's own
        dataset = make_dataset(tests=tests)
        first, again, other = (divide(dataset, experiment, seed) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first.pool_rows, again.pool_rows)
        np.testing.assert_array_equal(first.test_rows, again.test_rows)
        assert first.pool_rows.tolist() != other.pool_rows.tolist()
        assert first.test_rows.tolist() != other.test_rows.tolist()
        assert (len(first.pool_rows), len(first.test_rows)) == (50, 20)
        assert not set(first.pool_rows) & set(first.test_rows)


@pytest.mark.parametrize("seed", [0, 7])
def test_the_first_images_may_be_taken_instead(seed: int) -> None:
    experiment = make_experiment(splits={"pool": 50, "test": 20, "draw": "first"})
    own = divide(make_dataset(tests=40), experiment, seed)
    assert (own.pool_rows.tolist(), own.test_rows.tolist()) == (list(range(50)), list(range(200, 220)))
    held_out = divide(make_dataset(tests=0), experiment, seed)
    assert (held_out.test_rows.tolist(), held_out.pool_rows.tolist()) == (list(range(20)), list(range(20, 70)))


def test_a_rare_class_has_its_share_of_the_pool() -> None:
    dataset = make_dataset(count=5000)
    counted = make_experiment(data={"rare_class": 3, "rare_share": 0.01}, splits={"pool": 2000})
    rare = dataset.labels_N[divide(dataset, counted, 0).pool_rows] == 3
    assert (len(rare), rare.sum()) == (2000, 20)
    rows = np.random.default_rng(0).permutation(5000)
    kept = thinned(rows, dataset.labels_N, 3, 0.01, None)
    assert (dataset.labels_N[kept] != 3).sum() == 4000
    assert (dataset.labels_N[kept] == 3).sum() == round(4000 / 99)
    assert kept.tolist() == [row for row in rows if row in set(kept)]


def test_a_balanced_seed_set_has_as_many_of_each_class_from_the_pool() -> None:
    dataset, experiment = make_dataset(), make_experiment(seed_set={"count": 15})
    pool = divide(dataset, experiment, 0).pool_rows
    rows = draw_seed_set(dataset, pool, experiment, 0)
    assert np.bincount(dataset.labels_N[rows]).tolist() == [3] * 5
    assert len(set(rows)) == 15 and set(rows) <= set(pool)
    np.testing.assert_array_equal(rows, draw_seed_set(dataset, pool, experiment, 0))
    assert rows.tolist() != draw_seed_set(dataset, pool, experiment, 1).tolist()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"splits": {"pool": 500}}, "tiny.toml, splits.pool: 500 are wanted and there are 200"),
        ({"splits": {"test": 41}}, "tiny.toml, splits.test: 41 are wanted and there are 40"),
        ({"splits": {"pool": 20}}, "26 labels are more than the pool's 20 images"),
    ],
)
def test_more_images_than_there_are_is_told_with_the_key(changes: dict[str, object], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        divide(make_dataset(), make_experiment(**changes), 0)


def test_a_seed_set_that_cannot_be_balanced_is_told() -> None:
    dataset, experiment = make_dataset(), make_experiment(seed_set={"count": 12})
    with pytest.raises(BadInput, match="12 cannot be balanced over 5 classes"):
        draw_seed_set(dataset, np.arange(60), experiment, 0)
    with pytest.raises(BadInput, match="too few images"):
        draw_seed_set(dataset, np.arange(7), make_experiment(), 0)


def write_photos(place: Path, classes: int = 101, each: int = 2, suffix: str = ".jpg") -> None:
    """A Caltech-101 of one-coloured photos of many sizes, class after class brighter, and what else lies there."""
    for label in range(classes):
        (place / f"class_{label:03}").mkdir(parents=True)
        for number in range(each):
            photo = Image.new(
                "RGB" if label else "L", (30 + label, 20 + 5 * number), color=(2 * label,) * (3 if label else 1)
            )
            photo.save(place / f"class_{label:03}" / f"image_{number:04}{suffix}")
    (place / "BACKGROUND_Google").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(place / "BACKGROUND_Google" / "image_0001.jpg")
    (place / "BACKGROUND_Google" / "tmp").write_text("left there by the archive")
    (place / "class_000" / "notes.txt").write_text("no photo")


@pytest.mark.parametrize(
    ("inside", "suffix"),
    [("caltech101", ".jpg"), ("caltech101", ".webp"), ("caltech-101", ".jpg"), (".", ".jpg")],
)
def test_caltech101_is_read_as_it_is_laid_out_and_kept_as_squares(tmp_path: Path, inside: str, suffix: str) -> None:
    write_photos(tmp_path / "data" / inside / "101_ObjectCategories", suffix=suffix)
    data = make_experiment(data={"name": "caltech101"}).data
    dataset = open_dataset(data, 12, tmp_path / "data", tmp_path / "cache")
    assert dataset.images_NHWC.shape == (202, 12, 12, 3)
    assert dataset.labels_N.tolist() == [label for label in range(101) for _ in range(2)]
    assert dataset.class_names[:2] == ("class_000", "class_001") and len(dataset.class_names) == 101
    brightness = dataset.images_NHWC.reshape(202, -1).mean(axis=1)
    np.testing.assert_allclose(brightness, 2 * dataset.labels_N, atol=2)
    shutil.rmtree(tmp_path / "data")
    again = open_dataset(data, 12, tmp_path / "data", tmp_path / "cache")  # nothing is decoded a second time
    np.testing.assert_array_equal(again.images_NHWC, dataset.images_NHWC)


def test_caltech101_comes_undivided_and_its_test_images_are_held_out_by_seed(tmp_path: Path) -> None:
    write_photos(tmp_path / "caltech101" / "101_ObjectCategories")
    experiment = make_experiment(data={"name": "caltech101"}, splits={"pool": 150, "test": 40})
    dataset = open_dataset(experiment.data, 8, tmp_path, tmp_path / "cache")
    first, other = divide(dataset, experiment, 0), divide(dataset, experiment, 1)
    assert not set(first.pool_rows) & set(first.test_rows)
    assert (len(first.pool_rows), len(first.test_rows)) == (150, 40)
    assert set(first.test_rows) != set(other.test_rows)


def test_a_caltech101_that_is_not_whole_is_told_with_where_it_goes(tmp_path: Path) -> None:
    data = make_experiment(data={"name": "caltech101"}).data
    with pytest.raises(BadInput, match=r"Caltech101: none of its photos are in .*; unpack 101_ObjectCategories"):
        open_dataset(data, 8, tmp_path, tmp_path / "cache")
    write_photos(tmp_path / "caltech101" / "101_ObjectCategories", classes=7)
    with pytest.raises(BadInput, match="7 of its 101 classes are in"):
        open_dataset(data, 8, tmp_path, tmp_path / "cache")


def test_a_damaged_photo_is_named(tmp_path: Path) -> None:
    write_photos(tmp_path / "caltech101" / "101_ObjectCategories")
    broken = tmp_path / "caltech101" / "101_ObjectCategories" / "class_004" / "image_0001.jpg"
    broken.write_bytes(broken.read_bytes()[:60])
    data = make_experiment(data={"name": "caltech101"}).data
    with pytest.raises(UnreadableImage, match=r"class_004/image_0001\.jpg"):
        open_dataset(data, 8, tmp_path, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("about.json"))
