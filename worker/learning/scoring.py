"""Scores for a whole pool in flat memory, and the reasons behind those of a few images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Generator, Tensor

from app.recipes import Value
from worker.learning.acquisitions import Acquisition, Evidence, Sight, top_two
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.pool import Images, Rows
from worker.learning.posteriors import Posterior, read_all, read_chunks
from worker.learning.reading import Reading, join


@dataclass(frozen=True)
class PoolScores:
    """``scores_N``, higher = ask sooner; the others only if they were asked for. All on the CPU.

    ``log_probs_NC``, the likeliest ``classes_N`` and their probabilities ``confidences_N`` are those of the mean
    prediction. ``mean_entropy`` is the mean of its entropies in nats; None where no image was read.
    """

    scores_N: Tensor
    features_ND: Tensor | None
    log_probs_NC: Tensor | None = None
    classes_N: Tensor | None = None
    confidences_N: Tensor | None = None
    mean_entropy: float | None = None


@dataclass(frozen=True)
class Reasons:
    """Why K images were chosen: the two likeliest classes, their probabilities, and the acquisition's own numbers.

    ``features_KD`` are what the network sees in them.
    """

    top_classes_K2: Tensor
    top_probs_K2: Tensor
    parts: Mapping[str, Tensor]
    features_KD: Tensor


def score_rows(
    acquisition: Acquisition,
    parameters: Mapping[str, Value],
    posterior: Posterior,
    images_NHWC: Images,
    rows: Rows,
    *,
    generator: Generator,
    device: torch.device,
    keep_features: bool = False,
    keep_log_probs: bool = False,
    keep_guesses: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> PoolScores:
    """Score rows of an array by an acquisition with its parameters.

    An acquisition that looks at one image at a time is given chunks, so that a million images never stand in memory as
    N x S x C numbers; one that has to see the pool is given features and mean predictions of all images at once. Of
    each image the likeliest class and its probability are kept if guesses are wanted.

    Raises:
        NotFiniteError: a score is NaN or infinite.
        ShapeError: an acquisition returned other than one score an image.
    """
    if acquisition.sight is Sight.NOTHING and not (keep_features or keep_log_probs or keep_guesses):
        progress(len(rows), len(rows))
        return PoolScores(score(acquisition, Evidence(len(rows), generator, parameters)), None)
    scores, readings = list[Tensor](), list[Reading]()
    kept = _Kept(keep_features, keep_log_probs, keep_guesses)
    for part, reading in read_chunks(posterior, images_NHWC, rows, device, progress):
        mean_NC = reading.mean_log_probs_NC
        match acquisition.sight:
            case Sight.IMAGE:
                evidence = Evidence(part.stop - part.start, generator, parameters, reading)
                scores.append(score(acquisition, evidence))
            case Sight.POOL:
                readings.append(reading.mean.to(torch.device("cpu")))
            case Sight.NOTHING:
                pass
            case never:
                assert_never(never)
        kept.add(reading.features_ND, mean_NC)
    if acquisition.sight is not Sight.IMAGE and len(rows):
        whole = join(readings) if readings else None
        scores = [score(acquisition, Evidence(len(rows), generator, parameters, whole))]
    return kept.beside(torch.cat(scores) if scores else torch.empty(0))


class _Kept:
    """What is kept of each chunk, on the CPU."""

    def __init__(self, features: bool, log_probs: bool, guesses: bool) -> None:
        self._features: list[Tensor] | None = [torch.empty(0, 0)] if features else None
        self._log_probs: list[Tensor] | None = [torch.empty(0, 0)] if log_probs else None
        self._classes: list[Tensor] | None = [torch.empty(0, dtype=torch.int64)] if guesses else None
        self._confidences: list[Tensor] | None = [torch.empty(0)] if guesses else None
        self._entropy, self._count = 0.0, 0

    def add(self, features_ND: Tensor, mean_NC: Tensor) -> None:
        """Keep what is wanted of the features and the logarithms of the mean prediction of a chunk."""
        if self._features is not None:
            self._features.append(features_ND.cpu())
        if self._log_probs is not None:
            self._log_probs.append(mean_NC.cpu())
        if self._classes is not None and self._confidences is not None:
            best_N, classes_N = mean_NC.max(dim=-1)
            self._classes.append(classes_N.cpu())
            self._confidences.append(best_N.exp().cpu())
        self._entropy += float(torch.special.entr(mean_NC.exp()).sum(dtype=torch.float64))
        self._count += len(mean_NC)

    def beside(self, scores_N: Tensor) -> PoolScores:
        """Return all that was kept, with the scores."""
        return PoolScores(
            scores_N,
            _joined(self._features),
            _joined(self._log_probs),
            _joined(self._classes),
            _joined(self._confidences),
            self._entropy / self._count if self._count else None,
        )


def _joined(parts: list[Tensor] | None) -> Tensor | None:
    """Put chunks together; the first stands for none at all."""
    return None if parts is None else torch.cat(parts[1:]) if len(parts) > 1 else parts[0]


def score(acquisition: Acquisition, evidence: Evidence) -> Tensor:
    """Score images by one acquisition, checked: one finite score an image, on the CPU.

    Raises:
        NotFiniteError, ShapeError: as ``score_rows``.
    """
    scores_N = acquisition.score(evidence).cpu()
    if scores_N.shape != (evidence.count,):
        raise ShapeError("scores_N", (evidence.count,), scores_N.shape)
    if not bool(torch.isfinite(scores_N).all()):
        raise NotFiniteError("scores_N: a score is NaN or infinite")
    return scores_N


def explain_rows(
    acquisition: Acquisition, posterior: Posterior, images_NHWC: Images, rows: Rows, *, device: torch.device
) -> Reasons:
    """Read K chosen rows once more and say why they were chosen."""
    if not len(rows):
        return Reasons(torch.empty(0, 2, dtype=torch.int64), torch.empty(0, 2), {}, torch.empty(0, 0))
    reading = read_all(posterior, images_NHWC, rows, device)
    probs_K2, classes_K2 = top_two(reading.log_probs_SNC)
    return Reasons(classes_K2, probs_K2, acquisition.parts(reading), reading.features_ND)
