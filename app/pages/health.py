"""Whether the process is up, and whether it can work: for whoever keeps it running."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app.pages.shell import Wired

router = APIRouter()


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """Say that the process is up; asks nothing of the database."""
    return {"status": "up"}


@router.get("/readyz")
def readyz(wired: Wired) -> JSONResponse:
    """Say whether the database can be reached."""
    try:
        with wired.database.transaction() as session:
            session.execute(text("SELECT 1"))
    except OperationalError:
        return JSONResponse({"status": "database unreachable"}, 503)
    return JSONResponse({"status": "ready"})
