"""The ledger as a state machine: whatever people and rounds do, in whatever order, on real Postgres."""

from __future__ import annotations

from dataclasses import dataclass
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
from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import Session

from app.database import Database
from app.errors import QuerentError
from app.recipes import parse_recipe
from app.records import Annotation, Class, Image, Lease, Outcome, PseudoLabel, Query, QuerySource
from app.services import auditing, claiming, labeling, leases, projects, rounds, snapshots
from app.services.labeling import Answer
from app.services.ledger import Entries, Proposal
from app.services.locks import lock_project
from app.services.rounds import FittedModel, RankedImage, RoundResult
from tests.factories import classes_of, make_entries, make_project, make_round, make_user

IMAGES = 8
PEOPLE = 2
LEASE = 60.0

people = st.integers(0, PEOPLE - 1)
picks = st.integers(0, IMAGES - 1)
# what a model says of each image: the position of a class, or nothing
said = st.lists(st.sampled_from([0, 1, 2, 2, None]), min_size=IMAGES, max_size=IMAGES)


@dataclass(frozen=True)
class Written:
    """What an entry says for ever."""

    image_id: int
    class_id: int
    model_id: int
    confidence: float
    rule: str


class LedgerMachine(RuleBasedStateMachine):
    """Two people and rounds of models decide about eight images; every rule is one committed transaction."""

    database: Database

    @initialize(overlap=st.integers(1, 2), budget=st.integers(1, 12))
    def start(self, overlap: int, budget: int) -> None:
        self.history: dict[int, Written] = {}
        self.ends: dict[int, str] = {}
        self.running: tuple[int, int] | None = None
        with self.database.transaction() as session:
            recipe: dict[str, object] = {"pseudo_labeler": "threshold"}
            project = make_project(session, IMAGES, overlap=overlap, budget=budget, recipe=recipe)
            make_entries(session, project, make_round(session, project, queries=0), {row: row % 3 for row in range(6)})
            make_round(session, project, queries=3, reserve=2)
            self.users = [make_user(session).id for _ in range(PEOPLE)]
            self.classes = [known.id for known in classes_of(session, project)]
            self.project_id = project.id
            session.commit()

    @rule(person=people, outcome=st.sampled_from(Outcome), chosen=st.integers(0, 2))
    def answer(self, person: int, outcome: Outcome, chosen: int) -> None:
        with self.database.transaction() as session:
            alive = [known.id for known in projects.classes_of(session, self.project_id)]
            class_id = alive[chosen % len(alive)] if outcome is Outcome.LABEL else None
            for ask in claiming.claim(session, self.project_id, self.users[person], 1, LEASE):
                given = Answer(uuid4(), self.project_id, ask.query_id, self.users[person], outcome, class_id)
                labeling.answer(session, given)
            session.commit()

    @rule(person=people)
    def hold(self, person: int) -> None:
        with self.database.transaction() as session:
            claiming.claim(session, self.project_id, self.users[person], 1, LEASE)
            session.commit()

    @rule(person=people)
    def undo(self, person: int) -> None:
        self._try(lambda session: labeling.undo(session, self.project_id, self.users[person], LEASE))

    @rule(person=people)
    def leave(self, person: int) -> None:
        with self.database.transaction() as session:
            leases.release(session, self.project_id, self.users[person])
            session.commit()

    @rule(person=people, pick=picks, outcome=st.sampled_from([Outcome.LABEL, Outcome.UNSURE, Outcome.UNUSABLE]))
    def correct(self, person: int, pick: int, outcome: Outcome) -> None:
        current = self._current()
        if current:
            entry_id = sorted(current.values())[pick % len(current)]
            class_id = self.classes[0] if outcome is Outcome.LABEL else None  # never retired
            self._try(
                lambda session: auditing.correct(
                    session, self.project_id, entry_id, self.users[person], outcome=outcome, class_id=class_id
                )
            )

    @rule(is_retired=st.booleans())
    def retire_or_take_back_the_last_class(self, is_retired: bool) -> None:
        with self.database.transaction() as session:
            last = session.get_one(Class, self.classes[-1])
            last.retired_at = session.scalar(select(func.now())) if is_retired else None
            last.key = None
            session.commit()

    @rule(name=st.sampled_from(["threshold", "most_confident", "none"]))
    def change_the_recipe(self, name: str) -> None:
        with self.database.transaction() as session:
            projects.set_recipe(session, self.project_id, parse_recipe({"pseudo_labeler": name}))
            session.commit()

    @precondition(lambda self: self.running is None)
    @rule()
    def begin_round(self) -> None:
        with self.database.transaction() as session:
            if not rounds.is_open(session, self.project_id):
                rounds.request_by_admin(session, self.project_id)
            begun = rounds.begin(session, lock_project(session, self.project_id))
            assert begun is not None
            read = snapshots.read_snapshot(session, lock_project(session, self.project_id), self.classes)
            labelled = {row for row, _ in read.labelled}
            assert not labelled & set(read.pseudo.rows), "a round never learns two labels of one image"
            assert read.drawn <= labelled
            self.running = (begun.id, begun.attempt)
            session.commit()

    @precondition(lambda self: self.running is not None)
    @rule(said=said, batch=st.integers(0, 3), shift=picks)
    def finish_round(self, said: list[int | None], batch: int, shift: int) -> None:
        assert self.running is not None
        before = self._current()
        with self.database.transaction() as session:
            project = lock_project(session, self.project_id)
            name = str(project.recipe["pseudo_labeler"]["name"])
            images = session.scalars(
                select(Image.id).where(Image.project_id == self.project_id).order_by(Image.row)
            ).all()
            says = [(row, chosen) for row, chosen in enumerate(said) if chosen is not None and name != "none"]
            rows, chosen_ids = [row for row, _ in says], [self.classes[chosen] for _, chosen in says]
            entries = Entries(rows, chosen_ids, [0.99] * len(rows))
            result = RoundResult(
                [RankedImage(one, QuerySource.ACQUISITION) for one in [*images[shift:], *images[:shift]]],
                batch,
                {},
                model=FittedModel("0" * 64, {}, self.classes, None),
                proposal=Proposal() if name == "none" else Proposal(name, entries),
            )
            assert rounds.finish(session, *self.running, result)
            session.commit()
        self.running = None
        self._check_what_it_says(before, dict(zip(rows, chosen_ids, strict=True)), name)

    @precondition(lambda self: self.running is None)
    @rule(said=said, batch=st.integers(0, 3), shift=picks)
    def run_round(self, said: list[int | None], batch: int, shift: int) -> None:
        self.begin_round()
        self.finish_round(said, batch, shift)

    def _check_what_it_says(self, before: dict[int, int], proposed: dict[int, int], name: str) -> None:
        now = self._current()
        with self.database.transaction() as session:
            alive = {known.id for known in projects.classes_of(session, self.project_id)}
            for image in session.scalars(select(Image).where(Image.project_id == self.project_id)):
                class_id = proposed.get(image.row)
                if name == "none" or self._is_decided(session, image):
                    assert image.id not in now
                elif self._is_asked(session, image):
                    assert now.get(image.id) == before.get(image.id)
                elif class_id not in alive:
                    assert image.id not in now
                else:
                    entry = session.get_one(PseudoLabel, now[image.id])
                    assert entry.class_id == class_id
                    stood = before.get(image.id)
                    assert (entry.id == stood) == (stood is not None and self.history[stood].class_id == class_id)

    @invariant()
    def at_most_one_entry_of_an_image_stands_and_none_beside_what_people_decided(self) -> None:
        with self.database.transaction() as session:
            current = session.scalars(
                select(PseudoLabel.image_id).where(
                    PseudoLabel.project_id == self.project_id, PseudoLabel.superseded_at.is_(None)
                )
            ).all()
            assert len(set(current)) == len(current)
            for image_id in current:
                assert not self._is_decided(session, session.get_one(Image, image_id))

    @invariant()
    def every_entry_is_kept_as_it_was_written_and_ends_once_for_a_reason(self) -> None:
        with self.database.transaction() as session:
            entries = session.scalars(select(PseudoLabel).where(PseudoLabel.project_id == self.project_id)).all()
        assert set(self.history) <= {entry.id for entry in entries}, "the history is complete"
        for entry in entries:
            written = Written(entry.image_id, entry.class_id, entry.model_id, entry.confidence, entry.rule)
            assert self.history.setdefault(entry.id, written) == written
            assert (entry.superseded_at is None) == (entry.superseded_reason is None)
            if entry.id in self.ends:
                assert entry.superseded_reason == self.ends[entry.id]
            elif entry.superseded_reason is not None:
                self.ends[entry.id] = entry.superseded_reason

    @invariant()
    def labels_used_counts_what_stands(self) -> None:
        with self.database.transaction() as session:
            project = projects.get(session, self.project_id)
            stands = select(func.count()).where(
                Annotation.project_id == self.project_id,
                Annotation.outcome == Outcome.LABEL,
                Annotation.counted,
                Annotation.revoked_at.is_(None),
            )
            assert project.labels_used == session.scalar(stands) <= project.budget

    def _try(self, act: object) -> None:
        """Do what may be refused; a refusal leaves everything as it was."""
        with self.database.transaction() as session:
            try:
                act(session)  # type: ignore[operator]
            except QuerentError:
                session.rollback()
            else:
                session.commit()

    def _current(self) -> dict[int, int]:
        """Return the entries that stand, by image."""
        with self.database.transaction() as session:
            stands = select(PseudoLabel.image_id, PseudoLabel.id).where(
                PseudoLabel.project_id == self.project_id, PseudoLabel.superseded_at.is_(None)
            )
            return dict(session.execute(stands).all())

    def _is_decided(self, session: Session, image: Image) -> bool:
        unsure = exists().where(
            Annotation.image_id == image.id,
            Annotation.outcome == Outcome.UNSURE,
            Annotation.counted,
            Annotation.revoked_at.is_(None),
        )
        return image.has_human_label or image.unusable_at is not None or bool(session.scalar(select(unsure)))

    def _is_asked(self, session: Session, image: Image) -> bool:
        held = exists().where(Lease.query_id == Query.id)
        asked = exists().where(Query.image_id == image.id, Query.closed_at.is_(None), or_(~Query.reserve, held))
        return bool(session.scalar(select(asked)))


@pytest.mark.timeout(280)
def test_the_ledger_keeps_its_word_whatever_people_and_rounds_do(database: Database) -> None:
    LedgerMachine.database = database
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=20,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
