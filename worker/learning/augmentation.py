"""Random changes of a minibatch that leave its labels as they are, all images in a few calls.

Digits are shifted, turned and scaled; photos are also mirrored and their colours changed, but hardly turned. The weak
change is what fitting to labels uses; consistency training shows the same image weakly and strongly changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from worker.learning.errors import check_shape


@dataclass(frozen=True)
class Change:
    """The most that a view differs from its image.

    ``turn`` and ``shear`` are in radians, ``shift`` and ``cut`` shares of the side, ``scale``, ``light``, ``contrast``
    and ``colour`` shares of what is there; ``mirrors`` says whether left and right may change places.
    """

    turn: float
    shift: float
    scale: float
    shear: float = 0.0
    mirrors: bool = False
    light: float = 0.0
    contrast: float = 0.0
    colour: float = 0.0
    cut: float = 0.0


DIGITS = Change(turn=math.radians(12), shift=0.10, scale=0.12)
STRONG_DIGITS = Change(turn=math.radians(25), shift=0.12, scale=0.25, shear=0.35, contrast=0.4, cut=0.35)
PHOTOS = Change(turn=math.radians(5), shift=0.10, scale=0.15, mirrors=True, light=0.1, contrast=0.1)
STRONG_PHOTOS = Change(
    turn=math.radians(15), shift=0.15, scale=0.3, shear=0.2, mirrors=True, light=0.4, contrast=0.4, colour=0.6, cut=0.5
)


def changes_for(views: str, channels: int) -> tuple[Change, Change]:
    """Return the weak and the strong change for ``digits``, ``photos`` or, for ``auto``, what the channels suggest."""
    is_photo = channels == 3 if views == "auto" else views == "photos"
    return (PHOTOS, STRONG_PHOTOS) if is_photo else (DIGITS, STRONG_DIGITS)


def jitter(images_NCHW: Tensor, generator: Generator) -> Tensor:
    """Turn by up to 12 degrees, shift by up to a tenth of the side and scale by up to 12%, each image its own way.

    Raises:
        ShapeError: not four axes.
    """
    return change(images_NCHW, DIGITS, generator)


def change(images_NCHW: Tensor, most: Change, generator: Generator) -> Tensor:
    """Change each image its own way, uniformly up to the most in both directions.

    Pixels from outside repeat the nearest edge, so no background colour is invented; a cut-out square is filled with
    its image's mean.

    Args:
        images_NCHW: float images in [0, 1].
        most: bounds of the change.
        generator: source of the draws; may live on the CPU while the images do not.
    Returns:
        float images in [0, 1] of the same shape.
    Raises:
        ShapeError: not four axes.
    References: DeVries and Taylor 2017 (the cut-out square); Cubuk et al. 2020 (the other changes).
    """
    check_shape("images_NCHW", images_NCHW.shape, ("N", "C", "H", "W"))
    draws = torch.rand(12, len(images_NCHW), generator=generator, device=generator.device).to(images_NCHW.device)
    moved_NCHW = _move(images_NCHW, most, draws[:6] * 2 - 1)
    if most.light or most.contrast or most.colour:
        moved_NCHW = _tint(moved_NCHW, most, draws[6:9] * 2 - 1)
    return _cut_out(moved_NCHW, most.cut, draws[9:]) if most.cut else moved_NCHW


def _move(images_NCHW: Tensor, most: Change, draws: Tensor) -> Tensor:
    turn_N, across_N, down_N, scale_N, shear_N, side_N = draws.unbind()
    size_N = 1 + most.scale * scale_N
    cosine_N, sine_N = torch.cos(most.turn * turn_N) * size_N, torch.sin(most.turn * turn_N) * size_N
    slant_N = torch.tan(most.shear * shear_N)
    mirror_N = side_N.sign() if most.mirrors else torch.ones_like(side_N)
    # The grid spans [-1, 1], so a shift of the whole side is 2.
    above_N3 = torch.stack((mirror_N * cosine_N, cosine_N * slant_N - sine_N, 2 * most.shift * across_N), dim=1)
    below_N3 = torch.stack((mirror_N * sine_N, sine_N * slant_N + cosine_N, 2 * most.shift * down_N), dim=1)
    theta_N23 = torch.stack((above_N3, below_N3), dim=1)
    grid = functional.affine_grid(theta_N23, list(images_NCHW.shape), align_corners=False)
    return functional.grid_sample(images_NCHW, grid, padding_mode="border", align_corners=False)


def _tint(images_NCHW: Tensor, most: Change, draws: Tensor) -> Tensor:
    light_N111, contrast_N111, colour_N111 = (
        1 + share * draw[:, None, None, None]
        for share, draw in zip((most.light, most.contrast, most.colour), draws, strict=True)
    )
    shown = images_NCHW * light_N111
    shown = torch.lerp(_mean(shown, (1, 2, 3)), shown, contrast_N111)
    if most.colour and shown.shape[1] > 1:
        shown = torch.lerp(_mean(shown, (1,)), shown, colour_N111)
    return shown.clamp(0, 1)


def _cut_out(images_NCHW: Tensor, most: float, draws: Tensor) -> Tensor:
    size_N, *centre = draws.unbind()
    half_N1 = (size_N * most / 2)[:, None]
    down_NH, across_NW = (
        ((torch.arange(side, device=draws.device) + 0.5) / side - middle_N[:, None]).abs() < half_N1
        for side, middle_N in zip(images_NCHW.shape[2:], centre, strict=True)
    )
    inside_N1HW = (down_NH[:, :, None] & across_NW[:, None, :])[:, None]
    return torch.where(inside_N1HW, _mean(images_NCHW, (1, 2, 3)), images_NCHW)


def _mean(images_NCHW: Tensor, axes: tuple[int, ...]) -> Tensor:
    return images_NCHW.mean(dim=axes, keepdim=True)
