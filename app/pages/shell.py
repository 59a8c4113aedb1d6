"""What every page stands on: the wiring of the application, who is asking, the form token, and rendering.

A page module declares a ``router``, takes ``Wired`` and ``SignedIn`` (or ``AdminOnly``) as parameters, opens its own
transaction, commits, and returns ``render(...)``. ``app.main`` attaches the checks to the routers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, cast

from anyio import CapacityLimiter
from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.database import Database
from app.errors import BadInput, ForeignForm, NotAllowed, NotFound, NotSignedIn
from app.events import Bus
from app.pages.closing import Closing
from app.pages.fan_out import FanOut
from app.pages.limits import Tries
from app.pages.paths import read_id
from app.pages.sessions import Visit, Visits
from app.records import Role
from app.services import accounts, members
from app.settings import Settings
from app.storage import Storage
from app.texts import Texts, languages, pick_language, texts_of

FORM_FIELDS = 300
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
LANGUAGE_COOKIE = "querent_language"
# late answers are kept, not counted, and the page says so
OPEN_TO_FORMER_MEMBERS = frozenset(
    {("POST", "/projects/{project_id}/answers"), ("GET", "/projects/{project_id}/label")}
)


@dataclass(frozen=True)
class Wiring:
    """Everything that pages use, made once by ``create_app``."""

    settings: Settings
    database: Database
    storage: Storage
    bus: Bus
    fan_out: FanOut
    visits: Visits
    templates: Environment
    tries: Tries
    closing: Closing
    turns: CapacityLimiter


@dataclass(frozen=True)
class Person:
    """Who is signed in."""

    id: int
    name: str
    role: Role

    @property
    def is_admin(self) -> bool:
        """Whether admin pages are open to this person."""
        return self.role is Role.ADMIN


def wiring(request: Request) -> Wiring:
    """Return the application's wiring."""
    return cast(Wiring, request.app.state.wiring)


async def _wired(request: Request) -> Wiring:
    """Return it without the detour through a thread that a plain function would take."""
    return wiring(request)


Wired = Annotated[Wiring, Depends(_wired)]


def current_person(request: Request, wired: Wired) -> Person:
    """Return who is signed in and may see the project or the image that the address names.

    Every page goes through here, so that none can forget to ask.

    Raises:
        NotSignedIn: nobody is.
        NotFound: the person never was a member of the project.
        NotAMember: not any more.
    """
    visit = visit_of(request)
    user_id = visit.user_id or 0
    with wired.database.reading() as session:
        named = _named_in_address(request)
        access = _access(session, *named, user_id) if named else None  # loads the person as well
        user = accounts.user_of_session(session, user_id, visit.epoch)
    request.state.person = Person(user.id, user.name, user.role)
    if named and access and not request.state.person.is_admin:
        route = (request.method, request.scope["route"].path)
        access.require(*named, was_enough=route in OPEN_TO_FORMER_MEMBERS)
    request.state.content_hash = access.content_hash if access else None
    return cast(Person, request.state.person)


SignedIn = Annotated[Person, Depends(current_person)]


async def _content_hash(request: Request, _person: SignedIn) -> str:
    content_hash: str | None = request.state.content_hash
    if content_hash is None:
        raise NotFound("image", "there is no such image", "go back to the project")
    return content_hash


# of the image that the address names, read in the statement that says who may see it
ContentHash = Annotated[str, Depends(_content_hash)]


def current_admin(person: SignedIn) -> Person:
    """Return who is signed in, if it is an admin; raise NotAllowed otherwise."""
    if not person.is_admin:
        raise NotAllowed("this page", "it is for admins", "ask an admin to do it or to change your role")
    return person


AdminOnly = Annotated[Person, Depends(current_admin)]


async def check_visit(request: Request) -> None:
    """Raise NotSignedIn when the browser has no session; who it belongs to, and whether it stands, is not asked yet."""
    if visit_of(request).user_id is None:
        raise NotSignedIn("session", "it has ended", "sign in again")


async def check_form_token(request: Request, wired: Wired) -> None:
    """Raise ForeignForm when a request that changes something did not come from a page of this session.

    The token stands in the header ``X-Form-Token`` or, in a form or a beacon, in the field ``form_token``.
    """
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    token = request.headers.get("x-form-token") or await _token_in_body(request)
    if not wired.visits.is_own_token(wired.visits.read(request), token):
        reason = "it does not come from a page of this session"
        raise ForeignForm("form", reason, "reload the page and send it again")


async def posted_form(request: Request) -> FormData:
    """Return the fields and files of a form."""
    return await request.form(max_files=1, max_fields=FORM_FIELDS)


Posted = Annotated[FormData, Depends(posted_form)]


def visit_of(request: Request) -> Visit:
    """Return the browser's session; a new one, marked to be written by ``render``, when it has none."""
    visit: Visit | None = getattr(request.state, "visit", None)
    if visit is None:
        visits = wiring(request).visits
        visit = visits.read(request)
        if visit is None:
            visit = visits.start()
            request.state.visit_is_new = True
        request.state.visit = visit
    return visit


def render(request: Request, name: str, status: int = 200, /, **context: Any) -> HTMLResponse:
    """Render a template in the browser's language; adds ``person``, ``form_token``, ``path`` and texts to its context.

    Args:
        request: the request that is being answered.
        name: the template, relative to ``templates/``.
        status: the HTTP status.
        context: plain values and frozen dataclasses only: nothing that reads the database while rendering.
    """
    wired = wiring(request)
    visit, texts = visit_of(request), texts_for(request)
    body = wired.templates.get_template(name).render(
        t=texts,
        other_languages=[texts_of(code) for code in languages() if code != texts.language],
        person=getattr(request.state, "person", None),
        form_token=wired.visits.form_token(visit),
        path=request.url.path,
        **context,
    )
    response = HTMLResponse(body, status)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Language"] = texts.language
    if getattr(request.state, "visit_is_new", False):
        wired.visits.write(response, visit)
    return response


def texts_for(request: Request) -> Texts:
    """Return the texts of the language that the person chose, or that the browser prefers."""
    return texts_of(pick_language(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language")))


def is_htmx(request: Request) -> bool:
    """Whether htmx asks for a fragment."""
    return request.headers.get("hx-request") == "true"


def go_to(request: Request, path: str) -> Response:
    """Send the browser to another page after a form, with or without htmx."""
    if is_htmx(request):
        return Response(status_code=204, headers={"HX-Redirect": path})
    return RedirectResponse(path, status_code=303)


def _named_in_address(request: Request) -> tuple[str, int] | None:
    """Return the project or the image that the address names, and what it is."""
    for kind in ("project", "image"):
        of_id = read_id(request.path_params.get(f"{kind}_id", ""))
        if of_id is not None:
            return kind, of_id
    return None


def _access(session: Session, kind: str, of_id: int, user_id: int) -> members.Access:
    if kind == "project":
        return members.access_to_project(session, of_id, user_id)
    return members.access_to_image(session, of_id, user_id)


async def _token_in_body(request: Request) -> str | None:
    if request.headers.get("content-type", "").startswith(FORM_TYPES):
        token = (await posted_form(request)).get("form_token")
        return token if isinstance(token, str) else None
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise BadInput("request", "its body is no JSON", "reload the page and try again") from error
    token = body.get("form_token") if isinstance(body, dict) else None
    return token if isinstance(token, str) else None
