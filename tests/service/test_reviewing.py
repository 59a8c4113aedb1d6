"""What happens where people disagree or are unsure: what waits, who decides, and what that leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

import pytest
from sqlalchemy import select

from app.database import Database
from app.errors import AnswerGone, BadInput, Conflict, LeaseLost, NotFound
from app.records import (
    Annotation,
    LabelChange,
    LabelRule,
    Outcome,
    Project,
    PseudoLabel,
    Query,
    QuerySource,
    ReviewReason,
    Role,
    RoundState,
)
from app.services import claiming, labeling, reviewing, rounds, snapshots
from app.services.labeling import Answer
from app.services.locks import lock_project
from app.services.reporting.review_queue import review_queue, waiting_for_review
from app.services.rounds import RankedImage, RoundResult
from tests.factories import classes_of, make_entries, make_project, make_round, make_user
from tests.service.answers import image_at, make_answered, say


@dataclass
class Scene:
    project_id: int
    people: list[int]
    admin: int
    classes: dict[str, int]


def scene(database: Database, *words: str, **options: object) -> Scene:
    with database.transaction() as session:
        people = [make_user(session).id for _ in words]
        project = make_answered(session, dict(zip(people, words, strict=True)), **options)  # type: ignore[arg-type]
        admin = make_user(session, role=Role.ADMIN).id
        classes = {known.name: known.id for known in classes_of(session, project)}
        session.commit()
    return Scene(project.id, people, admin, classes)


def decide(database: Database, made: Scene, row: int, word: str) -> None:
    with database.transaction() as session:
        outcome = Outcome.UNUSABLE if word == "!" else Outcome.LABEL
        image = image_at(session, made.project_id, row)
        class_id = made.classes.get(word)
        reviewing.decide(session, made.project_id, image.id, made.admin, outcome=outcome, class_id=class_id)
        session.commit()


def state(database: Database, made: Scene, row: int) -> tuple[str | None, str | None, float | None, str | None]:
    names = {class_id: name for name, class_id in made.classes.items()}
    with database.transaction() as session:
        image = image_at(session, made.project_id, row)
        label = None if image.label_class_id is None else names[image.label_class_id]
        return label, image.label_rule, image.label_certainty, image.review_reason


def used(database: Database, made: Scene) -> int:
    with database.transaction() as session:
        return session.get_one(Project, made.project_id).labels_used


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("00", ("0", LabelRule.MAJORITY, 1.0, None)),
        ("01", (None, None, None, ReviewReason.NO_MAJORITY)),
        ("001", ("0", LabelRule.MAJORITY, 2 / 3, None)),
        ("012", (None, None, None, ReviewReason.NO_MAJORITY)),
        ("0012", (None, None, None, ReviewReason.NO_MAJORITY)),  # the commonest, but no more than half
        ("0?", ("0", LabelRule.MAJORITY, 1.0, ReviewReason.UNSURE)),
        ("01?", (None, None, None, ReviewReason.UNSURE)),
        ("??", (None, None, None, ReviewReason.UNSURE)),
        ("0", ("0", LabelRule.MAJORITY, 1.0, None)),
        ("0!", ("0", LabelRule.MAJORITY, 1.0, None)),  # nobody is asked to decide about what nobody can label
        ("01!", (None, None, None, None)),
        ("?!", (None, None, None, None)),
    ],
)
def test_a_label_is_a_majoritys_and_everything_else_waits_for_a_review(
    database: Database, said: str, wanted: tuple[object, ...]
) -> None:
    assert state(database, scene(database, *said), 0) == wanted


def test_a_review_settles_the_label_and_is_not_paid_from_the_budget(database: Database) -> None:
    made = scene(database, "01", "10", budget=4)
    before = used(database, made)
    decide(database, made, 0, "2")
    assert state(database, made, 0) == ("2", LabelRule.REVIEW, 1.0, None)
    assert before == used(database, made) == 4, "the budget is spent, and a review is possible all the same"
    with database.transaction() as session:
        image = image_at(session, made.project_id, 0)
        review = session.scalars(select(Query).where(Query.source == QuerySource.REVIEW, Query.image_id == image.id))
        assert review.one().closed_at is not None
        of_admin = session.scalars(select(Annotation).where(Annotation.user_id == made.admin)).one()
        assert (of_admin.counted, of_admin.class_id) == (True, made.classes["2"])
        rows = snapshots.read_snapshot(session, session.get_one(Project, made.project_id), made.classes.values())
        assert rows.labelled == [(0, made.classes["2"])]
        assert 1 not in rows.candidates, "what waits for a reviewer is asked nobody else"


def test_a_reviewer_may_have_answered_the_image_before(database: Database) -> None:
    made = scene(database, "0", "1")
    made.admin = made.people[0]
    decide(database, made, 0, "1")
    assert state(database, made, 0) == ("1", LabelRule.REVIEW, 1.0, None)
    assert used(database, made) == 2


def test_an_image_may_be_found_unusable_and_waits_no_more(database: Database) -> None:
    made = scene(database, "0", "1")
    decide(database, made, 0, "!")
    assert state(database, made, 0) == (None, None, None, None)
    with database.transaction() as session:
        assert image_at(session, made.project_id, 0).unusable_at is not None


def test_what_was_decided_is_decided_once(database: Database) -> None:
    made = scene(database, "0", "1")
    decide(database, made, 0, "0")
    with pytest.raises(Conflict, match="does not wait for a review any more"):
        decide(database, made, 0, "1")
    with database.transaction() as session, pytest.raises(NotFound):
        reviewing.decide(session, made.project_id, 2**40, made.admin, outcome=Outcome.LABEL, class_id=1)


def test_a_refused_decision_leaves_nothing(database: Database) -> None:
    made, other = scene(database, "0", "1"), scene(database, "0", "1")
    with pytest.raises(BadInput, match="no such class"):
        made.classes["x"] = other.classes["0"]
        decide(database, made, 0, "x")
    with database.transaction() as session:
        assert not session.scalars(
            select(Query).where(Query.source == QuerySource.REVIEW, Query.project_id == made.project_id)
        ).all()
    assert state(database, made, 0)[3] is ReviewReason.NO_MAJORITY


def test_a_decision_is_taken_back_and_the_image_waits_again(database: Database) -> None:
    made = scene(database, "00", "11")
    decide(database, made, 0, "0")
    decide(database, made, 1, "1")
    with database.transaction() as session:
        assert reviewing.take_back(session, made.project_id, made.admin) == image_at(session, made.project_id, 1).id
        session.commit()
    assert state(database, made, 1) == (None, None, None, ReviewReason.NO_MAJORITY)
    assert state(database, made, 0) == ("0", LabelRule.REVIEW, 1.0, None)
    assert used(database, made) == 4
    decide(database, made, 1, "2")
    assert state(database, made, 1) == ("2", LabelRule.REVIEW, 1.0, None)
    with database.transaction() as session:
        reviewing.take_back(session, made.project_id, made.admin)
        reviewing.take_back(session, made.project_id, made.admin)
        with pytest.raises(AnswerGone, match="no decision"):
            reviewing.take_back(session, made.project_id, made.admin)


def test_nobody_else_is_asked_after_a_decision_and_answers_below_it_cannot_be_taken_back(database: Database) -> None:
    made = scene(database, "0", "1")
    decide(database, made, 0, "2")
    with database.transaction() as session:
        with pytest.raises(LeaseLost, match="a reviewer has decided"):
            labeling.undo(session, made.project_id, made.people[0], 60.0)
        other = make_user(session)
        assert claiming.claim(session, made.project_id, other.id, 5, 60.0) == []


def test_a_correction_below_a_review_is_kept_and_the_review_stands(database: Database) -> None:
    made = scene(database, "0", "1")
    decide(database, made, 0, "2")
    with database.transaction() as session:
        own = session.scalars(select(Annotation).where(Annotation.user_id == made.people[1])).one()
        corrected = Answer(
            client_id=uuid4(),
            project_id=made.project_id,
            query_id=own.query_id,
            user_id=made.people[1],
            outcome=Outcome.LABEL,
            class_id=made.classes["0"],
            corrects=own.client_id,
        )
        assert labeling.answer(session, corrected).counted
        session.commit()
    assert state(database, made, 0) == ("2", LabelRule.REVIEW, 1.0, None)


def test_a_correction_that_makes_a_majority_needs_no_review(database: Database) -> None:
    made = scene(database, "0", "1")
    with database.transaction() as session:
        own = session.scalars(select(Annotation).where(Annotation.user_id == made.people[1])).one()
        new = Answer(
            client_id=uuid4(), project_id=made.project_id, query_id=own.query_id, user_id=made.people[1],
            outcome=Outcome.LABEL, class_id=made.classes["0"], corrects=own.client_id,
        )  # fmt: skip
        labeling.answer(session, new)
        session.commit()
    assert state(database, made, 0) == ("0", LabelRule.MAJORITY, 1.0, None)


def test_a_label_that_takes_the_place_of_another_leaves_a_trail(database: Database) -> None:
    made = scene(database, "0", "?")
    assert state(database, made, 0)[0] == "0"
    decide(database, made, 0, "1")
    with database.transaction() as session:
        [change] = session.scalars(select(LabelChange).where(LabelChange.project_id == made.project_id)).all()
        assert (change.from_class_id, change.to_class_id) == (made.classes["0"], made.classes["1"])
        assert (change.rule, change.certainty) == (LabelRule.REVIEW, 1.0)


def test_disagreement_ends_the_label_of_a_model(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, 4, overlap=2)
        made = make_round(session, project, queries=1)
        make_entries(session, project, made, {2: 0})
        make_round(session, project, queries=1, first_row=2)
        for word in "01":
            say(session, project, make_user(session).id, {2: word})
        [entry] = session.scalars(select(PseudoLabel).where(PseudoLabel.project_id == project.id)).all()
        assert entry.superseded_reason == "people disagreed"


def test_a_round_does_not_ask_again_about_what_waits_and_a_review_makes_the_next_one_due(database: Database) -> None:
    made = scene(database, "0", "1", images=3)
    with database.transaction() as session:
        for person in made.people:
            say(session, session.get_one(Project, made.project_id), person, {1: "0", 2: "0"})
        begun = rounds.begin(session, lock_project(session, made.project_id))
        assert begun is not None
        ranking = [RankedImage(image_at(session, made.project_id, 0).id, QuerySource.ACQUISITION)]
        assert rounds.finish(session, begun.id, begun.attempt, RoundResult(ranking, 5, {}))
        assert session.scalars(select(Query).where(Query.round_id == begun.id)).all() == []
        assert not rounds.is_open(session, made.project_id)
        session.commit()
    decide(database, made, 0, "1")
    with database.transaction() as session:
        latest = rounds.latest_round(session, made.project_id)
        assert latest is not None and latest.state is RoundState.REQUESTED


def test_an_image_drawn_by_chance_stays_a_fair_one_when_a_reviewer_decides(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, 2, overlap=2)
        make_round(session, project, queries=2)
        for query in session.scalars(select(Query).where(Query.project_id == project.id)):
            query.source = QuerySource.RANDOM if query.rank == 1 else QuerySource.ACQUISITION
        for word in "01":
            say(session, project, make_user(session).id, {0: word, 1: word})
        admin = make_user(session, role=Role.ADMIN).id
        classes = [known.id for known in classes_of(session, project)]
        for row in (0, 1):
            image = image_at(session, project.id, row)
            reviewing.decide(session, project.id, image.id, admin, outcome=Outcome.LABEL, class_id=classes[0])
        assert snapshots.read_snapshot(session, project, classes).drawn == {0}


def test_the_queue_shows_who_said_what_in_order_and_comes_round(database: Database) -> None:
    made = scene(database, "0?02", "1?0?")
    with database.transaction() as session:
        assert waiting_for_review(session, made.project_id) == {ReviewReason.NO_MAJORITY: 1, ReviewReason.UNSURE: 2}
        first = review_queue(session, made.project_id)
        assert first.item is not None
        assert (first.item.row, first.waiting, first.item.reason) == (0, 3, ReviewReason.NO_MAJORITY)
        assert [one.class_name for one in first.item.opinions] == ["0", "1"]
        assert [len(first.item.given), len(first.ahead)] == [2, 2]
        rows = []
        for _ in range(4):
            shown = review_queue(session, made.project_id, rows[-1] if rows else -1)
            assert shown.item is not None
            rows.append(shown.item.row)
        assert rows == [0, 1, 3, 0]
        last = review_queue(session, made.project_id, 1).item
        assert last is not None and (last.label, last.certainty) == ("2", 1.0)
        assert [one.outcome for one in last.opinions] == [Outcome.LABEL, Outcome.UNSURE]
