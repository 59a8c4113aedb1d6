"""What every posterior is, and how one is read over a pool of any size in flat memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from app.recipes import Value
from worker.learning.devices import cores_for, mixed_precision
from worker.learning.fitting.base import TrainingSet
from worker.learning.networks import Network
from worker.learning.pool import Images, Rows, chunk_slices, normalise, take
from worker.learning.reading import Reading, join
from worker.learning.registry import Registry

# Measured: larger chunks leave the CPU's caches; smaller ones pay more for each call.
_CHUNK_PIXELS = {"cpu": 2**16, "cuda": 2**22}
# Pixels of all rows: 8,192 images of 16 x 16, which one core reads in a quarter of a second.
_WORTH_ALL_CORES = 2**21


class Posterior(Protocol):
    """Reads minibatches; two readings of one image by the same posterior use the same S samples."""

    def read(self, images_NCHW: Tensor) -> Reading:
        """Return log-probabilities and features of float images in [0, 1]."""
        ...


@dataclass(frozen=True)
class Fitted:
    """What a posterior is made from.

    ``network`` is fitted and in evaluation mode; ``others`` are the further members of a committee. ``training`` holds
    the labelled images, on the network's device, for a posterior that measures how far they pin the weights down, and
    ``validation`` those that decided when to stop: some of them that fitting kept aside, or others. ``is_joint`` says
    that a sample has to be one version of the weights for all images, as it is read for what they say together; else it
    need only be right for each image by itself.
    """

    network: Network
    parameters: Mapping[str, Value]
    generator: Generator
    training: TrainingSet | None = None
    validation: TrainingSet | None = None
    others: tuple[Network, ...] = ()
    is_joint: bool = False


@dataclass(frozen=True)
class PosteriorKind:
    """An entry of the registry: called with what was fitted, it makes the posterior.

    ``check`` raises RecipeError for a network that this posterior cannot sample, before any time is spent on fitting.
    A posterior over several networks says how many in its parameter ``members``; the learner fits them.
    """

    make: Callable[[Fitted], Posterior]
    check: Callable[[Network, Mapping[str, Value]], None] = lambda _network, _parameters: None

    def __call__(self, fitted: Fitted) -> Posterior:
        """Make the posterior.

        Raises:
            RecipeError: as ``check``.
        """
        self.check(fitted.network, fitted.parameters)
        return self.make(fitted)


POSTERIORS: Registry[PosteriorKind] = Registry("posterior")


def members_wanted(parameters: Mapping[str, Value]) -> int:
    """Return how many networks a posterior with these parameters is made from."""
    return int(parameters.get("members", 1))


def read_chunks(
    posterior: Posterior,
    images_NHWC: Images,
    rows: Rows,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[tuple[slice, Reading]]:
    """Read rows of an array chunk by chunk, so that memory stays flat however many there are.

    Args:
        posterior: its network is in evaluation mode on ``device``.
        images_NHWC: uint8, in memory or memory-mapped.
        rows: int64 rows to read, in this order.
        device: where the network is.
        progress: told (rows read, rows in all) after each chunk.
    Yields:
        the slice of ``rows`` that was read, and its reading in float32 on the device.
    """
    size = chunk_size(images_NHWC, device)
    pixels = len(rows) * images_NHWC.shape[1] ** 2
    for part in chunk_slices(len(rows), size):
        with torch.inference_mode(), mixed_precision(device), cores_for(pixels, _WORTH_ALL_CORES):
            reading = posterior.read(normalise(take(images_NHWC, rows[part], device)))
        yield part, reading
        progress(part.stop, len(rows))


def read_all(posterior: Posterior, images_NHWC: Images, rows: Rows, device: torch.device) -> Reading:
    """Read rows of an array at once, on the CPU; for sets that fit into memory.

    Raises:
        ValueError: no rows.
    """
    if not len(rows):
        raise ValueError("there are no rows to read")
    cpu = torch.device("cpu")
    return join([reading.to(cpu) for _, reading in read_chunks(posterior, images_NHWC, rows, device)])


def chunk_size(images_NHWC: Images, device: torch.device) -> int:
    """Return how many images are read at once; it depends on their size alone, so results do not vary."""
    _, side, _, channels = images_NHWC.shape
    return max(16, _CHUNK_PIXELS[device.type] // (side**2 * max(1, channels // 3)))
