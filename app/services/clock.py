"""The database's clock, by which everything is timed, so that machines need not agree on the time."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session


def now(session: Session, later: timedelta = timedelta()) -> datetime:
    """Return the time at which this transaction began, plus ``later``."""
    return session.execute(select(func.now() + later)).scalar_one()
