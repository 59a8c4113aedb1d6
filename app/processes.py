"""What processes of one home do to each other: locks that end with their holder, children that end with their parent.

The kernel does the bookkeeping: a lock (flock) is released and a child is ended however its holder or parent dies, by
``kill -9`` too, so no file with a process id has to be trusted. What is locked and started is for others to say.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.02
LOW_PRIORITY = 10
AUTOGROUP = Path("/proc/self/autogroup")

# loaded here and not in the child: between fork and exec nothing may take a lock that another thread held
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class FileLock:
    """A lock on a file, shared or exclusive, that the kernel releases when its holder dies."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_shared(self) -> bool:
        """Take it beside others, or return False at once."""
        return self._try(fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        """Take it alone, or return False at once; a lock that was held is lost then."""
        return self._try(fcntl.LOCK_EX)

    def release(self) -> None:
        """Let others have it."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release it unless a child inherited it, and close the file."""
        os.close(self.descriptor)

    def _try(self, mode: int) -> bool:
        try:
            fcntl.flock(self.descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def is_held(path: Path) -> bool:
    """Return whether some living process holds this lock alone."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        return not lock.try_shared()
    finally:
        lock.close()


def give_way() -> None:
    """Let other processes go first from now on, in this thread and those that it starts.

    Where Linux divides the cores among sessions before it looks at niceness (autogroups), a session that is this
    process's own, as those of ``spawn`` are, gives way too.
    """
    os.setpriority(os.PRIO_PROCESS, 0, max(LOW_PRIORITY, os.getpriority(os.PRIO_PROCESS, 0)))
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # there are none, or this is a container that may not write there
            AUTOGROUP.write_text(str(LOW_PRIORITY))


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask again and again until it is so; return whether it became so in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def spawn(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    output: int | IO[bytes],
    folder: Path | None = None,
    death_signal: int = signal.SIGKILL,
    account: int | None = None,
    group: int | None = None,
    inherit: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own that gets ``death_signal`` when this thread ends, however it ends.

    Call it from a thread that lives as long as the child should: the kernel watches the thread, not the process.
    On macOS, which has no such signal, the child outlives a parent that was killed.
    """
    return subprocess.Popen(  # noqa: S603 - the commands are our own
        [str(part) for part in command],
        stdin=stdin,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=dict(environment),
        start_new_session=True,  # Ctrl-C in the terminal reaches the parent only, which then stops children in order
        pass_fds=inherit,
        user=account,
        group=group,
        extra_groups=[] if account is not None else None,
        preexec_fn=partial(_die_with_parent, os.getpid(), death_signal) if _libc else None,  # noqa: PLW1509
    )


def stop(process: subprocess.Popen[bytes], steps: Sequence[tuple[int, float]]) -> None:
    """Send one signal after the other, each with its seconds of patience, until the child is gone; then its group."""
    for signum, patience_seconds in steps:
        if process.poll() is None:
            process.send_signal(signum)
            wait_for(lambda: process.poll() is not None, patience_seconds)
    kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End whatever the child left in its session."""
    with suppress(ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def open_log(home: Path, name: str) -> int:
    """Open ``logs/<name>.log`` of a home for a child to write to; what was there is kept once, as ``.log.1``."""
    path = home / "logs" / f"{name}.log"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        path.replace(path.with_suffix(".log.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def write_atomically(path: Path, text: str) -> None:
    """Write a small private file that is read whole or not at all."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)


def _die_with_parent(parent: int, death_signal: int) -> None:
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        os.kill(os.getpid(), signal.SIGKILL)
