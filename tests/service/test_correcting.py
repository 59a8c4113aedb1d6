"""Corrections: one answer takes the place of another, nothing is lost, and nobody is asked too often."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from app.database import Database
from app.errors import BudgetSpent, ClassRetired, LeaseLost
from app.records import Annotation, Image, Lease, Outcome, Query, QuerySource
from app.services import claiming, labeling, projects, rounds
from app.services.labeling import Answer
from app.services.locks import lock_project
from app.services.reporting.own_answers import PAGE_SIZE, own_answers
from app.services.rounds import RankedImage, RoundResult
from tests.factories import make_project, make_round, make_user
from tests.service.test_answering import LEASE, Scene


def kept(scene: Scene) -> list[Annotation]:
    wanted = select(Annotation).where(Annotation.project_id == scene.project.id).order_by(Annotation.id)
    return list(scene.session.scalars(wanted))


def test_a_correction_takes_the_place_of_the_answer(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        [ask] = scene.claim()
        first, second = uuid4(), uuid4()
        scene.answer(ask, client_id=first, chosen=0)
        corrected = scene.answer(ask, client_id=second, chosen=1, corrects=first)
        assert corrected.counted
        old, new = kept(scene)
        assert (old.client_id, old.revoked_at is None, new.client_id, new.revoked_at) == (first, False, second, None)
        assert (old.corrects_id, new.corrects_id) == (None, old.id)
        assert scene.image(ask).label_class_id == scene.classes[1].id
        assert scene.project.labels_used == 1
        assert session.get_one(Query, ask.query_id).closed_at is not None, "nobody is asked again"
        assert scene.claim(10)[0].query_id != ask.query_id


def test_a_correction_sent_twice_is_one(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        [ask] = scene.claim()
        first, second = uuid4(), uuid4()
        scene.answer(ask, client_id=first)
        scene.answer(ask, client_id=second, chosen=1, corrects=first)
        again = scene.answer(ask, client_id=second, chosen=1, corrects=first)
        assert (again.replay, again.counted, len(kept(scene))) == (True, True, 2)
        assert scene.project.labels_used == 1


def test_two_corrections_of_one_answer_leave_the_later_one(database: Database) -> None:
    """Two pages of one person know the same answer; each corrects it."""
    with database.transaction() as session:
        scene = Scene(session)
        [ask] = scene.claim()
        first = uuid4()
        scene.answer(ask, client_id=first, chosen=0)
        assert scene.answer(ask, chosen=1, corrects=first).counted
        assert scene.answer(ask, chosen=2, corrects=first).counted
        assert [known.revoked_at is None for known in kept(scene)] == [False, False, True]
        assert scene.image(ask).label_class_id == scene.classes[2].id
        assert scene.project.labels_used == 1


def test_a_correction_whose_answer_was_taken_back_is_an_answer(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        [ask] = scene.claim()
        first = uuid4()
        scene.answer(ask, client_id=first)
        scene.undo()
        assert scene.answer(ask, chosen=1, corrects=first).counted
        assert scene.image(ask).label_class_id == scene.classes[1].id
        assert session.scalar(select(func.count()).where(Lease.query_id == ask.query_id)) == 0


def test_nobody_corrects_the_answer_of_somebody_else(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session, people=2)
        [ask] = scene.claim()
        theirs = uuid4()
        scene.answer(ask, client_id=theirs, chosen=0)
        refused = scene.answer(ask, chosen=1, person=1, corrects=theirs)
        assert isinstance(refused.refusal, LeaseLost)
        assert scene.image(ask).label_class_id == scene.classes[0].id


@pytest.mark.parametrize("before", list(Outcome))
@pytest.mark.parametrize("after", list(Outcome))
def test_every_answer_can_become_every_other(database: Database, before: Outcome, after: Outcome) -> None:
    with database.transaction() as session:
        scene = Scene(session, queries=2, people=2)
        [ask] = scene.claim()
        first = uuid4()
        scene.answer(ask, before, client_id=first, chosen=0)
        assert scene.answer(ask, after, chosen=1, corrects=first).counted
        image, query = scene.image(ask), session.get_one(Query, ask.query_id)
        is_label = after is Outcome.LABEL
        assert (image.label_class_id == scene.classes[1].id) == is_label
        assert scene.project.labels_used == int(is_label)
        assert (image.unusable_at is not None) == (after is Outcome.UNUSABLE)
        assert (query.open_answers, query.closed_at is None) == ((1, True) if after is Outcome.SKIP else (0, False))
        assert (ask.query_id in {other.query_id for other in scene.claim(4, person=1)}) == (after is Outcome.SKIP)
        assert ask.query_id not in {own.query_id for own in scene.claim(4)}, "never the same person twice"


def test_a_skip_that_somebody_else_has_taken_up_cannot_become_a_label(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session, queries=1, people=2)
        [ask] = scene.claim()
        first = uuid4()
        scene.answer(ask, Outcome.SKIP, client_id=first)
        [theirs] = scene.claim(person=1)
        refused = scene.answer(ask, chosen=1, corrects=first)
        assert isinstance(refused.refusal, LeaseLost)
        assert scene.answer(theirs, chosen=2, person=1).counted
        assert scene.image(ask).label_class_id == scene.classes[2].id
        assert [(known.outcome, known.counted, known.revoked_at) for known in kept(scene)] == [
            (Outcome.SKIP, True, None), (Outcome.LABEL, False, None), (Outcome.LABEL, True, None),
        ]  # fmt: skip


def test_correcting_a_label_is_possible_when_the_budget_is_spent_but_adding_one_is_not(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session, budget=1)
        first, second = scene.claim(1)[0], None
        label, unsure = uuid4(), uuid4()
        projects.set_budget(session, scene.project.id, 2)
        [second] = scene.claim()
        scene.answer(first, client_id=label)
        scene.answer(second, Outcome.UNSURE, client_id=unsure)
        projects.set_budget(session, scene.project.id, 1)
        assert scene.answer(first, chosen=1, corrects=label).counted
        refused = scene.answer(second, chosen=1, corrects=unsure)
        assert isinstance(refused.refusal, BudgetSpent)
        assert scene.project.labels_used == 1
        assert session.scalars(select(Annotation.revoked_at).where(Annotation.client_id == unsure)).one() is None


def test_a_correction_to_a_retired_class_leaves_the_answer_as_it_was(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        [ask] = scene.claim()
        first = uuid4()
        scene.answer(ask, client_id=first, chosen=0)
        scene.classes[1].retired_at = session.scalar(select(func.now()))
        assert isinstance(scene.answer(ask, chosen=1, corrects=first).refusal, ClassRetired)
        assert scene.image(ask).label_class_id == scene.classes[0].id
        assert session.scalars(select(Annotation.revoked_at).where(Annotation.client_id == first)).one() is None


def test_a_correction_with_overlap_changes_the_majority(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session, people=3, overlap=3)
        ids = [uuid4() for _ in range(3)]
        for person, chosen in enumerate([1, 2, 2]):
            [ask] = scene.claim(person=person)
            scene.answer(ask, chosen=chosen, person=person, client_id=ids[person])
        scene.answer(ask, chosen=1, person=2, corrects=ids[2])
        assert scene.image(ask).label_class_id == scene.classes[1].id
        assert scene.project.labels_used == 3


def ask_again(scene: Scene, image_ids: list[int]) -> None:
    """End a round with a ranking of these images."""
    if not rounds.is_open(scene.session, scene.project.id):
        rounds.request_by_admin(scene.session, scene.project.id)
    begun = rounds.begin(scene.session, lock_project(scene.session, scene.project.id))
    assert begun is not None
    ranking = [RankedImage(image_id, QuerySource.ACQUISITION) for image_id in image_ids]
    assert rounds.finish(scene.session, begun.id, begun.attempt, RoundResult(ranking, len(ranking), {}))


@pytest.mark.parametrize("after", list(Outcome))
def test_correcting_an_answer_whose_image_is_asked_again_never_asks_twice(database: Database, after: Outcome) -> None:
    """With overlap 2, one answer given and a new ranking that asks about the same image."""
    with database.transaction() as session:
        scene = Scene(session, queries=1, people=3, overlap=2)
        [ask] = scene.claim()
        first = uuid4()
        scene.answer(ask, client_id=first, chosen=0)
        ask_again(scene, [ask.image_id])
        again = session.scalars(select(Query).where(Query.image_id == ask.image_id, Query.closed_at.is_(None))).one()
        assert again.id != ask.query_id
        assert scene.answer(ask, after, chosen=1, corrects=first).counted
        image = scene.image(ask)
        assert image.label_class_id is None, "no label while people are asked"
        assert (image.unusable_at is not None) == (after is Outcome.UNUSABLE)
        session.refresh(again)
        assert (again.closed_at is None) == (after is not Outcome.UNUSABLE)
        assert scene.claim() == [], "the person is not asked again"
        if after is Outcome.UNUSABLE:
            return
        missing = (1, 2) if after is Outcome.SKIP else (1,)  # of two answers
        for person in missing:
            [theirs] = scene.claim(person=person)
            scene.answer(theirs, chosen=1, person=person)
        assert scene.claim(person=2) == [], "nobody is asked more often than wanted"
        assert scene.image(ask).label_class_id == scene.classes[1].id


def test_a_correction_is_learned_from(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session, queries=1)
        [ask] = scene.claim()
        first = uuid4()
        scene.answer(ask, client_id=first)
        others = select(Image.id).where(Image.project_id == scene.project.id, Image.id != ask.image_id)
        ask_again(scene, list(session.scalars(others)))
        assert scene.open_rounds() == []
        for other in scene.claim(10):
            scene.answer(other, Outcome.SKIP)
        [requested] = scene.open_rounds()
        assert requested.number == 2
        scene.answer(ask, chosen=1, corrects=first)
        assert len(scene.open_rounds()) == 1


def test_own_answers_are_read_a_page_at_a_time_newest_first(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, PAGE_SIZE * 2 + 10)
        make_round(session, project, PAGE_SIZE * 2 + 5)
        me, somebody = make_user(session).id, make_user(session).id
        classes = projects.classes_of(session, project.id)

        def say(user_id: int, client_id: UUID, corrects: UUID | None = None, chosen: int = 0) -> int:
            own = select(Annotation.query_id).where(Annotation.client_id == corrects)
            query_id = session.scalar(own) or claiming.claim(session, project.id, user_id, 1, LEASE)[0].query_id
            given = Answer(
                client_id, project.id, query_id, user_id, Outcome.LABEL, classes[chosen].id, corrects=corrects
            )
            labeling.answer(session, given)
            return query_id

        ids = [uuid4() for _ in range(PAGE_SIZE + 3)]
        queries = [say(me, client_id) for client_id in ids]
        say(somebody, uuid4())
        labeling.undo(session, project.id, me, LEASE)
        corrected = uuid4()
        say(me, corrected, corrects=ids[0], chosen=1)
        classes[1].retired_at = session.scalar(select(func.now()))
        session.flush()

        first = own_answers(session, project.id, me)
        assert len(first.answers) == PAGE_SIZE and first.next_before == first.answers[-1].annotation_id
        newest = first.answers[0]
        assert (newest.client_id, newest.ask.query_id) == (corrected, queries[0])
        assert (newest.class_id, newest.class_name) == (classes[1].id, classes[1].name), "also a retired class"
        rest = own_answers(session, project.id, me, first.next_before)
        seen = [known.client_id for known in first.answers + rest.answers]
        assert seen == [corrected, *reversed(ids[1:-1])]
        assert rest.next_before is None
