"""Acceptance 4: who gets which query. Every test races or compares real rows on real Postgres."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from uuid import uuid4

import pytest
from sqlalchemy import event, exists, func, select, text, update

from app.database import Database
from app.records import (
    Annotation,
    Image,
    Lease,
    Outcome,
    ProjectState,
    Query,
    QuerySource,
    Round,
    RoundReason,
    RoundState,
)
from app.services import claiming, labeling, labeling_progress, leases, projects, rounds
from app.services.claiming import Ask
from app.services.labeling import Answer
from app.services.labeling_progress import NothingKind
from app.services.locks import lock_project
from app.services.rounds import RankedImage, RoundResult
from tests.factories import classes_of, make_project, make_round, make_user
from tests.waiting import until

LEASE = 60.0


def claim(database: Database, project_id: int, user_id: int, count: int, **options: float) -> list[Ask]:
    with database.transaction() as session:
        asks = claiming.claim(session, project_id, user_id, count, LEASE, **options)
        session.commit()
    return asks


def answer(database: Database, project_id: int, user_id: int, query_id: int, outcome: Outcome = Outcome.LABEL) -> bool:
    with database.transaction() as session:
        class_id = classes_of(session, projects.get(session, project_id))[0].id if outcome is Outcome.LABEL else None
        answered = labeling.answer(session, Answer(uuid4(), project_id, query_id, user_id, outcome, class_id))
        session.commit()
    return answered.counted


def scene(
    database: Database, people: int, *, queries: int = 20, reserve: int = 0, overlap: int = 1, spare: int = 0
) -> tuple[int, list[int]]:
    with database.transaction() as session:
        project = make_project(session, images=queries + reserve + spare, overlap=overlap)
        make_round(session, project, queries, reserve)
        users = [make_user(session).id for _ in range(people)]
        session.commit()
        return project.id, users


@pytest.mark.parametrize("overlap", [1, 2])
def test_two_people_who_claim_at_the_same_time_never_hold_more_than_the_overlap(
    database: Database, overlap: int
) -> None:
    project_id, users = scene(database, 2, queries=100, overlap=overlap)
    barrier = Barrier(2)

    def race(user_id: int) -> list[int]:
        taken = []
        for _ in range(100):
            barrier.wait()
            taken += [ask.query_id for ask in claim(database, project_id, user_id, 1)]
        return taken

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(race, users)
    # whoever was passed over because the other was just claiming the last one gets it now
    for user_id, taken in zip(users, (first, second), strict=True):
        taken += [ask.query_id for ask in claim(database, project_id, user_id, 100)]
    holders = Counter(first) + Counter(second)
    assert max(Counter(first).values()) == max(Counter(second).values()) == 1
    assert set(holders.values()) == {overlap}
    assert len(holders) == 100, "every query was handed out"


def test_two_pages_of_one_person_never_hold_the_same_query(database: Database) -> None:
    project_id, [user_id] = scene(database, 1, queries=100, overlap=2)
    barrier = Barrier(2)

    def race(_page: int) -> list[int]:
        taken = []
        for _ in range(50):
            barrier.wait()
            taken += [ask.query_id for ask in claim(database, project_id, user_id, 1)]
        return taken

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(race, range(2))
    assert not set(first) & set(second)
    second += [ask.query_id for ask in claim(database, project_id, user_id, 100)]
    assert len(set(first) | set(second)) == 100


@pytest.mark.parametrize("people", [1, 2, 5])
def test_people_are_shown_images_in_the_rankings_order(database: Database, people: int) -> None:
    project_id, users = scene(database, people, queries=30)
    shown = []
    for turn in range(30):
        user_id = users[turn % people]
        [ask] = claim(database, project_id, user_id, 1)
        shown.append(ask.rank)
        assert answer(database, project_id, user_id, ask.query_id)
    assert shown == list(range(1, 31))


def test_a_page_of_queries_comes_in_the_rankings_order(database: Database) -> None:
    project_id, [first, second] = scene(database, 2, queries=12)
    assert [ask.rank for ask in claim(database, project_id, first, 5)] == [1, 2, 3, 4, 5]
    assert [ask.rank for ask in claim(database, project_id, second, 5)] == [6, 7, 8, 9, 10]


def test_with_overlap_a_query_goes_to_two_people_and_never_twice_to_one(database: Database) -> None:
    project_id, users = scene(database, 3, queries=10, overlap=2)
    seen: dict[int, list[int]] = {}
    for user_id in users * 2:
        for ask in claim(database, project_id, user_id, 10):
            seen.setdefault(ask.query_id, []).append(user_id)
            assert answer(database, project_id, user_id, ask.query_id)
    assert all(len(people) == len(set(people)) == 2 for people in seen.values())
    assert len(seen) == 10


def test_while_others_still_have_to_answer_nobody_is_told_that_all_is_done(database: Database) -> None:
    project_id, [first, second] = scene(database, 2, queries=2, overlap=2)
    for ask in claim(database, project_id, first, 2):
        answer(database, project_id, first, ask.query_id)
    assert why_nothing(database, project_id, first) is NothingKind.OTHERS
    held = claim(database, project_id, second, 2)
    assert why_nothing(database, project_id, first) is NothingKind.LEASED
    for ask in held:
        answer(database, project_id, second, ask.query_id)
    assert why_nothing(database, project_id, first) is NothingKind.TRAINING


def why_nothing(database: Database, project_id: int, user_id: int) -> NothingKind:
    assert claim(database, project_id, user_id, 5) == []
    with database.transaction() as session:
        return labeling_progress.why_nothing(session, project_id, user_id).kind


def test_a_batch_comes_before_its_reserve_and_little_reserve_is_handed_out_ahead(database: Database) -> None:
    project_id, [user_id] = scene(database, 1, queries=5, reserve=10)
    asks = claim(database, project_id, user_id, 15)
    assert [ask.reserve for ask in asks] == [False] * 5 + [True] * claiming.RESERVE_AHEAD


def test_a_round_that_ends_during_a_claim_never_puts_its_reserve_before_its_batch(database: Database) -> None:
    told = []
    while True:  # the round ends before the first statement of a claim, then before the second, ...
        project_id, [user_id] = scene(database, 1, queries=0, reserve=4, spare=4)
        asks, has_ended = claim_while_a_round_ends(database, project_id, user_id, before_statement=len(told))
        if not has_ended:
            break
        told.append([(ask.round_number, ask.reserve) for ask in asks])
    old, new = [(0, True)] * 4, [(1, False)] * 3 + [(1, True)]
    assert told[0] == new, "the claim came after the round"
    assert all(asks in (old, new) for asks in told), told
    assert len(told) >= 4, "a claim is several statements"


def claim_while_a_round_ends(
    database: Database, project_id: int, user_id: int, *, before_statement: int
) -> tuple[list[Ask], bool]:
    """Claim four queries, and have a round end before the claim's statement of this number.

    Once the claim only reads what it took, no round can end before its commit; then, the answer says, none did.
    """
    with database.transaction() as session:
        rounds.request_if_due(session, lock_project(session, project_id), RoundReason.ASKED_BY_ADMIN)
        session.commit()
    statements, has_ended = 0, False

    def end_in_between(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal statements, has_ended
        if statements == before_statement and "JOIN images" not in statement:
            has_ended = True
            end_round(database, project_id)
        statements += 1

    with database.transaction() as session:
        event.listen(session.connection(), "before_cursor_execute", end_in_between)
        asks = claiming.claim(session, project_id, user_id, 4, LEASE)
        session.commit()
    return asks, has_ended


def end_round(database: Database, project_id: int) -> None:
    with database.transaction() as session:
        begun = rounds.begin(session, lock_project(session, project_id))
        assert begun is not None
        free = ~exists().where(Query.image_id == Image.id)
        images = session.scalars(select(Image.id).where(Image.project_id == project_id, free).order_by(Image.row))
        ranking = [RankedImage(image_id, QuerySource.ACQUISITION) for image_id in images]
        assert rounds.finish(session, begun.id, begun.attempt, RoundResult(ranking, 3, {}, None))
        session.commit()


def test_while_a_round_is_open_the_reserve_keeps_people_going(database: Database) -> None:
    project_id, [user_id] = scene(database, 1, queries=5, reserve=10)
    for ask in claim(database, project_id, user_id, 5):
        answer(database, project_id, user_id, ask.query_id)
    with database.transaction() as session:
        latest = session.scalars(
            select(Round).where(Round.project_id == project_id).order_by(Round.number.desc())
        ).first()
        assert latest is not None
        assert latest.state is RoundState.REQUESTED, "the batch was answered"
    assert len(claim(database, project_id, user_id, 8)) == 8


def test_a_query_whose_lease_has_run_out_is_handed_to_somebody_else(database: Database) -> None:
    project_id, [first, second] = scene(database, 2, queries=1)
    [held] = claim(database, project_id, first, 1)
    assert claim(database, project_id, second, 1) == []
    expire(database, held.query_id)
    [handed_on] = claim(database, project_id, second, 1)
    assert handed_on.query_id == held.query_id
    assert not answer(database, project_id, first, held.query_id), "the lease has passed on"
    assert answer(database, project_id, second, held.query_id)
    with database.transaction() as session:
        counted = session.execute(
            select(Annotation.user_id, Annotation.counted).where(Annotation.query_id == held.query_id)
        ).all()
    assert sorted(counted) == sorted([(first, False), (second, True)]), "both answers are kept, one counts"


def test_what_expired_leases_held_of_the_budget_is_handed_out_again_and_no_more(database: Database) -> None:
    project_id, [first, second] = scene(database, 2, queries=6)
    with database.transaction() as session:
        projects.get(session, project_id).budget = 3
        session.commit()
    held = [ask.query_id for ask in claim(database, project_id, first, 5)]
    assert len(held) == 3 and claim(database, project_id, second, 5) == []
    for query_id in held:
        expire(database, query_id)
    assert len(claim(database, project_id, second, 5)) == 3


def test_a_claim_that_returns_expired_leases_waits_for_the_project_without_holding_queries(database: Database) -> None:
    project_id, [first, second] = scene(database, 2, queries=3)
    with database.transaction() as session:
        projects.get(session, project_id).budget = 10_000
        session.commit()
    [held] = claim(database, project_id, first, 1)
    expire(database, held.query_id)
    with ThreadPoolExecutor(1) as beside, database.transaction() as session:
        lock_project(session, project_id)
        claiming_now = beside.submit(claim, database, project_id, second, 3)
        until(lambda: waiting_for_rows(database), 10, "the claim waits for the project")
        of_project = select(Query.id).where(Query.project_id == project_id)
        assert len(session.scalars(of_project.with_for_update(nowait=True)).all()) == 3
        session.rollback()
        assert len(claiming_now.result(10)) == 3
    assert sums(database, project_id) == {0}


def waiting_for_rows(database: Database) -> bool:
    with database.transaction() as session:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(session.scalar(text(waiting)))


def test_an_answer_after_the_lease_ran_out_counts_if_nobody_took_the_image(database: Database) -> None:
    project_id, [user_id] = scene(database, 1, queries=2)
    [held] = claim(database, project_id, user_id, 1)
    expire(database, held.query_id)
    with database.transaction() as session:
        assert leases.return_expired(session, project_id) == 1
        session.commit()
    assert answer(database, project_id, user_id, held.query_id)


def test_the_queries_of_a_crashed_page_come_back_to_the_same_person(database: Database) -> None:
    project_id, [user_id] = scene(database, 1, queries=3)
    held = {ask.query_id for ask in claim(database, project_id, user_id, 3)}
    assert claim(database, project_id, user_id, 3) == [], "a page that renews its leases keeps them"
    with database.transaction() as session:
        session.execute(
            update(Lease).where(Lease.query_id.in_(held)).values(expires_at=func.now() + timedelta(seconds=LEASE / 3))
        )
        session.commit()
    assert {ask.query_id for ask in claim(database, project_id, user_id, 3)} == held


def test_released_queries_are_free_at_once(database: Database) -> None:
    project_id, [first, second] = scene(database, 2, queries=4)
    held = claim(database, project_id, first, 4)
    with database.transaction() as session:
        assert leases.release(session, project_id, first, [held[0].query_id, held[2].query_id]) == 2
        session.commit()
    assert [ask.rank for ask in claim(database, project_id, second, 4)] == [1, 3]


def test_a_paused_project_hands_out_nothing(database: Database) -> None:
    project_id, [user_id] = scene(database, 1)
    with database.transaction() as session:
        projects.set_state(session, project_id, ProjectState.PAUSED)
        session.commit()
    assert claim(database, project_id, user_id, 5) == []


def test_many_claims_at_once_never_pass_the_budget(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=40, budget=13)
        make_round(session, project, 40)
        users = [make_user(session).id for _ in range(8)]
        session.commit()
        project_id = project.id
    barrier = Barrier(8)

    def race(user_id: int) -> int:
        barrier.wait()
        return len(claim(database, project_id, user_id, 5))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(race, users)) == 13


def test_open_answers_leases_and_answers_always_add_up(database: Database) -> None:
    project_id, users = scene(database, 3, queries=10, overlap=3)
    for turn in range(40):
        user_id = users[turn % 3]
        for place, ask in enumerate(claim(database, project_id, user_id, 2)):
            outcome = [Outcome.LABEL, Outcome.SKIP, Outcome.UNSURE][(turn + place) % 3]
            answer(database, project_id, user_id, ask.query_id, outcome)
        claim(database, project_id, users[(turn + 1) % 3], 1)
        assert sums(database, project_id) == {0}


def sums(database: Database, project_id: int) -> set[int]:
    """Return, over open queries, wanted answers less open ones, leases and answers."""
    leases = select(func.count()).where(Lease.query_id == Query.id).scalar_subquery()
    given = (
        select(func.count())
        .where(
            Annotation.query_id == Query.id,
            Annotation.outcome.in_([Outcome.LABEL, Outcome.UNSURE]),
            Annotation.counted,
            Annotation.revoked_at.is_(None),
        )
        .scalar_subquery()
    )
    left = select(Query.wanted_answers - Query.open_answers - leases - given)
    with database.transaction() as session:
        return {0, *session.scalars(left.where(Query.project_id == project_id, Query.closed_at.is_(None)))}


def expire(database: Database, query_id: int) -> None:
    with database.transaction() as session:
        session.execute(
            update(Lease).where(Lease.query_id == query_id).values(expires_at=func.now() - timedelta(seconds=1))
        )
        session.commit()
