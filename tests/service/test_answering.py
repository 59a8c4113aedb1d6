"""Answers: kept once, counted once, taken back, and the rounds that they make due."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database import Database
from app.errors import AnswerGone, BadInput, BudgetSpent, ClassRetired, Conflict, LeaseLost, NotFound
from app.outbox import Message, Task, TaskName
from app.records import (
    Annotation,
    Image,
    Lease,
    Model,
    Outcome,
    Project,
    PseudoLabel,
    Query,
    Round,
    RoundReason,
    RoundState,
    UnusableReason,
)
from app.services import claiming, labeling, projects, snapshots
from app.services.claiming import Ask
from app.services.labeling import Answer, Answered
from tests.factories import classes_of, make_project, make_round, make_user

LEASE = 60.0


class Scene:
    """One project with a batch, one person, and short ways to act."""

    def __init__(self, session: Session, queries: int = 4, people: int = 1, **options: int) -> None:
        self.session = session
        self.project: Project = make_project(session, images=queries + 4, **options)
        self.round = make_round(session, self.project, queries)
        self.classes = classes_of(session, self.project)
        self.people = [make_user(session).id for _ in range(people)]

    def claim(self, count: int = 1, person: int = 0) -> list[Ask]:
        return claiming.claim(self.session, self.project.id, self.people[person], count, LEASE)

    def answer(
        self,
        ask: Ask,
        outcome: Outcome = Outcome.LABEL,
        *,
        chosen: int = 0,
        person: int = 0,
        client_id: UUID | None = None,
        reason: UnusableReason | None = None,
        corrects: UUID | None = None,
    ) -> Answered:
        given = Answer(
            client_id=client_id or uuid4(),
            project_id=self.project.id,
            query_id=ask.query_id,
            user_id=self.people[person],
            outcome=outcome,
            class_id=self.classes[chosen].id if outcome is Outcome.LABEL else None,
            seconds_taken=1.5,
            reason=reason,
            corrects=corrects,
        )
        return labeling.answer(self.session, given)

    def undo(self, person: int = 0) -> Ask:
        return labeling.undo(self.session, self.project.id, self.people[person], LEASE)

    def image(self, ask: Ask) -> Image:
        self.session.expire_all()
        return self.session.get_one(Image, ask.image_id)

    def open_rounds(self) -> list[Round]:
        wanted = select(Round).where(Round.project_id == self.project.id, Round.state == RoundState.REQUESTED)
        return list(self.session.scalars(wanted))


def test_the_same_answer_twice_is_one_annotation(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        [ask] = scene.claim()
        client_id = uuid4()
        first = scene.answer(ask, client_id=client_id)
        again = scene.answer(ask, client_id=client_id)
        assert (first.replay, again.replay, again.counted) == (False, True, True)
        assert first.annotation_id == again.annotation_id
        assert session.scalar(select(func.count()).where(Annotation.project_id == scene.project.id)) == 1
        assert scene.project.labels_used == 1


def test_the_same_answer_sent_by_many_requests_at_once_is_one_annotation(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        [ask] = scene.claim()
        session.commit()
        given = Answer(uuid4(), scene.project.id, ask.query_id, scene.people[0], Outcome.LABEL, scene.classes[0].id)
    barrier = Barrier(6)

    def send(_request: int) -> Answered:
        barrier.wait()
        with database.transaction() as session:
            answered = labeling.answer(session, given)
            session.commit()
        return answered

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(send, range(6)))
    assert len({answered.annotation_id for answered in answers}) == 1
    assert sum(not answered.replay for answered in answers) == 1


def test_an_id_that_another_answer_has_is_refused(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        first, second = scene.claim(2)
        client_id = uuid4()
        scene.answer(first, client_id=client_id)
        with pytest.raises(Conflict, match="another answer has it"):
            scene.answer(second, client_id=client_id)


def test_a_label_is_written_to_the_image_and_closes_the_query(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        [ask] = scene.claim()
        scene.answer(ask, chosen=2)
        image = scene.image(ask)
        assert (image.label_class_id, image.has_human_label) == (scene.classes[2].id, True)
        assert session.get_one(Query, ask.query_id).closed_at is not None


def test_with_overlap_the_class_that_most_people_gave_becomes_the_label(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session, people=3, overlap=3)
        for person, chosen in enumerate([1, 2, 2]):
            [ask] = scene.claim(person=person)
            assert scene.image(ask).label_class_id is None, "not before all answers are in"
            scene.answer(ask, chosen=chosen, person=person)
        assert scene.image(ask).label_class_id == scene.classes[2].id
        assert scene.project.labels_used == 3


@pytest.mark.parametrize("chosen", ["foreign", "missing"])
def test_a_class_that_the_project_does_not_have_is_refused_and_nothing_is_kept(database: Database, chosen: str) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        foreign = classes_of(session, make_project(session, images=1))[0]
        class_id = {"foreign": foreign.id, "missing": None}[chosen]
        [ask] = scene.claim()
        with pytest.raises(BadInput, match="no such class"):
            labeling.answer(
                session, Answer(uuid4(), scene.project.id, ask.query_id, scene.people[0], Outcome.LABEL, class_id)
            )
        assert session.scalar(select(func.count()).where(Annotation.project_id == scene.project.id)) == 0
        assert session.scalar(select(func.count()).where(Lease.query_id == ask.query_id)) == 1, "still held"


def test_a_class_retired_meanwhile_is_told_and_the_image_stays_with_the_person(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        scene.classes[1].retired_at = session.scalar(select(func.now()))
        [ask] = scene.claim()
        late = scene.answer(ask, chosen=1)
        assert isinstance(late.refusal, ClassRetired)
        kept = session.get_one(Annotation, late.annotation_id)
        assert (kept.counted, kept.class_id) == (False, scene.classes[1].id)
        assert session.scalar(select(func.count()).where(Lease.query_id == ask.query_id)) == 1
        assert scene.answer(ask, chosen=2).counted
        assert scene.image(ask).label_class_id == scene.classes[2].id


def test_why_an_image_is_unusable_is_kept_and_only_that(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        first, second = scene.claim(2)
        blurred = scene.answer(first, Outcome.UNUSABLE, reason=UnusableReason.BLURRED)
        assert session.get_one(Annotation, blurred.annotation_id).reason is UnusableReason.BLURRED
        with pytest.raises(BadInput, match="'skip' has none"):
            scene.answer(second, Outcome.SKIP, reason=UnusableReason.BLURRED)


def test_a_query_of_another_project_is_not_found(database: Database) -> None:
    with database.transaction() as session:
        scene, other = Scene(session), Scene(session)
        [ask] = other.claim()
        with pytest.raises(NotFound, match=f"query {ask.query_id}"):
            scene.answer(ask)


def test_labels_stop_at_the_budget_and_the_answer_beyond_it_is_kept(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session, budget=3)
        asks = scene.claim(3)
        for ask in asks[:2]:
            assert scene.answer(ask).counted
        projects.set_budget(session, scene.project.id, 2)
        refused = scene.answer(asks[2])
        assert isinstance(refused.refusal, BudgetSpent)
        assert scene.project.labels_used == 2
        kept = session.get_one(Annotation, refused.annotation_id)
        assert (kept.counted, kept.class_id) == (False, scene.classes[0].id)
        assert scene.image(asks[2]).label_class_id is None
        assert scene.claim(3) == []


def test_skip_leaves_the_image_to_others_and_never_shows_it_again(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session, queries=1, people=2)
        [ask] = scene.claim()
        scene.answer(ask, Outcome.SKIP)
        assert scene.claim() == []
        [same] = scene.claim(person=1)
        assert same.query_id == ask.query_id


def test_unsure_closes_the_query_without_a_label(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session, queries=1, people=2)
        [ask] = scene.claim()
        scene.answer(ask, Outcome.UNSURE)
        assert scene.claim(person=1) == []
        assert scene.image(ask).label_class_id is None
        assert scene.project.labels_used == 0


def test_an_unusable_image_leaves_the_pool(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session, people=2, overlap=2)
        [ask] = scene.claim()
        [other] = scene.claim(person=1)
        assert other.query_id == ask.query_id
        scene.answer(ask, Outcome.UNUSABLE)
        assert scene.image(ask).unusable_at is not None
        rows = snapshots.read_snapshot(session, scene.project, [known.id for known in scene.classes])
        assert scene.image(ask).row not in rows.candidates
        assert isinstance(scene.answer(other, person=1).refusal, LeaseLost)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_undo_takes_an_answer_back_and_hands_the_query_over_again(database: Database, outcome: Outcome) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        first, second = scene.claim(2)
        scene.answer(first)
        scene.answer(second, outcome)
        again = scene.undo()
        assert (again.query_id, again.image_id) == (second.query_id, second.image_id)
        image = scene.image(second)
        assert (image.label_class_id, image.unusable_at) == (None, None)
        assert scene.project.labels_used == 1
        assert scene.answer(again, chosen=1).counted
        assert scene.image(second).label_class_id == scene.classes[1].id
        assert scene.project.labels_used == 2


def test_undo_goes_back_as_far_as_ones_own_answers(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session, people=2)
        mine = scene.claim(2)
        [theirs] = scene.claim(person=1)
        for ask in mine:
            scene.answer(ask)
        scene.answer(theirs, person=1)
        assert [scene.undo().query_id, scene.undo().query_id] == [mine[1].query_id, mine[0].query_id]
        with pytest.raises(AnswerGone, match="no answer to take back"):
            scene.undo()
        assert scene.project.labels_used == 1, "the other person's answer stands"


def test_undo_can_name_the_answer_that_it_takes_back(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        first, second = scene.claim(2)
        client_id = uuid4()
        scene.answer(first, client_id=client_id)
        scene.answer(second)
        again = labeling.undo(session, scene.project.id, scene.people[0], LEASE, client_id)
        assert again.query_id == first.query_id
        retried = labeling.undo(session, scene.project.id, scene.people[0], LEASE, client_id)
        assert retried == again, "the reply to the first try may have been lost"
        assert scene.project.labels_used == 1
        scene.answer(again)
        with pytest.raises(Conflict, match="does not count any more"):
            labeling.undo(session, scene.project.id, scene.people[0], LEASE, client_id)
        with pytest.raises(Conflict, match="no answer to take back"):
            labeling.undo(session, scene.project.id, scene.people[0], LEASE, uuid4())


def test_a_skip_that_somebody_else_has_taken_up_cannot_be_undone(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session, queries=1, people=2)
        [ask] = scene.claim()
        scene.answer(ask, Outcome.SKIP)
        scene.claim(person=1)
        with pytest.raises(Conflict, match="passed to somebody else"):
            scene.undo()


def test_the_last_answer_of_a_batch_requests_exactly_one_round(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session, queries=4)
        outcomes = [Outcome.LABEL, Outcome.SKIP, Outcome.UNSURE, Outcome.UNUSABLE]
        for ask, outcome in zip(scene.claim(4), outcomes, strict=True):
            assert scene.open_rounds() == []
            scene.answer(ask, outcome)
        [requested] = scene.open_rounds()
        assert (requested.number, requested.reason) == (1, RoundReason.BATCH_ANSWERED)


def test_tasks_leave_after_the_commit_and_never_after_a_rollback(database: Database) -> None:
    sent: list[Message] = []
    listening = Database(database.engine.url.render_as_string(hide_password=False), sent.extend, 2)
    with listening.transaction() as session:
        scene = Scene(session, queries=1)
        [ask] = scene.claim()
        scene.answer(ask)
        assert sent == []
    assert sent == [], "rolled back"
    with listening.transaction() as session:
        scene = Scene(session, queries=1)
        [ask] = scene.claim()
        scene.answer(ask)
        session.commit()
    assert [message for message in sent if isinstance(message, Task)] == [Task(TaskName.RUN_ROUND, (scene.project.id,))]
    listening.close()


def test_an_answer_corrected_after_the_round_was_requested_requests_no_second_one(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session, queries=1)
        [ask] = scene.claim()
        scene.answer(ask)
        scene.answer(scene.undo(), chosen=1)
        assert len(scene.open_rounds()) == 1


def test_two_open_rounds_of_one_project_cannot_be_written(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session)
        for number in (0, 1):
            session.add(Round(project_id=project.id, number=number, reason=RoundReason.FIRST_QUERIES))
        with pytest.raises(IntegrityError, match="uq_rounds_one_open"):
            session.flush()


def test_a_person_cannot_have_two_counted_answers_to_one_query(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        [ask] = scene.claim()
        for _ in range(2):
            session.add(
                Annotation(
                    client_id=uuid4(),
                    project_id=scene.project.id,
                    query_id=ask.query_id,
                    image_id=ask.image_id,
                    user_id=scene.people[0],
                    outcome=Outcome.SKIP,
                )
            )
        with pytest.raises(IntegrityError, match="uq_annotations_one_answer"):
            session.flush()


def pseudo_label(session: Session, scene: Scene, image_id: int, class_id: int) -> PseudoLabel:
    model = Model(project_id=scene.project.id, round_id=scene.round.id, weights_hash="0" * 64, network={}, classes=[])
    session.add(model)
    session.flush()
    entry = PseudoLabel(
        project_id=scene.project.id,
        image_id=image_id,
        class_id=class_id,
        model_id=model.id,
        confidence=0.99,
        rule="threshold",
    )
    session.add(entry)
    return entry


def test_a_human_label_supersedes_the_pseudo_label(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        [ask] = scene.claim()
        entry = pseudo_label(session, scene, ask.image_id, scene.classes[1].id)
        session.flush()
        scene.answer(ask)
        session.refresh(entry)
        assert entry.superseded_at is not None
        assert (entry.superseded_reason, entry.human_labelled) == ("human label", True)


def test_a_pseudo_label_over_a_human_label_cannot_be_written(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        [ask] = scene.claim()
        scene.answer(ask)
        pseudo_label(session, scene, ask.image_id, scene.classes[1].id)
        with pytest.raises(IntegrityError, match="fk_pseudo_labels_human_label"):
            session.flush()


def test_a_human_label_beside_a_current_pseudo_label_cannot_be_written(database: Database) -> None:
    with database.transaction() as session:
        scene = Scene(session)
        [ask] = scene.claim()
        pseudo_label(session, scene, ask.image_id, scene.classes[1].id)
        session.flush()
        image = session.get_one(Image, ask.image_id)
        image.label_class_id, image.has_human_label = scene.classes[0].id, True
        with pytest.raises(IntegrityError, match="human_label_wins"):
            session.flush()
