"""What a home needs before the product runs: tables, the first admin, and the demo project."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database import Database, upgrade
from app.events import Bus
from app.recipes import parse_recipe
from app.records import User
from app.services import accounts, importing, projects
from app.services.importing import Source, SourceKind
from app.services.projects import NewProject
from app.settings import Settings

DEMO_NAME = "Handwritten digits"
DEMO_BUDGET = 400


def prepare(settings: Settings) -> str | None:
    """Migrate and, on first start, make the admin and the demo project.

    Returns:
        the path of a one-time sign-in link while no admin has chosen a password yet, else None.
    """
    if settings.database_url is None or settings.redis_url is None:
        raise ValueError("start the servers first")
    upgrade(settings.database_url)
    bus = Bus(settings.redis_url)
    database = Database(settings.database_url, bus.deliver)
    try:
        with database.transaction() as session:
            is_first_start = session.scalar(select(User.id).limit(1)) is None
            token = accounts.first_admin_link(session, settings.link_hours)
            if is_first_start and settings.demo:
                make_demo(session)
            session.commit()
    finally:
        database.close()
        bus.close()
    return None if token is None else f"/sign-in/{token}"


def make_demo(session: Session) -> None:
    """Make the project that a newcomer labels first; the worker imports its images and starts it."""
    demo = projects.create(
        session,
        NewProject(
            name=DEMO_NAME,
            recipe=parse_recipe(),
            budget=DEMO_BUDGET,
            description="1,797 real digits, 8 by 8 pixels, written by 43 people. 400 of them measure the accuracy.",
        ),
    )
    importing.request_import(session, demo.id, Source(SourceKind.DIGITS))
