"""The images of an experiment as memory-mapped arrays that all its runs share, and how a seed divides them.

Arrays are kept in a cache folder; whoever deletes it only makes the next run build them again.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from app.errors import BadInput
from worker.benchmark.experiment import Data, Experiment
from worker.image_sets import ImageSet, list_caltech101, read_digits, read_torchvision
from worker.learning.devices import stable_seed
from worker.learning.pool import Images, Rows
from worker.pictures import as_array, decode


@dataclass(frozen=True)
class Dataset:
    """All images and their true classes.

    ``images_NHWC`` uint8 and ``labels_N`` int64. The first ``repeats`` times ``base_count`` rows are the training
    images, copy after copy: image i stands in rows i, base_count + i, ... The rest are the test images; a set that
    comes undivided has none, and its test images are held out of its training images.
    """

    images_NHWC: Images
    labels_N: Rows
    class_names: tuple[str, ...]
    base_count: int
    repeats: int

    @property
    def class_count(self) -> int:
        """Number of classes."""
        return len(self.class_names)


@dataclass(frozen=True)
class Division:
    """What a seed makes of a dataset: rows of the pool, ascending, and of the test images, ascending."""

    pool_rows: Rows
    test_rows: Rows


def open_dataset(data: Data, side: int, data_folder: Path, cache: Path) -> Dataset:
    """Return the images at this side, from the cache if they were built before.

    Raises:
        BadInput: the set's files are not there and cannot be downloaded.
        UnreadableImage: one of them is damaged.
    """
    key = {"name": data.name, "repeats": data.repeats, "noise": data.noise, "side": side}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    folder = cache / f"{data.name}-{digest}"
    if not (folder / "about.json").exists():
        _build(folder, data, side, data_folder)
    about = json.loads((folder / "about.json").read_text())
    return Dataset(
        np.load(folder / "images.npy", mmap_mode="r"),
        np.load(folder / "labels.npy"),
        tuple(about["class_names"]),
        about["base_count"],
        data.repeats,
    )


def _build(folder: Path, data: Data, side: int, data_folder: Path) -> None:
    parts = _read(data.name, side, data_folder)
    train, tests = parts[0], parts[1:]
    images = [_at_side(part, side) for part in parts]
    labels = [np.asarray(part.labels, np.int64) for part in parts]
    copies = repeated(images[0], data.repeats, data.noise)
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder / "images.npy", np.concatenate([copies, *images[1:]]) if tests else copies)
    _save(folder / "labels.npy", np.concatenate([np.tile(labels[0], data.repeats), *labels[1:]]))
    about = {"class_names": list(train.names), "base_count": len(train.labels)}
    fresh = folder / f"about.{os.getpid()}"
    fresh.write_text(json.dumps(about))
    fresh.replace(folder / "about.json")


def _read(name: str, side: int, data_folder: Path) -> list[ImageSet]:
    """Return the set in one part, or its training and its test half."""
    match name:
        case "digits":
            return [read_digits()]
        case "caltech101":
            files = list_caltech101(data_folder)
            pictures = [as_array(decode(path.read_bytes(), str(path)), side, channels=3) for path in files.paths]
            return [ImageSet(np.stack(pictures), files.labels, files.names)]
        case _:
            return read_torchvision(name, data_folder)


def repeated(images_NHWC: Images, repeats: int, noise: float) -> Images:
    """Return copy after copy of all images, each with Gaussian noise of its own.

    Args:
        images_NHWC: uint8.
        repeats: copies R.
        noise: standard deviation as a share of full scale; what leaves the bytes is cut off. 0 leaves images alone.
    Returns:
        [R * N, H, W, C]; the same draws every time.
    References: RepeatedMNIST of Kirsch et al. 2019, section 4.1 (three copies, noise of 0.1 on standardised pixels).
    """
    copies = np.tile(images_NHWC, (repeats, 1, 1, 1))
    if noise == 0:
        return copies
    generator = np.random.default_rng(stable_seed("dataset noise"))
    for start in range(0, len(copies), 4096):
        part = copies[start : start + 4096]
        moved = part + generator.standard_normal(part.shape, np.float32) * np.float32(noise * 255)
        copies[start : start + 4096] = np.clip(np.rint(moved), 0, 255).astype(np.uint8)
    return copies


def divide(dataset: Dataset, experiment: Experiment, seed: int) -> Division:
    """Draw the test images and the pool of one seed; the same for all arms.

    Raises:
        BadInput: more images are wanted than there are, or a rare class that does not exist.
    """
    wanted, base_count = experiment.splits, dataset.base_count
    rows = np.arange(len(dataset.labels_N), dtype=np.int64)
    own_tests = rows[base_count * dataset.repeats :]
    base, tests = rows[:base_count], own_tests
    if wanted.draw == "seed":
        base = np.random.default_rng(stable_seed(seed, "pool")).permutation(base_count).astype(np.int64)
        tests = np.random.default_rng(stable_seed(seed, "test")).permutation(own_tests)
    if len(own_tests):
        test_rows = _some(tests, wanted.test, experiment, "splits.test")
    else:
        if wanted.test is None:
            raise _too_few(experiment, "splits.test", "the set comes without test images", "say how many to hold out")
        test_rows, base = _some(base, wanted.test, experiment, "splits.test"), base[wanted.test :]
    if experiment.data.rare_class is not None:
        base = thinned(base, dataset.labels_N, experiment.data.rare_class, experiment.data.rare_share, wanted.pool)
    base = _some(base, wanted.pool, experiment, "splits.pool")
    pool_rows = np.concatenate([base + copy * base_count for copy in range(dataset.repeats)])
    if experiment.budget.labels > len(pool_rows):
        reason = f"{experiment.budget.labels} labels are more than the pool's {len(pool_rows)} images"
        raise _too_few(experiment, "budget.labels", reason, "allow fewer")
    return Division(np.sort(pool_rows), np.sort(test_rows))


def thinned(rows: Rows, labels_N: Rows, rare_class: int, share: float, count: int | None) -> Rows:
    """Keep rows so that one class has a given share of them, in the order given.

    Args:
        rows: rows to choose from; earlier ones are kept.
        labels_N: classes of all rows of the array.
        rare_class: the class to be rare.
        share: of the kept rows, in (0, 0.5).
        count: rows to keep; None for as many as the other classes have, and their share of the rare one.
    """
    is_rare = labels_N[rows] == rare_class
    if count is None:
        rare_count = round(int((~is_rare).sum()) * share / (1 - share))
        keep = ~is_rare | (is_rare.cumsum() <= rare_count)
    else:
        rare_count = round(count * share)
        keep = np.where(is_rare, is_rare.cumsum() <= rare_count, (~is_rare).cumsum() <= count - rare_count)
    kept: Rows = rows[keep]
    return kept


def draw_seed_set(dataset: Dataset, pool_rows: Rows, experiment: Experiment, seed: int) -> Rows:
    """Draw the first rows to be labelled, the same for all arms: uniformly, or as many of each class.

    Raises:
        BadInput: fewer images of a class than are wanted of each.
    """
    wanted = experiment.seed_set
    order = np.random.default_rng(stable_seed(seed, "seed set")).permutation(pool_rows)
    if wanted.draw == "uniform":
        return order[: wanted.count]
    each, more = divmod(wanted.count, dataset.class_count)
    if more:
        reason = f"{wanted.count} cannot be balanced over {dataset.class_count} classes"
        raise _too_few(experiment, "seed_set.count", reason, "use a multiple")
    labels = dataset.labels_N[order]
    by_class = [order[labels == label][:each] for label in range(dataset.class_count)]
    if min(len(rows) for rows in by_class) < each:
        raise _too_few(experiment, "seed_set.count", "a class has too few images in the pool", "use less")
    return np.stack(by_class, axis=1).ravel()


def is_fair_draw(dataset: Dataset, pool_rows: Rows, experiment: Experiment) -> bool:
    """Say whether the seed set that is drawn is a fair sample of the pool.

    As many of each class are one only of a pool that has nearly as many of each: none twice as often as another.
    """
    if experiment.seed_set.draw == "uniform":
        return True
    counts = np.bincount(dataset.labels_N[pool_rows], minlength=dataset.class_count)
    return bool(counts.max() <= 2 * counts.min())


def _at_side(part: ImageSet, side: int) -> Images:
    images = part.images
    channels = 3 if images.ndim == 4 else 1
    if images.shape[1:3] == (side, side):
        return images.reshape(len(images), side, side, channels)
    return np.stack([as_array(Image.fromarray(pixels), side, channels) for pixels in images])


def _save(path: Path, array: np.ndarray) -> None:
    fresh = path.with_name(f"{path.stem}.{os.getpid()}.npy")
    np.save(fresh, array)
    fresh.replace(path)


def _some(rows: Rows, count: int | None, experiment: Experiment, key: str) -> Rows:
    if count is not None and count > len(rows):
        raise _too_few(experiment, key, f"{count} are wanted and there are {len(rows)}", "use less")
    return rows[:count]


def _too_few(experiment: Experiment, key: str, reason: str, remedy: str) -> BadInput:
    return BadInput(f"{experiment.name}.toml, {key}", reason, remedy)
