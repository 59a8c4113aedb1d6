"""The queue as a state machine: whatever people do in whatever order, its invariants hold on real Postgres."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session

from app.database import Database
from app.errors import Conflict, NotSignedIn
from app.records import (
    Annotation,
    Image,
    Lease,
    Outcome,
    Project,
    ProjectState,
    Query,
    QuerySource,
    ReasonsShown,
    RoundState,
    User,
)
from app.services import accounts, claiming, grids, labeling, labeling_progress, leases, projects, rounds, snapshots
from app.services.grids import Wish
from app.services.labeling import Answer
from app.services.labeling_progress import NothingKind
from app.services.ledger import Entries, Proposal
from app.services.locks import lock_project
from app.services.queue import awaits_review, standing
from app.services.rounds import FittedModel, RankedImage, RoundResult
from tests.factories import classes_of, make_clusters, make_project, make_round, make_user

IMAGES = 12
PEOPLE = 3
LEASE = 60.0

people = st.integers(0, PEOPLE - 1)
budgets = st.one_of(st.integers(1, 6), st.integers(7, 40))  # often soon spent
SLOTS = (Outcome.LABEL, Outcome.UNSURE)


class QueueMachine(RuleBasedStateMachine):
    """Three people label twelve images; every rule is one committed transaction."""

    database: Database

    @initialize(overlap=st.integers(1, 3), budget=budgets, queries=st.integers(1, 6), alone=st.booleans())
    def start(self, overlap: int, budget: int, queries: int, alone: bool) -> None:
        self.disabled: set[int] = set()
        with self.database.transaction() as session:
            recipe: dict[str, object] = {"pseudo_labeler": "most_confident" if alone else "none"}
            project = make_project(session, IMAGES, overlap=overlap, budget=budget, recipe=recipe)
            make_clusters(session, make_round(session, project, queries=queries, reserve=2), 2)
            project.reasons_shown = ReasonsShown.ALWAYS  # so that there is a grid whatever the overlap
            self.users = [make_user(session).id for _ in range(PEOPLE)]
            self.classes = [known.id for known in classes_of(session, project)]
            self.project_id = project.id
            session.commit()

    @rule(person=people, count=st.integers(1, 4))
    def claim(self, person: int, count: int) -> None:
        """Ask for more: never what was answered or is held, in the ranking's order, and all that there is."""
        if person in self.disabled:
            return
        with self.database.transaction() as session:
            before, held = self._answered_by(session, person), self._held(session, person)
            asks = claiming.claim(session, self.project_id, self.users[person], count, LEASE)
            assert len(asks) <= count
            assert not {ask.image_id for ask in asks} & before, "nobody is asked about an image twice"
            assert not {ask.query_id for ask in asks} & set(held), (
                "what the person's page holds is not handed out again"
            )
            assert [(ask.reserve, ask.rank) for ask in asks] == sorted((ask.reserve, ask.rank) for ask in asks)
            state = projects.get(session, self.project_id).state
            assert state is ProjectState.RUNNING or not asks, "a paused project hands out nothing"
            if not rounds.is_open(session, self.project_id):
                known = session.scalars(select(Query.id).where(Query.id.in_(held), Query.reserve)).all()
                ahead = sum(ask.reserve for ask in asks)
                assert not ahead or len(known) + ahead <= claiming.RESERVE_AHEAD
            left = self._takeable(session, person)
            assert len(asks) == count or not left, f"{len(left)} more could have been handed out"
            if not asks and not held:
                nothing = labeling_progress.why_nothing(session, self.project_id, self.users[person])
                self._check_reason(session, nothing.kind)
            session.commit()

    @rule(person=people, count=st.integers(1, 4), cluster=st.none() | st.integers(1, 2), back=st.booleans())
    def take_a_page_of_the_grid(self, person: int, count: int, cluster: int | None, back: bool) -> None:
        """Take a page of a class or a cluster: never what was answered or is held; what is put back is on no page."""
        if person in self.disabled:
            return
        with self.database.transaction() as session:
            before, held = self._answered_by(session, person), self._held(session, person)
            wish = Wish(cluster=cluster, with_clusters=cluster is not None)
            page = grids.take_page(session, self.project_id, self.users[person], count, LEASE, wish=wish)
            taken = [ask.query_id for ask in page.asks]
            assert len(taken) == len(set(taken)) <= count
            assert not {ask.image_id for ask in page.asks} & before and not set(taken) & set(held)
            of_page = select(Query.predicted_class_id, Query.cluster).where(Query.id.in_(taken))
            kinds = {row.cluster if page.cluster else row.predicted_class_id for row in session.execute(of_page)}
            assert kinds == ({page.cluster or page.class_id} if taken else set())
            if back:
                assert grids.put_back(session, self.project_id, self.users[person], taken) == len(taken)
                assert set(session.execute(of_page)) == ({(None, None)} if taken else set())
                assert self._held(session, person) == held
            session.commit()

    @rule(person=people, act=st.sampled_from(["leave", "give one back", "renew", "run out"]), pick=st.integers(0, 10))
    def hold_no_longer_or_longer(self, person: int, act: str, pick: int) -> None:
        match act:
            case "leave":
                self._leave(person)
            case "give one back":
                self._give_one_back(person, pick)
            case "renew":
                self._renew(person, pick)
            case "run out":
                self._let_leases_run_out(person)

    @rule(act=st.sampled_from(["pause", "go on", "shut out", "let in", "ask for a round"]), person=people)
    def manage(self, act: str, person: int) -> None:
        match act:
            case "pause" | "go on":
                self._pause_or_go_on(act == "go on")
            case "shut out" | "let in":
                self._disable_or_let_in(person, act == "shut out")
            case "ask for a round":
                self._ask_for_a_round()

    @rule(person=people, count=st.integers(1, 4))
    def label_some(self, person: int, count: int) -> None:
        """What people mostly do, and a late answer of a page that lost its lease; few batches would end otherwise."""
        self.claim(person, count)
        if person in self.disabled:
            return
        with self.database.transaction() as session:
            of_project = select(Query.id).where(Query.project_id == self.project_id)
            late = session.scalars(of_project.order_by(Query.open_answers.desc(), Query.rank).limit(1)).all()
            for query_id in [*self._held(session, person), *late]:
                given = Answer(uuid4(), self.project_id, query_id, self.users[person], Outcome.LABEL, self.classes[0])
                labeling.answer(session, given)
            session.commit()

    def _give_one_back(self, person: int, pick: int) -> None:
        with self.database.transaction() as session:
            held = self._held(session, person)
            if held:
                one = held[pick % len(held)]
                assert leases.release(session, self.project_id, self.users[person], [one]) == 1
                assert self._held(session, person) == [other for other in held if other != one]
            session.commit()

    def _renew(self, person: int, pick: int) -> None:
        """Renewing holds for longer what is held, and nothing else."""
        with self.database.transaction() as session:
            held = self._held(session, person)
            others = [one for other in range(PEOPLE) if other != person for one in self._held(session, other)]
            asked = held[: pick + 1] + others
            renewed = leases.renew(session, self.project_id, self.users[person], asked, LEASE)
            assert renewed == sorted(set(asked) & set(held))
            session.commit()

    def _pause_or_go_on(self, running: bool) -> None:
        with self.database.transaction() as session:
            projects.set_state(session, self.project_id, ProjectState.RUNNING if running else ProjectState.PAUSED)
            session.commit()

    def _disable_or_let_in(self, person: int, shut_out: bool) -> None:
        """Shut a person out with all that they hold: others get it when the leases have run out."""
        with self.database.transaction() as session:
            user = session.get_one(User, self.users[person])
            accounts.set_disabled(session, user, shut_out)
            session.commit()
            if shut_out:
                with pytest.raises(NotSignedIn):
                    accounts.user_of_session(session, user.id, user.session_epoch)
            else:
                accounts.user_of_session(session, user.id, user.session_epoch)
        self.disabled = self.disabled | {person} if shut_out else self.disabled - {person}

    @rule(person=people, outcome=st.sampled_from(Outcome), chosen=st.integers(0, 2), pick=st.integers(0, 10))
    def answer(self, person: int, outcome: Outcome, chosen: int, pick: int) -> None:
        """Answer any query of the project, held or not: what may not count is kept and not counted."""
        if person in self.disabled:
            return
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
        if person in self.disabled:
            return
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
            assert kept.counted == first.counted
            assert first.counted or old.revoked_at is None or not old.counted or kept.corrects_id != old.id
            session.commit()

    @rule(person=people)
    def undo(self, person: int) -> None:
        if person in self.disabled:
            return
        with self.database.transaction() as session:
            try:
                ask = labeling.undo(session, self.project_id, self.users[person], LEASE)
            except Conflict:
                return
            assert ask.query_id in self._held(session, person)
            session.commit()

    def _leave(self, person: int) -> None:
        with self.database.transaction() as session:
            leases.release(session, self.project_id, self.users[person])
            assert self._held(session, person) == []
            session.commit()

    def _let_leases_run_out(self, person: int) -> None:
        with self.database.transaction() as session:
            past = func.now() - timedelta(seconds=1)
            session.execute(update(Lease).where(Lease.user_id == self.users[person]).values(expires_at=past))
            leases.return_expired(session, self.project_id)
            session.commit()

    @rule(budget=budgets)
    def change_budget(self, budget: int) -> None:
        with self.database.transaction() as session:
            used = projects.get(session, self.project_id).labels_used
            projects.set_budget(session, self.project_id, max(budget, used))
            session.commit()

    @rule(batch=st.integers(1, 5), shift=st.integers(0, IMAGES))
    def run_a_round(self, batch: int, shift: int) -> None:
        """Run the open round; if none is due, one that an admin asks for in the middle of a batch."""
        self._ask_for_a_round()
        if self._round_is_open():
            self._run_round(batch, shift)

    def _ask_for_a_round(self) -> None:
        """An admin may ask for a round in the middle of a batch, and people go on with its reserve."""
        with self.database.transaction() as session:
            is_running = projects.get(session, self.project_id).state is ProjectState.RUNNING
            if is_running and not rounds.is_open(session, self.project_id):
                rounds.request_by_admin(session, self.project_id)
            session.commit()

    @precondition(lambda self: self._round_is_open())
    @rule()
    def fail_round(self) -> None:
        """Give a round up and have an admin ask for another, as the project's page offers."""
        with self.database.transaction() as session:
            begun = rounds.begin(session, lock_project(session, self.project_id))
            assert begun is not None
            assert rounds.fail(session, begun.id, begun.attempt, "no memory")
            project = lock_project(session, self.project_id)
            assert rounds.request_if_due(session, project) is None, "a failed round is not repeated by itself"
            if project.state is ProjectState.RUNNING:
                rounds.request_by_admin(session, self.project_id)
            session.commit()

    def _run_round(self, batch: int, shift: int) -> None:
        """Run the open round on what a worker would read; the model labels four images if the recipe goes on alone."""
        with self.database.transaction() as session:
            project = lock_project(session, self.project_id)
            begun = rounds.begin(session, project)
            if begun is None:  # it was cut off too often
                session.commit()
                return
            id_of = dict(session.execute(select(Image.row, Image.id).where(Image.project_id == self.project_id)).all())
            rows = snapshots.read_snapshot(session, project, self.classes).candidates
            turned = [row for row in rows if row >= shift] + [row for row in rows if row < shift]
            ranking = [
                RankedImage(
                    id_of[row],
                    QuerySource.ACQUISITION,
                    predicted_class_id=self.classes[row % 3],
                    confidence=0.5,
                    cluster=row % 2 + 1,
                )
                for row in turned
            ]
            model, proposal = None, Proposal()
            if project.recipe["pseudo_labeler"]["name"] == "most_confident":
                model = FittedModel("0" * 64, {}, self.classes, None)
                proposal = Proposal("most_confident", Entries(range(4), self.classes[:1] * 4, [0.9] * 4))
            result = RoundResult(ranking, batch, {}, model=model, proposal=proposal)
            assert rounds.finish(session, begun.id, begun.attempt, result)
            session.commit()

    def teardown(self) -> None:
        """Let everybody come back and label all they get: then nothing is left but what nobody may do."""
        if not hasattr(self, "project_id"):
            return
        for person in range(PEOPLE):
            self._disable_or_let_in(person, False)
            self._let_leases_run_out(person)
        self._pause_or_go_on(True)
        with self.database.transaction() as session:
            latest = rounds.latest_round(session, self.project_id)
            if latest is not None and latest.state is RoundState.FAILED:
                rounds.request_by_admin(session, self.project_id)
                session.commit()
        for _ in range(4 * IMAGES):
            if not self._label_all_that_is_asked() and not self._round_is_open():
                break
            if self._round_is_open():
                self._run_round(IMAGES, 0)
        else:
            raise AssertionError("rounds and questions never end")
        with self.database.transaction() as session:
            project = projects.get(session, self.project_id)
            undecided = select(Image.row).where(
                Image.project_id == self.project_id,
                ~Image.has_human_label,
                Image.unusable_at.is_(None),
                ~awaits_review(),
            )
            skipped = exists().where(Annotation.image_id == Image.id, Annotation.outcome == Outcome.SKIP, *standing())
            stuck = session.scalars(undecided.where(~skipped).order_by(Image.row)).all()
            assert project.is_spent or not stuck, f"images that nobody is asked about: {stuck}"

    def _label_all_that_is_asked(self) -> int:
        """Have each person label what they get; return how many answers that were."""
        given = 0
        with self.database.transaction() as session:
            for user_id in self.users:
                for ask in claiming.claim(session, self.project_id, user_id, IMAGES, LEASE):
                    sent = Answer(uuid4(), self.project_id, ask.query_id, user_id, Outcome.LABEL, self.classes[0])
                    given += labeling.answer(session, sent).counted
            session.commit()
        return given

    @invariant()
    def answers_leases_and_open_answers_add_up(self) -> None:
        with self.database.transaction() as session:
            held = Counter(session.scalars(select(Lease.query_id).where(Lease.project_id == self.project_id)))
            counted = self._standing(session)
            for query in session.scalars(select(Query).where(Query.project_id == self.project_id)):
                answers = [known for known in counted if known.query_id == query.id]
                given = [known for known in answers if known.outcome in SLOTS]
                assert len({known.user_id for known in answers}) == len(answers), "one counted answer a person"
                assert len(given) <= query.wanted_answers
                if query.closed_at is not None:
                    assert (query.open_answers, held[query.id]) == (0, 0)
                elif query.superseded_at is not None:
                    assert query.open_answers == 0
                    assert held[query.id], "superseded and held by nobody is closed"
                else:
                    assert query.wanted_answers == query.open_answers + held[query.id] + len(given)

    @invariant()
    def nobody_answers_an_image_twice_and_no_image_gets_more_answers_than_the_overlap(self) -> None:
        with self.database.transaction() as session:
            counted, overlap = self._standing(session), projects.get(session, self.project_id).overlap
            people_by_image = Counter((known.image_id, known.user_id) for known in counted)
            assert max(people_by_image.values(), default=0) <= 1
            given = Counter(known.image_id for known in counted if known.outcome in SLOTS)
            assert max(given.values(), default=0) <= overlap

    @invariant()
    def labels_used_counts_what_stands_within_the_budget(self) -> None:
        with self.database.transaction() as session:
            project = session.get_one(Project, self.project_id)
            assert project.labels_used == sum(known.outcome is Outcome.LABEL for known in self._standing(session))
            assert project.labels_used <= project.budget

    @invariant()
    def an_image_has_a_label_only_if_a_closed_query_gave_it_one(self) -> None:
        with self.database.transaction() as session:
            given = {(known.image_id, known.class_id) for known in self._standing(session) if known.class_id}
            for image in session.scalars(select(Image).where(Image.project_id == self.project_id)):
                assert image.label_class_id is None or (image.id, image.label_class_id) in given

    @invariant()
    def a_batch_that_is_answered_leads_on(self) -> None:
        """Never stuck: without an open round somebody can still be asked, or there is nothing left to learn or ask."""
        with self.database.transaction() as session:
            project = lock_project(session, self.project_id)
            assert rounds.request_if_due(session, project) is None, "a round was due and nobody requested it"

    def _round_is_open(self) -> bool:
        with self.database.transaction() as session:
            return rounds.is_open(session, self.project_id)

    def _takeable(self, session: Session, person: int) -> list[int]:
        """Say what the person could still be asked, by looking at every query; no lease is waited for."""
        project = projects.get(session, self.project_id)
        held_by_all = session.scalar(select(func.count()).where(Lease.project_id == self.project_id)) or 0
        room = project.budget - project.labels_used - held_by_all
        if project.state is not ProjectState.RUNNING or room <= 0:
            return []
        answered, held = self._answered_by(session, person), self._held(session, person)
        queries = session.scalars(select(Query).where(Query.project_id == self.project_id)).all()
        free = [one for one in queries if one.open_answers and one.id not in held and one.image_id not in answered]
        ahead = len([one for one in queries if one.id in held and one.reserve])
        if not rounds.is_open(session, self.project_id) and ahead >= claiming.RESERVE_AHEAD:
            free = [one for one in free if not one.reserve]
        return [one.id for one in free]

    def _check_reason(self, session: Session, kind: NothingKind) -> None:
        """Compare what a person who gets nothing is told with the tables."""
        project = projects.get(session, self.project_id)
        is_leased = session.scalar(select(Lease.id).where(Lease.project_id == self.project_id).limit(1)) is not None
        latest = rounds.latest_round(session, self.project_id)
        is_failed = latest is not None and latest.state is RoundState.FAILED
        of_batch = select(Query.id).where(Query.project_id == self.project_id, ~Query.reserve)
        is_wanted = session.scalar(of_batch.where(Query.open_answers > 0).limit(1)) is not None
        expected = {
            NothingKind.PAUSED: project.state is ProjectState.PAUSED,
            NothingKind.BUDGET: project.labels_used >= project.budget,
            NothingKind.TRAINING: rounds.is_open(session, self.project_id),
            NothingKind.CHOOSING: rounds.is_open(session, self.project_id),
            NothingKind.LEASED: is_leased,
            NothingKind.FAILED: is_failed,
            NothingKind.OTHERS: is_wanted,
            NothingKind.DONE: not (is_wanted or is_leased or is_failed or rounds.is_open(session, self.project_id)),
        }
        assert expected[kind], f"told {kind.value!r}"

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

    def _standing(self, session: Session) -> Sequence[Annotation]:
        return session.scalars(select(Annotation).where(Annotation.project_id == self.project_id, *standing())).all()


@pytest.mark.timeout(600)
def test_the_queue_keeps_its_invariants_whatever_people_do(database: Database) -> None:
    QueueMachine.database = database
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=15,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
