"""Agreement in a project, against the measures on the same answers, and the pages that show it."""

from __future__ import annotations

import re
from html import unescape

import pytest
from sqlalchemy import select

from app.database import Database
from app.records import Annotation, Image, Outcome, Query, QuerySource, Role
from app.services import reviewing
from app.services.agreement import coincidences, krippendorff_alpha
from app.services.reporting.quality import agreement_report
from tests.factories import classes_of, make_project, make_round, make_user
from tests.service.answers import image_at, make_answered, say
from tests.service.web import HTMX, Web, token_of, web

__all__ = ["web"]

ANNA, BERT, CARL = "0012210012?1", "0012110002??", "001220.0120!"


def answered(database: Database) -> tuple[int, list[str]]:
    with database.transaction() as session:
        people = [make_user(session) for _ in range(3)]
        words = (ANNA, BERT, CARL)
        project = make_answered(session, {who.id: word for who, word in zip(people, words, strict=True)})
        session.commit()
        return project.id, [who.name for who in people]


def test_a_report_is_made_of_the_answers_that_give_a_class(database: Database) -> None:
    project_id, [anna, bert, carl] = answered(database)
    said = [
        {who: int(letter) for who, letter in enumerate(column) if letter.isdigit()}
        for column in zip(ANNA, BERT, CARL, strict=True)
    ]
    several = [image for image in said if len(image) > 1]
    with database.transaction() as session:
        report = agreement_report(session, project_id)
    assert (report.images, report.is_whole) == (len(several), True) == (10, True)
    assert report.alpha == krippendorff_alpha(coincidences(several))
    assert report.fleiss is not None
    assert (report.fleiss.answers, report.fleiss.images) == (3, 9)
    assert [(row.name, row.answers, row.images) for row in report.classes] == [("0", 13, 6), ("1", 8, 4), ("2", 8, 3)]
    people = {row.name: row for row in report.people}
    assert people[anna].images == 10
    assert people[anna].share == pytest.approx(8.5 / 10)
    pairs = {(row.one, row.other): (row.images, row.share) for row in report.pairs}
    assert pairs[anna, bert] == (10, 0.8)
    assert pairs[anna, carl] == (9, pytest.approx(8 / 9))
    assert pairs[bert, carl] == (9, pytest.approx(6 / 9))
    assert [(row.one, row.other, row.images) for row in report.mixed_up] == [("0", "1", 2), ("1", "2", 1)]


def test_what_was_not_said_blind_is_no_agreement(database: Database) -> None:
    with database.transaction() as session:
        people = [make_user(session) for _ in range(2)]
        project = make_answered(session, {people[0].id: "00", people[1].id: "10"})
        admin = make_user(session, role=Role.ADMIN)
        class_id = classes_of(session, project)[0].id
        image = image_at(session, project.id, 0)
        before = agreement_report(session, project.id)
        reviewing.decide(session, project.id, image.id, admin.id, outcome=Outcome.LABEL, class_id=class_id)
        assert agreement_report(session, project.id) == before
        for query in session.scalars(select(Query).where(Query.project_id == project.id)):
            query.source = QuerySource.AUDIT if query.image_id != image.id else query.source
        session.flush()
        assert agreement_report(session, project.id).images == 1


def test_answers_of_one_person_or_of_other_projects_are_left_out(database: Database) -> None:
    answered(database)
    with database.transaction() as session:
        project = make_project(session, 4)
        make_round(session, project, queries=4)
        say(session, project, make_user(session).id, {0: "0", 1: "1"})
        report = agreement_report(session, project.id)
    assert (report.images, report.alpha, report.fleiss) == (0, None, None)
    assert report.people == report.pairs == report.classes == report.mixed_up == ()


def test_the_page_tells_agreement_to_admins_only(web: Web) -> None:
    project_id, names = answered(web.database)
    page = unescape(web.admin().get(f"/projects/{project_id}/quality").text)
    with web.database.transaction() as session:
        alpha = agreement_report(session, project_id).alpha
    assert f"{alpha:.2f}" in page and "Krippendorff's alpha" in page
    assert all(name in page for name in names)
    assert "1 image waits for a review" in page  # the other one that somebody was unsure about is unusable
    for path in ("quality", "review"):
        assert web.annotator().get(f"/projects/{project_id}/{path}").status_code == 403
        assert web.admin().get(f"/projects/{2**40}/{path}").status_code == 404
    assert "/quality" not in web.annotator().get(f"/projects/{project_id}").text


