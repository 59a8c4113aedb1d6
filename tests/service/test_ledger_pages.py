"""The ledger's page: what it lists, in which order, and how an admin corrects an entry there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from uuid import uuid4

import pytest
from sqlalchemy import select

from app.records import Image, Outcome, Project, PseudoLabel, Query, QuerySource
from app.services import claiming, labeling, projects
from app.services.labeling import Answer
from app.services.reporting.agreement import Agreement
from tests.factories import classes_of, make_entries, make_project, make_round
from tests.service.web import HTMX, LABELER, Web, make_history, token_of, web
from worker.learning.evaluation import wilson_interval

__all__ = ["web"]

CARD = re.compile(r'id="entry-(\d+)"')


@dataclass(frozen=True)
class Made:
    """A project whose ledger holds rows 0 to 3, the least confident first, labelled 0, 1, 2, 0 by round 1."""

    project_id: int
    class_ids: list[int]
    entry_ids: list[int]

    @property
    def path(self) -> str:
        return f"/projects/{self.project_id}/ledger"


def make(web: Web, entries: int = 4, images: int = 30) -> Made:
    with web.database.transaction() as session:
        project = make_project(session, images, recipe=LABELER)
        make_round(session, project, queries=0)
        labelling = make_round(session, project, queries=0)
        make_entries(session, project, labelling, {row: row % 3 for row in range(entries)}, confidence=0.5)
        class_ids = [known.id for known in classes_of(session, project)]
        entry_ids = session.scalars(
            select(PseudoLabel.id).where(PseudoLabel.project_id == project.id).order_by(PseudoLabel.id)
        ).all()
        session.commit()
    return Made(project.id, class_ids, list(entry_ids))


def listed(page: str) -> list[int]:
    return [int(found) for found in CARD.findall(page)]


def test_what_stands_is_listed_least_confident_first_and_by_class(web: Web) -> None:
    made, client = make(web), web.annotator()
    page = client.get(made.path).text
    assert listed(page) == made.entry_ids
    assert "Round 1 · 50.0%" in page
    assert listed(client.get(f"{made.path}?label={made.class_ids[0]}").text) == [made.entry_ids[0], made.entry_ids[3]]
    assert listed(client.get(f"{made.path}?label=99999999999999999999").text) == made.entry_ids, "no such class"


def test_a_long_ledger_is_paged_without_losing_or_repeating_an_entry(web: Web) -> None:
    made, client = make(web, entries=130, images=130), web.annotator()
    with web.database.transaction() as session:  # equal confidences: the order is still one
        for entry in session.scalars(select(PseudoLabel).where(PseudoLabel.project_id == made.project_id)):
            entry.confidence = 0.75
        session.commit()
    seen, address = list[int](), made.path
    while True:
        page = client.get(address).text
        seen += listed(page)
        more = re.search(r'href="\?([^"]*after=\d+[^"]*)#entries"', page)
        if more is None:
            break
        address = f"{made.path}?{more.group(1).replace('&amp;', '&')}"
    assert seen == made.entry_ids


def test_the_history_of_an_image_stands_on_its_entry_and_on_the_round_that_asked_about_it(web: Web) -> None:
    made, person = make(web), web.person()
    with web.database.transaction() as session:
        project = session.get_one(Project, made.project_id)
        make_round(session, project, queries=1)  # round 2 asks about row 0
        [ask] = claiming.claim(session, project.id, person.id, 1, 60.0)
        labeling.answer(session, Answer(uuid4(), project.id, ask.query_id, person.id, Outcome.LABEL, made.class_ids[1]))
        later = make_round(session, project, queries=0)
        make_entries(session, project, later, {1: 2})
        session.commit()
    client = web.annotator()
    page = unescape(client.get(made.path).text)
    assert len(listed(page)) == 1
    assert f"Was labelled 1 by round 1's model (50.1%); round {later.number}'s model says 2" in page
    answered = client.get(f"{made.path}?show=answered").text
    assert listed(answered) == made.entry_ids[:1]
    assert "A person said 1" in answered
    withdrawn = unescape(client.get(f"{made.path}?show=withdrawn").text)
    assert sorted(listed(withdrawn)) == made.entry_ids[1:]
    assert f"Round {later.number}'s model no longer says so" in withdrawn
    round_page = unescape(client.get(f"/projects/{made.project_id}/rounds/2").text)
    assert "Was labelled 0 by round 1's model (50.0%); a person said 1" in round_page


def test_an_admin_corrects_an_entry_and_gets_the_card_or_the_page(web: Web) -> None:
    made, client = make(web), web.admin()
    headers = {"X-Form-Token": token_of(client, made.path)}
    first, second, third, _ = made.entry_ids
    card = client.post(f"{made.path}/{first}", data={"answer": made.class_ids[2]}, headers=headers | HTMX)
    assert card.status_code == 200
    assert listed(card.text) == [first]
    assert "A person said 2" in card.text
    assert "<form" not in card.text
    plain = client.post(f"{made.path}/{second}", data={"answer": "unsure"}, headers=headers)
    assert (plain.status_code, plain.headers["location"]) == (303, made.path)
    assert listed(client.get(made.path).text) == made.entry_ids[2:]
    with web.database.transaction() as session:
        image = session.get_one(Image, session.get_one(PseudoLabel, first).image_id)
        assert image.label_class_id == made.class_ids[2]
        assert session.scalars(select(Query.source).where(Query.image_id == image.id)).all() == [QuerySource.AUDIT]
    page = client.get(f"/projects/{made.project_id}/rounds/1").text
    assert "What an admin said on the" in page
    assert page.count('class="query"') == 2
    for wrong in ("", "skip", "0", "x"):
        assert client.post(f"{made.path}/{third}", data={"answer": wrong}, headers=headers).status_code == 400
    assert client.post(f"{made.path}/{first}", data={"answer": "unsure"}, headers=headers).status_code == 409


def test_a_correction_beyond_the_budget_says_how_to_go_on_and_leaves_the_entry(web: Web) -> None:
    made, client = make(web), web.admin()
    with web.database.transaction() as session:
        project = session.get_one(Project, made.project_id)
        project.budget = project.labels_used = 5
        session.commit()
    headers = {"X-Form-Token": token_of(client, made.path)}
    refused = client.post(
        f"{made.path}/{made.entry_ids[0]}", data={"answer": made.class_ids[0]}, headers=headers | HTMX
    )
    assert (refused.status_code, refused.headers["hx-retarget"]) == (409, "#notice")
    assert "raise the budget" in refused.text.lower()
    assert listed(client.get(made.path).text) == made.entry_ids
    with web.database.transaction() as session:
        assert session.scalars(select(Query).where(Query.project_id == made.project_id)).all() == []


def test_annotators_see_the_ledger_and_correct_nothing(web: Web) -> None:
    made, client = make(web), web.annotator()
    page = client.get(made.path).text
    assert listed(page) == made.entry_ids
    assert "What is it?" not in page
    headers = {"X-Form-Token": token_of(client, made.path)}
    assert (
        client.post(f"{made.path}/{made.entry_ids[0]}", data={"answer": "unsure"}, headers=headers).status_code == 403
    )


def test_a_project_says_what_stands_by_which_threshold_and_how_often_people_agreed(web: Web) -> None:
    project_id, person = make_history(web), web.person()
    client = web.annotator()
    page = client.get(f"/projects/{project_id}").text
    assert "Labelled automatically" in page
    assert "<strong>8</strong> images, by “Above a threshold”" in page
    assert "97.0%" in page
    assert "no image of the ledger was drawn and answered so far" in page
    with web.database.transaction() as session:
        project = session.get_one(Project, project_id)
        make_round(session, project, queries=3, first_row=42)
        for query in session.scalars(select(Query).where(Query.project_id == project_id, Query.closed_at.is_(None))):
            query.source = QuerySource.RANDOM
        session.flush()
        for ask in claiming.claim(session, project_id, person.id, 30, 60.0):
            class_id = projects.classes_of(session, project_id)[2].id
            labeling.answer(session, Answer(uuid4(), project_id, ask.query_id, person.id, Outcome.LABEL, class_id))
        session.commit()
    page = client.get(f"/projects/{project_id}").text
    low, high = wilson_interval(1, 3)
    assert f"{low * 100:.1f}–{high * 100:.1f}%" in page
    assert "people agreed with 1 of 3 that a uniform draw asked them about" in page


def test_a_project_without_a_pseudo_labeler_says_nothing_of_it_and_its_ledger_is_empty(web: Web) -> None:
    with web.database.transaction() as session:
        project_id = make_project(session).id
        session.commit()
    client = web.annotator()
    assert "Labelled automatically" not in client.get(f"/projects/{project_id}").text
    assert "Nothing is labelled automatically" in client.get(f"/projects/{project_id}/ledger").text


def test_a_round_says_what_it_added_and_withdrew(web: Web) -> None:
    page = web.annotator().get(f"/projects/{make_history(web, rounds=3)}/rounds/2").text
    assert "+3 −5" in page
    assert "6 stood" in page
    assert "above a confidence of 97.0%" in page
    assert "and 8 that models labelled" in page


def test_intervals_on_pages_are_those_of_the_worker() -> None:
    for count in (1, 3, 20, 1000):
        for right in {0, 1, count // 2, count}:
            agreement = Agreement(right, count)
            assert (agreement.low, agreement.high) == pytest.approx(wilson_interval(right, count), abs=1e-12)
    nothing = Agreement(0, 0)
    assert (nothing.share, nothing.low, nothing.high) == (None, None, None)
