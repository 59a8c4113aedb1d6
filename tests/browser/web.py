"""The web application as a process that tests end and start again, and browsers that are signed in to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import httpx
from fastapi import Response
from playwright.sync_api import Browser, BrowserContext

from app.pages.sessions import COOKIE, Visits
from app.records import User
from app.settings import Settings
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent.parent


class WebServer:
    """One uvicorn process on a port that stays the same when it is started again."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return when it answers."""
        home = self.settings.home
        environment = {name: value for name, value in os.environ.items() if not name.startswith("QUERENT_")} | {
            "DATABASE_URL": str(self.settings.database_url),
            "REDIS_URL": str(self.settings.redis_url),
            "QUERENT_HOME": str(home),
        }
        command = [sys.executable, "-m", "uvicorn", "app.main:application", "--factory", "--port", str(self.port)]
        with (home / "web.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        until(self._answers, 30, f"the web server starts; see {home / 'web.log'}")

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it by a signal; kill it if it has not ended soon after."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def session(self, user: User) -> tuple[str, str]:
        """Return the cookie and the form token of a new session of this person."""
        visits = Visits(self.settings.signing_key, self.settings.session_days, self.settings.secure_cookies)
        visit = visits.start(user.id, user.session_epoch)
        response = Response()
        visits.write(response, visit)
        return response.headers["set-cookie"].partition("=")[2].partition(";")[0], visits.form_token(visit)

    def client(self, user: User) -> httpx.Client:
        """Return a client that speaks as a page of this person does."""
        cookie, token = self.session(user)
        return httpx.Client(base_url=self.url, cookies={COOKIE: cookie}, headers={"X-Form-Token": token})

    def sign_in(self, context: BrowserContext, user: User) -> None:
        """Give a browser a new session of this person."""
        context.add_cookies([{"name": COOKIE, "value": self.session(user)[0], "url": self.url}])

    def context(self, browser: Browser, user: User, **options: Any) -> BrowserContext:
        """Open a browser of its own in which this person is signed in."""
        context = browser.new_context(base_url=self.url, **options)
        context.set_default_timeout(30_000)
        self.sign_in(context, user)
        return context

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/sign-in", timeout=2).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
