"""Pages of one predicted class: who gets which query, in which order, and what comes back. Races on real Postgres."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import uuid4

import pytest
from sqlalchemy import event, func, select, text, update

from app.database import Database
from app.errors import NotAllowed, NotFound
from app.records import Class, Image, Lease, Outcome, Project, ProjectState, Query, QuerySource, ReasonsShown
from app.services import claiming, grids, labeling, leases, rounds
from app.services.claiming import Alike
from app.services.grids import ANYTHING, GridPage, OpenClass, OpenCluster, Wish
from app.services.labeling import Answer
from app.services.labeling_progress import NothingKind
from app.services.locks import lock_project
from app.services.rounds import RankedImage, RoundResult
from tests.factories import classes_of, make_clusters, make_project, make_round, make_user, predict

LEASE = 60.0


def scene(
    database: Database,
    people: int = 1,
    *,
    queries: int = 30,
    reserve: int = 0,
    wrong: Sequence[int] = (),
    clusters: int = 0,
    predicts: bool = True,
    **options: int,
) -> tuple[int, list[int], list[int]]:
    """Return a project whose images are believed to be of three classes in turn, people, and the classes.

    The images are in as many clusters, dealt out by rank in turns, as are asked for.
    """
    with database.transaction() as session:
        project = make_project(session, queries + reserve, **options)
        made = make_round(session, project, queries, reserve)
        if predicts:
            predict(session, project, made, wrong)
        if clusters:
            make_clusters(session, made, clusters)
        users = [make_user(session).id for _ in range(people)]
        classes = [known.id for known in classes_of(session, project)]
        session.commit()
        return project.id, users, classes


def take(
    database: Database,
    project_id: int,
    user_id: int,
    count: int = 24,
    wish: Wish = ANYTHING,
    *,
    class_id: int | None = None,
) -> GridPage:
    wish = wish if class_id is None else Wish(class_id)
    with database.transaction() as session:
        page = grids.take_page(session, project_id, user_id, count, LEASE, wish=wish)
        session.commit()
    return page


def offered(database: Database, project_id: int, user_id: int) -> list[tuple[int, int, int]]:
    with database.transaction() as session:
        return [(each.class_id, each.count, each.in_batch) for each in grids.open_classes(session, project_id, user_id)]


def answer(database: Database, project_id: int, user_id: int, query_ids: Sequence[int], class_id: int) -> list[bool]:
    with database.transaction() as session:
        counted = [
            labeling.answer(session, Answer(uuid4(), project_id, query, user_id, Outcome.LABEL, class_id)).counted
            for query in query_ids
        ]
        session.commit()
    return counted


def ids(page: GridPage) -> list[int]:
    return [ask.query_id for ask in page.asks]


def predicted(database: Database, query_ids: Sequence[int]) -> list[int | None]:
    with database.transaction() as session:
        found = dict(session.execute(select(Query.id, Query.predicted_class_id).where(Query.id.in_(query_ids))).all())
    return [found[query_id] for query_id in query_ids]


def change(database: Database, statement: object) -> None:
    with database.transaction() as session:
        session.execute(statement)  # type: ignore[call-overload]
        session.commit()


def test_a_page_holds_images_of_one_class_the_surest_first(database: Database) -> None:
    project_id, [user_id], classes = scene(database, wrong=[0, 4])
    page = take(database, project_id, user_id, class_id=classes[1])
    assert set(predicted(database, ids(page))) == {page.class_id} == {classes[1]}
    assert page.class_name == "1"
    assert [ask.rank for ask in page.asks] == [29, 26, 23, 20, 17, 14, 11, 8, 2, 1], "rank 5 is believed to be a 2"


def test_the_batch_comes_before_the_reserve_which_fills_the_page_up(database: Database) -> None:
    project_id, [user_id], classes = scene(database, queries=9, reserve=9)
    page = take(database, project_id, user_id, count=5, class_id=classes[0])
    assert sorted((ask.reserve, ask.rank) for ask in page.asks) == [
        (False, 1), (False, 4), (False, 7), (True, 13), (True, 16),
    ]  # fmt: skip
    assert [ask.rank for ask in page.asks] == [16, 13, 7, 4, 1], "as they are shown: the surest first"


def test_the_class_with_most_to_ask_is_offered_first_and_those_of_the_batch_before(database: Database) -> None:
    project_id, [user_id], classes = scene(database, queries=9, reserve=9, wrong=[0, 3])
    assert offered(database, project_id, user_id) == [
        (classes[1], 8, 5), (classes[2], 6, 3), (classes[0], 4, 1),
    ]  # fmt: skip
    assert take(database, project_id, user_id, count=1).class_id == classes[1]
    of_batch = update(Query).where(Query.project_id == project_id, ~Query.reserve)
    change(database, of_batch.where(Query.predicted_class_id == classes[1]).values(open_answers=0))
    assert [each[0] for each in offered(database, project_id, user_id)] == [classes[2], classes[0], classes[1]]


def test_a_class_that_has_nothing_left_gives_way_to_the_next(database: Database) -> None:
    project_id, [user_id], classes = scene(database)
    assert take(database, project_id, user_id, class_id=classes[2]).class_id == classes[2]
    following = take(database, project_id, user_id, class_id=classes[2])
    assert following.class_id == classes[0] and len(following.asks) == 10
    take(database, project_id, user_id)
    assert take(database, project_id, user_id) == GridPage()


@pytest.mark.parametrize("wish", [Wish(), Wish(cluster=2, with_clusters=True)])
@pytest.mark.parametrize("overlap", [1, 2])
def test_people_who_take_pages_at_the_same_time_never_share_more_than_the_overlap(
    database: Database, overlap: int, wish: Wish
) -> None:
    project_id, users, _ = scene(database, 3, queries=90, overlap=overlap, clusters=7)
    change(database, update(Project).where(Project.id == project_id).values(reasons_shown=ReasonsShown.ALWAYS))
    barrier = Barrier(3)

    def race(user_id: int) -> list[int]:
        taken = []
        for _ in range(15):
            barrier.wait()
            taken += ids(take(database, project_id, user_id, 4, wish))
        return taken

    with ThreadPoolExecutor(3) as pool:
        taken = list(pool.map(race, users))
    for place, user_id in enumerate(users):  # whoever was passed over gets the rest now
        while more := ids(take(database, project_id, user_id, 50, wish)):
            taken[place] += more
    assert [max(Counter(own).values()) for own in taken] == [1, 1, 1], "nobody twice"
    holders = Counter(query for own in taken for query in own)
    assert len(holders) == 90 and set(holders.values()) == {overlap}


def test_the_grid_and_the_single_page_of_one_person_never_hold_the_same_query(database: Database) -> None:
    project_id, [user_id], _ = scene(database, queries=60, overlap=1)
    barrier = Barrier(2)

    def single() -> list[int]:
        taken = []
        for _ in range(15):
            barrier.wait()
            with database.transaction() as session:
                taken += [ask.query_id for ask in claiming.claim(session, project_id, user_id, 2, LEASE)]
                session.commit()
        return taken

    def grid() -> list[int]:
        taken = []
        for _ in range(15):
            barrier.wait()
            taken += ids(take(database, project_id, user_id, count=2))
        return taken

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(single), pool.submit(grid)
        both = first.result() + second.result()
    assert len(both) == len(set(both)) == 60


def test_pages_never_pass_the_budget(database: Database) -> None:
    project_id, users, _ = scene(database, 3, queries=60, budget=20)
    barrier = Barrier(3)

    def race(user_id: int) -> list[int]:
        barrier.wait()
        return ids(take(database, project_id, user_id, count=12))

    with ThreadPoolExecutor(3) as pool:
        taken = [query for own in pool.map(race, users) for query in own]
    assert len(taken) == len(set(taken)) == 20


def test_nobody_gets_an_image_again_that_they_answered(database: Database) -> None:
    project_id, users, classes = scene(database, 2, queries=12, overlap=2)
    change(database, update(Project).where(Project.id == project_id).values(reasons_shown=ReasonsShown.ALWAYS))
    page = take(database, project_id, users[0], class_id=classes[0])
    assert all(answer(database, project_id, users[0], ids(page), classes[0]))
    assert take(database, project_id, users[0], class_id=classes[0]).class_id != classes[0]
    assert ids(take(database, project_id, users[1], class_id=classes[0])) == ids(page), "the other is asked as well"


def test_what_is_put_back_is_asked_one_by_one_from_then_on(database: Database) -> None:
    project_id, users, classes = scene(database, 2)
    page = take(database, project_id, users[0], class_id=classes[0])
    back, rest = ids(page)[:3], ids(page)[3:]
    with database.transaction() as session:
        assert grids.put_back(session, project_id, users[1], back) == 0, "they are not this person's to give"
        assert grids.put_back(session, project_id, users[0], back) == 3
        session.commit()
    assert predicted(database, back + rest) == [None] * 3 + [classes[0]] * 7
    for user_id in users:
        assert classes[0] not in {take(database, project_id, user_id).class_id for _ in range(3)}
    with database.transaction() as session:
        leases.release(session, project_id, users[0])
        leases.release(session, project_id, users[1])
        asked = [ask.query_id for ask in claiming.claim(session, project_id, users[0], 30, LEASE)]
    assert set(back) <= set(asked)


def test_what_a_crashed_page_left_behind_is_taken_again_and_what_is_renewed_is_not(database: Database) -> None:
    project_id, [user_id], classes = scene(database)
    left = take(database, project_id, user_id, class_id=classes[0])
    held = take(database, project_id, user_id, class_id=classes[1])
    old = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, LEASE / 3)
    change(database, update(Lease).where(Lease.query_id.in_(ids(left))).values(expires_at=old))
    again = take(database, project_id, user_id, class_id=classes[0])
    assert ids(again) == ids(left)
    assert not set(ids(take(database, project_id, user_id))) & set(ids(held))


def test_what_expired_with_somebody_else_is_taken(database: Database) -> None:
    project_id, users, classes = scene(database, 2)
    left = take(database, project_id, users[0], class_id=classes[0])
    past = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, 1)
    change(database, update(Lease).where(Lease.project_id == project_id).values(expires_at=past))
    assert ids(take(database, project_id, users[1], class_id=classes[0])) == ids(left)


def test_a_retired_class_has_no_page(database: Database) -> None:
    project_id, [user_id], classes = scene(database)
    change(database, update(Class).where(Class.id == classes[0]).values(retired_at=func.now()))
    assert take(database, project_id, user_id, class_id=classes[0]).class_id == classes[1]
    assert classes[0] not in [each[0] for each in offered(database, project_id, user_id)]


def test_a_paused_project_hands_out_no_page(database: Database) -> None:
    project_id, [user_id], _ = scene(database)
    change(database, update(Project).where(Project.id == project_id).values(state=ProjectState.PAUSED))
    assert take(database, project_id, user_id) == GridPage()


@pytest.mark.parametrize(
    ("overlap", "shown", "allowed"),
    [
        (1, ReasonsShown.WHEN_ALONE, True),
        (2, ReasonsShown.WHEN_ALONE, False),
        (2, ReasonsShown.ALWAYS, True),
        (1, ReasonsShown.NEVER, False),
    ],
)
def test_there_is_no_page_where_people_answer_blind(
    database: Database, overlap: int, shown: ReasonsShown, allowed: bool
) -> None:
    project_id, [user_id], _ = scene(database, overlap=overlap)
    change(database, update(Project).where(Project.id == project_id).values(reasons_shown=shown))
    if allowed:
        assert take(database, project_id, user_id).asks
    else:
        with pytest.raises(NotAllowed, match="one by one"):
            take(database, project_id, user_id)


def test_an_unknown_project_has_no_page(database: Database) -> None:
    with pytest.raises(NotFound):
        take(database, 2**40, 1)


def test_a_round_keeps_what_the_network_believes_where_people_may_see_it(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, 4)
        session.commit()
        rounds.request_if_due(session, project)
        begun = rounds.begin(session, lock_project(session, project.id))
        assert begun is not None
        images = list(session.scalars(select(Image.id).where(Image.project_id == project.id).order_by(Image.row)))
        class_id = classes_of(session, project)[1].id
        ranking = [
            RankedImage(images[0], QuerySource.ACQUISITION, predicted_class_id=class_id, confidence=0.75, cluster=3),
            RankedImage(images[1], QuerySource.RANDOM),
        ]
        assert rounds.finish(session, begun.id, begun.attempt, RoundResult(ranking, 2, {}))
        session.commit()
        user_id = make_user(session).id
        assert grids.open_classes(session, project.id, user_id) == [OpenClass(class_id, "1", 1, 1)]
        [ask] = grids.take_page(session, project.id, user_id, 24, LEASE).asks
        clusters = list(
            session.scalars(select(Query.cluster).where(Query.project_id == project.id).order_by(Query.rank))
        )
    assert ask.image_id == images[0]
    assert clusters == [3, None]


def of_cluster(cluster: int) -> Wish:
    return Wish(cluster=cluster, with_clusters=True)


def test_a_page_of_a_cluster_holds_its_images_in_the_rankings_order_with_what_is_believed_of_most(
    database: Database,
) -> None:
    project_id, [user_id], classes = scene(database, queries=12, reserve=6, clusters=2, wrong=[0, 6])
    page = take(database, project_id, user_id, 7, of_cluster(1))
    assert [(ask.reserve, ask.rank) for ask in page.asks] == [
        (False, 1), (False, 3), (False, 5), (False, 7), (False, 9), (False, 11), (True, 13),
    ]  # fmt: skip
    believed = predicted(database, ids(page))
    assert Counter(believed).most_common(1) == [(classes[1], 4)]
    assert (page.cluster, page.class_id, page.class_name) == (1, classes[1], "1")
    rest = take(database, project_id, user_id, 24, of_cluster(1))
    assert [ask.rank for ask in rest.asks] == [15, 17] and rest.cluster == 1


def test_before_the_first_network_a_page_is_of_a_cluster_and_proposes_no_class(database: Database) -> None:
    project_id, [user_id], _ = scene(database, clusters=3, predicts=False)
    page = take(database, project_id, user_id, 24, Wish(with_clusters=True))
    assert (page.cluster, page.class_id, page.class_name, len(page.asks)) == (1, None, None, 10)
    assert take(database, project_id, user_id) == GridPage(), "a script that cannot show them gets none"


def test_a_class_that_was_retired_is_proposed_for_no_cluster(database: Database) -> None:
    project_id, [user_id], classes = scene(database, clusters=3)
    change(database, update(Class).where(Class.id == classes[0]).values(retired_at=func.now()))
    page = take(database, project_id, user_id, 24, of_cluster(1))
    assert (page.cluster, page.class_id, len(page.asks)) == (1, None, 10), "all were believed to be of that class"


def test_the_kind_of_page_that_is_wished_for_comes_before_the_other_kind(database: Database) -> None:
    project_id, [user_id], classes = scene(database, queries=12, clusters=2)
    assert take(database, project_id, user_id, 1, Wish(with_clusters=True)).cluster is None
    assert take(database, project_id, user_id, 1, Wish(classes[1], with_clusters=True)).class_id == classes[1]
    assert take(database, project_id, user_id, 1, of_cluster(2)).cluster == 2
    pages = [take(database, project_id, user_id, 24, of_cluster(2)) for _ in range(3)]
    assert [page.cluster for page in pages] == [2, 1, None], "the other cluster comes before a class"
    assert [len(page.asks) for page in pages] == [4, 5, 0]


def test_clusters_are_offered_with_those_of_the_batch_first_and_never_with_one_image(database: Database) -> None:
    project_id, users, _ = scene(database, 2, queries=4, reserve=7, clusters=3)
    all_of_them = [OpenCluster(1, 4, 2), OpenCluster(2, 4, 1), OpenCluster(3, 3, 1)]
    take(database, project_id, users[0], 2, of_cluster(1))
    take(database, project_id, users[0], 2, of_cluster(3))
    with database.transaction() as session:
        assert grids.open_clusters(session, project_id, users[0]) == all_of_them, "with what the person holds"
        assert grids.open_clusters(session, project_id, users[1]) == [OpenCluster(2, 4, 1), OpenCluster(1, 2, 0)]


def test_what_does_not_belong_to_its_cluster_is_asked_one_by_one_from_then_on(database: Database) -> None:
    project_id, [user_id], _ = scene(database, queries=12, clusters=2)
    back = ids(take(database, project_id, user_id, 24, of_cluster(1)))[:2]
    with database.transaction() as session:
        assert grids.put_back(session, project_id, user_id, back) == 2
        session.commit()
    pages = [take(database, project_id, user_id, 24, of_cluster(1)) for _ in range(4)]
    assert [len(page.asks) for page in pages] == [6, 0, 0, 0], "neither in a group nor on the page of a class"
    with database.transaction() as session:
        assert [ask.query_id for ask in claiming.claim(session, project_id, user_id, 30, LEASE)] == back


def test_why_there_is_no_page(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, 30)
        user_id = make_user(session).id
        made = make_round(session, project, 10)
        assert grids.why_no_page(session, project.id, user_id).kind is NothingKind.NO_MODEL
        predict(session, project, made)
        session.execute(update(Query).where(Query.round_id == made.id).values(predicted_class_id=None, confidence=None))
        assert grids.why_no_page(session, project.id, user_id).kind is NothingKind.ONE_BY_ONE
        claiming.claim(session, project.id, make_user(session).id, 10, LEASE)
        assert grids.why_no_page(session, project.id, user_id).kind is NothingKind.LEASED
        project.state = ProjectState.PAUSED
        session.flush()
        assert grids.why_no_page(session, project.id, user_id).kind is NothingKind.PAUSED


@pytest.mark.parametrize(
    ("alike", "index"), [(Alike.CLASS, "ix_queries_predicted"), (Alike.CLUSTER, "ix_queries_clustered")]
)
def test_a_page_is_found_by_its_index_and_taken_in_one_statement(database: Database, alike: Alike, index: str) -> None:
    project_id, [user_id], classes = scene(database, queries=300, clusters=3)
    of = (alike, classes[0] if alike is Alike.CLASS else 2)
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        with database.transaction() as session:
            claiming.claim_page(session, project_id, user_id, of, 24, lease_seconds=LEASE)
            [taking] = [each for each in statements if "INSERT INTO leases" in each]
            assert "FOR NO KEY UPDATE SKIP LOCKED" in taking and "UPDATE queries" in taking
            session.execute(select(func.set_config("enable_seqscan", "off", True)))
            wanted = claiming.pickable(project_id, user_id, reserve=False, of=of).limit(24)
            shown = wanted.compile(database.engine, compile_kwargs={"literal_binds": True})
            plan = "\n".join(session.execute(text(f"EXPLAIN {shown}")).scalars())
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    assert index in plan
    assert "Sort" not in plan, "the index holds the order"
