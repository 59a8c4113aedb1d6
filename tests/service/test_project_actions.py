"""What an admin does to a project: start and pause, oracle, budget, rounds; and to people."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from app.records import OracleKind, ProjectState, ReasonsShown, Role
from app.services import accounts, projects
from tests.factories import make_project
from tests.service.web import HTMX, Web, make_history, token_of, web

__all__ = ["web"]


class Admin:
    """An admin's browser that sends forms."""

    def __init__(self, web: Web) -> None:
        self.client: TestClient = web.admin()
        self.token = token_of(self.client)

    def send(self, path: str, headers: dict[str, str] | None = None, **data: str) -> object:
        return self.client.post(path, data=data | {"form_token": self.token}, headers=headers)


@pytest.fixture
def admin(web: Web) -> Admin:
    return Admin(web)


def test_pausing_works_without_script(web: Web, admin: Admin) -> None:
    project_id = make_history(web)
    response = admin.send(f"/projects/{project_id}/state", state="paused")
    assert (response.status_code, response.headers["location"]) == (303, f"/projects/{project_id}")
    with web.database.transaction() as session:
        assert projects.get(session, project_id).state is ProjectState.PAUSED


def test_with_htmx_the_controls_come_back_changed(web: Web, admin: Admin) -> None:
    response = admin.send(f"/projects/{make_history(web)}/state", HTMX, state="paused")
    assert response.status_code == 200 and "<!doctype" not in response.text
    assert 'value="running"' in response.text and response.headers["hx-trigger"] == "querent:changed"


def test_the_oracle_is_switched_with_its_noise(web: Web, admin: Admin) -> None:
    project_id = make_history(web)
    assert admin.send(f"/projects/{project_id}/oracle", oracle="simulated", noise="12,5").status_code == 303
    with web.database.transaction() as session:
        project = projects.get(session, project_id)
        assert (project.oracle, project.oracle_noise) == (OracleKind.SIMULATED, 0.125)


@pytest.mark.parametrize(
    ("action", "data", "status"),
    [
        ("state", {"state": "asleep"}, 400),
        ("oracle", {"oracle": "delphi"}, 400),
        ("oracle", {"oracle": "simulated", "noise": "200"}, 400),
        ("oracle", {"oracle": "simulated", "noise": "some"}, 400),
        ("oracle", {"oracle": "simulated", "noise": "nan"}, 400),
        ("budget", {"budget": "0"}, 400),
        ("budget", {"budget": "1.5"}, 400),
        ("budget", {"budget": "inf"}, 400),
        ("budget", {"budget": "1e300"}, 400),
        ("budget", {"budget": ""}, 400),
    ],
)
def test_bad_input_is_told_and_changes_nothing(
    web: Web, admin: Admin, action: str, data: dict[str, str], status: int
) -> None:
    project_id = make_history(web)
    response = admin.send(f"/projects/{project_id}/{action}", HTMX, **data)
    assert response.status_code == status
    assert "notice is-bad" in response.text and response.headers["hx-retarget"] == "#notice"
    with web.database.transaction() as session:
        project = projects.get(session, project_id)
        assert (project.budget, project.oracle, project.state) == (1000, OracleKind.HUMAN, ProjectState.RUNNING)


def test_a_round_is_run_on_demand_but_only_one_at_a_time(web: Web, admin: Admin) -> None:
    path = f"/projects/{make_history(web)}/rounds"
    assert admin.send(path).status_code == 303
    response = admin.send(path)
    assert response.status_code == 409 and "under way already" in response.text


def class_fields(web: Web, project_id: int) -> dict[str, str]:
    with web.database.transaction() as session:
        return {known.name: f"class.{known.id}" for known in projects.classes_of(session, project_id)}


def keys_now(web: Web, project_id: int) -> list[str | None]:
    with web.database.transaction() as session:
        return [known.key for known in projects.classes_of(session, project_id)]


