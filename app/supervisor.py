"""What ``querent up`` does: the servers, then web, worker and beat as children that are started again when they die.

One ``up`` runs on a home at a time; ``up.json`` tells others where it listens. Whatever ends it, ``kill -9`` too, ends
its children. How the servers run is for ``embedded`` to say, what is in the database at the start for ``starting``.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from app.children import Child, children_of, environment_of
from app.embedded import servers
from app.errors import BadInput, Conflict, Unavailable
from app.health import Part, require
from app.processes import FileLock, is_held, kill_group, wait_for, write_atomically
from app.settings import Settings
from app.starting import prepare

LOOK_SECONDS = 0.1
LOCK_SECONDS = 0.5
OTHERS_AFTER_SECONDS = 3.0
WEB_ATTEMPTS = 3
SHOWN_ERRORS = 5

Say = Callable[[str], None]


class Signals:
    """Turns SIGINT, SIGTERM and SIGHUP into an orderly end; a second one ends the children at once."""

    def __init__(self) -> None:
        self.told_to_stop = False
        self.raises = True
        self.children: Sequence[Child] = ()

    def heed(self, signum: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        del signum, frame
        if self.told_to_stop:
            for child in self.children:
                if child.process is not None and child.process.poll() is None:
                    child.process.kill()
            return
        self.told_to_stop = True
        if self.raises:
            raise KeyboardInterrupt


def run(settings: Settings, say: Say) -> None:
    """Run the product until a signal stops it.

    Call it from the main thread: the children end when it ends.

    Raises:
        Conflict: another ``up`` runs on this home.
        BadInput: the address cannot be listened on.
        Unavailable: a server or the web process cannot be started.
    """
    signals = Signals()
    with _only_one(settings.home), _heeding(signals):
        try:
            free = settings.model_copy(update={"port": free_port(settings.host, settings.port)})
            if not (settings.home / "postgres").exists() and settings.database_url is None:
                say("Starting for the first time; this takes a few seconds.")
            with servers(free) as running:
                require(running, {Part.DATABASE, Part.BROKER})
                link = prepare(running)
                signals.raises = False
                Supervisor(running, say, signals).run(link)
        except KeyboardInterrupt:
            pass  # stopped while starting: what had been started is stopped by now


def running_url(home: Path) -> str | None:
    """Return where the ``up`` of this home listens, or None if none is ready."""
    if not is_held(home / "run" / "up.lock"):
        return None
    try:
        return str(json.loads((home / "up.json").read_text())["url"])
    except FileNotFoundError:
        return None


class Supervisor:
    """Keeps web, worker and beat running."""

    def __init__(self, settings: Settings, say: Say, signals: Signals) -> None:
        self._settings = settings
        self._say = say
        self._signals = signals
        self._environment = environment_of(settings)
        self._children = children_of(settings)
        self._ready = False
        signals.children = self._children

    def run(self, link: str | None) -> None:
        """Start all, tell the address when web answers, start again what dies; stop all at the end."""
        try:
            web, *others = self._children
            web.start(self._environment)
            for child in others:  # not at once: importing torch beside the web would make people wait for the page
                child.start_later(OTHERS_AFTER_SECONDS)
            while not self._signals.told_to_stop:
                for child in self._children:
                    self._look_after(child)
                if not self._ready and self._answers():
                    self._announce(link)
                time.sleep(LOOK_SECONDS)
            self._say("Stopping.")
        finally:
            (self._settings.home / "up.json").unlink(missing_ok=True)
            self._stop_all()

    def _look_after(self, child: Child) -> None:
        if child.wake_at is not None and time.monotonic() >= child.wake_at:
            child.start(self._environment)
        errors = child.new_errors()
        for line in errors[:SHOWN_ERRORS]:
            self._say(f"{child.name}: {line}")
        if len(errors) > SHOWN_ERRORS:
            self._say(f"{child.name}: {len(errors) - SHOWN_ERRORS} more errors in {child.log_path}")
        if child.process is None or child.wake_at is not None or child.process.poll() is None:
            return
        kill_group(child.process)
        if child.name == "web" and not self._ready and child.starts == WEB_ATTEMPTS:
            raise Unavailable("web", f"it does not start: {child.last_line()}", f"see {child.log_path}")
        child.start_again()
        self._say(f"{child.name} stopped ({_reason(child.process.returncode)}); it is started again.")

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(_reachable(self._settings.host), self._settings.port, timeout=2)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _announce(self, link: str | None) -> None:
        host = _reachable(self._settings.host)
        url = f"http://{f'[{host}]' if ':' in host else host}:{self._settings.port}"
        self._ready = True
        for child in self._children:
            if child.starts == 0:
                child.start_later(0)
        write_atomically(self._settings.home / "up.json", json.dumps({"pid": os.getpid(), "url": url}))
        self._say(f"Querent is ready at {url}")
        if link is not None:
            self._say(f"Sign in for the first time: {url}{link}")
        self._say(f"Logs are in {self._settings.home / 'logs'}. Ctrl-C stops everything.")

    def _stop_all(self) -> None:
        with ThreadPoolExecutor(len(self._children)) as threads:
            for stopped in [threads.submit(child.stop) for child in self._children]:
                stopped.result()


def free_port(host: str, port: int) -> int:
    """Return the port if it can be listened on; for port 0, one that can.

    Raises:
        Conflict: another program listens there.
        BadInput: this machine has no such address, or may not use it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        subject = f"address {host}:{port}"
        if error.errno == errno.EADDRINUSE:
            remedy = "stop it, or choose another port with --port (0 finds a free one)"
            raise Conflict(subject, "another program listens there", remedy) from error
        raise BadInput(
            subject, f"cannot be listened on ({error.strerror})", "choose another --host or --port"
        ) from error


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = home / "run" / "up.lock"
    lock = FileLock(path)
    try:
        if not wait_for(lock.try_exclusive, LOCK_SECONDS):
            holder = path.read_text().strip()
            raise Conflict(
                f"home {home}",
                f"querent up already runs on it (process {holder})",
                "stop that one first, or choose another folder with --home",
            )
        os.truncate(lock.descriptor, 0)
        os.pwrite(lock.descriptor, str(os.getpid()).encode(), 0)
        (home / "up.json").unlink(missing_ok=True)
        yield
    finally:
        lock.close()


@contextmanager
def _heeding(signals: Signals) -> Iterator[None]:
    heeded = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup: it shall outlive its terminal
        heeded.remove(signal.SIGHUP)
    before = {signum: signal.signal(signum, signals.heed) for signum in heeded}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _reachable(host: str) -> str:
    """Return an address that this machine reaches when the server listens on all of them."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on


def _reason(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
