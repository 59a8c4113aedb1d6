"""The queue as a state machine: whatever people do in whatever order, its invariants hold on real Postgres."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.database import Database
from app.errors import Conflict
from app.records import CHECKS, Annotation, Image, Lease, Outcome, Project, Query, QuerySource, Role
from app.services import claiming, gold, labeling, leases, projects, reviewing, rounds
from app.services.claiming import Ask
from app.services.labeling import Answer
from app.services.locks import lock_project
from app.services.rounds import RankedImage, RoundResult
from tests.factories import classes_of, make_project, make_round, make_user

IMAGES = 12
GOLD = 4  # images more, with known answers
PEOPLE = 3
LEASE = 60.0

people = st.integers(0, PEOPLE - 1)
SLOTS = (Outcome.LABEL, Outcome.UNSURE)


class QueueMachine(RuleBasedStateMachine):
    """Three people label twelve images, and are checked with others; every rule is one committed transaction."""

    database: Database

    @initialize(
        overlap=st.integers(1, 3),
        budget=st.integers(1, 40),
        queries=st.integers(1, 6),
        shares=st.sampled_from([(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.3, 0.2)]),
        told=st.booleans(),
    )
    def start(self, overlap: int, budget: int, queries: int, shares: tuple[float, float], told: bool) -> None:
        with self.database.transaction() as session:
            project = make_project(session, IMAGES + GOLD, overlap=overlap, budget=budget)
            names = [f"image-{row}.png" for row in range(IMAGES, IMAGES + GOLD)]
            assert gold.mark_named(session, project.id, names) == GOLD
            gold_share, repeat_share = shares
            projects.set_checks(
                session, project.id, gold_share=gold_share, gold_feedback=told, repeat_share=repeat_share
            )
            make_round(session, project, queries=queries, reserve=2)
            self.users = [make_user(session).id for _ in range(PEOPLE)]
            self.reviewer = make_user(session, role=Role.ADMIN).id
            self.classes = [known.id for known in classes_of(session, project)]
            self.project_id = project.id
            session.commit()

    @rule(person=people, count=st.integers(1, 4))
    def claim(self, person: int, count: int) -> None:
        with self.database.transaction() as session:
            self._claim(session, person, count)
            session.commit()

    @rule(person=people)
    def label_until_nothing_is_left(self, person: int) -> None:
        """It ends, and then there is nothing to label: checks keep nobody busy, and hide no work."""
        user_id = self.users[person]
        for _ in range(2 * IMAGES + GOLD):  # each claim that is not the last brings one query at least
            with self.database.transaction() as session:
                asks = self._claim(session, person, 8)
                for ask in asks:
                    given = Answer(uuid4(), self.project_id, ask.query_id, user_id, Outcome.LABEL, self.classes[0])
                    labeling.answer(session, given)
                session.commit()
            if not asks:
                break
        with self.database.transaction() as session:
            assert claiming.claim(session, self.project_id, user_id, 1, LEASE) == [], "it does not end"
            project = session.get_one(Project, self.project_id)
            held = session.scalar(select(func.count()).where(Lease.project_id == self.project_id, ~Lease.is_check)) or 0
            if project.labels_used + held < project.budget:
                mine = select(Query.image_id).where(Query.id.in_(self._held(session, person)))
                seen = self._answered_by(session, person) | set(session.scalars(mine))
                waiting = session.scalars(
                    select(Query.image_id).where(
                        Query.project_id == self.project_id, Query.open_answers > 0, ~Query.reserve
                    )
                ).all()
                assert set(waiting) <= seen, "done while work remains"

    @rule(chosen=st.integers(0, 3), pick=st.integers(0, 10))
    def review(self, chosen: int, pick: int) -> None:
        """Decide about any image; one that does not wait is refused."""
        with self.database.transaction() as session:
            images = session.scalars(
                select(Image).where(Image.project_id == self.project_id).order_by(Image.review_reason, Image.row)
            ).all()
            image = images[pick % len(images)]
            outcome = Outcome.LABEL if chosen < 3 else Outcome.UNUSABLE
            class_id = self.classes[chosen] if chosen < 3 else None
            try:
                reviewing.decide(session, self.project_id, image.id, self.reviewer, outcome=outcome, class_id=class_id)
            except Conflict:
                return
            assert image.review_reason is None
            assert image.label_class_id == class_id or outcome is Outcome.UNUSABLE
            session.commit()

    @rule()
    def take_review_back(self) -> None:
        with self.database.transaction() as session:
            try:
                reviewing.take_back(session, self.project_id, self.reviewer)
            except Conflict:
                return
            session.commit()

    @rule(person=people, outcome=st.sampled_from(Outcome), chosen=st.integers(0, 2), pick=st.integers(0, 10))
    def answer(self, person: int, outcome: Outcome, chosen: int, pick: int) -> None:
        """Answer any query of the project, held or not: what may not count is kept and not counted."""
        with self.database.transaction() as session:
            asked = session.scalars(
                select(Query.id).where(Query.project_id == self.project_id).order_by(Query.id)
            ).all()
            held = self._held(session, person)
            query_id = held[pick % len(held)] if held and pick % 4 else asked[pick % len(asked)]
            class_id = self.classes[chosen] if outcome is Outcome.LABEL else None
            given = Answer(uuid4(), self.project_id, query_id, self.users[person], outcome, class_id)
            first = labeling.answer(session, given)
            assert labeling.answer(session, given).annotation_id == first.annotation_id
            session.commit()

    @rule(person=people, outcome=st.sampled_from(Outcome), chosen=st.integers(0, 2), pick=st.integers(0, 10))
    def correct(self, person: int, outcome: Outcome, chosen: int, pick: int) -> None:
        """Correct any of one's own answers, also one that does not stand any more."""
        with self.database.transaction() as session:
            own = select(Annotation).where(
                Annotation.project_id == self.project_id, Annotation.user_id == self.users[person]
            )
            given = session.scalars(own.order_by(Annotation.id)).all()
            if not given:
                return
            old = given[pick % len(given)]
            class_id = self.classes[chosen] if outcome is Outcome.LABEL else None
            new = Answer(
                client_id=uuid4(),
                project_id=self.project_id,
                query_id=old.query_id,
                user_id=self.users[person],
                outcome=outcome,
                class_id=class_id,
                corrects=old.client_id,
            )
            first = labeling.answer(session, new)
            assert labeling.answer(session, new).annotation_id == first.annotation_id
            kept = session.get_one(Annotation, first.annotation_id)
            assert (kept.counted or kept.is_check) == first.counted
            assert first.counted or old.revoked_at is None or not old.counted or kept.corrects_id != old.id
            session.commit()

    @rule(person=people)
    def undo(self, person: int) -> None:
        with self.database.transaction() as session:
            try:
                ask = labeling.undo(session, self.project_id, self.users[person], LEASE)
            except Conflict:
                return
            assert ask.query_id in self._held(session, person)
            session.commit()

    @rule(person=people)
    def leave(self, person: int) -> None:
        with self.database.transaction() as session:
            leases.release(session, self.project_id, self.users[person])
            assert self._held(session, person) == []
            session.commit()

    @rule(person=people)
    def let_leases_run_out(self, person: int) -> None:
        with self.database.transaction() as session:
            past = func.now() - timedelta(seconds=1)
            session.execute(update(Lease).where(Lease.user_id == self.users[person]).values(expires_at=past))
            leases.return_expired(session, self.project_id)
            session.commit()

    @rule(budget=st.integers(1, 40))
    def change_budget(self, budget: int) -> None:
        with self.database.transaction() as session:
            used = projects.get(session, self.project_id).labels_used
            projects.set_budget(session, self.project_id, max(budget, used))
            session.commit()

    @precondition(lambda self: self._round_is_open())
    @rule(batch=st.integers(1, 5), shift=st.integers(0, IMAGES))
    def finish_round(self, batch: int, shift: int) -> None:
        with self.database.transaction() as session:
            begun = rounds.begin(session, lock_project(session, self.project_id))
            assert begun is not None
            images = session.scalars(
                select(Image.id).where(Image.project_id == self.project_id).order_by(Image.row)
            ).all()
            ranking = [RankedImage(one, QuerySource.ACQUISITION) for one in images[shift:] + images[:shift]]
            assert rounds.finish(session, begun.id, begun.attempt, RoundResult(ranking, batch, {}))
            session.commit()

    @invariant()
    def answers_leases_and_open_answers_add_up(self) -> None:
        with self.database.transaction() as session:
            leases = Counter(session.scalars(select(Lease.query_id).where(Lease.project_id == self.project_id)))
            standing = self._counted(session)
            for query in session.scalars(select(Query).where(Query.project_id == self.project_id)):
                counted = [known for known in standing if known.query_id == query.id]
                given = [known for known in counted if known.outcome in SLOTS]
                held = leases[query.id]
                if query.source in CHECKS:
                    assert query.open_answers == 0 and query.reserve and not counted
                    assert held == (query.closed_at is None), "a check is its person's, or closed"
                    continue
                assert len({known.user_id for known in counted}) == len(counted), "one counted answer a person"
                assert len(given) <= query.wanted_answers
                if query.closed_at is not None:
                    assert (query.open_answers, held) == (0, 0)
                elif query.superseded_at is not None:
                    assert query.open_answers == 0
                    assert held, "superseded and held by nobody is closed"
                else:
                    assert query.wanted_answers == query.open_answers + held + len(given)

    @invariant()
    def labels_used_counts_what_stands_within_the_budget(self) -> None:
        with self.database.transaction() as session:
            project = session.get_one(Project, self.project_id)
            stands = (
                select(func.count())
                .select_from(Annotation)
                .join(Query, Query.id == Annotation.query_id)
                .where(
                    Annotation.project_id == self.project_id,
                    Annotation.outcome == Outcome.LABEL,
                    Annotation.counted,
                    Annotation.revoked_at.is_(None),
                    Query.source != QuerySource.REVIEW,
                )
            )
            assert project.labels_used == session.scalar(stands)
            assert project.labels_used <= project.budget

    @invariant()
    def an_image_has_a_label_only_if_a_closed_query_gave_it_one(self) -> None:
        with self.database.transaction() as session:
            standing = self._counted(session)
            for image in session.scalars(select(Image).where(Image.project_id == self.project_id)):
                given = [known.class_id for known in standing if known.image_id == image.id and known.class_id]
                assert image.label_class_id is None or image.label_class_id in given

    @invariant()
    def checks_ask_a_person_about_an_image_once_and_change_no_label(self) -> None:
        with self.database.transaction() as session:
            images = {
                image.id: image for image in session.scalars(select(Image).where(Image.project_id == self.project_id))
            }
            checked = session.execute(
                select(Annotation, Query)
                .join(Query, Query.id == Annotation.query_id)
                .where(Annotation.project_id == self.project_id, Query.source.in_(CHECKS))
            ).all()
            by_person: dict[tuple[int, int], set[int]] = {}
            for annotation, query in checked:
                assert not annotation.counted
                assert (images[query.image_id].gold_class_id is not None) == (query.source is QuerySource.GOLD)
                if annotation.is_check:
                    by_person.setdefault((annotation.user_id, query.image_id), set()).add(query.id)
            assert all(len(queries) == 1 for queries in by_person.values())
            ordinary = select(Query.image_id).where(Query.project_id == self.project_id, Query.source.not_in(CHECKS))
            known = {image.id for image in images.values() if image.gold_class_id is not None}
            assert not known & set(session.scalars(ordinary)), "gold images are asked about as checks only"
            assert all(images[image_id].label_class_id is None for image_id in known)

    @invariant()
    def a_batch_that_is_answered_leads_on(self) -> None:
        """Never stuck: without an open round somebody can still be asked, or there is nothing left to learn or ask."""
        with self.database.transaction() as session:
            project = lock_project(session, self.project_id)
            assert rounds.request_if_due(session, project) is None, "a round was due and nobody requested it"

    def _round_is_open(self) -> bool:
        with self.database.transaction() as session:
            return rounds.is_open(session, self.project_id)

    def _claim(self, session: Session, person: int, count: int) -> list[Ask]:
        user_id = self.users[person]
        before, held = self._answered_by(session, person), set(self._held(session, person))
        asks = claiming.claim(session, self.project_id, user_id, count, LEASE)
        assert len(asks) <= count
        ordinary = {ask.image_id for ask in asks if ask.source not in CHECKS}
        assert not ordinary & before, "nobody is asked about an image twice"
        repeats = {ask.image_id for ask in asks if ask.source is QuerySource.REPEAT and ask.query_id not in held}
        assert repeats <= before, "a repeat is of what the person labelled"
        return asks

    def _held(self, session: Session, person: int) -> list[int]:
        held = select(Lease.query_id).where(Lease.project_id == self.project_id, Lease.user_id == self.users[person])
        return list(session.scalars(held.order_by(Lease.query_id)))

    def _answered_by(self, session: Session, person: int) -> set[int]:
        given = select(Annotation.image_id).where(
            Annotation.project_id == self.project_id,
            Annotation.user_id == self.users[person],
            Annotation.counted,
            Annotation.revoked_at.is_(None),
        )
        return set(session.scalars(given))

    def _counted(self, session: Session) -> list[Annotation]:
        given = select(Annotation).where(
            Annotation.project_id == self.project_id, Annotation.counted, Annotation.revoked_at.is_(None)
        )
        return list(session.scalars(given))


@pytest.mark.timeout(280)
def test_the_queue_keeps_its_invariants_whatever_people_do(database: Database) -> None:
    QueueMachine.database = database
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
