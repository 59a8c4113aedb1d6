"""The Celery application: its settings, its clock, and the sign of life of every worker.

Start it with ``celery -A worker.main worker --pool=solo``: CUDA does not survive a fork, and one round already uses
all cores.
"""

from __future__ import annotations

import os
import platform
import threading
from datetime import UTC, datetime
from functools import cache
from typing import Any

from celery import Celery
from celery.signals import worker_init, worker_ready, worker_shutting_down

from app.database import Database
from app.errors import BadInput
from app.events import HEARTBEAT_SECONDS, Bus, WorkerSeen, broker_options, celery_url
from app.processes import give_way
from app.settings import Settings, load_settings
from app.storage import Storage

SWEEP = "worker.sweep"
CONNECTIONS = 4


@cache
def worker_settings() -> Settings:
    """Return this process's settings; raise BadInput when a server is not named."""
    settings = load_settings()
    if not settings.database_url or not settings.redis_url:
        raise BadInput("worker", "DATABASE_URL and REDIS_URL are not both set", "set them, or use `querent up`")
    return settings


@cache
def bus() -> Bus:
    """Return this process's line to Redis."""
    return Bus(str(worker_settings().redis_url))


@cache
def database() -> Database:
    """Return this process's database."""
    return Database(str(worker_settings().database_url), bus().deliver, CONNECTIONS)


@cache
def storage() -> Storage:
    """Return this process's storage."""
    return Storage(worker_settings().storage)


def _application() -> Celery:
    settings = worker_settings()
    application = Celery("querent", broker=celery_url(str(settings.redis_url)), include=["worker.tasks"])
    options = broker_options()
    application.conf.update(
        options,
        # delivered again only long after any fit has ended; a worker that died is noticed by the sweep, much sooner
        broker_transport_options={
            **options["broker_transport_options"],
            "visibility_timeout": 2 * settings.fit_seconds + 3600,
        },
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # a round outlives a broker that restarts
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        beat_schedule={
            "sweep": {
                "task": SWEEP,
                "schedule": settings.sweep_seconds,
                # sweeps that piled up behind a long round are dropped
                "options": {"expires": settings.sweep_seconds},
            }
        },
    )
    return application


app = _application()


@worker_init.connect
def _look_at_device(**_signal: Any) -> None:
    give_way()  # people who label beside a fit would wait for it, with as many cores as there are
    seen = _seen()  # imports torch before the first task comes
    threading.Thread(target=_beat_for_ever, args=(seen,), name="sign of life", daemon=True).start()


@worker_ready.connect
def _repair_first(**_signal: Any) -> None:
    app.send_task(SWEEP, retry=False)


@worker_shutting_down.connect
def _say_goodbye(**_signal: Any) -> None:
    _stopping.set()
    bus().farewell(_name())


_stopping = threading.Event()


def _beat_for_ever(seen: WorkerSeen) -> None:
    while not _stopping.is_set():
        bus().beat(seen)
        _stopping.wait(HEARTBEAT_SECONDS)


def _name() -> str:
    return f"{platform.node()}-{os.getpid()}"


def _seen() -> WorkerSeen:
    import torch

    from worker.learning.devices import pick_device

    chosen = worker_settings().device
    device = pick_device(None if chosen == "auto" else chosen.value)
    on_cuda = device.type == "cuda"
    return WorkerSeen(
        name=_name(),
        device=device.type,
        device_name=torch.cuda.get_device_name(device) if on_cuda else (platform.processor() or platform.machine()),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
