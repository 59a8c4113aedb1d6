"""Speed of posteriors and acquisitions, each figure beside its baseline from the same run.

``python -m tests.benchmarks.bench_posteriors`` prints a table; ``figures`` returns them by name. Ratios are ours over
the baseline, so lower is better.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import numpy as np
import psutil
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from app.recipes import ACQUISITIONS as ACQUISITION_CHOICES
from app.recipes import NETWORKS, parse_pick
from app.recipes import POSTERIORS as POSTERIOR_CHOICES
from tests.benchmarks.bench_learning import CPU, _cores, _interleaved
from worker.learning.acquisitions import ACQUISITIONS
from worker.learning.acquisitions.entropy import entropy_scores
from worker.learning.acquisitions.least_confidence import least_confidence_scores
from worker.learning.acquisitions.margin import margin_scores
from worker.learning.acquisitions.redundancy import mean_similarity
from worker.learning.clustering import k_means
from worker.learning.fitting import TrainingSet
from worker.learning.networks import NetworkSpec, build_network
from worker.learning.pool import normalise
from worker.learning.posteriors import POSTERIORS, Fitted
from worker.learning.posteriors.base import chunk_size
from worker.learning.scoring import score_rows

SIDE, CLASSES = 28, 10


def figures() -> dict[str, float]:
    """Measure everything here, in under a minute."""
    return {**sampled_scoring(), **point_scores(), **redundancy(), **clustering()}


def sampled_scoring(images: int = 10_000, samples: int = 100, repeats: int = 8) -> dict[str, float]:
    """BALD over 10,000 images with 100 samples by dropout and by the last layer, against one plain forward pass."""
    draws = np.random.default_rng(0)
    pool = draws.integers(0, 256, (images, SIDE, SIDE, 1), dtype=np.uint8)
    spec = NetworkSpec("al_cnn", CLASSES, 1, SIDE, parse_pick(NETWORKS, "al_cnn").parameters)
    network = build_network(spec, torch.Generator().manual_seed(0)).eval()
    training = TrainingSet(torch.from_numpy(pool[:1000]), torch.from_numpy(draws.integers(0, CLASSES, 1000)))
    rows, size = np.arange(images), chunk_size(pool, CPU)

    def score_with(posterior_name: str, acquisition: str) -> Callable[[], None]:
        pick = parse_pick(POSTERIOR_CHOICES, {"name": posterior_name, "samples": samples})
        fitted = Fitted(network, pick.parameters, torch.Generator().manual_seed(0), training)
        posterior = POSTERIORS.get(posterior_name)(fitted)
        parameters = parse_pick(ACQUISITION_CHOICES, acquisition).parameters

        def score() -> None:
            generator = torch.Generator().manual_seed(0)
            entry = ACQUISITIONS.get(acquisition)
            score_rows(entry, parameters, posterior, pool, rows, generator=generator, device=CPU)

        return score

    def plain() -> None:
        with torch.inference_mode(), _cores(len(os.sched_getaffinity(0))):
            for start in range(0, images, size):
                network(normalise(torch.from_numpy(pool[start : start + size])))

    seconds = _interleaved(
        repeats,
        plain=plain,
        dropout_bald=score_with("mc_dropout", "bald"),
        laplace_bald=score_with("laplace", "bald"),
        laplace_entropy=score_with("laplace", "entropy"),
    )
    named = {f"{name}_forward_ratio": value / seconds["plain"] for name, value in seconds.items() if name != "plain"}
    return {"forward_seconds": seconds["plain"], **named}


def point_scores(images: int = 1_000_000, repeats: int = 3) -> dict[str, float]:
    """Entropy, margin and least confidence of a million images and ten classes, against the bare expressions."""
    draws = torch.randn(1, images, CLASSES, generator=torch.Generator().manual_seed(0))
    log_probs_SNC = torch.log_softmax(3 * draws, dim=-1)
    log_probs_NC = log_probs_SNC[0]
    bare: dict[str, Callable[[], object]] = {
        "entropy": lambda: -(log_probs_NC.exp() * log_probs_NC).sum(dim=-1),
        "margin": lambda: torch.topk(log_probs_NC.exp(), 2, dim=-1).values.diff(dim=-1),
        "least_confidence": lambda: 1 - log_probs_NC.exp().amax(dim=-1),
    }
    ours = {"entropy": entropy_scores, "margin": margin_scores, "least_confidence": least_confidence_scores}
    found = {}
    for name, expression in bare.items():
        with torch.inference_mode():
            seconds = _interleaved(
                repeats, ours=_doing(lambda name=name: ours[name](log_probs_SNC)), bare=_doing(expression)
            )
            megabytes = peak_megabytes(_doing(lambda name=name: ours[name](log_probs_SNC)))
        found |= {f"{name}_ratio": seconds["ours"] / seconds["bare"], f"{name}_megabytes": megabytes}
    return found


def redundancy(images: int = 60_000, width: int = 64) -> dict[str, float]:
    """The redundancy of 60,000 images with 64 features: seconds, and megabytes on top of the features."""
    features_ND = torch.randn(images, width, generator=torch.Generator().manual_seed(0))
    work = _doing(lambda: mean_similarity(features_ND))
    return {"redundancy_seconds": _interleaved(5, ours=work)["ours"], "redundancy_megabytes": peak_megabytes(work)}


def clustering(images: int = 60_000, width: int = 64, clusters: int = 12, seeds: int = 3) -> dict[str, float]:
    """k-means against scikit-learn's, one core each, on overlapping heaps; also how good the clusters are."""
    draws = np.random.default_rng(0)
    heaps = draws.normal(0, 1, (30, width))
    points = (heaps[draws.integers(0, 30, images)] + draws.normal(0, 1.5, (images, width))).astype(np.float32)
    points_ND, inertias = torch.from_numpy(points), {"ours": list[float](), "theirs": list[float]()}

    def ours() -> None:
        for seed in range(seeds):
            found = k_means(points_ND, clusters, torch.Generator().manual_seed(seed))
            inertias["ours"].append(float(found.squares_N.sum()))

    def theirs() -> None:
        for seed in range(seeds):
            inertias["theirs"].append(float(KMeans(clusters, random_state=seed).fit(points).inertia_))

    with _cores(1), threadpool_limits(1):
        seconds = _interleaved(2, ours=ours, theirs=theirs)
    return {
        "kmeans_seconds": seconds["ours"] / seeds,
        "kmeans_sklearn_seconds": seconds["theirs"] / seeds,
        "kmeans_sklearn_ratio": seconds["ours"] / seconds["theirs"],
        "kmeans_sklearn_inertia_ratio": float(np.mean(inertias["ours"]) / np.mean(inertias["theirs"])),
    }


def peak_megabytes(work: Callable[[], None]) -> float:
    """Most memory of this process while ``work`` runs, on top of what it had before, sampled every millisecond."""
    process, done, peak = psutil.Process(), threading.Event(), 0

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, process.memory_info().rss)

    before = process.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return max(0, peak - before) / 2**20


def _doing(work: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        work()

    return run


def main() -> None:
    """Print all figures."""
    started = time.perf_counter()
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    for name, value in figures().items():
        print(f"{name:32} {value:10.3f}")
    print(f"measured in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
