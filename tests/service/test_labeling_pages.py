"""What the labeling page's script asks for over HTTP: own answers, corrections, and why an image is asked."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from typing import cast
from uuid import uuid4

import pytest
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from app.records import Annotation, Image, Model, Project, Query, QuerySource, ReasonsShown, User
from app.services import projects
from app.services.claiming import claim
from tests.service.web import JSON, Web, make_history, token_of, web

__all__ = ["web"]


class Labeling:
    """A person who holds one query of a project with a history."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.project_id = make_history(web)
        self.user: User = web.person()
        self.client: TestClient = web.client(self.user)
        self.headers = JSON | {"X-Form-Token": token_of(self.client, "/")}
        with web.database.transaction() as session:
            [ask] = claim(session, self.project_id, self.user.id, 1, 60)
            self.query_id, self.image_id = ask.query_id, ask.image_id
            self.classes = [known.id for known in projects.classes_of(session, self.project_id)]
            session.commit()

    def post(self, path: str, **body: object) -> dict[str, object]:
        response = self.client.post(f"/projects/{self.project_id}/{path}", json=body, headers=self.headers)
        return {"status": response.status_code, **response.json()}

    def get(self, path: str, client: TestClient | None = None, **headers: str) -> tuple[int, str]:
        response = (client or self.client).get(f"/projects/{self.project_id}/{path}", headers=JSON | headers)
        return response.status_code, response.text

    def answer(self, outcome: str = "label", **more: object) -> str:
        client_id = str(uuid4())
        body = {"client_id": client_id, "query_id": self.query_id, "outcome": outcome, **more}
        if outcome == "label":
            body.setdefault("class_id", self.classes[0])
        assert self.post("answers", **body)["status"] == 200
        return client_id

    def annotations(self) -> list[Annotation]:
        with self.web.database.transaction() as session:
            own = select(Annotation).where(Annotation.user_id == self.user.id).order_by(Annotation.id)
            return list(session.scalars(own))


@pytest.fixture
def labeling(web: Web) -> Labeling:
    return Labeling(web)


def test_an_answer_keeps_what_the_page_says_about_it(labeling: Labeling) -> None:
    first = labeling.answer("unusable", reason="several classes", saw_prediction=True)
    second = labeling.answer(corrects=first, class_id=labeling.classes[1])
    old, new = labeling.annotations()
    assert (old.reason, old.saw_prediction, new.corrects_id) == ("several classes", True, old.id)
    _, text = labeling.get("answers")
    [own] = json.loads(text)["answers"]
    assert own["client_id"] == second
    assert (own["outcome"], own["class_id"], own["class_name"], own["reason"]) == ("label", new.class_id, "1", None)
    assert own["query"]["image_url"] == f"/images/{labeling.image_id}"


def set_image(labeling: Labeling, **values: object) -> None:
    with labeling.web.database.transaction() as session:
        session.execute(update(Image).where(Image.project_id == labeling.project_id).values(values))
        session.commit()


def pictures(labeling: Labeling) -> dict[int, str | None]:
    reply = labeling.post("claim", count=3)
    assert reply["status"] == 200
    queries = cast(list[dict[str, str]], reply["queries"])
    return {int(query["image_url"].removeprefix("/images/")): query["picture"] for query in queries}


def test_small_images_come_along_with_their_queries(labeling: Labeling) -> None:
    came = pictures(labeling)
    with labeling.web.database.transaction() as session:
        blobs = {image_id: session.get_one(Image, image_id).content_hash for image_id in came}
    files = {image_id: labeling.web.wiring.storage.get(blob) for image_id, blob in blobs.items()}
    assert len(came) == 3 and len(set(came.values())) == 3
    assert came == {image_id: f"data:image/png;base64,{b64encode(file).decode()}" for image_id, file in files.items()}


@pytest.mark.parametrize("values", [{"width": 65, "height": 64}, {"content_hash": func.md5(Image.name)}])
def test_larger_images_and_those_without_a_file_are_fetched_by_their_addresses(
    labeling: Labeling, values: dict[str, object]
) -> None:
    set_image(labeling, **values)
    assert list(pictures(labeling).values()) == [None] * 3


