"""The grid's page and its endpoints over HTTP: what they say, what they refuse, and how much they ask the database."""

from __future__ import annotations

import json
import re
from uuid import uuid4

import pytest
from sqlalchemy import select, update
from starlette.testclient import TestClient

from app.pages.answering import MOST_ANSWERS
from app.pages.grid import MOST_ON_A_PAGE
from app.pages.grid_shown import COUNTS
from app.records import Annotation, Outcome, Project, Query, ReasonsShown, Round, UnusableReason
from tests.factories import classes_of, make_clusters, make_project, make_round, predict
from tests.service.web import JSON, Web, token_of, web

__all__ = ["web"]


class GridPerson:
    """Somebody on the grid of a project of 60 images, 30 of them in the batch."""

    def __init__(self, web: Web, overlap: int = 1) -> None:
        self.web = web
        with web.database.transaction() as session:
            project = make_project(session, 60, storage=web.wiring.storage, overlap=overlap)
            predict(session, project, make_round(session, project, 30, 30))
            self.project_id = project.id
            self.classes = [known.id for known in classes_of(session, project)]
            session.commit()
        self.client: TestClient = web.client(web.person())
        self.headers = JSON | {"X-Form-Token": token_of(self.client, "/")}

    def post(self, path: str, **body: object) -> dict[str, object]:
        response = self.client.post(f"/projects/{self.project_id}/{path}", json=body, headers=self.headers)
        return {"status": response.status_code, **response.json()}

    def show_reasons(self, shown: ReasonsShown) -> None:
        with self.web.database.transaction() as session:
            session.execute(update(Project).where(Project.id == self.project_id).values(reasons_shown=shown))
            session.commit()


@pytest.fixture
def grid(web: Web) -> GridPerson:
    return GridPerson(web)


def test_a_page_comes_with_its_class_and_what_else_there_is(grid: GridPerson) -> None:
    claimed = grid.post("grid/claim", count=12)
    assert (claimed["status"], claimed["class_id"], claimed["class_name"]) == (200, grid.classes[0], "0")
    assert len(claimed["queries"]) == 12  # type: ignore[arg-type]
    left = [(known["class_id"], known["count"], known["in_batch"]) for known in claimed["classes"]]  # type: ignore[attr-defined]
    assert left == [(grid.classes[1], 20, 10), (grid.classes[2], 20, 10), (grid.classes[0], 8, 0)]
    assert claimed["nothing"] is None
    assert claimed["progress"]["batch_size"] == 30  # type: ignore[index]
    again = grid.post("grid/claim", count=50, class_id=grid.classes[2])
    assert again["class_id"] == grid.classes[2] and len(again["queries"]) == 20  # type: ignore[arg-type]


def test_a_query_of_a_page_says_no_more_of_the_prediction_than_the_page_does(grid: GridPerson) -> None:
    claimed = grid.post("grid/claim", count=1)
    [query] = claimed["queries"]  # type: ignore[misc]
    assert set(query) == {"query_id", "image_url", "picture", "width", "height", "reserve", "round"}


def test_what_is_not_of_the_class_is_put_back_once(grid: GridPerson) -> None:
    claimed = grid.post("grid/claim", count=12)
    back = [query["query_id"] for query in claimed["queries"]][:2]  # type: ignore[attr-defined]
    assert grid.post("grid/put-back", query_ids=back) == {"status": 200, "released": 2}
    assert grid.post("grid/put-back", query_ids=back) == {"status": 200, "released": 0}, "sending it twice is harmless"
    with grid.web.database.transaction() as session:
        found = select(Query.predicted_class_id, Query.open_answers).where(Query.id.in_(back))
        assert session.execute(found).all() == [(None, 1), (None, 1)]


