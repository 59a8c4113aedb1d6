"""Statistics of people, against naive loops over the very rows, and what they must not give away."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database import Database
from app.records import Annotation, Class, Outcome, Project, Query, Role, User
from app.services import accounts, claiming, labeling, members
from app.services.clock import now
from app.services.labeling import Answer
from app.services.reporting import people_statistics
from app.services.reporting.own_statistics import own_statistics
from app.services.reporting.people_statistics import Period, Work, work_of
from app.services.reporting.project_people import others, project_people
from tests.factories import classes_of, make_project, make_round, make_user

LEASE = 60.0


def said(
    session: Session,
    query: Query,
    user: User,
    chosen: Class | Outcome,
    at: datetime | None = None,
    *,
    counted: bool = True,
    revoked: bool = False,
) -> Annotation:
    """Write an answer as it would stand in the database, given at some time."""
    row = Annotation(
        client_id=uuid4(),
        project_id=query.project_id,
        query_id=query.id,
        image_id=query.image_id,
        user_id=user.id,
        outcome=chosen if isinstance(chosen, Outcome) else Outcome.LABEL,
        class_id=None if isinstance(chosen, Outcome) else chosen.id,
        counted=counted,
        created_at=at or now(session),
        revoked_at=now(session) if revoked else None,
    )
    session.add(row)
    session.flush()
    return row


def asked(session: Session, images: int, *, closed: bool = True, overlap: int = 2) -> tuple[Project, list[Query]]:
    project = make_project(session, images=images, overlap=overlap)
    made = make_round(session, project, images)
    queries = list(session.scalars(select(Query).where(Query.round_id == made.id).order_by(Query.rank)))
    for query in queries:
        query.closed_at, query.open_answers = (now(session), 0) if closed else (None, overlap)
    session.flush()
    return project, queries


def naive(session: Session, user: User, project: Project, since: datetime) -> Work:
    """What ``work_of`` says of the answers since a time, from all rows of the project, one at a time."""
    rows = session.scalars(select(Annotation).where(Annotation.project_id == project.id).order_by(Annotation.id)).all()
    stand = [row for row in rows if row.counted and row.revoked_at is None]
    own = [row for row in stand if row.user_id == user.id]
    people = {known.id for known in session.scalars(select(User).where(User.role != Role.ORACLE))}
    is_open = {query.image_id for query in session.scalars(select(Query)) if query.closed_at is None}
    answers: Counter[Outcome] = Counter()
    paced, seconds, right, pairs = 0, 0.0, 0, 0
    before = None
    for row in own:
        gap = None if before is None else (row.created_at - before).total_seconds()
        before = row.created_at
        if row.created_at < since:
            continue
        answers[row.outcome] += 1
        if gap is not None and gap <= 60.0:
            seconds += gap
            paced += row.outcome is Outcome.LABEL
        for other in stand:
            if other.image_id == row.image_id and other.user_id in people - {user.id} and row.image_id not in is_open:
                pairs += Outcome.LABEL == row.outcome == other.outcome
                right += Outcome.LABEL == row.outcome == other.outcome and row.class_id == other.class_id
    return Work(dict(answers), paced, seconds, people_statistics.Agreement(right, pairs))


@pytest.mark.parametrize("seed", range(4))
def test_work_agrees_with_naive_loops_over_every_row(database: Database, seed: int) -> None:
    draw = random.Random(seed)
    with database.transaction() as session:
        made = [asked(session, 24) for _ in range(2)]
        people = [*(make_user(session) for _ in range(3)), accounts.oracle_user(session)]
        ends = now(session)
        for project, queries in made:
            classes = classes_of(session, project)
            for query in draw.sample(queries, 4):
                query.closed_at = None
            at = ends - timedelta(days=9)
            for query, user in draw.sample([(query, user) for query in queries for user in people], 80):
                at += timedelta(seconds=draw.choice([0, 3, 59.5, 60, 60.5, 7200, 30_000]))
                chosen = draw.choice([*classes, *classes, Outcome.SKIP, Outcome.UNSURE])
                counted, revoked = draw.random() < 0.9, draw.random() < 0.1
                said(session, query, user, chosen, min(at, ends), counted=counted, revoked=revoked)
        midnight = ends.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        since = {
            Period.TODAY: midnight,
            Period.WEEK: midnight - timedelta(days=midnight.weekday()),
            Period.ALL: midnight - timedelta(days=99),
        }
        found = work_of(session, [user.id for user in people], [project.id for project, _ in made])
        sevens = work_of(session, [user.id for user in people], [project.id for project, _ in made], days=7)
        for user in people:
            for project, _ in made:
                spans = found[user.id, project.id]
                for period in Period:
                    same(spans[period], naive(session, user, project, since[period]))
                seven = sevens[user.id, project.id][Period.WEEK]
                same(seven, naive(session, user, project, ends - timedelta(days=7)))
        assert sum(spans[Period.ALL].agreement.count for spans in found.values()) > 20
        assert sum(spans[Period.WEEK].paced_labels for spans in found.values()) > 0


def same(work: Work, expected: Work) -> None:
    assert dict(work.answers) == dict(expected.answers)
    assert (work.paced_labels, work.agreement) == (expected.paced_labels, expected.agreement)
    assert work.active_seconds == pytest.approx(expected.active_seconds, abs=1e-6)


def test_pace_is_labels_a_minute_without_the_pauses(database: Database) -> None:
    with database.transaction() as session:
        project, queries = asked(session, 8)
        user, [first, *_] = make_user(session), classes_of(session, project)
        at = now(session) - timedelta(hours=2)
        # 2 s, 2 s, a pause, 60 s which is none yet, 2 s for a skip, a pause
        for query, gap in zip(queries, (0, 2, 2, 61, 60, 2, 600), strict=False):
            at += timedelta(seconds=gap)
            said(session, query, user, Outcome.SKIP if gap == 2 and query is queries[5] else first, at)
        work = work_of(session, [user.id], [project.id])[user.id, project.id][Period.ALL]
        assert (work.paced_labels, work.active_seconds) == (3, 66.0)
        assert work.pace == pytest.approx(3 / 1.1)
        assert work.share(Outcome.SKIP) == pytest.approx(1 / 7)
        assert Work().pace is None and Work().share(Outcome.SKIP) is None


def test_agreement_says_nothing_of_an_image_that_others_still_answer_blind(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=2, overlap=3)
        make_round(session, project, 2)
        people = [make_user(session) for _ in range(3)]
        class_id = classes_of(session, project)[0].id

        def answers(user: User) -> None:
            [ask] = claiming.claim(session, project.id, user.id, 1, LEASE)
            given = Answer(uuid4(), project.id, ask.query_id, user.id, Outcome.LABEL, class_id)
            assert labeling.answer(session, given).counted

        def agreement() -> people_statistics.Agreement:
            return own_statistics(session, people[0].id).total[Period.ALL].agreement

        answers(people[0])
        answers(people[1])
        assert (agreement().count, agreement().share) == (0, None)
        answers(people[2])
        assert (agreement().right, agreement().count, agreement().share) == (2, 2, 1.0)
        # taken back, the image is asked about again, and nothing is told again
        labeling.undo(session, project.id, people[0].id, LEASE)
        answers(people[1])
        assert own_statistics(session, people[1].id).total[Period.ALL].agreement.count == 0


def test_only_so_many_answers_are_looked_at_and_it_is_said(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people_statistics, "MOST_ANSWERS", 5)
    with database.transaction() as session:
        project, queries = asked(session, 8)
        user, chosen = make_user(session), classes_of(session, project)[0]
        start = now(session) - timedelta(minutes=1)
        for number, query in enumerate(queries[:5]):
            said(session, query, user, chosen, start + timedelta(seconds=number))
        work = own_statistics(session, user.id)
        assert (work.total[Period.ALL].count, work.total[Period.ALL].is_cut) == (5, False)
        for number, query in enumerate(queries[5:], start=5):
            said(session, query, user, chosen, start + timedelta(seconds=number))
        work = own_statistics(session, user.id)
        assert (work.total[Period.ALL].count, work.total[Period.ALL].is_cut) == (5, True)
        # the gap before the oldest that is looked at is known, so each has its time
        assert (work.total[Period.ALL].paced_labels, work.total[Period.ALL].active_seconds) == (5, 5.0)


def test_agreement_is_of_the_latest_answers(database: Database) -> None:
    with database.transaction() as session:
        project, queries = asked(session, 6)
        user, other, [first, second, *_] = make_user(session), make_user(session), classes_of(session, project)
        for number, query in enumerate(queries):
            said(session, query, user, first)
            said(session, query, other, first if number < 3 else second)

        def agreement(compared: int) -> people_statistics.Agreement:
            return work_of(session, [user.id], [project.id], compared=compared)[user.id, project.id][2].agreement

        assert [(known.right, known.count) for known in map(agreement, (2, 4, 9))] == [(0, 2), (1, 4), (3, 6)]


def test_own_statistics_are_of_ones_own_projects_with_what_they_still_want(database: Database) -> None:
    with database.transaction() as session:
        user = make_user(session)
        project = make_project(session, images=9, budget=50)
        hidden = make_project(session, images=1)
        for each in (project, hidden):
            make_round(session, each, 5 if each is project else 1, reserve=2 if each is project else 0)
        [ask] = claiming.claim(session, project.id, user.id, 1, LEASE)
        chosen = classes_of(session, project)[1].id
        labeling.answer(session, Answer(uuid4(), project.id, ask.query_id, user.id, Outcome.LABEL, chosen))
        members.remove(session, hidden.id, user.id)
        own = own_statistics(session, user.id)
        assert hidden.id not in {each.id for each in own.projects}
        first = own.projects[0]  # the one with answers, though others are newer
        assert (first.id, first.labels_used, first.budget, first.remaining, first.asked) == (project.id, 1, 50, 49, 4)
        assert [dict(span.answers) for span in own.total] == [{Outcome.LABEL: 1}] * 3


def test_an_admin_sees_everybody_who_may_label_or_has(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=6)
        make_round(session, project, 6)
        admin = make_user(session, role=Role.ADMIN)
        members.set_access(session, project.id, open_to_all=False, groups=["experts"])
        named, grouped, gone, stranger = (make_user(session, f"{each} {uuid4().hex}") for each in "abcd")
        members.set_group(session, grouped, "experts")
        members.add(session, project.id, named.id, admin.id)
        members.add(session, project.id, gone.id, admin.id)
        [ask] = claiming.claim(session, project.id, gone.id, 1, LEASE)
        labeling.answer(session, Answer(uuid4(), project.id, ask.query_id, gone.id, Outcome.UNSURE))
        members.remove(session, project.id, gone.id, admin.id)
        claiming.claim(session, project.id, grouped.id, 3, LEASE)
        rows = {row.id: row for row in project_people(session, project.id).rows}
        assert {named.id, grouped.id, gone.id} <= set(rows) and not {stranger.id, admin.id} & set(rows)
        assert [rows[user.id].may_label for user in (named, grouped, gone)] == [True, True, False]
        assert [rows[user.id].held for user in (named, grouped, gone)] == [0, 3, 0]
        assert rows[gone.id].all.share(Outcome.UNSURE) == 1.0 and rows[gone.id].week.count == 1
        assert rows[gone.id].set_by == admin.name and rows[grouped.id].standing is None
        assert rows[named.id].seen_at is None
        assert rows[grouped.id].seen_at == rows[gone.id].seen_at == now(session)
        offered = others(session, project.id)
        assert {stranger.name, gone.name} <= set(offered) and not {named.name, grouped.name, admin.name} & set(offered)


def test_people_come_a_page_at_a_time(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=1)
        members.set_access(session, project.id, open_to_all=False, groups=[])
        people = [make_user(session) for _ in range(27)]
        for user in people:
            members.add(session, project.id, user.id)
        first = project_people(session, project.id)
        assert first.next_after is not None
        second = project_people(session, project.id, first.next_after)
        assert second.next_after is None
        shown = [row.name for row in (*first.rows, *second.rows) if row.may_label]
        assert len(first.rows) == 25 and shown == sorted(user.name for user in people)
