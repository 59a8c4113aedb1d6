"""What a run leaves for pictures of its pool: there when asked for, small, the same again, drawn in the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.benchmark.factories import make_experiment, make_plan
from worker.benchmark.datasets import divide, open_dataset
from worker.benchmark.pictures import cluster_pictures, confidence_curves
from worker.benchmark.records import Folder
from worker.benchmark.report import write_report
from worker.benchmark.runner import run

BOTH = ["centroids", "confidences"]
MOST_BYTES = 20_000


def run_with(path: Path, pictures: list[str]) -> Folder:
    return run(make_plan(path, make_experiment(pictures=pictures, budget={"labels": 16})), lambda _progress: None)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return run_with(tmp_path_factory.mktemp("pictures"), BOTH)


def test_there_are_clusters_a_seed_and_confidences_a_run_and_they_are_small(ended: Folder) -> None:
    files = sorted((ended.path / "pictures").iterdir())
    assert [path.name for path in files] == [
        "pool.0.npz", "pool.1.npz", "run-margin.0.npz", "run-margin.1.npz", "run-random.0.npz", "run-random.1.npz",
    ]  # fmt: skip
    assert all(path.stat().st_size < MOST_BYTES for path in files)


def test_clusters_are_of_the_pool_with_their_commonest_class(ended: Folder, tmp_path: Path) -> None:
    found = cluster_pictures(ended)
    assert found is not None
    assert found.seed == 0
    assert found.images_KHWC.shape == (10, 8, 8, 1) and found.images_KHWC.dtype == np.uint8
    assert found.sizes_K.sum() == 60 and list(found.sizes_K) == sorted(found.sizes_K, reverse=True)
    experiment = make_experiment()
    dataset = open_dataset(experiment.data, 8, Path("/nowhere"), tmp_path)
    pool = divide(dataset, experiment, 0).pool_rows
    mean = (found.images_KHWC.astype(float) * found.sizes_K[:, None, None, None]).sum(0) / 60
    np.testing.assert_allclose(mean, dataset.images_NHWC[pool].mean(0), atol=0.5)
    assert ((found.shares_K > 0.1) & (found.shares_K <= 1)).all()


def test_confidences_fall_and_end_at_the_accuracy_on_the_rest_of_the_pool(ended: Folder) -> None:
    for arm in ("random", "margin"):
        curves = confidence_curves(ended, arm, [0, 1, 7])
        assert len(curves) == 2
        for curve in curves:
            assert (np.diff(curve.confidences_P) <= 0).all()
            assert curve.confidences_P[-1] >= 0.1 and curve.confidences_P[0] <= 1
            assert curve.precisions_P is not None
            assert curve.precisions_P[-1] * 44 == pytest.approx(round(curve.precisions_P[-1] * 44))  # 60 - 16 images


def test_the_report_draws_them(ended: Folder) -> None:
    text = write_report(ended.path).read_text()
    assert "ten clusters of pixels" in text and "Confidence of the whole unlabelled pool" in text
    assert (ended.path / "centroids.png").exists() and (ended.path / "confidences.png").exists()


def test_nothing_is_kept_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert not (run_with(tmp_path / "none", []).path / "pictures").exists()
    names = {path.name for path in (run_with(tmp_path / "one", ["confidences"]).path / "pictures").iterdir()}
    assert names == {f"run-{arm}.{seed}.npz" for arm in ("random", "margin") for seed in (0, 1)}


def test_a_file_that_was_cut_off_is_left_out_and_a_run_again_makes_the_same(ended: Folder, tmp_path: Path) -> None:
    again = run_with(tmp_path, BOTH)
    for name in ("pool.0.npz", "run-margin.1.npz"):
        with np.load(ended.path / "pictures" / name) as first, np.load(again.path / "pictures" / name) as second:
            for part in first.files:
                np.testing.assert_array_equal(first[part], second[part])
    (again.path / "pictures" / "run-margin.1.npz").write_bytes(b"PK\x03\x04 cut off")
    (again.path / "pictures" / "pool.0.npz").write_bytes(b"")
    assert len(confidence_curves(again, "margin", [0, 1])) == 1
    found = cluster_pictures(again)
    assert found is not None and found.seed == 1