def test_the_history_says_that_an_answer_was_given_with_the_prediction_shown(grid: GridPerson) -> None:
    [query] = grid.post("grid/claim", count=1)["queries"]  # type: ignore[misc]
    given = {"client_id": str(uuid4()), "query_id": query["query_id"], "outcome": "label", "saw_prediction": True}
    assert grid.post("answers", class_id=grid.classes[0], seconds_taken=0.3, **given)["status"] == 200
    with grid.web.database.transaction() as session:
        [known] = session.scalars(select(Annotation).where(Annotation.project_id == grid.project_id))
    assert known.saw_prediction
    history = grid.client.get(f"/projects/{grid.project_id}/rounds/0").text
    assert "who saw the guess" in history


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("grid/claim", {"count": 0}),
        ("grid/claim", {"count": MOST_ON_A_PAGE + 1}),
        ("grid/claim", {"count": 5, "class_id": 0}),
        ("grid/claim", {"count": 5, "class_id": "seven"}),
        ("grid/claim", {"count": 5, "class": 1}),
        ("grid/claim", {"count": 5, "cluster": 0}),
        ("grid/claim", {"count": 5, "cluster": "seven"}),
        ("grid/claim", {}),
        ("grid/put-back", {"query_ids": [-1]}),
        ("grid/put-back", {"query_ids": list(range(1, MOST_ON_A_PAGE + 2))}),
        ("grid/put-back", {}),
    ],
)
def test_what_makes_no_sense_is_refused(grid: GridPerson, path: str, body: dict[str, object]) -> None:
    assert grid.post(path, **body)["status"] in {400, 422}


def test_an_unknown_class_or_one_of_another_project_gives_way_to_the_first(web: Web, grid: GridPerson) -> None:
    other = GridPerson(web)
    assert grid.post("grid/claim", count=3, class_id=other.classes[1])["class_id"] == grid.classes[0]


def test_strangers_and_foreign_forms_get_nothing(web: Web, grid: GridPerson) -> None:
    path = f"/projects/{grid.project_id}/grid"
    assert web.client().post(f"{path}/claim", json={"count": 5}, headers=JSON).status_code in {401, 403}
    assert grid.client.post(f"{path}/claim", json={"count": 5}, headers=JSON).status_code == 403
    assert web.client().get(path).status_code in {303, 401}
    assert grid.client.get("/projects/999999999/grid").status_code == 404
    assert (
        grid.client.post("/projects/999999999/grid/claim", json={"count": 5}, headers=grid.headers).status_code == 404
    )


def test_where_people_answer_blind_the_page_explains_and_links_are_gone(web: Web) -> None:
    grid = GridPerson(web, overlap=2)
    path = f"/projects/{grid.project_id}"
    shown = grid.client.get(f"{path}/grid")
    assert shown.status_code == 200 and "There is no grid here" in shown.text
    assert "grid/page.js" not in shown.text
    assert grid.post("grid/claim", count=5)["status"] == 403
    for page in (path, f"{path}/label", f"{path}/rounds", f"{path}/ledger"):
        assert f'href="{path}/grid"' not in grid.client.get(page).text
    grid.show_reasons(ReasonsShown.ALWAYS)
    assert grid.post("grid/claim", count=5)["status"] == 200
    for page in (path, f"{path}/label", f"{path}/rounds", f"{path}/ledger"):
        assert f'href="{path}/grid"' in grid.client.get(page).text


def test_the_page_offers_its_sizes_and_its_script_all_texts(grid: GridPerson) -> None:
    text = grid.client.get(f"/projects/{grid.project_id}/grid").text
    [offered] = re.findall(r'data-part="count".*?</select>', text)
    assert [int(value) for value in re.findall(r'value="(\d+)"', offered)] == list(COUNTS)
    assert max(COUNTS) <= MOST_ON_A_PAGE
    [data] = re.findall(r'data-page="([^"]*)"', text)
    texts = json.loads(data.replace("&#34;", '"').replace("&#39;", "'").replace("&amp;", "&"))["texts"]
    assert texts["grid.question"] == "Which of these are not {name}?"


