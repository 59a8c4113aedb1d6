"""A million images scored in flat memory, and one round on an MNIST-sized pool against a loop written by hand.

``python -m tests.benchmarks.bench_pool`` prints a table; ``figures`` returns them by name.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from app.recipes import NETWORKS, parse_pick, parse_recipe
from tests.benchmarks.bench_learning import CPU, digits
from worker.learning.acquisitions import ACQUISITIONS
from worker.learning.learner import Snapshot, step
from worker.learning.networks import Network, NetworkSpec, build_network
from worker.learning.pool import normalise
from worker.learning.posteriors import POSTERIORS, Fitted
from worker.learning.posteriors.base import chunk_size
from worker.learning.scoring import score_rows

MILLION, SMALL_SIDE = 1_000_000, 16
MNIST_SIDE, LABELS, POOL, TEST, EPOCHS, MINIBATCH, RATE, DECAY, BATCH = (
    28,
    1_000,
    60_000,
    10_000,
    20,
    32,
    2e-3,
    1e-4,
    20,
)
_SAMPLED_EVERY_SECONDS = 0.02


def million_images(count: int = MILLION, repeats: int = 3) -> dict[str, float]:
    """Images per second of scoring a memory-mapped pool by entropy, against a bare forward loop over the same file.

    ``pool_private_mb`` is how much private memory the scoring of them all added at its peak, ``pool_tenth_private_mb``
    that of a tenth of them: flat but for the 4 bytes of each score.
    """
    network = _network(SMALL_SIDE).eval()
    posterior = POSTERIORS.get("plugin")(Fitted(network, {}, torch.Generator()))
    with _mapped(count, SMALL_SIDE) as images_NHWC:
        size = chunk_size(images_NHWC, CPU)

        def ours(rows: np.ndarray) -> None:
            generator = torch.Generator().manual_seed(0)
            score_rows(ACQUISITIONS.get("entropy"), {}, posterior, images_NHWC, rows, generator=generator, device=CPU)

        def bare() -> None:
            with torch.inference_mode(), _all_cores():
                for start in range(0, count, size):
                    network(normalise(torch.from_numpy(images_NHWC[start : start + size])))

        ours(np.arange(count // 100))  # buffers that are made once
        tenth = _private_peak(lambda: ours(np.arange(count // 10)))
        whole = _private_peak(lambda: ours(np.arange(count)))
        seconds = _alternating(repeats, lambda: ours(np.arange(count)), bare)
    return {
        "pool_images_per_s": count / seconds[0],
        "pool_bare_images_per_s": count / seconds[1],
        "pool_ratio": seconds[1] / seconds[0],
        "pool_private_mb": whole / 1e6,
        "pool_tenth_private_mb": tenth / 1e6,
    }


def mnist_round(repeats: int = 3) -> dict[str, float]:
    """Seconds of one round with 1,000 labels and a pool of 60,000, over those of the same arithmetic written by hand.

    Both fit ``al_cnn`` for 20 epochs with early stopping's bookkeeping on our side only, evaluate 10,000 images, score
    the pool by entropy and take the highest. The images are enlarged digits, which take as long as any others.
    """
    images, labels = digits(MNIST_SIDE)
    order = np.random.default_rng(0).integers(0, len(images), LABELS + POOL + TEST)
    images_NHWC, labels_N = images[order], labels[order]
    labelled, candidates, test = np.split(np.arange(len(order)), [LABELS, LABELS + POOL])
    snapshot = Snapshot(images_NHWC, 10, labelled, labels_N[labelled], candidates, test, labels_N[test])
    fitting = {"epochs": EPOCHS, "minibatch": MINIBATCH, "learning_rate": RATE, "weight_decay": DECAY}
    recipe = parse_recipe({
        "image_side": MNIST_SIDE,
        "batch_size": BATCH,
        "network": "al_cnn",
        "acquisition": "entropy",
        "random_share": 0,
        "duplicate_similarity": 1,
        "fitting": {"name": "supervised", **fitting, "augment": False, "patience": 1000, "reduce_after": 1000},
    })  # fmt: skip
    seconds = _alternating(
        repeats,
        lambda: step(recipe, snapshot, count=BATCH, round_number=1, device=CPU),
        lambda: _by_hand(images_NHWC, labels_N, labelled, candidates, test),
    )
    return {
        "mnist_round_seconds": seconds[0],
        "mnist_round_by_hand_seconds": seconds[1],
        "mnist_round_ratio": seconds[0] / seconds[1],
    }


def _by_hand(
    images_NHWC: np.ndarray, labels_N: np.ndarray, labelled: np.ndarray, candidates: np.ndarray, test: np.ndarray
) -> Tensor:
    """One round as a notebook would write it; the fit on one core like ours, which is faster for steps this small."""
    network = _network(MNIST_SIDE)
    optimizer = torch.optim.Adam(network.parameters(), RATE, weight_decay=DECAY, fused=True)
    known_NHWC, known_N = torch.from_numpy(images_NHWC[labelled]), torch.from_numpy(labels_N[labelled])
    torch.set_num_threads(1)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(known_N)).split(MINIBATCH):
            loss = functional.cross_entropy(network(normalise(known_NHWC[rows])), known_N[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    network.eval()
    with torch.inference_mode(), _all_cores():
        tested_NC = _log_probs(network, images_NHWC, test)
        float((tested_NC.argmax(1) == torch.from_numpy(labels_N[test])).float().mean())
        float(functional.nll_loss(tested_NC, torch.from_numpy(labels_N[test])))
        pool_NC = _log_probs(network, images_NHWC, candidates)
        return (-(pool_NC.exp() * pool_NC).sum(1)).topk(BATCH).indices


def _log_probs(network: Network, images_NHWC: np.ndarray, rows: np.ndarray) -> Tensor:
    size = chunk_size(images_NHWC, CPU)
    parts = (rows[start : start + size] for start in range(0, len(rows), size))
    return torch.cat([network(normalise(torch.from_numpy(images_NHWC[part]))).log_softmax(1) for part in parts])


def _network(side: int) -> Network:
    spec = NetworkSpec("al_cnn", 10, 1, side, parse_pick(NETWORKS, "al_cnn").parameters)
    return build_network(spec, torch.Generator().manual_seed(0))


@contextmanager
def _mapped(count: int, side: int) -> Iterator[np.ndarray]:
    """A file of ``count`` grey images, memory-mapped."""
    few = digits(side)[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.npy"
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, side, side, 1))
        for start in range(0, count, len(few)):
            array[start : start + len(few)] = few[: count - start]
        array.flush()
        del array
        yield np.load(path, mmap_mode="r")


@contextmanager
def _all_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _alternating(repeats: int, ours: Callable[[], object], bare: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the fastest run of each, taken in turns: whatever else runs on the machine only adds time."""
    spent = []
    for _ in range(repeats):
        for work in (ours, bare):
            started = time.perf_counter()
            work()
            spent.append(time.perf_counter() - started)
    return min(spent[::2]), min(spent[1::2])


def _private_peak(work: Callable[[], object]) -> float:
    """Most bytes of private memory (not of mapped files) beyond those before, seen while ``work`` runs."""
    before = peak = _private_bytes()
    is_over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_over.wait(_SAMPLED_EVERY_SECONDS):
            peak = max(peak, _private_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    is_over.set()
    watcher.join()
    return peak - before


def _private_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def figures() -> dict[str, float]:
    """Return every figure by name."""
    return {**million_images(), **mnist_round()}


def main() -> None:
    """Print all figures."""
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    for name, value in figures().items():
        print(f"{name:32} {value:10.3f}")


if __name__ == "__main__":
    main()
