"""Signing in and out: cookies, form tokens, one-time links, and how often a password may be tried."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from app.pages.limits import TRIES
from app.pages.sessions import COOKIE
from app.pages.sign_in import own_path
from app.records import Role, User
from app.services import accounts, claiming
from app.settings import Settings
from tests.factories import PASSWORD, make_project, make_round
from tests.service.web import JSON, Web, token_of, web

__all__ = ["web"]


def sign_in(client: TestClient, name: str, password: str, after: str = "/") -> object:
    token = token_of(client, "/sign-in")
    return client.post("/sign-in", data={"form_token": token, "name": name, "password": password, "after": after})


def test_name_and_password_sign_in_with_a_guarded_cookie(web: Web) -> None:
    user = web.person(password=PASSWORD)
    client = web.client()
    response = sign_in(client, f" {user.name.upper()} ", PASSWORD, "/projects/new")
    assert (response.status_code, response.headers["location"]) == (303, "/projects/new")
    cookie = response.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "path=/" in cookie and "secure" not in cookie
    assert client.get("/").status_code == 200


def test_cookies_are_secure_where_the_setting_says_so(settings: Settings, web: Web) -> None:
    secure = Web(settings.model_copy(update={"secure_cookies": True}), web.database)
    assert "; secure" in secure.client().get("/sign-in").headers["set-cookie"].lower()
    secure.close()


def test_signing_in_changes_the_session_so_that_an_earlier_token_is_worthless(web: Web) -> None:
    user = web.person(Role.ADMIN, PASSWORD)
    client = web.client()
    before = token_of(client, "/sign-in")
    sign_in(client, user.name, PASSWORD)
    assert token_of(client) != before
    assert client.post("/sign-out", data={"form_token": before}).status_code == 403


def test_a_wrong_password_is_told_and_keeps_the_name_typed(web: Web) -> None:
    user = web.person(password=PASSWORD)
    response = sign_in(web.client(), user.name, "wrong horse")
    assert response.status_code == 401
    assert "do not fit together" in response.text and f'value="{user.name}"' in response.text
    assert "wrong horse" not in response.text


def test_a_password_is_not_tried_for_ever(web: Web) -> None:
    user = web.person(password=PASSWORD)
    client = web.client()
    for _ in range(TRIES):
        assert sign_in(client, user.name, "wrong horse").status_code == 401
    response = sign_in(client, user.name, PASSWORD)
    assert response.status_code == 429
    assert "wait" in response.text.lower()


def test_a_disabled_person_is_out_at_once(web: Web) -> None:
    user = web.person()
    client = web.client(user)
    assert client.get("/").status_code == 200
    with web.database.transaction() as session:
        accounts.set_disabled(session, accounts.get_user(session, user.id), True)
        session.commit()
    assert client.get("/").headers["location"] == "/sign-in"


def holding(web: Web, user: User) -> int:
    """Let a person hold all of a project's queries; return its id."""
    with web.database.transaction() as session:
        project = make_project(session, images=3)
        make_round(session, project, 3)
        assert len(claiming.claim(session, project.id, user.id, 3, 600)) == 3
        session.commit()
        return project.id


def free(web: Web, project_id: int) -> int:
    """Return how many queries others may take."""
    with web.database.transaction() as session:
        return len(claiming.claim(session, project_id, web.person().id, 3, 600))


def test_signing_out_gives_back_at_once_what_one_holds(web: Web) -> None:
    user = web.person()
    project_id, client = holding(web, user), web.client(user)
    assert free(web, project_id) == 0
    client.post("/sign-out", data={"form_token": token_of(client, "/")})
    assert free(web, project_id) == 3


def test_a_session_that_has_ended_gives_back_nothing_of_the_next(web: Web) -> None:
    user = web.person()
    client = web.client(user)
    token = token_of(client, "/")
    with web.database.transaction() as session:
        accounts.end_sessions(session, accounts.get_user(session, user.id))
        session.commit()
    project_id = holding(web, user)
    assert client.post("/sign-out", data={"form_token": token}).headers["location"] == "/sign-in"
    assert free(web, project_id) == 0


def test_disabling_a_person_gives_back_at_once_what_they_hold(web: Web) -> None:
    user, admin = web.person(), web.admin()
    project_id = holding(web, user)
    admin.post(f"/people/{user.id}/disable", data={"form_token": token_of(admin)})
    assert free(web, project_id) == 3


def test_a_cookie_that_was_tampered_with_is_nobody(web: Web) -> None:
    client = web.client(web.person())
    client.cookies.set(COOKIE, client.cookies[COOKIE][:-2] + "xx")
    assert client.get("/", headers=JSON).status_code == 401


def test_signing_out_forgets_the_session(web: Web) -> None:
    client = web.client(web.person(Role.ADMIN))
    response = client.post("/sign-out", data={"form_token": token_of(client)})
    assert response.headers["location"] == "/sign-in"
    assert client.get("/").status_code == 303


@pytest.mark.parametrize("path", ["https://evil.example", "//evil.example", "/\\evil.example", "evil", "/a\nb", ""])
def test_signing_in_never_leads_to_another_site(path: str) -> None:
    assert own_path(path) == "/"


def test_the_page_that_was_wanted_is_come_back_to(web: Web) -> None:
    wanted = web.client().get("/projects/1/rounds?before=3").headers["location"]
    assert wanted == "/sign-in?next=/projects/1/rounds%3Fbefore%3D3"
    assert 'value="/projects/1/rounds?before=3"' in web.client().get(wanted).text


def link(web: Web, role: Role = Role.ANNOTATOR) -> str:
    with web.database.transaction() as session:
        user = accounts.create_user(session, f"invited {len(accounts.list_users(session))}", role)
        token = accounts.issue_link(session, user, 1)
        session.commit()
    return f"/sign-in/{token}"


def test_a_one_time_link_takes_a_password_and_signs_in_once(web: Web) -> None:
    path = link(web)
    client = web.client()
    assert "Welcome" in client.get(path).text
    response = client.post(path, data={"form_token": token_of(client, path), "password": "long enough"})
    assert (response.status_code, response.headers["location"]) == (303, "/")
    assert client.get("/").status_code == 200
    assert web.client().get(path).status_code == 410


def test_a_short_password_leaves_the_link_usable(web: Web) -> None:
    path = link(web)
    client = web.client()
    response = client.post(path, data={"form_token": token_of(client, path), "password": "short"})
    assert response.status_code == 422 and "shorter than 8" in response.text
    assert web.client().get(path).status_code == 200


def test_an_unknown_link_says_what_to_do(web: Web) -> None:
    response = web.client().get("/sign-in/nonsense")
    assert response.status_code == 410 and "Ask an admin for a new one" in response.text


@pytest.mark.parametrize("token", [None, "", "0" * 64, "ä"])
def test_the_sign_in_form_refuses_a_foreign_token(web: Web, token: str | None) -> None:
    client = web.client()
    client.get("/sign-in")
    data = {"name": "x", "password": "y"} | ({} if token is None else {"form_token": token})
    assert client.post("/sign-in", data=data).status_code == 403


def test_a_token_of_another_session_is_refused(web: Web) -> None:
    other = token_of(web.admin())
    response = web.admin().post("/people", data={"form_token": other, "name": "x", "role": "annotator"})
    assert response.status_code == 403 and "reload the page" in response.text.lower()


def test_the_token_is_taken_from_the_header_too(web: Web) -> None:
    client = web.admin()
    headers = {"X-Form-Token": token_of(client)}
    assert client.post("/people", data={"name": "", "role": "annotator"}, headers=headers).status_code == 422
