"""The ledger in a real worker: rounds write it and learn from it, people check it, a kill leaves no half of it."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from app.database import Database
from app.records import (
    Annotation,
    Class,
    Image,
    Model,
    OracleKind,
    Outcome,
    PseudoLabel,
    Query,
    QuerySource,
    Round,
    RoundReason,
)
from app.services import claiming, labeling, projects, rounds
from app.services.labeling import Answer
from app.services.reporting.agreement import Agreement
from app.services.reporting.ledger_summary import ledger_summary
from tests.waiting import until
from tests.worker.conftest import Worker
from tests.worker.test_loop import SECONDS, Watch, a_person, label_batch, make_digits


def pseudo(found: Round) -> dict[str, object]:
    """Return what a round's metrics say of the ledger."""
    told = (found.metrics or {})["pseudo"]
    assert isinstance(told, dict)
    return told


def entries(session: Session, watch: Watch) -> list[PseudoLabel]:
    wanted = select(PseudoLabel).where(PseudoLabel.project_id == watch.project_id).order_by(PseudoLabel.id)
    return list(session.scalars(wanted))


def let_the_oracle_answer(watch: Watch) -> None:
    until(lambda: watch.done(0), SECONDS, "the seed set is chosen")
    with watch.database.transaction() as session:
        projects.set_oracle(session, watch.project_id, OracleKind.SIMULATED)
        session.commit()


def rests(watch: Watch) -> bool:
    with watch.database.transaction() as session:
        return rounds.is_settled(session, watch.project_id) and projects.get(session, watch.project_id).is_spent


def be_unsure(watch: Watch, user_id: int) -> None:
    with watch.database.transaction() as session:
        [ask] = claiming.claim(session, watch.project_id, user_id, 1, 60, reserves=False)
        labeling.answer(session, Answer(uuid4(), watch.project_id, ask.query_id, user_id, Outcome.UNSURE))
        session.commit()


def writes_the_ledger(database: Database) -> bool:
    """Say whether somebody waits for a lock while writing entries."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND query LIKE '%INSERT INTO pseudo_labels%'"
    )
    with database.transaction() as session:
        return bool(session.scalar(waiting))


def naive_agreement(session: Session, watch: Watch, *, drawn: bool) -> Agreement:
    """Compare entries with the answers that ended them, one after the other."""
    right = count = 0
    for entry in entries(session, watch):
        if entry.superseded_reason == "human label":
            [answer] = session.scalars(select(Annotation).where(Annotation.image_id == entry.image_id)).all()
            if (session.get_one(Query, answer.query_id).source is QuerySource.RANDOM) == drawn:
                count += 1
                right += answer.class_id == entry.class_id
    return Agreement(right, count)


def test_rounds_label_the_pool_learn_from_it_and_are_checked_by_what_people_say_later(
    sending: Database, worker: Worker
) -> None:
    labeler = {"name": "threshold", "confidence": 0.8}
    sizes = {"image_side": 8, "seed_set": 40, "batch_size": 30, "random_share": 0.5}
    recipe = {"network": "softmax_regression", "fitting": {"epochs": 30, "learning_rate": 0.01}}
    watch = make_digits(sending, budget=100, pseudo_labeler=labeler, **sizes, **recipe)
    let_the_oracle_answer(watch)
    until(lambda: rests(watch), SECONDS, "the budget is spent and learned from")
    found = watch.rounds()
    assert [known.labels for known in found] == [0, 40, 70, 100]
    assert found[0].metrics is None
    with sending.transaction() as session:
        written = entries(session, watch)
        made_by = dict(session.execute(select(Model.id, Round.number).join(Round, Round.id == Model.round_id)).all())
        for known in found[1:]:
            assert known.started_at is not None
            at_start = [
                entry
                for entry in written
                if entry.created_at < known.started_at
                and (entry.superseded_at is None or entry.superseded_at > known.started_at)
            ]
            report = pseudo(known)["report"]
            assert isinstance(report, dict)
            assert (report["threshold"], report["learned_from"]) == (0.8, len(at_start)), "training read what stood"
            assert pseudo(known)["added"] == sum(made_by[entry.model_id] == known.number for entry in written)
        assert pseudo(found[1])["added"], "a network of 40 labels is sure of some digits"
        standing = [entry for entry in written if entry.superseded_at is None]
        assert pseudo(found[-1])["standing"] == len(standing)
        assert all(entry.confidence >= 0.8 and entry.rule == "threshold" for entry in written)
        for entry in standing:
            image = session.get_one(Image, entry.image_id)
            assert not image.has_human_label
            assert image.split == "pool"
        summary = ledger_summary(session, projects.get(session, watch.project_id))
        assert summary.drawn == naive_agreement(session, watch, drawn=True)
        assert summary.picked == naive_agreement(session, watch, drawn=False)
        assert summary.drawn.count, "half of the queries are drawn, and some of those images were labelled by a model"


def test_the_network_goes_on_alone_when_the_budget_is_spent(sending: Database, worker: Worker) -> None:
    labeler = {"name": "most_confident", "count": 400}
    recipe = {"image_side": 8, "network": "softmax_regression", "fitting": {"epochs": 3}}
    watch = make_digits(sending, budget=20, seed_set=20, pseudo_labeler=labeler, **recipe)
    let_the_oracle_answer(watch)
    until(lambda: rests(watch), SECONDS, "nothing is left to label")
    found = watch.rounds()
    assert [known.reason for known in found[2:]] == [RoundReason.AUTOMATIC_LABELS] * (len(found) - 2)
    assert [pseudo(known)["added"] for known in found[1:]] == [400, 400, 400, 177, 0], (
        "1,397 images of the pool less 20"
    )
    assert pseudo(found[-1])["standing"] == 1377


@pytest.mark.timeout(300)
def test_a_worker_killed_while_it_writes_the_ledger_leaves_nothing_of_it(
    sending: Database, worker: Worker, start_worker: Callable[[], Worker]
) -> None:
    labeler = {"name": "threshold", "confidence": 0.2}
    watch = make_digits(sending, seed_set=20, pseudo_labeler=labeler, fitting={"epochs": 5})
    until(lambda: watch.done(0), SECONDS, "the seed set is chosen")
    person = a_person(sending)
    label_batch(watch, person, 19)
    with sending.transaction() as holding:
        # entries refer to their class, so writing them waits for whoever holds it, in the middle of the round's end
        holding.execute(select(Class.id).where(Class.project_id == watch.project_id).with_for_update())
        be_unsure(watch, person)  # the last of the batch, without a class
        until(lambda: writes_the_ledger(sending), SECONDS, "the round is being written")
        worker.kill()
        holding.rollback()
    [_, cut_off] = watch.rounds()
    assert (cut_off.state, cut_off.metrics) == ("running", None)
    with sending.transaction() as session:
        assert entries(session, watch) == []
        assert session.scalars(select(Query).where(Query.round_id == cut_off.id)).all() == []
        old = func.now() - func.make_interval(0, 0, 0, 0, 1)
        session.execute(update(Round).where(Round.id == cut_off.id).values(requested_at=old))
        session.commit()
    start_worker()
    until(lambda: watch.done(1), SECONDS, "the round is completed by the next worker")
    [_, completed] = watch.rounds()
    assert (completed.id, completed.attempt) == (cut_off.id, 2)
    with sending.transaction() as session:
        written = entries(session, watch)
        assert len(written) == pseudo(completed)["added"] == pseudo(completed)["standing"]
        models = session.scalars(select(Model.id).where(Model.project_id == watch.project_id)).all()
        assert {entry.model_id for entry in written} == set(models)
