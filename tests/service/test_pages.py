"""Every page: who gets in, with which headers, in how many statements, and what an error looks like to whom."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

import app.pages
from app.pages.guards import CONTENT_POLICY
from app.pages.project import STAGES
from app.records import Round, RoundState
from tests.factories import make_project
from tests.service.web import HTMX, JSON, Web, make_history, token_of, web
from worker.learning.snapshot import Stage

__all__ = ["web"]

OPEN = {"health", "language", "sign_in"}
ADMIN_PAGES = ("/people", "/projects/new", "/benchmarks")


def routes() -> Iterator[tuple[str, str]]:
    for found in pkgutil.iter_modules(app.pages.__path__):
        router = getattr(importlib.import_module(f"app.pages.{found.name}"), "router", None)
        if isinstance(router, APIRouter) and found.name not in OPEN:
            for route in router.routes:
                assert isinstance(route, APIRoute)
                for method in sorted(route.methods or ()):
                    yield method, re.sub(r"\{.*?\}", "1", route.path)


@pytest.mark.parametrize(("method", "path"), sorted(routes()))
def test_nobody_gets_in_without_signing_in(web: Web, method: str, path: str) -> None:
    client = web.client()
    assert client.request(method, path, headers=JSON).status_code == 401
    as_browser = client.request(method, path)
    assert as_browser.status_code == (303 if method == "GET" else 401)
    as_htmx = client.request(method, path, headers=HTMX)
    assert (as_htmx.status_code, as_htmx.headers["hx-redirect"]) == (401, "/sign-in")


@pytest.mark.parametrize(("method", "path"), sorted(route for route in routes() if route[0] != "GET"))
def test_nothing_is_changed_without_the_form_token(web: Web, method: str, path: str) -> None:
    response = web.admin().request(method, path, headers=JSON)
    assert (response.status_code, response.json()["error"]) == (403, "foreign_form")


@pytest.mark.parametrize("path", ADMIN_PAGES)
def test_admin_pages_refuse_annotators(web: Web, path: str) -> None:
    response = web.annotator().get(path)
    assert response.status_code == 403 and "for admins" in response.text


@pytest.mark.parametrize("action", ["state", "oracle", "budget", "rounds"])
def test_annotators_cannot_steer_a_project(web: Web, action: str) -> None:
    client = web.annotator()
    project_id = make_history(web)
    headers = {"X-Form-Token": token_of(client, "/")}
    data = {"state": "paused", "oracle": "simulated", "budget": "5"}
    assert client.post(f"/projects/{project_id}/{action}", data=data, headers=headers).status_code == 403


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_told_to_everybody(web: Web, path: str) -> None:
    assert web.client().get(path).status_code == 200


@pytest.mark.parametrize("path", ["/sign-in", "/", "/nowhere", "/static/querent.css", "/healthz"])
def test_every_answer_carries_the_security_headers(web: Web, path: str) -> None:
    response = web.admin().get(path)
    assert response.headers["content-security-policy"] == CONTENT_POLICY
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["referrer-policy"] == "same-origin"


def test_the_policy_allows_no_inline_code() -> None:
    assert "unsafe" not in CONTENT_POLICY and "default-src 'none'" in CONTENT_POLICY


def test_an_unknown_address_is_a_page_a_fragment_or_json(web: Web) -> None:
    client = web.admin()
    page, fragment = client.get("/projects/999999999"), client.get("/projects/999999999", headers=HTMX)
    assert page.status_code == fragment.status_code == 404
    assert "<!doctype html>" in page.text and "There is no such" not in page.text[:50]
    assert "<!doctype" not in fragment.text and fragment.headers["hx-retarget"] == "#notice"
    data = client.get("/projects/999999999", headers=JSON).json()
    assert (data["error"], data["reason"]) == ("not_found", "there is no such project")


@pytest.mark.parametrize("path", ["/projects/x", "/projects/99999999999999999999", "/images/-1", "/nowhere"])
def test_a_made_up_address_is_not_found(web: Web, path: str) -> None:
    assert web.admin().get(path).status_code == 404


def test_an_unexpected_error_says_nothing_about_the_inside(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the secret is plum-tart")

    monkeypatch.setattr("app.pages.projects.list_projects", broken)
    response = web.admin().get("/")
    assert response.status_code == 500 and "went wrong" in response.text
    assert "plum-tart" not in response.text and "RuntimeError" not in response.text
    assert response.headers["content-security-policy"] == CONTENT_POLICY


def test_a_form_that_is_too_large_is_refused(web: Web) -> None:
    client = web.admin()
    headers = {"X-Form-Token": token_of(client)}
    response = client.post("/people", data={"name": "x" * 3_000_000, "role": "annotator"}, headers=headers)
    assert response.status_code == 413 and "larger than 2" in response.text


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/", 4),
        ("/projects/{id}", 15),
        ("/projects/{id}/live", 14),
        ("/projects/{id}/controls", 14),
        ("/projects/{id}/label", 3),
        ("/projects/{id}/answers", 3),
        ("/projects/{id}/rounds", 5),
        ("/projects/{id}/rounds/1", 7),
        ("/projects/{id}/ledger", 9),
        ("/projects/{id}/people", 8),
        ("/people", 2),
        ("/me", 5),
        ("/projects/new", 1),
        ("/benchmarks", 1),
    ],
)
def test_a_page_takes_few_statements_however_much_it_shows(web: Web, path: str, most: int) -> None:
    client = web.admin()
    seen = []
    for rounds in (1, 5):
        address = path.format(id=make_history(web, rounds=max(2, rounds)))
        with web.counted() as statements:
            assert client.get(address).status_code == 200
        seen.append(len(statements))
    assert seen[0] == seen[1] <= most


def test_the_project_page_shows_the_curve_with_its_interval(web: Web) -> None:
    page = web.annotator().get(f"/projects/{make_history(web)}").text
    assert "50.0%" in page and "25.0–75.0%" in page
    assert 'data-labels="6" data-accuracy="0.5" data-low="0.25" data-high="0.75"' in page
    assert "Label images" in page and "Run a round now" not in page


def test_without_a_worker_the_page_says_so_and_how_to_start_one(web: Web) -> None:
    page = web.annotator().get(f"/projects/{make_history(web)}/live").text
    assert "Not running" in page and "querent up" in page and "<!doctype" not in page


def test_every_stage_of_the_worker_is_told_in_words(web: Web) -> None:
    assert list(STAGES) == ["decoding", *(stage.value for stage in Stage)]
    project_id = make_history(web)
    with web.database.transaction() as session:
        last = session.query(Round).filter_by(project_id=project_id, number=1).one()
        last.state, last.progress = RoundState.RUNNING, {"stage": "reading", "done": 3, "total": 50}
        session.commit()
    page = web.annotator().get(f"/projects/{project_id}/live").text
    assert '<li aria-current="step">Reading features</li>' in page
    assert "Reading features: 3 of 50" in page


def test_a_failed_round_shows_its_reason_and_lets_an_admin_try_again(web: Web) -> None:
    project_id = make_history(web)
    with web.database.transaction() as session:
        last = session.query(Round).filter_by(project_id=project_id, number=1).one()
        last.state, last.error = RoundState.FAILED, "the disk <b>is full"
        session.commit()
    page = web.admin().get(f"/projects/{project_id}").text
    assert "the disk &lt;b&gt;is full" in page and "Try again" in page
    assert "An admin can try again" in web.annotator().get(f"/projects/{project_id}").text


def test_a_project_without_test_images_says_what_to_do(web: Web) -> None:
    with web.database.transaction() as session:
        project_id = make_project(session, 10).id
        session.commit()
    assert "Hold some out" in web.annotator().get(f"/projects/{project_id}").text


@pytest.mark.parametrize("path", ["/sign-in", "/no-such-page", "/healthz"])
def test_every_response_says_how_long_it_took(web: Web, path: str) -> None:
    [told] = web.client().get(path).headers.get_list("server-timing")
    assert re.fullmatch(r"app;dur=\d+\.\d\d", told)
