"""Seconds to choose a batch, beside scikit-activeml on the same features in the same run.

``python -m tests.benchmarks.bench_selections`` prints a table; ``figures`` returns them by name.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worker.learning.devices import at_most_cores
from worker.learning.looks import looks
from worker.learning.networks import NetworkSpec, build_network
from worker.learning.posteriors import read_all
from worker.learning.posteriors.plugin import Plugin
from worker.learning.selections.badge import badge
from worker.learning.selections.batch_bald import batch_bald
from worker.learning.selections.k_center import k_center
from worker.learning.selections.typiclust import typiclust

IMAGES, WIDTH, CLASSES, LABELLED, BATCH = 10_000, 64, 10, 256, 256
SAMPLES, SMALL_BATCH = 20, 10
LOOKED_AT = 20_000
HAS_PEER = importlib.util.find_spec("skactiveml") is not None


def figures(repeats: int = 5) -> dict[str, float]:
    """Return seconds for 256 of 10,000 images with 64 features, medians; the peer's once, as it takes long."""
    generator = torch.Generator().manual_seed(0)
    features_ND = torch.randn(IMAGES, WIDTH, generator=generator).relu()
    labelled_LD = torch.randn(LABELLED, WIDTH, generator=generator).relu()
    log_probs_SNC = torch.randn(SAMPLES, IMAGES, CLASSES, generator=generator).mul(3).log_softmax(-1)
    log_probs_NC = log_probs_SNC[0]
    free_N, scores_N = torch.zeros(IMAGES, dtype=torch.bool), torch.zeros(IMAGES)
    found = {
        "select_k_center_s": _seconds(lambda: k_center(features_ND, scores_N, free_N, labelled_LD, BATCH), repeats),
        "select_badge_s": _seconds(lambda: badge(log_probs_NC, features_ND, free_N, BATCH, _seeded()), repeats),
        "select_typiclust_40_s": _seconds(lambda: typiclust(features_ND, free_N, 40, 40, _seeded()), 1),
        "select_batch_bald_10_s": _seconds(lambda: batch_bald(log_probs_SNC[:, :1000], SMALL_BATCH, _seeded()), 1),
    }
    found |= _looks_seconds()
    if HAS_PEER:
        peer = _peer_seconds(features_ND, labelled_LD, log_probs_NC)
        found |= {f"select_{name}_scikit_activeml_s": seconds for name, seconds in peer.items()}
        found |= {f"select_{name}_ratio": found[f"select_{name}_s"] / seconds for name, seconds in peer.items()}
    return found


def _looks_seconds() -> dict[str, float]:
    """Return seconds to see what 20,000 images of 28 pixels look like, as a default first round does, on one core.

    The baseline is reading the same images once by ``al_cnn``, which every round does.
    """
    images_NHWC = np.random.default_rng(0).integers(0, 255, (LOOKED_AT, 28, 28, 1), dtype=np.uint8)
    rows = np.arange(LOOKED_AT)
    network = build_network(NetworkSpec("al_cnn", CLASSES, 1, 28, {"dropout": 0.5}), _seeded()).eval()
    with at_most_cores(1):
        seen = _seconds(lambda: looks(images_NHWC, rows, _seeded()), 1)
        read = _seconds(lambda: read_all(Plugin(network), images_NHWC, rows, torch.device("cpu")), 1)
    return {"select_looks_20000_s": seen, "select_looks_ratio": seen / read}


def _peer_seconds(features_ND: Tensor, labelled_LD: Tensor, log_probs_NC: Tensor) -> dict[str, float]:
    from skactiveml.base import SkactivemlClassifier
    from skactiveml.pool import Badge, CoreSet

    class Told(SkactivemlClassifier):  # type: ignore[misc]
        def fit(self, _x: Any, _y: Any) -> Told:
            return self

        def predict_proba(self, _x: Any) -> Any:
            return probs_NC

    probs_NC = log_probs_NC.double().exp().numpy()
    pool_ND, known_LD = features_ND.double().numpy(), labelled_LD.double().numpy()
    answers = np.concatenate([np.full(IMAGES, np.nan), np.zeros(LABELLED)])
    everything = np.concatenate([pool_ND, known_LD])
    nothing = np.full(IMAGES, np.nan)
    return {
        "k_center": _seconds(lambda: CoreSet(random_state=0).query(everything, answers, batch_size=BATCH), 0),
        "badge": _seconds(
            lambda: Badge(random_state=0).query(pool_ND, nothing, Told(), fit_clf=False, batch_size=BATCH), 0
        ),
    }


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _seconds(work: Callable[[], object], repeats: int) -> float:
    """Median seconds after a warm-up, or those of a single run without one."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:] or seconds)


def main() -> None:
    """Print all figures."""
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    for name, value in figures().items():
        print(f"{name:40} {value:10.3f}")


if __name__ == "__main__":
    main()
