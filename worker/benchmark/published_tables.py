"""Tables with what others have published beside ours."""

from __future__ import annotations

from collections.abc import Callable

from worker.benchmark.experiment import Metric, Published
from worker.benchmark.records import RoundLine
from worker.benchmark.results import Results
from worker.benchmark.statistics import mean_interval
from worker.benchmark.table import Cell, Row, Table, bounds

FIGURES: dict[Metric, Callable[[RoundLine], float]] = {
    Metric.TEST_ACCURACY: lambda line: line.test_accuracy,
    Metric.TEST_NLL: lambda line: line.test_nll,
    Metric.MEAN_ENTROPY: lambda line: line.mean_entropy,
}


def published(results: Results) -> Table:
    """Return every published figure beside ours at the nearest number of labels."""
    rows: list[Row] = []
    for series in results.experiment.published:
        for labels, value in zip(series.labels, series.values, strict=True):
            row: list[Cell] = [series.series, series.source, series.metric.value, labels, value, series.arm]
            if series.arm is None or series.arm not in results.curves:
                rows.append((*row, None, None, None, None, None))
                continue
            ours = nearest(results.labels(series.arm), labels)
            found = mean_interval(results.at(series.arm, ours, FIGURES[series.metric]))
            rows.append((*row, ours, *bounds(found), found.value - value))
    return Table(
        "published",
        "Published figures beside ours",
        "Ours at the nearest number of labels, mean over seeds with 95% interval.",
        (
            "series", "source", "metric", "labels", "published", "our_arm", "our_labels", "ours", "low", "high",
            "difference",
        ),
        tuple(rows),
    )  # fmt: skip


def calibration(results: Results) -> Table:
    """Return how far each arm's probabilities can be trusted, at published budgets and over the curve."""
    rows: list[Row] = []
    for arm in results.curves:
        for labels in _shown(results, arm):
            nll, entropy = (results.mean_at(arm, labels, FIGURES[metric]) for metric in _BESIDE)
            theirs = [_published_at(results, arm, labels, metric) for metric in _BESIDE]
            briers = [detail.brier for detail in results.details_at(arm, labels) if detail.brier is not None]
            brier = mean_interval(briers).value if briers else None
            ece = results.mean_at(arm, labels, lambda line: line.ece)
            rows.append((arm, labels, nll, theirs[0], ece, brier, entropy, theirs[1]))
    return Table(
        "calibration",
        "Calibration",
        "On the test images, mean over seeds, at the published budgets and at the ends and the middle of the curve: "
        "NLL and mean entropy in nats, expected calibration error (15 bins), Brier score in 0 to 2. Published figures "
        "stand beside ours where there are any.",
        (
            "arm", "labels", "test_nll", "published_nll", "ece", "brier", "mean_entropy", "published_entropy",
        ),
        tuple(rows),
    )  # fmt: skip


def nearest(measured: list[int], wanted: int) -> int:
    """Return the measured number of labels that is nearest, the lower one of two."""
    return min(measured, key=lambda labels: (abs(labels - wanted), labels))


_BESIDE = (Metric.TEST_NLL, Metric.MEAN_ENTROPY)


def _shown(results: Results, arm: str) -> list[int]:
    measured = results.labels(arm)
    budgets = {labels for series in results.experiment.published if series.arm == arm for labels in series.labels}
    shown = {measured[0], measured[len(measured) // 2], measured[-1]} | {nearest(measured, each) for each in budgets}
    return sorted(shown)


def _published_at(results: Results, arm: str, labels: int, metric: Metric) -> float | None:
    def is_wanted(series: Published) -> bool:
        return series.arm == arm and series.metric is metric

    measured = results.labels(arm)
    for series in filter(is_wanted, results.experiment.published):
        for wanted, value in zip(series.labels, series.values, strict=True):
            if nearest(measured, wanted) == labels:
                return value
    return None
