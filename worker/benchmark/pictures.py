"""What the last round of a run leaves for pictures of the pool, if the experiment asks for them, in small files."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worker.benchmark.datasets import Dataset
from worker.benchmark.experiment import Picture
from worker.benchmark.records import Folder, RunKey, write_whole
from worker.learning.devices import pick_device, seeded
from worker.learning.pool import Images, Rows
from worker.learning.pool_pictures import ConfidenceCurve, confidence_curve, pixel_centroids
from worker.learning.posteriors import POSTERIORS, Fitted, read_chunks
from worker.learning.weights import load_network

CLUSTERS = 10


@dataclass(frozen=True)
class ClusterPictures:
    """Mean images of the clusters of one seed's pool, how many images each has, and of which class most of them are."""

    seed: int
    images_KHWC: Images
    sizes_K: np.ndarray
    classes_K: np.ndarray
    shares_K: np.ndarray


@dataclass(frozen=True)
class LastRound:
    """What a run ended with: its pool, the rows of it that the oracle labelled, and the fitted weights."""

    key: RunKey
    pool_rows: Rows
    labelled_rows: Rows
    weights: bytes


def keep_pictures(
    folder: Folder, wanted: tuple[Picture, ...], dataset: Dataset, last: LastRound, device: str | None
) -> None:
    """Write what the pictures of one run need: clusters once a seed, confidences once a run.

    Confidences are those of the fitted network itself (the first of a committee), whatever the arm's posterior, over
    the part of the pool that has no label.
    """
    seed = last.key.seed
    if Picture.CENTROIDS in wanted and not _pool_path(folder, seed).exists():
        _save(_pool_path(folder, seed), _clusters(dataset, last.pool_rows, seed))
    rest = np.setdiff1d(last.pool_rows, last.labelled_rows, assume_unique=True)
    if Picture.CONFIDENCES in wanted and len(rest):
        _save(_run_path(folder, last.key), _confidences(dataset, rest, last.weights, device))


def cluster_pictures(folder: Folder) -> ClusterPictures | None:
    """Return the clusters of the first seed that has any."""
    found = sorted((int(path.suffixes[-2][1:]), path) for path in _folder(folder).glob("pool.*.npz"))
    for seed, path in found:
        kept = _load(path)
        if kept is not None:
            return ClusterPictures(seed, kept["images"], kept["sizes"], kept["classes"], kept["shares"])
    return None


def confidence_curves(folder: Folder, arm: str, seeds: list[int]) -> list[ConfidenceCurve]:
    """Return the curves of an arm's seeds, as far as they were kept."""
    kept = (_load(_run_path(folder, RunKey(arm, seed))) for seed in seeds)
    return [ConfidenceCurve(one["at"], one["confidences"], one["precisions"]) for one in kept if one is not None]


def _clusters(dataset: Dataset, pool_rows: Rows, seed: int) -> dict[str, np.ndarray]:
    found = pixel_centroids(dataset.images_NHWC, pool_rows, CLUSTERS, seeded(seed, "pictures"))
    shape = (len(found.images_KHWC), dataset.class_count)
    counts_KC = np.zeros(shape, np.int64)
    np.add.at(counts_KC, (found.assigned_M, dataset.labels_N[found.rows_M]), 1)
    sizes_K = counts_KC.sum(axis=1)
    return {
        "images": found.images_KHWC,
        "sizes": sizes_K,
        "classes": counts_KC.argmax(axis=1),
        "shares": counts_KC.max(axis=1) / np.maximum(sizes_K, 1),
    }


def _confidences(dataset: Dataset, rows: Rows, weights: bytes, device: str | None) -> dict[str, np.ndarray]:
    where = pick_device(device)
    fitted = Fitted(load_network(weights, where), {}, seeded("pictures"))
    posterior = POSTERIORS.get("plugin")(fitted)
    confidences_N, predicted_N = np.empty(len(rows), np.float32), np.empty(len(rows), np.int64)
    for part, reading in read_chunks(posterior, dataset.images_NHWC, rows, where):
        log_probs_B, classes_B = reading.mean_log_probs_NC.max(dim=1)
        confidences_N[part], predicted_N[part] = log_probs_B.exp().cpu().numpy(), classes_B.cpu().numpy()
    curve = confidence_curve(confidences_N, predicted_N == dataset.labels_N[rows])
    precisions_P = np.empty(0) if curve.precisions_P is None else curve.precisions_P
    return {"at": curve.shares_P, "confidences": curve.confidences_P, "precisions": precisions_P}


def _folder(folder: Folder) -> Path:
    return folder.path / "pictures"


def _pool_path(folder: Folder, seed: int) -> Path:
    return _folder(folder) / f"pool.{seed}.npz"


def _run_path(folder: Folder, key: RunKey) -> Path:
    return _folder(folder) / f"run-{key.arm}.{key.seed}.npz"


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # one of its own parameters is a switch
    write_whole(path, buffer.getvalue())


def _load(path: Path) -> dict[str, np.ndarray] | None:
    try:
        with np.load(path) as file:
            return dict(file)
    except (FileNotFoundError, EOFError, ValueError, zipfile.BadZipFile):
        return None  # not there, or cut off: the report does without
