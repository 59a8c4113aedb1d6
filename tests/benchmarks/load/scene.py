"""One measurement: a filled project, the product's processes, a round that trains, and people who label meanwhile."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass

import httpx
import numpy as np
from fastapi import Response
from sqlalchemy import select

from app.database import Database
from app.events import Bus
from app.pages.sessions import COOKIE, Visits
from app.records import Round, RoundState, User
from app.services import rounds
from app.settings import Settings
from tests.benchmarks.load.accounting import settle_accounts
from tests.benchmarks.load.filling import Filled, fill
from tests.benchmarks.load.people import Person, Seen, label_together
from tests.benchmarks.load.running import Cores, product, servers
from tests.waiting import until

START_SECONDS = 180
REQUESTS = ("answer", "next", "image", "renew")


@dataclass(frozen=True)
class Load:
    """How many people label images of how many pixels a side, and for how long at one answer a second."""

    people: int
    seconds: int
    side: int

    @property
    def queries(self) -> int:
        """What a batch must hold so that half of them are answered from it and the rest from the reserve."""
        return 8 * self.people + self.people * self.seconds // 2


def measure(load: Load, images: int) -> dict[str, float]:
    """Return the figures of one run.

    Raises:
        AssertionError: an accepted answer is not stored once, or the round was not training.
    """
    with servers() as (settings, database):
        filled = fill(database, settings, images, load.people, load.queries, load.side)
        with product(settings):
            _train(database, settings, filled.project_id)
            cores, seen = Cores(settings), Seen()
            asyncio.run(_label(settings, filled, load, seen))
            shares, seconds = cores.shares(), cores.seconds
            state = _stage(database, filled.project_id)
        account = settle_accounts(database, filled.project_id, seen.answered)
    for error in [*seen.errors[:10], *account.wrong]:
        print(f"  ! {error}")
    assert not account.wrong, account.wrong
    shared = sum(max(0, len(people) - 1) for people in seen.handed_out.values())
    return {
        "answer_p95_ms": _quantile(seen.server["answer"], 95),
        "next_p95_ms": _quantile(seen.server["next"], 95),
        "answers_per_second": round(len(seen.answered) / max(load.seconds, seen.seconds), 2),
        "errors": len(seen.errors),
        "duplicates": account.duplicates + shared,
        "idle": seen.idle,
        "answers": account.stored,
        "presses": seen.presses,
        "events_heard": seen.heard,
        "trained_to_the_end": float(state == "fitting"),
        **_times(seen),
        **shares,
        "web_cpu_ms_per_answer": round(1000 * shares["cpu_web"] * seconds / len(seen.answered), 2),
    }


def growth(figures: dict[str, float], grown: dict[str, float]) -> float:
    """Return how many times longer the next query takes with more images."""
    return round(grown["next_p95_ms"] / figures["next_p95_ms"], 3)


def _train(database: Database, settings: Settings, project_id: int) -> None:
    """Have a round run now, as an admin may, and return when its network fits."""
    bus = Bus(str(settings.redis_url))
    sending = Database(str(settings.database_url), bus.deliver)
    with sending.transaction() as session:
        rounds.request_by_admin(session, project_id)
        session.commit()
    sending.close()
    bus.close()
    log = settings.home / "logs" / "worker.log"
    until(lambda: _stage(database, project_id) == "fitting", START_SECONDS, f"a round trains; see {log}")


def _stage(database: Database, project_id: int) -> str | None:
    with database.transaction() as session:
        running = select(Round.progress).where(Round.project_id == project_id, Round.state == RoundState.RUNNING)
        return (session.scalar(running) or {}).get("stage")


async def _label(settings: Settings, filled: Filled, load: Load, seen: Seen) -> None:
    address = f"http://{settings.host}:{settings.port}"
    limits = httpx.Limits(max_connections=6, keepalive_expiry=60)  # of a browser
    clients = [
        httpx.AsyncClient(
            base_url=address,
            cookies={COOKIE: _session(settings, user)},
            headers={"Accept": "application/json"},
            limits=limits,
            timeout=15,
        )
        for user in filled.users
    ]
    people = [
        Person(number, client, filled.project_id, filled.class_ids, seen) for number, client in enumerate(clients)
    ]
    gc.freeze()  # what was filled is not looked through again while times are taken
    await label_together(people, load.seconds, seen)
    for client in clients:
        await client.aclose()


def _session(settings: Settings, user: User) -> str:
    visits = Visits(settings.signing_key, settings.session_days, settings.secure_cookies)
    response = Response()
    visits.write(response, visits.start(user.id, user.session_epoch))
    return response.headers["set-cookie"].partition("=")[2].partition(";")[0]


def _times(seen: Seen) -> dict[str, float]:
    found: dict[str, float] = {}
    for what in REQUESTS:
        for side, times in (("server", seen.server.get(what)), ("client", seen.client.get(what))):
            for percent in (50, 95, 99):
                if times:
                    found[f"{what}_{side}_p{percent}_ms"] = _quantile(times, percent)
    return found


def _quantile(times: list[float], percent: float) -> float:
    return round(float(np.percentile(times, percent)), 2)