def test_the_pages_of_a_project_without_overlap_say_what_to_do(web: Web) -> None:
    with web.database.transaction() as session:
        project_id = make_project(session).id
        session.commit()
    client = web.admin()
    page = unescape(client.get(f"/projects/{project_id}/quality").text)
    assert "This project wants one answer an image" in page
    assert "Nothing waits for a review" in client.get(f"/projects/{project_id}/review").text


def test_the_quality_page_asks_few_questions_of_the_database(web: Web) -> None:
    project_id, _ = answered(web.database)
    client = web.admin()
    client.get(f"/projects/{project_id}/quality")
    with web.counted() as statements:
        client.get(f"/projects/{project_id}/quality")
    assert len(statements) <= 20, statements


def test_the_history_says_by_what_rule_a_label_was_made_and_shows_reviews_apart(web: Web) -> None:
    with web.database.transaction() as session:
        people = [make_user(session).id for _ in range(3)]
        project = make_answered(session, dict(zip(people, ("00", "01", "12"), strict=True)))
        admin = make_user(session, role=Role.ADMIN).id
        class_id = classes_of(session, project)[2].id
        image = image_at(session, project.id, 1)
        reviewing.decide(session, project.id, image.id, admin, outcome=Outcome.LABEL, class_id=class_id)
        session.commit()
    page = web.annotator().get(f"/projects/{project.id}/rounds/0").text
    assert "Label 0 by majority (67% certain)" in page
    assert "Label 2 by review (100% certain)" in page
    assert "What admins decided where people disagreed or were unsure" in page


def test_one_post_decides_and_shows_the_next_image(web: Web) -> None:
    with web.database.transaction() as session:
        people = [make_user(session) for _ in range(2)]
        project = make_answered(session, {people[0].id: "010", people[1].id: "121"})
        images = session.scalars(select(Image.id).where(Image.project_id == project.id).order_by(Image.row)).all()
        classes = [known.id for known in classes_of(session, project)]
        session.commit()
    client, path = web.admin(), f"/projects/{project.id}/review"
    headers = {"X-Form-Token": token_of(client)}
    page = client.get(path).text
    assert f'src="/images/{images[0]}"' in page and people[0].name in page
    assert len(re.findall(r'class="is-given"', page)) == 2
    part = client.post(f"{path}/{images[0]}", data={"answer": classes[2], "row": 0}, headers=headers | HTMX)
    assert part.status_code == 200 and "<html" not in part.text
    assert 'data-said="Decided: 2. 2 left."' in part.text
    assert f'src="/images/{images[1]}" width' in part.text
    plain = client.post(f"{path}/{images[1]}", data={"answer": "unusable", "row": 1}, headers=headers)
    assert (plain.status_code, plain.headers["location"]) == (303, f"{path}?after=1")
    assert client.post(f"{path}/{images[1]}", data={"answer": "unusable"}, headers=headers).status_code == 409
    for wrong in ("", "skip", "unsure", "x"):
        assert client.post(f"{path}/{images[2]}", data={"answer": wrong}, headers=headers).status_code == 400
    back = client.post(path, headers=headers | HTMX)
    assert 'data-said="Taken back. 2 left."' in back.text and f'src="/images/{images[1]}" width' in back.text
    with web.database.transaction() as session:
        [standing] = session.scalars(
            select(Annotation.image_id)
            .join(Query, Query.id == Annotation.query_id)
            .where(
                Annotation.project_id == project.id,
                Query.source == QuerySource.REVIEW,
                Annotation.revoked_at.is_(None),
            )
        ).all()
    assert standing == images[0]
    sent = {"X-Form-Token": token_of(annotator := web.annotator(), "/")}
    assert annotator.post(f"{path}/{images[2]}", data={"answer": classes[0]}, headers=sent).status_code == 403
