"""Scores for a whole pool in flat memory, and the reasons behind those of a few images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Generator, Tensor

from app.recipes import Value
from worker.learning.acquisitions import Acquisition, Evidence, Sight, mean_log_probs, top_two
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.pool import Images, Rows
from worker.learning.posteriors import Posterior, read_all, read_chunks
from worker.learning.reading import Reading, join


@dataclass(frozen=True)
class PoolScores:
    """``scores_N``, higher = ask sooner; the others only if they were asked for. All on the CPU."""

    scores_N: Tensor
    features_ND: Tensor | None
    log_probs_NC: Tensor | None = None  # of the mean prediction


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
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> PoolScores:
    """Score rows of an array by an acquisition with its parameters.

    An acquisition that looks at one image at a time is given chunks, so that a million images never stand in memory as
    N x S x C numbers; one that has to see the pool is given features and mean predictions of all images at once.

    Raises:
        NotFiniteError: a score is NaN or infinite.
        ShapeError: an acquisition returned other than one score an image.
    """
    if acquisition.sight is Sight.NOTHING and not (keep_features or keep_log_probs):
        progress(len(rows), len(rows))
        return PoolScores(score(acquisition, Evidence(len(rows), generator, parameters)), None)
    scores, features, log_probs, readings = list[Tensor](), list[Tensor](), list[Tensor](), list[Reading]()
    for part, reading in read_chunks(posterior, images_NHWC, rows, device, progress):
        match acquisition.sight:
            case Sight.IMAGE:
                evidence = Evidence(part.stop - part.start, generator, parameters, reading)
                scores.append(score(acquisition, evidence))
            case Sight.POOL:
                mean_NC = mean_log_probs(reading.log_probs_SNC)
                readings.append(Reading(mean_NC.unsqueeze(0), reading.features_ND).to(torch.device("cpu")))
            case Sight.NOTHING:
                pass
            case never:
                assert_never(never)
        if keep_features:
            features.append(reading.features_ND.cpu())
        if keep_log_probs:
            log_probs.append(mean_log_probs(reading.log_probs_SNC).cpu())
    if acquisition.sight is not Sight.IMAGE and len(rows):
        whole = join(readings) if readings else None
        scores = [score(acquisition, Evidence(len(rows), generator, parameters, whole))]
    return PoolScores(
        torch.cat(scores) if scores else torch.empty(0),
        torch.cat(features) if features else torch.empty(0, 0) if keep_features else None,
        torch.cat(log_probs) if log_probs else torch.empty(0, 0) if keep_log_probs else None,
    )


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
