"""Signing in with name and password or by a one-time link, and signing out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from app.errors import BadInput, TooManyTries, WrongPassword
from app.pages.shell import Wired, Wiring, render, visit_of
from app.records import User
from app.services import accounts

router = APIRouter()

Field = Annotated[str, Form(max_length=1000)]


@router.get("/sign-in")
def sign_in_page(request: Request, after: Annotated[str, Query(alias="next", max_length=2000)] = "/") -> Response:
    """Show the form."""
    return render(request, "sign_in/page.html", name="", after=own_path(after), error=None)


@router.post("/sign-in")
def sign_in(
    request: Request, wired: Wired, name: Field = "", password: Field = "", after: Annotated[str, Form()] = "/"
) -> Response:
    """Sign in, or show the form again with the reason."""
    address = request.client.host if request.client else ""
    known_as = name.strip().lower()
    try:
        wired.tries.check(known_as, address)
        with wired.tries.turn, wired.database.transaction() as session:
            user = accounts.sign_in(session, name, password)
            session.commit()
    except (WrongPassword, TooManyTries) as error:
        if isinstance(error, WrongPassword):
            wired.tries.count(known_as, address)
        return render(request, "sign_in/page.html", error.status, name=name, after=own_path(after), error=error)
    wired.tries.forget(known_as, address)
    return _let_in(wired, user, own_path(after))


@router.get("/sign-in/{token}")
def link_page(request: Request, wired: Wired, token: str) -> Response:
    """Show the form of a one-time link; looking at it does not use it up."""
    with wired.database.transaction() as session:
        user = accounts.user_of_link(session, token)
    return render(request, "sign_in/link.html", name=user.name, error=None)


@router.post("/sign-in/{token}")
def use_link(request: Request, wired: Wired, token: str, password: Field = "") -> Response:
    """Set the password, use the link up and sign in."""
    with wired.database.transaction() as session:
        name = accounts.user_of_link(session, token).name
        try:
            user = accounts.redeem_link(session, token, password)
        except BadInput as error:
            return render(request, "sign_in/link.html", 422, name=name, error=error)
        session.commit()
    return _let_in(wired, user, "/")


@router.post("/sign-out")
def sign_out(request: Request, wired: Wired) -> Response:
    """End this browser's session, and let others have the images that the person holds."""
    visit = visit_of(request)
    if visit.user_id is not None:
        with wired.database.transaction() as session:
            accounts.sign_out(session, visit.user_id, visit.epoch)
            session.commit()
    response = RedirectResponse("/sign-in", status_code=303)
    wired.visits.forget(response)
    return response


def own_path(path: str) -> str:
    """Return a path of this site to go to, or the first page for anything that would lead elsewhere."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_own else "/"


def _let_in(wired: Wiring, user: User, path: str) -> Response:
    response = RedirectResponse(path, status_code=303)
    wired.visits.write(response, wired.visits.start(user.id, user.session_epoch))
    return response
