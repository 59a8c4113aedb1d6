"""Choosing the language of the pages, signed in or not; a cookie remembers it in this browser."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse, Response

from app.errors import BadInput
from app.pages.shell import LANGUAGE_COOKIE, Wired
from app.pages.sign_in import own_path
from app.texts import languages

router = APIRouter()

YEAR = 365 * 24 * 60 * 60


@router.post("/language")
def choose_language(
    wired: Wired, language: Annotated[str, Form(max_length=20)] = "", after: Annotated[str, Form()] = "/"
) -> Response:
    """Speak another language from now on, and show the page again."""
    if language not in languages():
        raise BadInput("language", f"{language!r} is none", f"use one of: {', '.join(languages())}")
    response = RedirectResponse(own_path(after), status_code=303)
    response.set_cookie(
        LANGUAGE_COOKIE,
        language,
        max_age=YEAR,
        httponly=True,
        secure=wired.settings.secure_cookies,
        samesite="lax",
    )
    return response
