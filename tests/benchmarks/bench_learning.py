"""Speed of learning against bare PyTorch, in the same run: interleaved, the fastest of several repeats.

``python -m tests.benchmarks.bench_learning`` prints a table; the functions return their figures by name.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn import functional

from app.recipes import NETWORKS, Pick, parse_pick, parse_recipe
from worker.learning.acquisitions import ACQUISITIONS
from worker.learning.fitting import FITTINGS, TrainingSet
from worker.learning.learner import Snapshot, step
from worker.learning.networks import Network, NetworkSpec, build_network
from worker.learning.oracle import SimulatedOracle
from worker.learning.pool import normalise
from worker.learning.posteriors import POSTERIORS, Fitted
from worker.learning.posteriors.base import chunk_size
from worker.learning.scoring import score_rows

CPU = torch.device("cpu")
SIDE = 16
DIGITS_SIDE = 8  # as they come


def digits(side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 digits of scikit-learn as uint8 [N, side, side, 1], and their labels."""
    found = load_digits()
    small = np.round(found.images * 255 / 16).astype(np.uint8)
    large = [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BILINEAR)) for one in small]
    return np.stack(large)[..., None], found.target.astype(np.int64)


def fit_throughput(repeats: int = 25, epochs: int = 3, count: int = 512, minibatch: int = 32) -> dict[str, float]:
    """Images per second of fitting, against a bare loop on the same network, images, minibatch and optimizer.

    ``fit_ratio`` compares on the cores that fitting chooses for this size, ``fit_ratio_all_cores`` with a bare loop on
    all cores, which is faster as long as nothing else wants them. Augmentation is off in the ratio, because the bare
    loop has none; its cost is the difference to ``fit_augmented_images_per_s``.
    """
    images, labels = digits()
    data = TrainingSet(torch.from_numpy(images[:count]), torch.from_numpy(labels[:count]))
    all_cores = len(os.sched_getaffinity(0))

    def ours(augment: bool) -> None:
        pick = _fitting(epochs=epochs, minibatch=minibatch, augment=augment, patience=1000, least_steps=1)
        FITTINGS.get("supervised")(_network(), data, pick, torch.Generator().manual_seed(0), device=CPU)

    def bare(cores: int) -> None:
        with _cores(cores):
            _bare_fit(_network(), data, epochs, minibatch)

    seconds = _interleaved(
        repeats, ours=lambda: ours(augment=False), bare=lambda: bare(1), augmented=lambda: ours(augment=True)
    )
    # Apart from the others: the threads of a parallel run spin on for a while and would disturb them.
    alone = _interleaved(repeats // 3, ours=lambda: ours(augment=False), all_cores=lambda: bare(all_cores))
    shown = epochs * count
    return {
        "fit_images_per_s": shown / seconds["ours"],
        "fit_bare_images_per_s": shown / seconds["bare"],
        "fit_ratio": seconds["bare"] / seconds["ours"],
        "fit_ratio_all_cores": alone["all_cores"] / alone["ours"],
        "fit_augmented_images_per_s": shown / seconds["augmented"],
    }


def score_throughput(repeats: int = 15, copies: int = 8) -> dict[str, float]:
    """Images per second of scoring by entropy, against a bare forward pass in the same chunks over the same array."""
    images = np.concatenate([digits()[0]] * copies)
    network = _network().eval()
    posterior = POSTERIORS.get("plugin")(Fitted(network, {}, torch.Generator()))
    rows, size = np.arange(len(images)), chunk_size(images, CPU)

    def ours() -> None:
        generator = torch.Generator().manual_seed(0)
        score_rows(ACQUISITIONS.get("entropy"), {}, posterior, images, rows, generator=generator, device=CPU)

    def bare() -> None:
        with torch.inference_mode(), _cores(len(os.sched_getaffinity(0))):
            for start in range(0, len(images), size):
                network(normalise(torch.from_numpy(images[start : start + size])))

    seconds = _interleaved(repeats, ours=ours, bare=bare)
    return {
        "score_images_per_s": len(images) / seconds["ours"],
        "score_bare_images_per_s": len(images) / seconds["bare"],
        "score_ratio": seconds["bare"] / seconds["ours"],
    }


def digits_round(labelled: int = 200, repeats: int = 3) -> dict[str, float]:
    """Seconds of one whole round of the default recipe on digits, with the stages it consists of."""
    recipes = [parse_recipe({"seed": number}).for_images(DIGITS_SIDE) for number in range(repeats)]
    images, labels = digits(recipes[0].image_side)
    rows = np.random.default_rng(0).permutation(len(images))
    test, known, candidates = np.split(rows, [400, 400 + labelled])
    snapshot = Snapshot(images, 10, known, labels[known], candidates, test, labels[test])
    started = time.perf_counter()
    results = [step(recipe, snapshot, count=40, round_number=1, device=CPU) for recipe in recipes]
    total = (time.perf_counter() - started) / repeats
    stages = ("fit", "evaluate", "score", "select")
    spent = {name: statistics.median(getattr(one, f"seconds_{name}") for one in results) for name in stages}
    return {"round_seconds": total, **{f"round_{name}_seconds": seconds for name, seconds in spent.items()}}


def digits_curves(seeds: int = 3, budget: int = 200, **recipe: Any) -> dict[str, list[float]]:
    """Mean test accuracy on digits after 20, 40 ... ``budget`` labels, for every acquisition of the catalogue."""
    images, labels = digits(parse_recipe(recipe).for_images(DIGITS_SIDE).image_side)
    rows = np.random.default_rng(0).permutation(len(images))
    curves = {}
    for name in ACQUISITIONS.names():
        runs = [_curve(images, labels, rows, budget, {**recipe, "acquisition": name, "seed": s}) for s in range(seeds)]
        curves[name] = np.mean(runs, axis=0).tolist()
    return curves


def _curve(
    images: np.ndarray, labels: np.ndarray, rows: np.ndarray, budget: int, recipe: dict[str, Any]
) -> list[float]:
    chosen = parse_recipe(recipe).for_images(DIGITS_SIDE)
    test, pool = np.sort(rows[:400]), np.sort(rows[400:])
    oracle, known, accuracies = SimulatedOracle(labels, 10, seed=chosen.seed), pool[:0], list[float]()
    for number in range(budget // chosen.batch_size + 1):
        candidates = np.setdiff1d(pool, known)
        snapshot = Snapshot(images, 10, known, oracle.answer(known), candidates, test, labels[test])
        result = step(chosen, snapshot, count=chosen.batch_size, round_number=number, device=CPU)
        if result.evaluation:
            accuracies.append(result.evaluation.accuracy)
        known = np.concatenate([known, result.ranking.rows])
    return accuracies


def _network() -> Network:
    spec = NetworkSpec("al_cnn", 10, 1, SIDE, parse_pick(NETWORKS, "al_cnn").parameters)
    return build_network(spec, torch.Generator().manual_seed(0))


def _fitting(**parameters: Any) -> Pick:
    return parse_recipe({"fitting": {"name": "supervised", **parameters}}).fitting


def _bare_fit(network: Network, data: TrainingSet, epochs: int, minibatch: int) -> None:
    rate = _fitting().number("learning_rate")
    optimizer = torch.optim.Adam(network.parameters(), rate, weight_decay=1e-4, fused=True)
    images_NCHW = normalise(data.images_NHWC)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(data)).split(minibatch):
            loss = functional.cross_entropy(network(images_NCHW[rows]), data.labels_N[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


@contextmanager
def _cores(count: int) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _interleaved(repeats: int, **works: Callable[[], None]) -> dict[str, float]:
    """Seconds of each work's fastest run, taken in turns after one warm-up.

    Whatever else runs on the machine only ever adds time, so the fastest runs are the ones to compare.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    return {name: min(values) for name, values in seconds.items()}


def figures() -> dict[str, float]:
    """Return every figure but the curves, by name."""
    return {**fit_throughput(), **score_throughput(), **digits_round()}


def main() -> None:
    """Print all figures, and the learning curves on digits."""
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    for name, value in figures().items():
        print(f"{name:32} {value:10.3f}")
    for name, accuracies in digits_curves().items():
        print(f"{name:18}", *(f"{100 * accuracy:5.1f}" for accuracy in accuracies))


if __name__ == "__main__":
    main()
