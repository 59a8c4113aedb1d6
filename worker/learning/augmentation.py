"""Light random affine changes of a minibatch: shift, turn and scale, all images in one call."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

from worker.learning.errors import check_shape

MOST_TURN = math.radians(12.0)
MOST_SHIFT = 0.10
MOST_SCALE = 0.12


def jitter(images_NCHW: Tensor, generator: Generator) -> Tensor:
    """Turn by up to 12 degrees, shift by up to a tenth of the side and scale by up to 12%, each image its own way.

    Pixels from outside repeat the nearest edge, so no background colour is invented.

    Args:
        images_NCHW: float images.
        generator: source of the draws; may live on the CPU while the images do not.
    Raises:
        ShapeError: not four axes.
    """
    check_shape("images_NCHW", images_NCHW.shape, ("N", "C", "H", "W"))
    count = images_NCHW.shape[0]
    draws = torch.rand(4, count, generator=generator, device=generator.device).mul_(2).sub_(1)
    turn_N, across_N, down_N, scale_N = draws.to(images_NCHW.device).unbind()
    scale_N = 1 + MOST_SCALE * scale_N
    cosine_N = torch.cos(MOST_TURN * turn_N) * scale_N
    sine_N = torch.sin(MOST_TURN * turn_N) * scale_N
    # The grid spans [-1, 1], so a shift of the whole side is 2.
    above_N3 = torch.stack((cosine_N, -sine_N, 2 * MOST_SHIFT * across_N), dim=1)
    below_N3 = torch.stack((sine_N, cosine_N, 2 * MOST_SHIFT * down_N), dim=1)
    theta_N23 = torch.stack((above_N3, below_N3), dim=1)
    grid = functional.affine_grid(theta_N23, list(images_NCHW.shape), align_corners=False)
    return functional.grid_sample(images_NCHW, grid, padding_mode="border", align_corners=False)
