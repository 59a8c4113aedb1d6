"""Waiting for something to become so, instead of sleeping for a time that is hoped to be long enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def until(predicate: Callable[[], Answer], seconds: float, what: str) -> Answer:
    """Ask until the answer is true and return it; fail with ``what`` was waited for when time is up."""
    deadline = time.monotonic() + seconds
    while not (answer := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.02)
    return answer
