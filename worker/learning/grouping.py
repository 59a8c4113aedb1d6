"""Clusters of what is asked about: images that look alike, so that people can say of many at once what they are.

Of the bundled digits, in one run each for batches of 20, 50 and 100, a cluster's commonest class held 76 to 80% of it
before the first network, and 63 to 87% with 20 and 100 labels, where the network was right about 22 to 42% of the same
images: a strategy asks where the network is unsure, which need not be where images look unlike.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor

from worker.learning.clustering import k_means
from worker.learning.errors import check_shape

_RANKED_EACH = 24  # about a page of the grid; a third of what is ranked is never asked
_LEAST_EACH = 6
_MOST_CLUSTERS = 64


def cluster_ranked(points_KD: Tensor, is_random_K: np.ndarray, class_count: int, generator: Generator) -> np.ndarray:
    """Cluster the images of a ranking by k-means, but for those that were drawn uniformly: they are answered blind.

    There are at least as many clusters as classes while an average one has six images: fewer would have to mix classes.

    Args:
        points_KD: finite features of the ranked images, best first, on the CPU.
        is_random_K: true for an image that is in no cluster.
        class_count: number of classes.
        generator: source of the seeds.
    Returns:
        clusters_K, int64, numbered from 1 in the order of their best ranked images; 0 is none.
    Raises:
        ShapeError: not two axes, or not a mark for each image.
        NotFiniteError: a feature that is NaN or infinite.
    """
    check_shape("points_KD", points_KD.shape, ("K", "D"))
    check_shape("is_random_K", is_random_K.shape, (len(points_KD),))
    clusters_K = np.zeros(len(points_KD), np.int64)
    chosen = np.flatnonzero(~is_random_K)
    if not len(chosen):
        return clusters_K
    wanted = min(max(class_count, len(chosen) // _RANKED_EACH), len(chosen) // _LEAST_EACH, _MOST_CLUSTERS)
    found = k_means(points_KD[torch.from_numpy(chosen)], max(1, wanted), generator).assigned_N.numpy()
    _, firsts, names = np.unique(found, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(firsts))  # the place of each cluster among the best ranked images
    clusters_K[chosen] = order[names] + 1
    return clusters_K
