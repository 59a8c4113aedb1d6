"""How good predictions are, against known labels: numpy in float64, no torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from worker.learning.errors import NotFiniteError, ShapeError

# Two-sided 95% point of the normal distribution.
_Z95 = 1.959963984540054
# A probability below this counts as this, so that one hopeless image leaves the mean finite.
_LEAST_PROB = 1e-12
_BINS = 15


@dataclass(frozen=True)
class Evaluation:
    """Figures over ``count`` labelled images that fitting never saw.

    ``accuracy_low`` and ``accuracy_high`` bound the accuracy with 95% confidence. ``nll`` and ``mean_entropy`` are in
    nats, ``ece`` is the expected calibration error, ``brier`` in [0, 2]. ``recalls``, ``precisions``, ``f1s`` and
    ``roc_aucs`` (one class against the rest) have one value a class, None where it is not defined: no image has the
    class, or was given it, or neither, or all images have it. ``macro_f1`` and ``roc_auc`` are means over the classes
    that have a value, ``roc_auc`` None if none has. ``confusion`` counts images by true class (rows) and predicted.
    """

    count: int
    correct: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    nll: float
    ece: float
    brier: float
    mean_entropy: float
    macro_f1: float
    roc_auc: float | None
    recalls: tuple[float | None, ...]
    precisions: tuple[float | None, ...]
    f1s: tuple[float | None, ...]
    roc_aucs: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]

    def as_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON values by name."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def evaluate(log_probs_NC: np.ndarray, labels_N: np.ndarray) -> Evaluation:
    """Compare predictions with labels.

    Args:
        log_probs_NC: log-probabilities of N images and C classes; -inf is probability 0.
        labels_N: true classes, 0 to C - 1.
    Raises:
        ShapeError: other axes, no images, or fewer than two classes.
        NotFiniteError: a log-probability that is NaN or +inf.
        ValueError: a label outside the classes.
    References: Wilson 1927 (interval); Guo et al. 2017, equation 3 (calibration error, 15 equal bins); Brier 1950.
    """
    _check(log_probs_NC, labels_N)
    log_probs_NC = log_probs_NC.astype(np.float64)
    probs_NC = np.exp(log_probs_NC)
    predicted_N = log_probs_NC.argmax(axis=1)
    correct_N = predicted_N == labels_N
    count, correct = len(labels_N), int(correct_N.sum())
    low, high = wilson_interval(correct, count)
    confusion_CC = confusion_matrix(labels_N, predicted_N, log_probs_NC.shape[1])
    own_N = log_probs_NC[np.arange(count), labels_N]
    f1s = f1_scores(confusion_CC)
    roc_aucs = one_vs_rest_roc_aucs(log_probs_NC, labels_N)
    return Evaluation(
        count=count,
        correct=correct,
        accuracy=correct / count,
        accuracy_low=low,
        accuracy_high=high,
        nll=float(-np.maximum(own_N, math.log(_LEAST_PROB)).mean()),
        ece=calibration_error(probs_NC.max(axis=1), correct_N),
        brier=brier_score(probs_NC, labels_N),
        mean_entropy=float(entropies(log_probs_NC).mean()),
        macro_f1=_mean(f1s) or 0.0,
        roc_auc=_mean(roc_aucs),
        recalls=_shares(confusion_CC.diagonal(), confusion_CC.sum(axis=1)),
        precisions=_shares(confusion_CC.diagonal(), confusion_CC.sum(axis=0)),
        f1s=f1s,
        roc_aucs=roc_aucs,
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion_CC),
    )


def wilson_interval(correct: int, count: int, z: float = _Z95) -> tuple[float, float]:
    """Score interval of a share, within [0, 1] even at 0 and 100%.

    Raises:
        ValueError: no trials, or more successes than trials.
    References: Wilson 1927.
    """
    if not 0 <= correct <= count or count == 0:
        raise ValueError(f"{correct} of {count} is not a share")
    share = correct / count
    centre = share + z**2 / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    scale = 1 + z**2 / count
    low = 0.0 if correct == 0 else (centre - half) / scale
    high = 1.0 if correct == count else (centre + half) / scale
    return low, high


def calibration_error(confidences_N: np.ndarray, correct_N: np.ndarray, bins: int = _BINS) -> float:
    """Mean difference between confidence and accuracy over equal bins of confidence, weighted by their images.

    Args:
        confidences_N: probability given to the predicted class, in [0, 1].
        correct_N: whether that class was right.
        bins: bins of (0, 1], each open below and closed above.
    Returns:
        a value in [0, 1]; 0 is perfectly calibrated.
    References: Naeini et al. 2015; Guo et al. 2017, equation 3.
    """
    bins_N = np.clip(np.ceil(confidences_N * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps_B = np.bincount(bins_N, weights=confidences_N - correct_N, minlength=bins)
    return float(np.abs(gaps_B).sum() / len(confidences_N))


def confusion_matrix(labels_N: np.ndarray, predicted_N: np.ndarray, class_count: int) -> np.ndarray:
    """Count images by true class (rows) and predicted class (columns), int64 [C, C]."""
    cells = np.bincount(labels_N * class_count + predicted_N, minlength=class_count**2)
    return cells.reshape(class_count, class_count)


def f1_scores(confusion_CC: np.ndarray) -> tuple[float | None, ...]:
    """Harmonic mean of precision and recall of each class, in [0, 1]; None where a class is neither there nor given.

    Args:
        confusion_CC: images by true class (rows) and predicted class (columns).
    References: van Rijsbergen 1979: 2 TP / (2 TP + FP + FN).
    """
    return _shares(2 * confusion_CC.diagonal(), confusion_CC.sum(axis=0) + confusion_CC.sum(axis=1))


def one_vs_rest_roc_aucs(scores_NC: np.ndarray, labels_N: np.ndarray) -> tuple[float | None, ...]:
    """Chance that an image of a class is given more of that class than an image of another; ties count half.

    Args:
        scores_NC: anything that grows with the probability of the class.
        labels_N: true classes, 0 to C - 1.
    Returns:
        the area under each class's receiver operating characteristic, in [0, 1]; None where all or no images have it.
    References: Hanley and McNeil 1982 (the area is the Mann-Whitney statistic, here from mid-ranks).
    """
    count, class_count = scores_NC.shape
    areas = list[float | None]()
    for label in range(class_count):
        has_class_N = labels_N == label
        positives = int(has_class_N.sum())
        _, level_N, sizes_L = np.unique(scores_NC[:, label], return_inverse=True, return_counts=True)
        mid_ranks_L = np.cumsum(sizes_L) - (sizes_L - 1) / 2
        above = mid_ranks_L[level_N[has_class_N]].sum() - positives * (positives + 1) / 2
        pairs = positives * (count - positives)
        areas.append(float(above / pairs) if pairs else None)
    return tuple(areas)


def brier_score(probs_NC: np.ndarray, labels_N: np.ndarray) -> float:
    """Mean squared distance between the probabilities and the truth, in [0, 2]; 0 is sure and right.

    References: Brier 1950, equation 2.
    """
    own_N = probs_NC[np.arange(len(labels_N)), labels_N]
    return float(((probs_NC**2).sum(axis=1) - 2 * own_N + 1).mean())


def entropies(log_probs_NC: np.ndarray) -> np.ndarray:
    """Entropy of each prediction in nats, in [0, log C]; a class of probability 0 contributes 0."""
    log_probs_NC = log_probs_NC.astype(np.float64)
    probs_NC = np.exp(log_probs_NC)
    finite_NC = np.maximum(log_probs_NC, -np.finfo(np.float64).max)
    entropies_N: np.ndarray = np.where(probs_NC > 0, -probs_NC * finite_NC, 0.0).sum(axis=1)
    return entropies_N


def _mean(values: tuple[float | None, ...]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _shares(hits_C: np.ndarray, totals_C: np.ndarray) -> tuple[float | None, ...]:
    return tuple(float(hit / total) if total else None for hit, total in zip(hits_C, totals_C, strict=True))


def _check(log_probs_NC: np.ndarray, labels_N: np.ndarray) -> None:
    if log_probs_NC.ndim != 2 or log_probs_NC.shape[0] < 1 or log_probs_NC.shape[1] < 2:
        raise ShapeError("log_probs_NC", ("N >= 1", "C >= 2"), log_probs_NC.shape)
    if labels_N.shape != log_probs_NC.shape[:1]:
        raise ShapeError("labels_N", log_probs_NC.shape[:1], labels_N.shape)
    if np.isnan(log_probs_NC).any() or np.isposinf(log_probs_NC).any():
        raise NotFiniteError("log_probs_NC: a log-probability is NaN or infinite")
    if labels_N.min() < 0 or labels_N.max() >= log_probs_NC.shape[1]:
        raise ValueError(f"labels_N: classes {labels_N.min()} to {labels_N.max()} do not fit {log_probs_NC.shape[1]}")
