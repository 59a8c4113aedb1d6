"""The template environment: strict, escaping, with the few filters that turn values into words."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

ROOT = Path(__file__).resolve().parent.parent.parent
TEMPLATES = ROOT / "templates"
STATIC = ROOT / "static"


class Static(StaticFiles):
    """Static files; an address that carries the content's hash is kept by browsers for ever."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with the file and how long it stays valid."""
        response = await super().get_response(path, scope)
        versioned = scope["query_string"].startswith(b"v=")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if versioned else "no-cache"
        return response


def make_templates() -> Environment:
    """Return the environment of all templates."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["static"] = static_address
    environment.filters.update(
        bound=bound,
        number=number,
        percent=percent,
        interval=interval,
        score=score,
        seconds=seconds,
        moment=moment,
        machine_time=machine_time,
    )
    return environment


@cache
def static_address(path: str) -> str:
    """Return the address of a static file, with the start of its hash."""
    digest = hashlib.sha256((STATIC / path).read_bytes()).hexdigest()[:12]
    return f"/static/{path}?v={digest}"


def number(value: float) -> str:
    """Return a whole number with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def bound(value: float) -> str:
    """Return a bound of a parameter: short, and with spaces between thousands."""
    return number(value) if abs(value) >= 1000 else f"{value:g}"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share in [0, 1] as a percentage."""
    return "–" if share is None else f"{share * 100:.{digits}f}%"


def interval(low: float | None, high: float | None) -> str:
    """Return an interval of shares in [0, 1] as percentages."""
    return "–" if low is None or high is None else f"{low * 100:.1f}–{high * 100:.1f}%"


def score(value: float) -> str:
    """Return a score with three significant digits; its unit is the acquisition's own."""
    return f"{value:.3g}"


def seconds(duration: float | None) -> str:
    """Return a duration given in seconds with the unit that suits it."""
    if duration is None:
        return "–"
    if duration < 1:
        return f"{duration * 1000:.0f} ms"
    if duration < 90:
        return f"{duration:.1f} s"
    if duration < 5400:
        return f"{duration / 60:.0f} min"
    return f"{duration / 3600:.1f} h"


def moment(at: datetime | None, now: datetime | None = None) -> str:
    """Return a time as people say it: how long ago, or the day."""
    if at is None:
        return "–"
    ago = ((now or datetime.now(UTC)) - at).total_seconds()
    if ago < 45:
        return "just now"
    if ago < 3600:
        return f"{max(1, round(ago / 60))} min ago"
    if ago < 86_400:
        return f"{round(ago / 3600)} h ago"
    return at.astimezone(UTC).strftime("%Y-%m-%d")


def machine_time(at: datetime | None) -> str:
    """Return a time for the ``datetime`` attribute: ISO 8601, UTC, whole seconds."""
    return "" if at is None else at.astimezone(UTC).isoformat(timespec="seconds")
