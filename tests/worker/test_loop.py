"""The loop in a real worker process: import, seed set, answers, rounds, and what happens when it is killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import func, select, update

from app.database import Database
from app.events import Bus, WorkerSeen
from app.outbox import TaskName, send_task
from app.recipes import parse_recipe
from app.records import (
    Annotation,
    Image,
    ImportState,
    Model,
    OracleKind,
    Outcome,
    Query,
    QuerySource,
    Round,
    RoundState,
    Split,
)
from app.services import accounts, claiming, importing, labeling, projects, rounds
from app.services.importing import Source, SourceKind
from app.services.labeling import Answer
from app.services.projects import NewProject
from app.settings import Settings
from app.storage import Storage
from tests.factories import make_user
from tests.waiting import until
from tests.worker.conftest import Worker

SECONDS = 90


@dataclass(frozen=True)
class Watch:
    """A project as the tables show it."""

    database: Database
    project_id: int

    def rounds(self) -> list[Round]:
        with self.database.transaction() as session:
            wanted = select(Round).where(Round.project_id == self.project_id).order_by(Round.number)
            return list(session.scalars(wanted))

    def done(self, number: int) -> bool:
        return any(known.number == number and known.state is RoundState.DONE for known in self.rounds())

    def fitting(self, number: int) -> bool:
        return any(
            known.number == number and (known.progress or {}).get("stage") == "fitting" for known in self.rounds()
        )


def make_digits(database: Database, budget: int = 200, **recipe: object) -> Watch:
    with database.transaction() as session:
        new = NewProject(f"digits {uuid4().hex[:8]}", parse_recipe(recipe), budget)
        project = projects.create(session, new)
        importing.request_import(session, project.id, Source(SourceKind.DIGITS))
        session.commit()
    return Watch(database, project.id)


def label_batch(watch: Watch, user_id: int, count: int) -> None:
    """Answer ``count`` queries as a person who knows the truth."""
    with watch.database.transaction() as session:
        asks = claiming.claim(session, watch.project_id, user_id, count, 60)
        assert len(asks) == count
        for ask in asks:
            truth = session.get_one(Image, ask.image_id).true_class_id
            labeling.answer(session, Answer(uuid4(), watch.project_id, ask.query_id, user_id, Outcome.LABEL, truth))
        session.commit()


def a_person(database: Database) -> int:
    with database.transaction() as session:
        user = make_user(session)
        session.commit()
    return user.id


def test_digits_are_imported_labelled_and_learned(sending: Database, worker: Worker, settings: Settings) -> None:
    watch = make_digits(sending, seed_set=20, batch_size=10, acquisition="margin")
    until(lambda: watch.done(0), SECONDS, "the seed set is chosen")
    with sending.transaction() as session:
        splits = session.execute(
            select(Image.split, func.count()).where(Image.project_id == watch.project_id).group_by(Image.split)
        )
        assert dict(splits.all()) == {Split.POOL: 1397, Split.TEST: 400}
        found = importing.latest_import(session, watch.project_id)
        assert found is not None
        assert (found.state, found.imported, found.broken) == (ImportState.DONE, 1797, 0)
    label_batch(watch, a_person(sending), 20)
    until(lambda: watch.done(1), SECONDS, "the first round is done")
    first, second = watch.rounds()
    assert (first.metrics, first.labels) == (None, 0)
    assert second.labels == 20
    assert second.metrics is not None
    assert second.metrics["test_images"] == 400
    assert (
        0.4
        < second.metrics["test_accuracy_low"]
        < second.metrics["test_accuracy"]
        < second.metrics["test_accuracy_high"]
    )
    with sending.transaction() as session:
        batch = session.scalars(
            select(Query).where(Query.round_id == second.id, ~Query.reserve).order_by(Query.rank)
        ).all()
        assert len(batch) == 10
        scores = [query.score for query in batch]
        assert scores == sorted(scores, reverse=True), "the score decides the order"
        assert all(len(query.parts["top"]) == 2 for query in batch)
        believed = [
            query.parts["top"][0] if query.source is QuerySource.ACQUISITION else (None, None) for query in batch
        ]
        assert [query.predicted_class_id for query in batch] == [class_id for class_id, _ in believed]
        is_in_cluster = [query.cluster is not None for query in batch]
        assert is_in_cluster == [query.source is QuerySource.ACQUISITION for query in batch]
        chances = [query.confidence for query in batch if query.confidence is not None]
        assert chances == pytest.approx([chance for _, chance in believed if chance is not None], abs=1e-6)
        labels = dict(
            session.execute(
                select(Image.id, Image.label_class_id).where(
                    Image.project_id == watch.project_id, Image.has_human_label
                )
            ).all()
        )
        for query in batch:
            near = query.parts["neighbours"]
            assert [(labels[image_id], len(near)) for image_id, _, _ in near] == [(kind, 5) for _, kind, _ in near]
            similarities = [similarity for _, _, similarity in near]
            assert similarities == sorted(similarities, reverse=True) and similarities[0] <= 1
        model = session.scalars(select(Model).where(Model.round_id == second.id)).one()
        assert Storage(settings.storage).get(model.weights_hash)


def test_the_simulated_oracle_spends_the_budget_and_stops(sending: Database, worker: Worker) -> None:
    watch = make_digits(sending, budget=40, seed_set=20, batch_size=10, fitting={"epochs": 5})
    with sending.transaction() as session:
        projects.get(session, watch.project_id)
    until(lambda: watch.done(0), SECONDS, "the seed set is chosen")
    with sending.transaction() as session:
        projects.set_oracle(session, watch.project_id, OracleKind.SIMULATED)
        session.commit()
    until(lambda: watch.done(3), SECONDS, "20, 30 and 40 labels are learned")
    assert [known.labels for known in watch.rounds()] == [0, 20, 30, 40]
    with sending.transaction() as session:
        project = projects.get(session, watch.project_id)
        assert project.labels_used == 40
        oracle = accounts.oracle_user(session)
        given = select(Annotation).where(Annotation.project_id == watch.project_id)
        annotations = session.scalars(given).all()
        assert {annotation.user_id for annotation in annotations} == {oracle.id}
        wrong = select(func.count()).where(
            Image.project_id == watch.project_id, Image.has_human_label, Image.label_class_id != Image.true_class_id
        )
        assert session.scalar(wrong) == 0


def test_a_round_delivered_many_times_runs_once(
    sending: Database, worker: Worker, start_worker: Callable[[], Worker]
) -> None:
    start_worker()  # a second one, so that deliveries also meet at the same time
    watch = make_digits(sending, seed_set=20, fitting={"epochs": 10})
    until(lambda: watch.done(0), SECONDS, "the seed set is chosen")
    label_batch(watch, a_person(sending), 20)
    for _ in range(10):
        with sending.transaction() as session:
            send_task(session, TaskName.RUN_ROUND, watch.project_id)
            session.commit()
    until(lambda: watch.done(1), SECONDS, "the round is done")
    with sending.transaction() as session:
        send_task(session, TaskName.ANSWER_BATCH, watch.project_id)  # behind the others: when it is done, so are they
        session.commit()
    until(lambda: worker.log().count("worker.run_round") >= 1, SECONDS, "tasks were received")
    assert [(known.number, known.state, known.attempt) for known in watch.rounds()] == [
        (0, RoundState.DONE, 1),
        (1, RoundState.DONE, 1),
    ]
    with sending.transaction() as session:
        models = session.scalars(select(Model).where(Model.project_id == watch.project_id)).all()
        assert len(models) == 1


def test_a_worker_killed_in_the_middle_of_a_fit_leaves_a_round_that_completes_once(
    sending: Database, worker: Worker, start_worker: Callable[[], Worker]
) -> None:
    watch = make_digits(sending, seed_set=20, fitting={"epochs": 1000, "patience": 1000})
    until(lambda: watch.done(0), SECONDS, "the seed set is chosen")
    label_batch(watch, a_person(sending), 20)
    until(lambda: watch.fitting(1), SECONDS, "the network is being fitted")
    worker.kill()
    [_, cut_off] = watch.rounds()
    assert (cut_off.state, cut_off.attempt, cut_off.metrics) == (RoundState.RUNNING, 1, None)
    with sending.transaction() as session:
        session.execute(
            update(Round)
            .where(Round.id == cut_off.id)
            .values(requested_at=func.now() - func.make_interval(0, 0, 0, 0, 1))
        )
        recipe = parse_recipe({"seed_set": 20, "fitting": {"epochs": 10}})
        projects.set_recipe(session, watch.project_id, recipe)
        session.commit()
    start_worker()
    until(lambda: watch.done(1), SECONDS, "the round is completed by the next worker")
    [_, completed] = watch.rounds()
    assert (completed.id, completed.attempt, completed.labels) == (cut_off.id, 2, 20)
    with sending.transaction() as session:
        models = session.scalars(select(Model).where(Model.project_id == watch.project_id)).all()
        assert [model.round_id for model in models] == [completed.id]


def test_a_round_that_cannot_be_run_fails_with_its_reason_and_can_be_asked_for_again(
    sending: Database, worker: Worker, settings: Settings
) -> None:
    watch = make_digits(sending, seed_set=20, fitting={"epochs": 5})
    until(lambda: watch.done(0), SECONDS, "the seed set is chosen")
    with sending.transaction() as session:
        lost = session.scalars(select(Image.content_hash).where(Image.project_id == watch.project_id)).first()
        assert lost is not None
        # another side has the images decoded again
        projects.set_recipe(session, watch.project_id, parse_recipe({"image_side": 10, "fitting": {"epochs": 5}}))
        session.commit()
    [blob] = Path(settings.storage).rglob(lost)
    kept = blob.read_bytes()
    blob.unlink()
    label_batch(watch, a_person(sending), 20)
    until(lambda: watch.rounds()[-1].state in (RoundState.FAILED, RoundState.DONE), SECONDS, "the round ends")
    failed = watch.rounds()[-1]
    assert (failed.number, failed.state) == (1, RoundState.FAILED)
    assert failed.error is not None
    assert lost[:12] in failed.error
    assert "restore the storage" in failed.error
    blob.write_bytes(kept)
    with sending.transaction() as session:
        rounds.request_by_admin(session, watch.project_id)
        session.commit()
    until(lambda: watch.done(2), SECONDS, "the next round runs")


def test_the_worker_says_that_it_is_alive(worker: Worker, bus: Bus) -> None:
    def seen() -> list[WorkerSeen]:
        return [known for known in bus.workers() if known.name.endswith(f"-{worker.process.pid}")]

    [own] = until(seen, 20, "the sign of life")
    assert own.device in {"cpu", "cuda"}
    assert own.threads >= 1


@pytest.mark.parametrize("noise", [0.3])
def test_a_noisy_oracle_is_wrong_about_as_often_as_it_should(sending: Database, worker: Worker, noise: float) -> None:
    watch = make_digits(sending, budget=200, seed_set=200, fitting={"epochs": 1})
    until(lambda: watch.done(0), SECONDS, "the seed set is chosen")
    with sending.transaction() as session:
        projects.set_oracle(session, watch.project_id, OracleKind.SIMULATED, noise)
        session.commit()
    until(lambda: watch.done(1), SECONDS, "200 labels are given")
    with sending.transaction() as session:
        wrong = select(func.count()).where(
            Image.project_id == watch.project_id, Image.has_human_label, Image.label_class_id != Image.true_class_id
        )
        assert 35 <= (session.scalar(wrong) or 0) <= 85  # 60 expected; four standard deviations either way
