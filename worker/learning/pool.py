"""Images as one uint8 array [N, H, W, C], in memory or memory-mapped, and rows of it as tensors.

Everything here moves whole index sets; there is no Python per image. Reading files and resizing belong to the worker.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from worker.learning.errors import ShapeError

Images = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Rows = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def check_images(images_NHWC: Images) -> None:
    """Check that images are square, of one or three channels, in bytes.

    Raises:
        ShapeError: another shape.
        TypeError: another type than uint8.
    """
    shape = images_NHWC.shape
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] not in {1, 3}:
        raise ShapeError("images_NHWC", ("N", "side", "side", "1 or 3"), shape)
    if images_NHWC.dtype != np.uint8:
        raise TypeError(f"images_NHWC: expected uint8, got {images_NHWC.dtype}")


def check_rows(name: str, rows: Rows, count: int) -> None:
    """Check that rows are one axis of whole numbers in [0, count).

    Raises:
        ShapeError: another number of axes.
        TypeError: not int64.
        IndexError: a row outside the array.
    """
    if rows.ndim != 1:
        raise ShapeError(name, ("N",), rows.shape)
    if rows.dtype != np.int64:
        raise TypeError(f"{name}: expected int64, got {rows.dtype}")
    if rows.size and not (rows.min() >= 0 and rows.max() < count):
        raise IndexError(f"{name}: rows {rows.min()} to {rows.max()} do not fit {count} images")


def take(images_NHWC: Images, rows: Rows, device: torch.device) -> Tensor:
    """Copy rows out of the array to the device, as uint8 [N, H, W, C]."""
    chunk = torch.from_numpy(np.asarray(images_NHWC[rows]))
    return chunk.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else chunk.to(device)


def normalise(images_NHWC: Tensor) -> Tensor:
    """Turn bytes into float32 [N, C, H, W] in [0, 1], in channels-last memory order without a further copy.

    Numbers that are float already are features of a frozen trunk [N, 1, 1, D]; they only change their order.
    """
    if images_NHWC.dtype == torch.float32:
        return images_NHWC.permute(0, 3, 1, 2)
    return images_NHWC.permute(0, 3, 1, 2).to(torch.float32).div_(255)


class ImageRows:
    """Rows of an array by position: on a GPU they live there as uint8 if they take less than a quarter of what is free.

    Otherwise each minibatch is read from the array, so that a memory-mapped pool of any size can be drawn from.
    """

    def __init__(self, images_NHWC: Images, rows: Rows, device: torch.device) -> None:
        self._images_NHWC, self._rows, self._device = images_NHWC, rows, device
        self._resident: Tensor | None = None
        self._is_new = True

    def __len__(self) -> int:
        return len(self._rows)

    def at(self, positions: Tensor) -> Tensor:
        """Return the images at some positions, on the device, uint8 [N, H, W, C]."""
        if self._is_new and self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._device)
            if len(self._rows) * self._images_NHWC[:1].nbytes < free // 4:
                self._resident = take(self._images_NHWC, self._rows, self._device)
        self._is_new = False
        if self._resident is not None:
            return self._resident[positions.to(self._device)]
        return take(self._images_NHWC, self._rows[positions.cpu().numpy()], self._device)


def chunk_slices(count: int, size: int) -> Iterator[slice]:
    """Cut ``count`` rows into consecutive slices of ``size``; the last may be shorter."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def epoch_minibatches(count: int, size: int, least_steps: int, generator: torch.Generator) -> list[Tensor]:
    """Shuffle ``count`` rows and cut them into minibatches of nearly equal length.

    Few rows are gone through several times, reshuffled, until there are ``least_steps`` minibatches. Each holds at most
    ``size`` rows but never one alone, whose spread batch-norm could not measure; a single row comes twice.
    """
    if count == 1:
        return [torch.zeros(2, dtype=torch.int64)] * least_steps
    cuts = -(-count // size)
    if cuts * 2 > count:
        cuts = max(1, count // 2)
    passes = -(-least_steps // cuts)
    shuffled = (torch.randperm(count, generator=generator) for _ in range(passes))
    return [minibatch for order in shuffled for minibatch in order.tensor_split(cuts)]