def test_keys_are_changed_and_the_form_comes_back_with_them(web: Web, admin: Admin) -> None:
    project_id = make_history(web)
    fields = class_fields(web, project_id)
    page = admin.client.get(f"/projects/{project_id}").text
    assert all(f'name="{field}"' in page for field in fields.values()) and 'name="action.skip" value="s"' in page
    sent = {fields["0"]: "1", fields["1"]: "0", fields["2"]: "", "action.skip": "J", "other": "x"}
    response = admin.send(f"/projects/{project_id}/keys", HTMX, **sent)
    assert response.status_code == 200 and "Saved." in response.text and "<!doctype" not in response.text
    assert 'name="action.skip" value="j"' in response.text
    assert keys_now(web, project_id) == ["1", "0", None]
    assert admin.send(f"/projects/{project_id}/keys", **sent).status_code == 303


def test_a_conflict_of_keys_is_told_and_changes_nothing(web: Web, admin: Admin) -> None:
    project_id = make_history(web)
    fields = class_fields(web, project_id)
    response = admin.send(f"/projects/{project_id}/keys", HTMX, **{fields["0"]: "1", "action.skip": "2"})
    assert response.status_code == 400 and response.headers["hx-retarget"] == "#notice"
    assert "“1” is given to 0 and to 1; “2” is given to 2 and to Skip" in response.text
    assert keys_now(web, project_id) == ["0", "1", "2"]


def test_the_card_is_switched(web: Web, admin: Admin) -> None:
    project_id = make_history(web)
    assert admin.send(f"/projects/{project_id}/reasons", shown="never").status_code == 303
    with web.database.transaction() as session:
        assert projects.get(session, project_id).reasons_shown is ReasonsShown.NEVER
    response = admin.send(f"/projects/{project_id}/reasons", HTMX, shown="always")
    assert 'value="always" checked' in response.text
    assert admin.send(f"/projects/{project_id}/reasons", shown="perhaps").status_code == 400


def test_annotators_neither_see_nor_change_what_admins_choose_for_the_labeling_page(web: Web) -> None:
    client, project_id = web.annotator(), make_history(web)
    assert "labeling-settings" not in client.get(f"/projects/{project_id}").text
    headers = {"X-Form-Token": token_of(client, "/")}
    for path, data in (("keys", {"action.skip": "j"}), ("reasons", {"shown": "never"})):
        assert client.post(f"/projects/{project_id}/{path}", data=data, headers=headers).status_code == 403


def test_a_project_without_images_is_not_started(web: Web, admin: Admin) -> None:
    with web.database.transaction() as session:
        project_id = make_project(session, 0, state=ProjectState.PAUSED).id
        session.commit()
    response = admin.send(f"/projects/{project_id}/state", state="running")
    assert response.status_code == 409 and "no images yet" in response.text


def test_adding_a_person_shows_a_link_that_works_once(web: Web, admin: Admin) -> None:
    response = admin.send("/people", name="Grace", role="annotator")
    assert response.status_code == 201
    found = re.search(r'value="http://testserver(/sign-in/[^"]+)"', response.text)
    assert found and found.group(1) not in admin.client.get("/people").text
    assert "Welcome, grace" in web.client().get(found.group(1)).text


@pytest.mark.parametrize(("name", "role"), [("", "annotator"), ("x" * 81, "annotator"), ("heidi", "oracle")])
def test_a_person_that_cannot_be_is_refused_beside_the_form(admin: Admin, name: str, role: str) -> None:
    response = admin.send("/people", name=name, role=role)
    assert response.status_code == 422 and "Add a person" in response.text and 'role="alert"' in response.text


def test_a_person_is_shut_out_and_let_in(web: Web, admin: Admin) -> None:
    user = web.person()
    client = web.client(user)
    assert admin.send(f"/people/{user.id}/disable").status_code == 303
    assert client.get("/").status_code == 303
    assert admin.send(f"/people/{user.id}/enable").status_code == 303
    with web.database.transaction() as session:
        assert accounts.get_user(session, user.id).disabled_at is None


def test_the_simulated_oracle_is_no_person(web: Web, admin: Admin) -> None:
    with web.database.transaction() as session:
        oracle = accounts.oracle_user(session)
        session.commit()
    assert oracle.role is Role.ORACLE
    assert admin.send(f"/people/{oracle.id}/link").status_code == 404
