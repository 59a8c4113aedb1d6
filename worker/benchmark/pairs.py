"""What a benchmark, which knows the truth, sees of a pair that teaches each other, epoch by epoch."""

from __future__ import annotations

from typing import Any

from worker.benchmark.datasets import Dataset, Division
from worker.learning.co_training import PairEpoch
from worker.learning.posteriors import read_all
from worker.learning.posteriors.committee import Committee
from worker.learning.pseudo_labelers import PseudoLabels


class PairWatch:
    """Measures both networks on the test images after each epoch, and what they took by the truth.

    It only looks: what it finds is reported, and nothing is chosen by it.
    """

    def __init__(self, dataset: Dataset, division: Division) -> None:
        self._dataset, self._test_rows = dataset, division.test_rows
        self.epochs: list[dict[str, Any]] = []

    def see(self, epoch: PairEpoch) -> None:
        """Take in the pair after an epoch."""
        device = next(epoch.networks[0].parameters()).device
        reading = read_all(Committee(epoch.networks), self._dataset.images_NHWC, self._test_rows, device)
        is_right_SN = reading.log_probs_SNC.argmax(dim=-1).numpy() == self._dataset.labels_N[self._test_rows]
        accuracy_a, accuracy_b = is_right_SN.mean(axis=1).tolist()
        right_a, right_b = map(self._right, epoch.taken)
        found = {"accuracy_a": accuracy_a, "accuracy_b": accuracy_b, "right_a": right_a, "right_b": right_b}
        self.epochs.append({**epoch.as_json(), **found})

    def _right(self, taken: PseudoLabels) -> int:
        return int((taken.labels == self._dataset.labels_N[taken.rows]).sum())