def test_a_page_is_claimed_with_a_bounded_number_of_statements(grid: GridPerson) -> None:
    grid.post("grid/claim", count=1)
    with grid.web.counted() as few:
        grid.post("grid/claim", count=2)
    with grid.web.counted() as many:
        grid.post("grid/claim", count=17)
    assert len(few) == len(many) <= 20


def answers_of(grid: GridPerson, query_ids: list[int], **more: object) -> list[dict[str, object]]:
    made = {"outcome": "label", "class_id": grid.classes[0], "saw_prediction": True, "seconds_taken": 0.25, **more}
    return [{"client_id": str(uuid4()), "query_id": query_id, **made} for query_id in query_ids]


def taken(grid: GridPerson, count: int) -> list[int]:
    return [query["query_id"] for query in grid.post("grid/claim", count=count)["queries"]]  # type: ignore[attr-defined]


def standing(grid: GridPerson) -> list[tuple[int, int | None]]:
    with grid.web.database.transaction() as session:
        known = select(Annotation.query_id, Annotation.class_id).where(Annotation.project_id == grid.project_id)
        return sorted((query_id, class_id) for query_id, class_id in session.execute(known.where(Annotation.counted)))


def test_a_page_of_answers_is_kept_with_one_request_each_once(grid: GridPerson) -> None:
    held = taken(grid, 10)
    answers = answers_of(grid, held)
    first = grid.post("answers/batch", answers=answers)
    assert (first["status"], [each["client_id"] for each in first["answers"]]) == (  # type: ignore[attr-defined]
        200, [each["client_id"] for each in answers],
    )  # fmt: skip
    assert first["progress"]["own_labels"] == 10  # type: ignore[index]
    again = grid.post("answers/batch", answers=answers)
    for kept, replayed in zip(first["answers"], again["answers"], strict=True):  # type: ignore[call-overload]
        assert (kept["replay"], replayed["replay"]) == (False, True)
        assert kept["annotation_id"] == replayed["annotation_id"] and kept["refusal"] is replayed["refusal"] is None
    assert standing(grid) == [(query_id, grid.classes[0]) for query_id in sorted(held)]


def test_one_answer_that_is_refused_leaves_the_others_of_its_page_as_they_are(grid: GridPerson) -> None:
    held = taken(grid, 5)
    answers = answers_of(grid, held)
    answers[1]["class_id"] = 2**31 - 1
    answers[2]["query_id"] = 2**31 - 1
    answers[3]["query_id"] = held[0]
    fates = grid.post("answers/batch", answers=answers)["answers"]
    codes = [each["refusal"] and each["refusal"]["error"] for each in fates]  # type: ignore[attr-defined]
    assert codes == [None, "bad_input", "not_found", "answered_already", None]
    assert [each["annotation_id"] is None for each in fates] == [False, True, True, False, False]  # type: ignore[attr-defined]
    assert standing(grid) == sorted((held[place], grid.classes[0]) for place in (0, 4))


def test_a_page_of_answers_never_passes_the_budget(grid: GridPerson) -> None:
    held = taken(grid, 6)
    with grid.web.database.transaction() as session:
        session.execute(update(Project).where(Project.id == grid.project_id).values(budget=4))
        session.commit()
    fates = grid.post("answers/batch", answers=answers_of(grid, held))["answers"]
    codes = [each["refusal"] and each["refusal"]["error"] for each in fates]  # type: ignore[attr-defined]
    assert codes == [None] * 4 + ["budget_spent"] * 2
    assert len(standing(grid)) == 4


