"""The whole web application, composed on one screen.

``create_app`` is given its settings, so that tests and ``querent up`` start as many as they like; ``application`` is
the factory for ``uvicorn app.main:application --factory``, which reads the environment.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

from app.database import Database
from app.errors import BadInput
from app.events import Bus
from app.pages import (
    answering,
    benchmarks,
    errors,
    grid,
    health,
    history,
    images,
    labeling,
    labeling_settings,
    language,
    ledger,
    live,
    me,
    new_project,
    people,
    project,
    project_people,
    projects,
    quality,
    review,
    sign_in,
)
from app.pages.closing import Closing
from app.pages.fan_out import FanOut
from app.pages.guards import SecurityHeaders, ServerTiming
from app.pages.limits import BodyLimit, Tries
from app.pages.sessions import Visits
from app.pages.shell import Wiring, check_form_token, check_visit, current_admin, current_person
from app.pages.templating import STATIC, Static, make_templates
from app.pages.turns import labeling_turns, share_fairly
from app.settings import Settings, load_settings
from app.storage import Storage

MEGABYTE = 1024 * 1024


def create_app(settings: Settings) -> FastAPI:
    """Return the web application for these settings.

    Raises:
        BadInput: no database or no Redis is named.
    """
    wiring = _wire(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        share_fairly()
        with wiring.closing.watched():
            yield
        wiring.database.close()
        wiring.bus.close()

    app = FastAPI(title="Querent", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.wiring = wiring
    app.add_middleware(
        BodyLimit, upload_bytes=settings.upload_megabytes * MEGABYTE, uploads=new_project.PATHS_THAT_TAKE_ARCHIVES
    )
    app.add_middleware(SecurityHeaders)
    app.add_middleware(ServerTiming)
    errors.install(app)

    # routes are tried in this order, so what people who label ask for all the time comes first; turns ask who it is
    app.include_router(answering.router, dependencies=[Depends(check_visit), Depends(check_form_token)])
    for page in (labeling, images):
        app.include_router(page.router, dependencies=[Depends(current_person), Depends(check_form_token)])
    app.mount("/static", Static(directory=STATIC), name="static")
    app.include_router(health.router)
    for page in (sign_in, language):
        app.include_router(page.router, dependencies=[Depends(check_form_token)])
    # the role is checked before the form is read, so that nobody uploads what they may not
    for page in (new_project, people, benchmarks, quality, review):
        app.include_router(page.router, dependencies=[Depends(current_admin), Depends(check_form_token)])
    for page in (
        projects, project, project_people, live, history, ledger, grid, labeling_settings, me,
    ):  # fmt: skip
        app.include_router(page.router, dependencies=[Depends(current_person), Depends(check_form_token)])
    return app


def application() -> FastAPI:
    """Return the web application for the environment's settings; what uvicorn calls."""
    settings = load_settings()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return create_app(settings)


def _wire(settings: Settings) -> Wiring:
    if settings.database_url is None:
        raise BadInput("DATABASE_URL", "it is not set", "name a PostgreSQL server, or start with `querent up`")
    if settings.redis_url is None:
        raise BadInput("REDIS_URL", "it is not set", "name a Redis server, or start with `querent up`")
    bus = Bus(settings.redis_url)
    return Wiring(
        settings=settings,
        database=Database(settings.database_url, bus.deliver),
        storage=Storage(settings.storage),
        bus=bus,
        fan_out=FanOut(bus.listen),
        visits=Visits(settings.signing_key, settings.session_days, settings.secure_cookies),
        templates=make_templates(),
        tries=Tries(),
        closing=Closing(),
        turns=labeling_turns(),
    )
