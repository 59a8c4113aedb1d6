"""How many requests one web process works on at once: few, so that each is done soon.

Threads share Python's interpreter lock, and answers to a project wait for its row. With the forty threads that are
usual, most wait for each other while they hold connections and rows that others wait for; requests that wait for a free
thread hold nothing. With forty threads, an answer took ten times as long where fifty people label (``make bench-load``:
558 ms in the median, 53 with five).
"""

from __future__ import annotations

import gc
import sys

from anyio import CapacityLimiter
from anyio.to_thread import current_default_thread_limiter

THREADS = 8  # of ordinary requests
LABELING = 3  # more, of claims and answers, once it is known who asks: they lock rows, and so wait for each other
SWITCH_SECONDS = 0.001  # after which a thread makes way for others; the event loop is one of them


def labeling_turns() -> CapacityLimiter:
    """Return the turns that claims and answers take."""
    return CapacityLimiter(LABELING)


def share_fairly() -> None:
    """Let few requests run at once in this process from now on; called by its event loop when it starts."""
    current_default_thread_limiter().total_tokens = THREADS
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()  # modules and templates stay for ever, and need not be looked through again and again
