"""The new-project form: what it makes, and what it says about each field."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest
from sqlalchemy import select

from app.pages.project_form import empty_form, read_form
from app.recipes import parse_recipe
from app.records import Import, Project
from app.services import members, projects
from app.settings import Settings
from tests.factories import picture
from tests.service.web import Web, token_of, web

__all__ = ["web"]


def archive() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as packed:
        for number in range(4):
            packed.writestr(f"{number % 2}/{number}.png", picture(number))
    return target.getvalue()


def send(web: Web, upload: bytes | None = None, **changed: str) -> Any:
    client = web.admin()
    data = (
        empty_form() | {"name": "pets", "source": "digits", "form_token": token_of(client, "/projects/new")} | changed
    )
    files = {"archive": ("pets.zip", upload, "application/zip")} if upload is not None else None
    return client.post("/projects", data={name: value for name, value in data.items() if value}, files=files)


def made(web: Web, response: Any) -> tuple[Project, Import]:
    assert response.status_code == 303, response.text
    project_id = int(response.headers["location"].rpartition("/")[2])
    with web.database.transaction() as session:
        project = projects.get(session, project_id)
        return project, session.scalars(select(Import).where(Import.project_id == project_id)).one()


def test_the_form_as_it_stands_makes_the_default_recipe(web: Web) -> None:
    project, requested = made(web, send(web, name="digits as they are"))
    assert project.recipe == parse_recipe().as_json()
    assert (requested.source["kind"], requested.start_when_done) == ("digits", True)


def test_a_project_is_for_those_who_are_named(web: Web) -> None:
    named, other = web.person(), web.person()
    people = {"members": f"{named.name}\n", "groups": "Experts, students"}
    closed, _ = made(web, send(web, name="for a few", open_to="named", **people))
    assert (closed.open_to_all, closed.member_groups) == (False, ["experts", "students"])
    with web.database.transaction() as session:
        assert [members.access_to_project(session, closed.id, user.id).is_member for user in (named, other)] == [
            True,
            False,
        ]
    opened, _ = made(web, send(web, name="for all", **people))
    assert (opened.open_to_all, opened.member_groups) == (True, [])


def test_a_person_whom_nobody_knows_is_told_beside_the_field(web: Web) -> None:
    response = send(web, name="for nobody", open_to="named", members="no such person")
    assert response.status_code == 422 and "There is nobody of this name" in response.text
    assert "no such person</textarea>" in response.text
    assert send(web, name="for nobody", open_to="named", groups="x" * 81).status_code == 422


def test_what_is_chosen_is_what_is_made(web: Web) -> None:
    response = send(
        web,
        name="  margin  ",
        source="mnist",
        acquisition="margin",
        network="softmax_regression",
        budget="77",
        overlap="2",
        start="",
        test="50",
        classes="cat\n\n dog ",
        **{"path.mnist": "/data", "fitting.supervised.augment": "", "fitting.supervised.epochs": "5"},
    )
    project, requested = made(web, response)
    assert (project.name, project.budget, project.overlap) == ("margin", 77, 2)
    assert project.recipe["acquisition"]["name"] == "margin"
    assert project.recipe["fitting"]["augment"] is False and project.recipe["fitting"]["epochs"] == 5
    assert (requested.source["path"], requested.source["test"], requested.start_when_done) == ("/data", 50, False)
    with web.database.transaction() as session:
        assert [known.name for known in projects.classes_of(session, project.id)] == ["cat", "dog"]


def test_an_uploaded_archive_lands_in_the_storage(web: Web) -> None:
    packed = archive()
    _, requested = made(web, send(web, packed, name="uploaded", source="zip"))
    assert web.wiring.storage.get(requested.source["blob"]) == packed


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": ""}, "name"),
        ({"budget": "many"}, "budget"),
        ({"budget": "0"}, "budget"),
        ({"budget": "9" * 400}, "budget"),
        ({"batch_size": "0"}, "batch_size"),
        ({"network": "skynet"}, "network"),
        ({"network.al_cnn.dropout": "2"}, "network.al_cnn.dropout"),
        ({"fitting.supervised.epochs": "nan"}, "fitting.supervised.epochs"),
        ({"classes": "cat\ncat"}, "classes"),
        ({"source": "floppy"}, "source"),
        ({"source": "zip", "labelled": "", "classes": "only one"}, "classes"),
        ({"pool": "-1"}, "pool"),
        # choices that cannot work together
        ({"acquisition": "bald"}, "acquisition"),
        (
            {
                "pseudo_labeler": "threshold",
                "pseudo_labeler.threshold.way": "precision",
                "random_share": "0",
                "cold_start": "clusters",
            },
            "pseudo_labeler.threshold.way",
        ),
    ],
)
def test_a_mistake_is_told_beside_its_field(changed: dict[str, str], field: str) -> None:
    read = read_form(empty_form() | {"name": "pets", "source": "digits"} | changed)
    assert list(read.errors) == [field] and read.project is None


def test_what_was_typed_survives_a_mistake_and_nothing_is_made(web: Web) -> None:
    response = send(web, name="typed <once>", budget="0", description="keep me", acquisition="margin")
    assert response.status_code == 422
    assert 'value="typed &lt;once&gt;"' in response.text and "keep me" in response.text
    assert 'value="margin" checked' in response.text and "Use a whole number from 1" in response.text
    with web.database.transaction() as session:
        assert session.scalar(select(Project).where(Project.name == "typed <once>")) is None


def test_a_name_that_is_taken_is_told_beside_it(web: Web) -> None:
    made(web, send(web, name="taken"))
    response = send(web, name="taken")
    assert response.status_code == 422 and "one of this name already" in response.text


@pytest.mark.parametrize("upload", [None, b"", b"GIF89a, surely no zip"])
def test_what_is_no_archive_is_refused(web: Web, upload: bytes | None) -> None:
    response = send(web, upload, name="no archive", source="zip")
    assert response.status_code == 422 and ".zip" in response.text
    with web.database.transaction() as session:
        assert session.scalar(select(Project).where(Project.name == "no archive")) is None


def test_an_archive_over_the_limit_is_refused(settings: Settings, web: Web) -> None:
    small = Web(settings.model_copy(update={"upload_megabytes": 1}), web.database)
    response = send(small, b"\0" * 1_200_000, name="huge", source="zip")
    assert response.status_code == 413 and "larger than 1" in response.text
    small.close()
