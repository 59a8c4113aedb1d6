"""``querent up`` as a whole: what it starts, what it does when parts of it are killed, what it leaves behind."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from app.embedded import servers
from app.health import NEED_DATABASE, State, check
from app.settings import Settings
from tests.conftest import fresh_database, numbered
from tests.processes import STOP_SECONDS, Product, clean_environment, processes_of, querent, running
from tests.waiting import until

RESTART_SECONDS = 2
WORKER_SECONDS = 60
ANOTHER_REDIS_DATABASE = 14
PROGRAMS = ("web", "worker", "beat")


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """One running product for the tests that leave it running."""
    with TemporaryDirectory(prefix="querent-up-") as folder, running(Path(folder) / "home", "--no-demo") as started:
        assert started.url
        yield started


def another(product: Product, name: str, before: psutil.Process) -> psutil.Process | None:
    """Return the program that took the place of one that died."""
    now = product.child(name)
    return None if now == before else now


def kill(product: Product, name: str) -> psutil.Process:
    process = until(lambda: product.child(name), WORKER_SECONDS, f"{name} runs")
    process.kill()
    return process


def test_it_prints_the_address_and_a_link_to_sign_in(product: Product) -> None:
    link = re.compile(rf"^Sign in for the first time: {product.url}/sign-in/\S+$", re.MULTILINE)
    until(lambda: link.search(product.said), 10, "the link is printed")  # the address is in up.json a moment before
    assert f"Querent is ready at {product.url}" in product.said


def test_check_finds_everything_well_while_it_runs(product: Product) -> None:
    def well() -> bool:
        return querent("check", "--home", product.home).returncode == 0

    until(well, WORKER_SECONDS, "the worker has shown a sign of life")
    parts = json.loads(querent("check", "--json", "--home", product.home).stdout)["parts"]
    assert {part: finding["state"] for part, finding in parts.items()} == dict.fromkeys(
        ("database", "migrations", "broker", "worker", "storage", "device"), "ok"
    )
    assert product.answers()


def test_a_second_up_on_the_home_is_refused(product: Product) -> None:
    refused = querent("up", "--home", product.home, "--port", "0")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"querent: home {product.home}: querent up already runs on it")
    assert str(product.process.pid) in refused.stderr
    assert product.answers()


def test_a_port_in_use_is_told_before_anything_starts(product: Product, fresh_home: Path) -> None:
    refused = querent("up", "--home", fresh_home, "--port", product.url.rpartition(":")[2])
    assert refused.returncode == 1
    assert "another program listens there; stop it, or choose another port with --port" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (fresh_home / "postgres").exists()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_is_killed_runs_again(product: Product, name: str) -> None:
    killed = kill(product, name)
    until(lambda: another(product, name, killed), RESTART_SECONDS, f"{name} runs again")
    until(product.answers, WORKER_SECONDS, "the web answers again")
    assert f"{name} stopped (by SIGKILL); it is started again." in product.said


def test_ctrl_c_stops_everything_even_a_worker_that_heeds_nothing(fresh_home: Path) -> None:
    with running(fresh_home, "--no-demo") as product, ExitStack() as connections:
        host, port = product.url.removeprefix("http://").split(":")
        connections.enter_context(socket.create_connection((host, int(port))))  # a page that stays open
        worker = until(lambda: product.child("worker"), WORKER_SECONDS, "the worker runs")
        worker.suspend()  # like a fit that does not end
        assert product.stop(signal.SIGINT) == 0
        assert not processes_of(fresh_home)
        assert not (fresh_home / "up.json").exists()


def test_servers_that_have_urls_are_used_and_left_running(settings: Settings, fresh_home: Path) -> None:
    assert settings.database_url
    assert settings.redis_url
    redis_url = numbered(settings.redis_url, ANOTHER_REDIS_DATABASE)
    with fresh_database(settings.database_url) as url:
        environment = clean_environment(DATABASE_URL=url, REDIS_URL=redis_url)
        with running(fresh_home, "--no-demo", environment=environment) as product:
            until(product.answers, WORKER_SECONDS, "the web answers")
            assert not list(fresh_home.glob("run/*.keeper"))
            assert product.stop(signal.SIGTERM) == 0
            assert not processes_of(fresh_home)
        assert querent("check", "--only", "database,migrations,broker", environment=environment).returncode == 0


def test_a_url_without_a_server_is_told_in_one_line(fresh_home: Path) -> None:
    environment = clean_environment(DATABASE_URL="postgresql://127.0.0.1:9/none", REDIS_URL="redis://127.0.0.1:9/0")
    refused = querent("up", "--home", fresh_home, "--port", "0", environment=environment)
    assert refused.returncode == 1
    assert refused.stderr.startswith("querent: database: ")
    assert refused.stderr.endswith("start PostgreSQL, or correct DATABASE_URL.\n")


def test_nothing_is_left_of_a_killed_up_and_it_starts_again(fresh_home: Path) -> None:
    with running(fresh_home, "--no-demo") as product:
        assert product.url
        product.process.kill()
        until(lambda: not processes_of(fresh_home), STOP_SECONDS, "nothing is left")
    with running(fresh_home, "--no-demo") as product:
        until(product.answers, WORKER_SECONDS, "the web answers")


def test_a_signal_while_it_starts_stops_everything(fresh_home: Path) -> None:
    with running(fresh_home, "--no-demo") as product:
        until((fresh_home / "postgres.new").exists, WORKER_SECONDS, "the database is being made")
        assert product.stop(signal.SIGTERM) == 0
        assert not processes_of(fresh_home)


def test_a_command_that_still_runs_keeps_the_servers_of_a_stopped_up(fresh_home: Path) -> None:
    with running(fresh_home, "--no-demo") as product:
        assert product.url
        with servers(Settings(home=fresh_home, database_url=None, redis_url=None)) as shared:
            assert product.stop(signal.SIGTERM) == 0
            assert [finding.state for finding in check(shared, NEED_DATABASE)] == [State.OK, State.OK]
        assert not processes_of(fresh_home)
