"""Members over HTTP: strangers find nothing, whoever has left is told, and admins add and remove people."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from uuid import uuid4

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from sqlalchemy import select
from starlette.testclient import TestClient

import app.pages
from app.records import Annotation, Image, PseudoLabel, Query, User
from app.services import claiming, members, projects
from tests.factories import make_project
from tests.service.web import HTMX, JSON, Web, make_history, token_of, web

__all__ = ["web"]

OF_A_PROJECT = {"project_id", "image_id"}  # whatever else is in an address hangs on one of these
OF_NO_PROJECT = {"name", "token", "user_id"}


def routes() -> Iterator[tuple[str, str]]:
    for found in pkgutil.iter_modules(app.pages.__path__):
        router = getattr(importlib.import_module(f"app.pages.{found.name}"), "router", None)
        if isinstance(router, APIRouter):
            for route in router.routes:
                assert isinstance(route, APIRoute)
                for method in sorted(route.methods or ()):
                    yield method, route.path


SCOPED = sorted((method, path) for method, path in routes() if OF_A_PROJECT & set(re.findall(r"{(\w+)}", path)))


class Scene:
    """A project of which one person is a member, and a stranger who knows every address."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.project_id = make_history(web)
        self.member = web.person()
        self.admin = web.admin()
        with web.database.transaction() as session:
            members.set_access(session, self.project_id, open_to_all=False, groups=[])
            members.add(session, self.project_id, self.member.id)
            self.query_id = claiming.claim(session, self.project_id, self.member.id, 1, 600)[0].query_id
            ids = {
                "project_id": self.project_id,
                "query_id": self.query_id,
                "image_id": session.scalar(select(Image.id).where(Image.project_id == self.project_id).limit(1)),
                "entry_id": session.scalar(
                    select(PseudoLabel.id).where(
                        PseudoLabel.project_id == self.project_id, PseudoLabel.superseded_at.is_(None)
                    )
                ),
                "user_id": self.member.id,
                "number": 1,
            }
            self.classes = [known.id for known in projects.classes_of(session, self.project_id)]
            session.commit()
        self.stranger = web.person()  # made last: whoever was there while the project was open is a former member
        self.ids = {name: str(known) for name, known in ids.items()}

    def send(self, client: TestClient, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        token = {"X-Form-Token": token_of(client, "/me")}
        address = re.sub(r"{(\w+)}", lambda found: self.ids[found.group(1)], path)
        body = {"json": {}} if method != "GET" else {}
        response = client.request(method, address, headers=headers | token, **body)  # type: ignore[arg-type]
        return response.status_code, response.text

    def answer(self, client: TestClient) -> dict[str, object]:
        body = {"client_id": str(uuid4()), "query_id": self.query_id, "outcome": "label", "class_id": self.classes[0]}
        headers = JSON | {"X-Form-Token": token_of(client, "/me")}
        response = client.post(f"/projects/{self.project_id}/answers", json=body, headers=headers)
        return {"status": response.status_code, **response.json()}

    def post(self, path: str, **data: str) -> int:
        form = data | {"form_token": token_of(self.admin)}
        return self.admin.post(f"/projects/{self.project_id}/{path}", data=form).status_code

    def lets_in(self, user: User) -> bool:
        return self.web.client(user).get(f"/projects/{self.project_id}").status_code == 200


@pytest.fixture
def scene(web: Web) -> Scene:
    return Scene(web)


def test_every_address_hangs_on_a_project_or_is_known_not_to() -> None:
    for _, path in routes():
        parts = set(re.findall(r"{(\w+)}", path))
        assert OF_A_PROJECT & parts or parts <= OF_NO_PROJECT, f"{path}: who may see what it names?"
    assert len(SCOPED) > 25


@pytest.mark.parametrize(("method", "path"), SCOPED)
def test_a_stranger_finds_nothing_of_a_project(scene: Scene, method: str, path: str) -> None:
    stranger = scene.web.client(scene.stranger)
    for headers in (JSON, HTMX, {}):
        status, text = scene.send(stranger, method, path, headers)
        assert status == 404 and "there is no such" in text.lower()
    if path.endswith("/events"):
        return  # an endless answer; tests/service/test_live.py reads one
    # the same address is there for a member, so what the stranger met was the gate
    status, _ = scene.send(scene.web.client(scene.member), method, path, JSON)
    assert status != 404


def test_the_list_shows_a_person_their_own_projects_only(scene: Scene) -> None:
    address = f'href="/projects/{scene.project_id}"'
    pages = {user: scene.web.client(user).get("/").text for user in (scene.member, scene.stranger)}
    assert address in pages[scene.member] and address not in pages[scene.stranger]
    assert address in scene.admin.get("/").text
    assert address in scene.web.client(scene.member).get("/me").text
    assert address not in scene.web.client(scene.stranger).get("/me").text


def test_a_removed_persons_late_answer_is_kept_and_told_not_counted(scene: Scene) -> None:
    client = scene.web.client(scene.member)
    assert scene.post(f"people/{scene.member.id}/remove") == 303
    reply = scene.answer(client)
    assert (reply["status"], reply["error"]) == (404, "left_project") and "kept, not counted" in str(reply["reason"])
    assert (scene.answer(scene.web.client(scene.stranger)))["error"] == "not_found"
    with scene.web.database.transaction() as session:
        rows = session.scalars(select(Annotation).where(Annotation.query_id == scene.query_id)).all()
        assert [(row.user_id, row.counted) for row in rows] == [(scene.member.id, False)]
        assert session.get_one(Query, scene.query_id).open_answers == 1
    assert scene.send(client, "POST", "/projects/{project_id}/undo", JSON)[1].count("not_a_member") == 1
    page = client.get(f"/projects/{scene.project_id}/label")
    assert page.status_code == 404 and "no longer a member" in page.text
    assert client.get(f"/images/{scene.ids['image_id']}").status_code == 404


def test_an_admin_adds_and_removes_people_by_name_and_by_group(scene: Scene) -> None:
    stranger = scene.stranger
    assert scene.post("people", name=f" {stranger.name.upper()} ") == 303 and scene.lets_in(stranger)
    assert scene.post(f"people/{stranger.id}/remove") == 303 and not scene.lets_in(stranger)
    assert scene.post(f"people/{stranger.id}/add") == 303 and scene.lets_in(stranger)
    other = scene.web.person()
    assert scene.post("access", open_to="named", groups="Owls\r\n Larks ,") == 303 and not scene.lets_in(other)
    form = {"form_token": token_of(scene.admin), "group": "LARKS"}
    assert scene.admin.post(f"/people/{other.id}/group", data=form).status_code == 303 and scene.lets_in(other)
    page = scene.admin.get(f"/projects/{scene.project_id}/people").text
    assert "larks\nowls</textarea>" in page and other.name in page and "By group" in page
    assert scene.post("access", open_to="all", groups="") == 303 and scene.lets_in(scene.web.person())


def test_a_name_that_nobody_has_is_told_in_the_form(scene: Scene) -> None:
    form = {"form_token": token_of(scene.admin), "name": "no <b>body"}
    response = scene.admin.post(f"/projects/{scene.project_id}/people", data=form)
    assert response.status_code == 422 and "There is nobody of this name" in response.text
    assert 'value="no &lt;b&gt;body"' in response.text


def test_a_group_that_is_too_long_makes_nobody(web: Web) -> None:
    admin, name = web.admin(), f"person {uuid4().hex[:8]}"
    form = {"form_token": token_of(admin), "name": name, "role": "annotator", "group": "x" * 81}
    response = admin.post("/people", data=form)
    assert response.status_code == 422 and f">{name}" not in response.text
    form["group"] = "Night owls"
    response = admin.post("/people", data=form)
    assert response.status_code == 201 and 'value="night owls"' in response.text


def test_own_statistics_speak_the_language_of_the_page(scene: Scene) -> None:
    client = scene.web.client(scene.member)
    assert scene.answer(client)["status"] == 200
    page = client.get("/me").text
    assert "Your statistics" in page and "Agreement with others" in page and "1 of 1\u202f000" in page
    german = client.get("/me", headers={"Accept-Language": "de"}).text
    assert "Ihre Statistik" in german and "Einigkeit mit anderen" in german and "Tempo" in german


def test_the_page_of_people_shows_what_each_did(scene: Scene) -> None:
    assert scene.answer(scene.web.client(scene.member))["status"] == 200
    with scene.web.database.transaction() as session:
        claiming.claim(session, scene.project_id, scene.member.id, 2, 600)
        session.commit()
    page = scene.admin.get(f"/projects/{scene.project_id}/people").text
    [row] = re.findall(rf"<tr>\s*<th[^>]*>{scene.member.name}.*?</tr>", page, re.DOTALL)
    text = " ".join(re.sub(r"<[^>]*>", " ", row).split())
    assert "By name 1 1 in 7 days" in text and "0% 0% just now 2 held now Remove" in text
    assert scene.stranger.name not in re.sub(r"<datalist.*?</datalist>", "", page, flags=re.DOTALL)


def test_many_people_take_no_more_statements(web: Web) -> None:
    client, counts = web.admin(), []
    for people in (1, 12):
        with web.database.transaction() as session:
            project = make_project(session, 3)
            members.set_access(session, project.id, open_to_all=False, groups=[])
            session.commit()
        for _ in range(people):
            user = web.person()
            with web.database.transaction() as session:
                members.add(session, project.id, user.id)
                session.commit()
        with web.counted() as statements:
            assert client.get(f"/projects/{project.id}/people").status_code == 200
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 8
