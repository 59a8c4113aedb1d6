"""What a finished round writes, and which images it may ask about."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.database import Database
from app.errors import Conflict
from app.records import (
    Image,
    Lease,
    Outcome,
    Project,
    ProjectState,
    Query,
    QuerySource,
    Round,
    RoundReason,
    RoundState,
    Split,
)
from app.services import claiming, grids, labeling, leases, members, projects, rounds, snapshots
from app.services.claiming import Ask
from app.services.labeling import Answer
from app.services.locks import lock_project
from app.services.rounds import RankedImage, RoundResult
from tests.factories import classes_of, make_project, make_round, make_user

LEASE = 60.0


def begin(session: Session, project: Project) -> Round:
    begun = rounds.begin(session, lock_project(session, project.id))
    assert begun is not None
    return begun


def finish(session: Session, project: Project, begun: Round, batch_size: int, rows: list[int] | None = None) -> bool:
    """Finish a round whose ranking is ``rows``, or all images by descending row."""
    images = {image.row: image for image in session.scalars(select(Image).where(Image.project_id == project.id))}
    order = sorted(images, reverse=True) if rows is None else rows
    ranking = [RankedImage(images[row].id, QuerySource.ACQUISITION, score=float(row)) for row in order]
    return rounds.finish(session, begun.id, begun.attempt, RoundResult(ranking, batch_size, {"seconds_fit": 0.1}))


def queries(session: Session, begun: Round) -> list[tuple[int, int, bool]]:
    """Return (rank, row, reserve) of what a round asked."""
    rows = session.execute(
        select(Query.rank, Image.row, Query.reserve)
        .join(Image, Image.id == Query.image_id)
        .where(Query.round_id == begun.id)
        .order_by(Query.rank)
    )
    return [(rank, row, reserve) for rank, row, reserve in rows]


def answer_all(
    session: Session, project: Project, user_id: int, asks: list[Ask], outcome: Outcome = Outcome.LABEL
) -> None:
    class_id = classes_of(session, project)[0].id if outcome is Outcome.LABEL else None
    for ask in asks:
        labeling.answer(session, Answer(uuid4(), project.id, ask.query_id, user_id, outcome, class_id))


def claim(session: Session, project: Project, user_id: int, count: int) -> list[Ask]:
    return claiming.claim(session, project.id, user_id, count, LEASE)


def test_a_project_that_starts_asks_for_its_first_queries(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, state=ProjectState.PAUSED)
        projects.set_state(session, project.id, ProjectState.RUNNING)
        latest = rounds.latest_round(session, project.id)
        assert latest is not None
        assert (latest.number, latest.state, latest.reason) == (0, RoundState.REQUESTED, RoundReason.FIRST_QUERIES)


def test_a_round_asks_a_batch_and_keeps_as_much_in_reserve_in_the_rankings_order(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=10, state=ProjectState.PAUSED)
        projects.set_state(session, project.id, ProjectState.RUNNING)
        begun = begin(session, project)
        assert finish(session, project, begun, batch_size=3)
        assert queries(session, begun) == [
            (1, 9, False), (2, 8, False), (3, 7, False), (4, 6, True), (5, 5, True), (6, 4, True)
        ]  # fmt: skip


def test_a_round_is_finished_once_and_only_by_the_attempt_that_holds_it(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=10)
        session.add(Round(project_id=project.id, number=0, reason=RoundReason.FIRST_QUERIES))
        session.flush()
        first = begin(session, project)
        cut_off = first.attempt
        second = begin(session, project)
        assert (second.id, second.attempt) == (first.id, cut_off + 1), "the same round, begun again"
        stale = RoundResult([], 3, {})
        assert not rounds.finish(session, second.id, cut_off, stale)
        assert finish(session, project, second, batch_size=3)
        assert not finish(session, project, second, batch_size=3)
        assert len(queries(session, second)) == 6


def test_a_round_that_was_cut_off_too_often_fails_with_its_reason(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session)
        session.add(Round(project_id=project.id, number=0, reason=RoundReason.FIRST_QUERIES))
        session.flush()
        for _ in range(rounds.MOST_ATTEMPTS):
            begun = begin(session, project)
        assert rounds.begin(session, lock_project(session, project.id)) is None
        assert begun.state is RoundState.FAILED
        assert begun.error == f"the worker was cut off {rounds.MOST_ATTEMPTS} times while it ran"
        again = rounds.request_by_admin(session, project.id)
        assert (again.number, again.state) == (1, RoundState.REQUESTED)


def test_a_new_ranking_replaces_what_nobody_holds_and_leaves_what_a_person_holds(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=20)
        old = make_round(session, project, queries=6)
        user = make_user(session).id
        held = claim(session, project, user, 2)
        rounds.request_by_admin(session, project.id)
        begun = begin(session, project)
        assert finish(session, project, begun, batch_size=4, rows=[0, 1, 2, 3, 4, 5, 6, 7])
        asked_again = [row for _, row, _ in queries(session, begun)]
        assert asked_again == [2, 3, 4, 5, 6, 7], "rows 0 and 1 are still held"
        assert claim(session, project, user, 1)[0].round_number == begun.number
        answer_all(session, project, user, held)
        session.expire_all()
        assert [image.has_human_label for image in project_images(session, project)[:3]] == [True, True, False]
        left = session.scalars(select(Query.id).where(Query.round_id == old.id, Query.closed_at.is_(None))).all()
        assert left == []


def test_a_superseded_query_whose_lease_runs_out_is_not_asked_again(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=10)
        make_round(session, project, queries=1)
        user = make_user(session).id
        [held] = claim(session, project, user, 1)
        rounds.request_by_admin(session, project.id)
        finish(session, project, begin(session, project), batch_size=1, rows=[5])
        leases.release(session, project.id, user)
        session.expire_all()
        assert session.get_one(Query, held.query_id).closed_at is not None
        assert [ask.image_id for ask in claim(session, project, user, 5)] == [project_images(session, project)[5].id]


@pytest.mark.parametrize("how", ["given back", "run out", "signed out", "put back"])
def test_what_was_held_while_a_round_had_no_room_left_is_asked_when_it_comes_back(database: Database, how: str) -> None:
    with database.transaction() as session:
        project = make_project(session, images=10, budget=5)
        make_round(session, project, queries=2, reserve=3)
        user = make_user(session).id
        answer_all(session, project, user, claim(session, project, user, 2))
        held = claim(session, project, user, 5)
        assert len(held) == 3, "the reserve, while a round is open"
        begun = begin(session, project)
        assert finish(session, project, begun, batch_size=4)
        assert queries(session, begun) == [], "what is held may be all that the budget has left"
        assert not rounds.is_open(session, project.id)
        match how:
            case "given back":
                leases.release(session, project.id, user)
            case "run out":
                session.execute(update(Lease).values(expires_at=func.now() - timedelta(seconds=1)))
                leases.return_expired(session, project.id)
            case "signed out":
                members.return_all(session, user)
            case "put back":
                assert grids.put_back(session, project.id, user, [ask.query_id for ask in held]) == 3
        session.expire_all()
        again = rounds.latest_round(session, project.id)
        assert again is not None
        assert (again.state, again.reason) == (RoundState.REQUESTED, RoundReason.MORE_TO_ASK)
        assert finish(session, project, begin(session, project), batch_size=4)
        asked = claim(session, project, user, 5)
        assert len(asked) == 3
        answer_all(session, project, user, asked)
        assert project.is_spent and rounds.latest_round(session, project.id) != again


def test_what_is_given_back_when_nothing_is_left_to_ask_starts_no_round(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=2, budget=5)
        make_round(session, project, queries=2)
        users = [make_user(session).id, make_user(session).id]
        for user in users:
            answer_all(session, project, user, claim(session, project, user, 1))
        begun = begin(session, project)
        assert finish(session, project, begun, batch_size=4)
        for user in users:
            leases.release(session, project.id, user)
        latest = rounds.latest_round(session, project.id)
        assert latest is not None and (latest.id, latest.state) == (begun.id, RoundState.DONE)


def test_what_was_skipped_stays_open_for_others_and_is_not_asked_twice(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=10)
        make_round(session, project, queries=2)
        first, second = make_user(session).id, make_user(session).id
        skipped, labelled = claim(session, project, first, 2)
        answer_all(session, project, first, [skipped], Outcome.SKIP)
        answer_all(session, project, first, [labelled])
        begun = begin(session, project)
        rows = snapshots.read_snapshot(session, project, [known.id for known in classes_of(session, project)])
        assert (rows.labelled, rows.candidates) == ([(1, classes_of(session, project)[0].id)], list(range(2, 10)))
        assert finish(session, project, begun, batch_size=2)
        assert claim(session, project, second, 1)[0].query_id == skipped.query_id


def test_the_batch_ends_at_the_budget(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=20, budget=7, overlap=2)
        make_round(session, project, queries=1)
        users = [make_user(session).id, make_user(session).id]
        for user in users:
            answer_all(session, project, user, claim(session, project, user, 1))
        begun = begin(session, project)
        assert finish(session, project, begun, batch_size=4)
        assert len(queries(session, begun)) == 2, "5 labels are left: two images with two answers each"


def test_when_the_budget_is_spent_the_network_still_learns_from_the_last_labels(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=10, budget=2)
        make_round(session, project, queries=2)
        user = make_user(session).id
        answer_all(session, project, user, claim(session, project, user, 2))
        begun = begin(session, project)
        assert finish(session, project, begun, batch_size=2)
        assert queries(session, begun) == []
        assert rounds.latest_round(session, project.id) == begun, "and then the loop rests"
        projects.set_budget(session, project.id, 4)
        latest = rounds.latest_round(session, project.id)
        assert latest is not None
        assert latest.reason is RoundReason.MORE_TO_ASK


def test_test_images_without_a_known_class_are_asked_about_and_never_trained_on(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=10, classes=("a", "b"), test_images=3)
        for image in project_images(session, project):
            image.true_class_id = None
        session.add(Round(project_id=project.id, number=0, reason=RoundReason.FIRST_QUERIES))
        session.flush()
        class_ids = [known.id for known in classes_of(session, project)]
        rows = snapshots.read_snapshot(session, project, class_ids)
        assert (rows.candidates, rows.unlabelled_test, rows.test) == (list(range(7)), [7, 8, 9], [])
        begun = begin(session, project)
        images = project_images(session, project)
        ranking = [RankedImage(images[row].id, QuerySource.SEED) for row in rows.candidates]
        ranking += [RankedImage(images[row].id, QuerySource.TEST) for row in rows.unlabelled_test]
        rounds.finish(session, begun.id, begun.attempt, RoundResult(ranking, 2, {}))
        user = make_user(session).id
        asks = claim(session, project, user, 5)
        assert [ask.source for ask in asks] == [QuerySource.SEED] * 2 + [QuerySource.TEST] * 3
        answer_all(session, project, user, asks)
        rows = snapshots.read_snapshot(session, project, class_ids)
        assert [row for row, _ in rows.labelled] == [0, 1]
        assert [row for row, _ in rows.test] == [7, 8, 9]
        assert rows.unlabelled_test == []


def test_a_paused_project_requests_no_round_and_goes_on_where_it_was(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=10)
        make_round(session, project, queries=1)
        user = make_user(session).id
        held = claim(session, project, user, 1)
        projects.set_state(session, project.id, ProjectState.PAUSED)
        answer_all(session, project, user, held)
        assert not rounds.is_open(session, project.id)
        with pytest.raises(Conflict, match="paused"):
            rounds.request_by_admin(session, project.id)
        projects.set_state(session, project.id, ProjectState.RUNNING)
        assert rounds.is_open(session, project.id)


def project_images(session: Session, project: Project) -> list[Image]:
    return list(session.scalars(select(Image).where(Image.project_id == project.id).order_by(Image.row)))


def test_truth_of_the_pool_is_never_in_a_snapshot(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=10, test_images=2)
        assert all(image.true_class_id for image in project_images(session, project))
        rows = snapshots.read_snapshot(session, project, [known.id for known in classes_of(session, project)])
        assert rows.labelled == []
        test_rows = [image.row for image in project_images(session, project) if image.split is Split.TEST]
        assert [row for row, _ in rows.test] == test_rows


def test_a_project_deleted_while_its_round_runs_takes_the_round_with_it(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=10)
        session.add(Round(project_id=project.id, number=0, reason=RoundReason.FIRST_QUERIES))
        session.flush()
        begun = begin(session, project)
        round_id, attempt = begun.id, begun.attempt
        projects.delete(session, project.id)
        session.expunge_all()
        assert not rounds.finish(session, round_id, attempt, RoundResult([], 3, {}))
        assert not rounds.fail(session, round_id, attempt, "too late")


def test_an_image_that_lacks_an_answer_or_two_is_asked_about_no_more_often(database: Database) -> None:
    """With as many people as the overlap, wanting all answers anew would wait for ever for one who has answered."""
    with database.transaction() as session:
        project = make_project(session, 2, overlap=3)
        make_round(session, project, queries=1, reserve=1)
        class_id = classes_of(session, project)[0].id
        users = [make_user(session).id for _ in range(3)]
        rounds.request_by_admin(session, project.id)
        begun = begin(session, project)
        label_all(session, project, users[0], class_id)
        assert finish(session, project, begun, 2)
        assert list(session.scalars(select(Query.wanted_answers).where(Query.round_id == begun.id))) == [2, 2]
        for user_id in users:
            label_all(session, project, user_id, class_id)
        labelled = select(func.count()).where(Image.project_id == project.id, Image.has_human_label)
        assert session.scalar(labelled) == 2


def label_all(session: Session, project: Project, user_id: int, class_id: int) -> None:
    for ask in claiming.claim(session, project.id, user_id, 10, LEASE):
        labeling.answer(session, Answer(uuid4(), project.id, ask.query_id, user_id, Outcome.LABEL, class_id))