def test_a_body_that_is_not_json_is_named(labeling: Labeling) -> None:
    for path in ("claim", "answers", "answers/batch"):
        sent = labeling.client.post(f"/projects/{labeling.project_id}/{path}", content="{", headers=labeling.headers)
        assert (sent.status_code, sent.json()["subject"]) == (422, "request") and "JSON" in sent.json()["reason"]


@pytest.mark.parametrize(
    "body",
    [
        {"outcome": "unusable", "reason": "ugly"},
        {"outcome": "skip", "reason": "blurred"},
        {"outcome": "skip", "corrects": "no uuid"},
        {"outcome": "skip", "saw_prediction": "perhaps"},
    ],
)
def test_what_makes_no_sense_is_refused(labeling: Labeling, body: dict[str, object]) -> None:
    response = labeling.post("answers", client_id=str(uuid4()), query_id=labeling.query_id, **body)
    assert response["status"] in {400, 422} and labeling.annotations() == []


def test_nobody_reads_the_answers_of_others(web: Web, labeling: Labeling) -> None:
    labeling.answer()
    assert json.loads(labeling.get("answers", web.annotator())[1]) == {"answers": [], "next_before": None}
    assert web.admin().get("/projects/999999999/answers", headers=JSON).status_code == 404


def test_the_classes_version_tells_open_pages_that_names_or_keys_have_changed(web: Web, labeling: Labeling) -> None:
    page = labeling.client.get(f"/projects/{labeling.project_id}/label").text
    [shown] = re.findall(r'data-classes-version="(\d+)"', page)
    assert labeling.post("claim", count=1)["progress"]["classes_version"] == int(shown)  # type: ignore[index]
    admin = web.admin()
    sent = {"action.skip": "j", "form_token": token_of(admin)}
    assert admin.post(f"/projects/{labeling.project_id}/keys", data=sent).status_code == 303
    assert labeling.post("claim", count=1)["progress"]["classes_version"] == int(shown) + 1  # type: ignore[index]


def explain(labeling: Labeling, source: QuerySource = QuerySource.ACQUISITION) -> None:
    """Store reasons with the query that the person holds."""
    with labeling.web.database.transaction() as session:
        query = session.get_one(Query, labeling.query_id)
        near = session.scalars(select(Image.id).where(Image.project_id == labeling.project_id).limit(2)).all()
        query.source, query.score, query.propensity = source, 0.5, 0.125
        query.parts = {
            "acquisition": "margin",
            "margin": 0.0625,
            "top": [[labeling.classes[2], 0.5], [labeling.classes[0], 0.4375]],
            "neighbours": [[near[0], labeling.classes[2], 0.75], [near[1], labeling.classes[0], 0.5]],
        }
        made = session.scalars(select(Model).where(Model.round_id == query.round_id)).one_or_none()
        if made is None:
            made = Model(
                project_id=query.project_id,
                round_id=query.round_id,
                weights_hash="0" * 64,
                network={"name": "al_cnn"},
                classes=labeling.classes,
            )
            session.add(made)
        made.metrics = {"test_accuracy": 0.5, "test_accuracy_low": 0.25, "test_accuracy_high": 0.75}
        session.commit()


def words(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_why_an_image_is_asked_is_told_with_all_that_was_stored(labeling: Labeling) -> None:
    explain(labeling)
    status, page = labeling.get(f"queries/{labeling.query_id}/why")
    said = words(page)
    assert status == 200 and "<!doctype" not in page and "data-predicts" in page
    for part in (
        "The strategy chose it: Margin.",
        "The network believes 2 50% 0 44%",
        "2 75% alike",
        "0 50% alike",
        "round 0, rank 1",
        "Score 0.5",
        "Margin of the two likeliest 0.0625",
        "Chance of being drawn 12.50%",
        "Test accuracy 50.0% (25.0% to 75.0%)",
    ):
        assert part in said, (part, said)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (QuerySource.SEED, "before there was a network"),
        (QuerySource.RANDOM, "drawn at random"),
        (QuerySource.TEST, "on which the network is measured"),
        (QuerySource.AUDIT, "to check a label that the network gave"),
    ],
)
def test_the_card_says_how_an_image_came_to_be_asked(labeling: Labeling, source: QuerySource, sentence: str) -> None:
    explain(labeling, source)
    assert sentence in words(labeling.get(f"queries/{labeling.query_id}/why")[1])


