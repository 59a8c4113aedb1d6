"""Which labelled images are most like those that are asked about, as the network sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from worker.learning.errors import ShapeError
from worker.learning.pool import Images, Rows
from worker.learning.posteriors import Posterior, read_chunks


@dataclass(frozen=True)
class Neighbours:
    """For each of K images its M nearest labelled ones, the nearest first.

    ``rows`` [K, M] int64 are rows of the array, ``similarities`` [K, M] float32 cosines of features in [-1, 1].
    """

    rows: np.ndarray
    similarities: np.ndarray


def nearest_labelled(
    posterior: Posterior,
    images_NHWC: Images,
    labelled_rows: Rows,
    features_KD: Tensor,
    *,
    count: int,
    device: torch.device,
) -> Neighbours:
    """Find the labelled images whose features point most nearly the same way.

    Labelled images are read chunk by chunk, and only K x M candidates are kept, so memory does not grow with their
    number. Equally near images are put in the order of their rows.

    Args:
        posterior: reads the labelled images.
        images_NHWC: uint8, in memory or memory-mapped.
        labelled_rows: int64; none gives M = 0.
        features_KD: of the images asked about, as the same posterior read them.
        count: M, fewer if there are not so many labelled images.
        device: where the network is.
    Raises:
        ShapeError: the features have not two axes.
    """
    if features_KD.ndim != 2:
        raise ShapeError("features_KD", ("K", "D"), tuple(features_KD.shape))
    rows = np.sort(labelled_rows)
    wanted_KD = normalize(features_KD.to(torch.float32), dim=1)
    best_KM = torch.empty(len(wanted_KD), 0)
    rows_KM = torch.empty(len(wanted_KD), 0, dtype=torch.int64)
    for part, reading in read_chunks(posterior, images_NHWC, rows, device):
        cosines_KN = wanted_KD @ normalize(reading.features_ND.cpu().to(torch.float32), dim=1).T
        these_KN = torch.from_numpy(rows[part]).expand_as(cosines_KN)
        all_K = torch.cat([best_KM, cosines_KN], dim=1)
        best_KM, places_KM = (found[:, :count] for found in all_K.sort(dim=1, descending=True, stable=True))
        rows_KM = torch.cat([rows_KM, these_KN], dim=1).gather(1, places_KM)
    return Neighbours(rows_KM.numpy(), best_KM.clamp(-1.0, 1.0).numpy())
