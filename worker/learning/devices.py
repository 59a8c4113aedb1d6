"""Where tensors live and how randomness is seeded; nothing about what is computed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import torch
from torch import Generator

_most_cores: ContextVar[int | None] = ContextVar("most_cores", default=None)


def pick_device(wanted: str | torch.device | None = None) -> torch.device:
    """Return the wanted device, or CUDA if there is one, else the CPU."""
    return torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))


@contextmanager
def cores_for(pixels: int, worthwhile: int) -> Iterator[None]:
    """Compute on all cores of this process if there are enough pixels, else on one; put the number back afterwards.

    Threads wait for each other several times a layer, and spin. For small work two cores gain a quarter when nothing
    else runs, but lose a factor of ten when the web process or the database wants one (measured: 1.9 against 2.4 ms a
    step alone, over 50 against 9 ms in company). The choice depends on sizes only, since sums round differently on
    another number of threads.
    """
    before, wanted = torch.get_num_threads(), _cores_at_hand() if pixels >= worthwhile else 1
    if wanted == before:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def at_most_cores(count: int) -> Iterator[None]:
    """Let ``cores_for`` use no more cores than this, so that results do not depend on how many a machine has."""
    before, token = torch.get_num_threads(), _most_cores.set(count)
    torch.set_num_threads(min(before, count))
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _most_cores.reset(token)


def _cores_at_hand() -> int:
    at_hand, most = len(os.sched_getaffinity(0)), _most_cores.get()
    return at_hand if most is None else min(at_hand, most)


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return bfloat16 autocast on CUDA, which needs no loss scaling, and nothing on a CPU."""
    return torch.autocast("cuda", dtype=torch.bfloat16) if device.type == "cuda" else nullcontext()


def stable_seed(*parts: int | str) -> int:
    """Hash parts to a seed in [0, 2**63) that is the same in every process and on every machine."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def seeded(*parts: int | str) -> Generator:
    """Return a CPU generator seeded by ``stable_seed(*parts)``."""
    return Generator().manual_seed(stable_seed(*parts))


@contextmanager
def global_seed(generator: Generator, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators from ``generator`` and put them back afterwards.

    For what cannot be handed a generator: dropout and the constructors of layers. The CUDA kernels used meanwhile are
    the deterministic ones.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    devices = [device.index or 0] if device.type == "cuda" else []
    before = torch.backends.cudnn.deterministic
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        torch.backends.cudnn.deterministic = True
        try:
            yield
        finally:
            torch.backends.cudnn.deterministic = before