@pytest.mark.parametrize(
    ("chosen_by", "sentence"),
    [
        ("typical", "most typical of a group of alike images"),
        ("k_center", "the least like any that is labelled or asked"),
        ("badge", "would change the network much"),
    ],
)
def test_the_card_of_an_image_that_no_score_chose_does_not_say_that_one_did(
    labeling: Labeling, chosen_by: str, sentence: str
) -> None:
    explain(labeling)
    with labeling.web.database.transaction() as session:
        query = session.get_one(Query, labeling.query_id)
        query.parts = {**query.parts, "acquisition": chosen_by}
        session.commit()
    said = words(labeling.get(f"queries/{labeling.query_id}/why")[1])
    assert sentence in said and "The strategy chose it" not in said


def test_reasons_are_told_in_the_language_of_the_page(labeling: Labeling) -> None:
    explain(labeling)
    _, page = labeling.get(f"queries/{labeling.query_id}/why", **{"Accept-Language": "de"})
    assert "Das Netz glaubt 2 50 % 0 44 %" in words(page) and "0,0625" in page


def test_a_query_without_reasons_predicts_nothing(labeling: Labeling) -> None:
    status, page = labeling.get(f"queries/{labeling.query_id}/why")
    assert status == 200 and "data-predicts" not in page and "round 0, rank 1" in words(page)


def test_reasons_are_for_whoever_is_asked_or_has_answered(web: Web, labeling: Labeling) -> None:
    explain(labeling)
    path = f"queries/{labeling.query_id}/why"
    assert labeling.get(path, web.annotator())[0] == 403
    labeling.answer()
    assert labeling.get(path)[0] == 200, "also after the answer"
    assert labeling.get("queries/999999999/why")[0] == 404


@pytest.mark.parametrize(("shown", "overlap"), [(ReasonsShown.NEVER, 1), (ReasonsShown.WHEN_ALONE, 2)])
def test_where_people_answer_blind_nobody_is_told(
    web: Web, labeling: Labeling, shown: ReasonsShown, overlap: int
) -> None:
    explain(labeling)
    with web.database.transaction() as session:
        project = session.get_one(Project, labeling.project_id)
        project.reasons_shown, project.overlap = shown, overlap
        session.commit()
    status, text = labeling.get(f"queries/{labeling.query_id}/why")
    assert status == 403 and "0.5" not in text
    assert 'data-action="why"' not in labeling.client.get(f"/projects/{labeling.project_id}/label").text


def test_a_class_name_cannot_write_on_the_page(web: Web, labeling: Labeling) -> None:
    explain(labeling)
    with web.database.transaction() as session:
        known = projects.classes_of(session, labeling.project_id)[2]
        known.name = '<img src=x onerror="alert(1)">'
        session.commit()
    assert "<img src=x" not in labeling.get(f"queries/{labeling.query_id}/why")[1]
    page = labeling.client.get(f"/projects/{labeling.project_id}/label").text
    assert "<img src=x" not in page
    [data] = re.findall(r'data-page="([^"]*)"', page)
    assert json.loads(html.unescape(data))["classes"][2]["name"].startswith("<img")


def test_the_language_is_chosen_on_any_page_and_kept_in_the_browser(web: Web) -> None:
    client = web.client()
    first = client.get("/sign-in", headers={"Accept-Language": "fr"})
    assert '<html lang="en">' in first.text and first.headers["content-language"] == "en"
    sent = {"language": "de", "after": "/sign-in", "form_token": token_of(client, "/sign-in")}
    response = client.post("/language", data=sent)
    assert (response.status_code, response.headers["location"]) == (303, "/sign-in")
    assert {"httponly", "samesite=lax"} <= {part.strip().lower() for part in response.headers["set-cookie"].split(";")}
    assert '<html lang="de">' in client.get("/sign-in").text
    assert client.post("/language", data=sent | {"after": "//elsewhere"}).headers["location"] == "/"
    assert client.post("/language", data=sent | {"language": "xx"}).status_code == 400
    assert client.post("/language", data={"language": "de"}).status_code == 403