def test_a_page_of_answers_asks_the_rights_and_bounds_of_single_ones(web: Web, grid: GridPerson) -> None:
    held = taken(grid, 1)
    assert grid.post("answers/batch", answers=[])["status"] in {400, 422}
    assert grid.post("answers/batch", answers=answers_of(grid, held * (MOST_ANSWERS + 1)))["status"] in {400, 422}
    assert grid.post("answers/batch", answers=answers_of(grid, held, outcome="perhaps"))["status"] in {400, 422}
    path = f"/projects/{grid.project_id}/answers/batch"
    stranger = web.client().post(path, json={"answers": answers_of(grid, held)}, headers=JSON)
    assert stranger.status_code in {401, 403} and standing(grid) == []


def test_a_page_of_a_cluster_comes_where_the_script_can_show_it_and_says_what_else_there_is(grid: GridPerson) -> None:
    with grid.web.database.transaction() as session:
        make_clusters(session, session.scalars(select(Round).where(Round.project_id == grid.project_id)).one(), 4)
        session.commit()
    claimed = grid.post("grid/claim", count=12, cluster=3, with_clusters=True)
    assert (claimed["status"], claimed["cluster"], claimed["class_id"]) == (200, 3, grid.classes[0])
    left = [(known["cluster"], known["count"], known["in_batch"]) for known in claimed["clusters"]]  # type: ignore[attr-defined]
    assert left == [(1, 15, 8), (2, 15, 8), (3, 15, 7), (4, 15, 7)]
    before = grid.post("grid/claim", count=12, cluster=3)
    assert before["cluster"] is None, "the release before knows pages of classes alone"


def test_the_history_says_that_an_answer_was_given_among_images_that_look_alike(grid: GridPerson) -> None:
    first, second = taken(grid, 2)
    grid.post("answers/batch", answers=answers_of(grid, [first], in_cluster=True, saw_prediction=False))
    grid.post("answers/batch", answers=answers_of(grid, [second]))
    with grid.web.database.transaction() as session:
        known = select(Annotation.query_id, Annotation.in_cluster, Annotation.saw_prediction)
        kept = session.execute(known.where(Annotation.project_id == grid.project_id).order_by(Annotation.id)).all()
    assert kept == [(first, True, False), (second, False, True)]
    history = grid.client.get(f"/projects/{grid.project_id}/rounds/0").text
    assert history.count("among images that look alike") == history.count("who saw the guess") == 1


def test_a_page_may_hold_answers_of_every_outcome(grid: GridPerson) -> None:
    held = taken(grid, 6)
    label, skip, unsure, unusable, *crossed = answers_of(grid, held)
    others = (skip, "skip"), (unsure, "unsure"), (unusable, "unusable")
    for each, outcome in others:
        each.update(outcome=outcome, class_id=None)
    unusable["reason"] = "blurred"
    crossed[0].update(outcome="skip", reason="blurred", class_id=None)
    crossed[1].update(outcome="unsure")
    fates = grid.post("answers/batch", answers=[label, skip, unsure, unusable, *crossed])["answers"]
    codes = [each["refusal"] and each["refusal"]["error"] for each in fates]  # type: ignore[attr-defined]
    assert codes == [None] * 4 + ["bad_input"] * 2
    with grid.web.database.transaction() as session:
        known = select(Annotation.outcome, Annotation.reason).where(Annotation.project_id == grid.project_id)
        kept = list(session.execute(known.where(Annotation.saw_prediction).order_by(Annotation.id)))
        wanted = dict(session.execute(select(Query.id, Query.open_answers).where(Query.id.in_(held))).all())
    assert kept == [
        (Outcome.LABEL, None), (Outcome.SKIP, None), (Outcome.UNSURE, None),
        (Outcome.UNUSABLE, UnusableReason.BLURRED),
    ]  # fmt: skip
    assert [wanted[query_id] for query_id in held] == [0, 1, 0, 0, 0, 0], "what is skipped is for somebody else"
    again = grid.post("grid/claim", count=96, class_id=grid.classes[0])["queries"]
    assert held[1] not in [query["query_id"] for query in again], "and not for the same person"  # type: ignore[attr-defined]
