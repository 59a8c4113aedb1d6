"""``querent check``: what it finds and what it says to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from redis import Redis

from app import health
from app.events import Bus, WorkerSeen
from app.health import Part, State
from app.settings import DeviceChoice, Settings
from tests.processes import clean_environment, processes_of, querent

SEEN = WorkerSeen("test-1", "cpu", "A processor", "2.13.0", 2, "2026-01-01T00:00:00+00:00")


def found(settings: Settings, part: Part) -> health.Finding:
    (finding,) = health.check(settings, [part])
    return finding


@pytest.fixture
def bus(settings: Settings):
    assert settings.redis_url
    with Redis.from_url(settings.redis_url) as redis:
        redis.flushdb()
    bus = Bus(settings.redis_url)
    yield bus
    bus.farewell(SEEN.name)
    bus.close()


def test_servers_that_answer_are_well(settings: Settings) -> None:
    assert found(settings, Part.DATABASE).state is State.OK
    assert found(settings, Part.DATABASE).detail.startswith("PostgreSQL ")
    assert found(settings, Part.BROKER).state is State.OK


def test_a_database_that_is_not_there_is_a_failure_with_a_remedy(settings: Settings) -> None:
    gone = settings.model_copy(update={"database_url": "postgresql+psycopg://nobody@127.0.0.1:9/nothing"})
    finding = found(gone, Part.DATABASE)
    assert finding.state is State.FAILURE
    assert "refused" in finding.detail
    assert finding.remedy == "start PostgreSQL, or correct DATABASE_URL"
    assert found(gone, Part.MIGRATIONS).state is State.FAILURE


def test_a_redis_that_is_not_there_is_a_failure_with_a_remedy(settings: Settings) -> None:
    gone = settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"})
    for part in (Part.BROKER, Part.WORKER, Part.DEVICE):
        assert found(gone, part).state is State.FAILURE
    assert found(gone, Part.BROKER).remedy == "start Redis, or correct REDIS_URL"


def test_no_worker_is_a_failure_because_no_round_would_run(settings: Settings, bus: Bus) -> None:
    finding = found(settings, Part.WORKER)
    assert (finding.state, finding.detail) == (State.FAILURE, "not running")
    assert "querent up" in finding.remedy
    assert found(settings, Part.DEVICE).state is State.WARNING


def test_a_worker_tells_its_device(settings: Settings, bus: Bus) -> None:
    bus.beat(SEEN)
    assert found(settings, Part.WORKER).detail == "running: test-1"
    assert found(settings, Part.DEVICE).detail == "cpu (A processor), 2 threads, torch 2.13.0"


def test_a_worker_on_another_device_than_was_asked_for_is_a_failure(settings: Settings, bus: Bus) -> None:
    bus.beat(SEEN)
    finding = found(settings.model_copy(update={"device": DeviceChoice.CUDA}), Part.DEVICE)
    assert finding.state is State.FAILURE
    assert "QUERENT_DEVICE is cuda" in finding.detail


def test_storage_is_written_read_and_left_as_it_was(settings: Settings) -> None:
    assert found(settings, Part.STORAGE).state is State.OK
    assert list(Path(settings.storage).iterdir()) == []


@pytest.mark.parametrize("url", ["/proc/querent", "nonsense://bucket"])
def test_storage_that_cannot_be_written_is_a_failure(settings: Settings, url: str) -> None:
    finding = found(settings.model_copy(update={"storage_url": url}), Part.STORAGE)
    assert finding.state is State.FAILURE
    assert finding.remedy


def test_without_up_it_starts_servers_for_its_own_time(fresh_home: Path) -> None:
    done = querent("check", "--json", "--home", fresh_home)
    assert done.returncode == 1
    states = {part: finding["state"] for part, finding in json.loads(done.stdout)["parts"].items()}
    assert states == {
        "database": "ok",
        "migrations": "failure",
        "broker": "ok",
        "worker": "failure",
        "storage": "ok",
        "device": "warning",
    }
    assert not processes_of(fresh_home)


def test_only_what_is_asked_for_is_checked_and_started(fresh_home: Path) -> None:
    done = querent("check", "--only", "broker,storage", "--home", fresh_home)
    assert done.returncode == 0
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["broker", "storage"]
    assert not (fresh_home / "postgres").exists()


def test_an_unknown_part_is_a_usage_error() -> None:
    done = querent("check", "--only", "colour")
    assert done.returncode == 2
    assert "colour is not one of" in done.stderr


def test_a_wrong_setting_is_one_line(tmp_path: Path) -> None:
    done = querent("check", environment=clean_environment(QUERENT_SECRET_KEY="short", QUERENT_HOME=str(tmp_path)))
    assert done.returncode == 1
    assert done.stderr.startswith("querent: ")
    assert done.stderr.count("\n") == 1
