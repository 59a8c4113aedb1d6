"""What people and programs get when something goes wrong: a page, a fragment for htmx, or JSON.

Who asks decides the form; the words are the error's own. What is no QuerentError says nothing about its inside: it is
logged by the server and answered with an id-less, plain 500.
"""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from app.errors import (
    BadInput,
    ExpiredLink,
    NotFound,
    NotSignedIn,
    QuerentError,
    TooManyTries,
    Unavailable,
    WrongPassword,
)
from app.pages.guards import SECURITY_HEADERS
from app.pages.shell import is_htmx, render


class Asker(StrEnum):
    """Who a response is for."""

    BROWSER = "browser"
    HTMX = "htmx"
    PROGRAM = "program"


class Unexpected(QuerentError):
    """Anything that is our fault; says nothing about what it was."""


def asker_of(request: Request) -> Asker:
    """Return who is asking: htmx says so, browsers ask for pages, everything else gets JSON."""
    if is_htmx(request):
        return Asker.HTMX
    return Asker.BROWSER if "text/html" in request.headers.get("accept", "") else Asker.PROGRAM


def answer_error(request: Request, error: QuerentError) -> Response:
    """Answer with an error's subject, reason and remedy."""
    signed_out = isinstance(error, NotSignedIn) and not isinstance(error, ExpiredLink | WrongPassword | TooManyTries)
    match asker_of(request):
        case Asker.PROGRAM:
            return JSONResponse(error.as_json(), error.status)
        case Asker.HTMX if signed_out:
            return Response(status_code=error.status, headers={"HX-Redirect": "/sign-in"})
        case Asker.HTMX:
            response = render(request, "errors/_notice.html", error.status, error=error)
            response.headers["HX-Retarget"] = "#notice"
            response.headers["HX-Reswap"] = "innerHTML"
            return response
        case Asker.BROWSER if signed_out and request.method == "GET":
            here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            after = f"?next={quote(here)}" if here != "/" else ""
            return RedirectResponse(f"/sign-in{after}", status_code=303)
        case Asker.BROWSER:
            return render(request, "errors/page.html", error.status, error=error, signed_out=signed_out)
        case other:
            assert_never(other)


def install(app: FastAPI) -> None:
    """Answer every error of the application in this way."""
    app.add_exception_handler(QuerentError, _answer_own)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(OperationalError, _answer_database)
    app.add_exception_handler(Exception, _answer_unexpected)


def _answer_own(request: Request, error: Exception) -> Response:
    if not isinstance(error, QuerentError):
        raise error
    return answer_error(request, error)


def _answer_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if isinstance(error.__cause__, QuerentError):  # raised while FastAPI read the body, such as TooLarge
        return answer_error(request, error.__cause__)
    if error.status_code == 404:
        return answer_error(request, NotFound("this address", "there is no such page", "start again from the projects"))
    own = BadInput("request", str(error.detail), "go back and try again")
    own.status = error.status_code
    response = answer_error(request, own)
    response.headers.update(error.headers or {})
    return response


def _answer_invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    if where[:1] == ["path"]:
        return _answer_http(request, HTTPException(404))
    own = BadInput(".".join(where[1:]) or "request", str(first["msg"]), "correct it and try again")
    own.status = 422
    return answer_error(request, own)


def _answer_database(request: Request, _error: Exception) -> Response:
    reason = "it does not answer"
    return answer_error(request, Unavailable("database", reason, "try again in a moment; `querent check` says more"))


def _answer_unexpected(request: Request, _error: Exception) -> Response:
    own = Unexpected("Querent", "something went wrong on the server", "try again; the server's log says what it was")
    response = answer_error(request, own)
    # the server's outermost layer calls this handler, beyond the middleware that adds the headers
    response.headers.update(SECURITY_HEADERS)
    return response
