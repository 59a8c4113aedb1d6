"""Gold images and hidden repeats: whom they ask, what their answers leave alone, and what they tell."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from app.database import Database
from app.errors import AnswerGone, BadInput, Conflict, LeaseLost
from app.records import Annotation, Image, Lease, Outcome, Project, ProjectState, Query, QuerySource, ReasonsShown
from app.services import claiming, gold, labeling, labeling_progress, leases, projects, rounds, snapshots
from app.services.claiming import Ask
from app.services.labeling import Answer, Answered
from app.services.reporting.asked_because import asked_because
from app.services.reporting.check_results import check_results, feedback
from app.services.reporting.own_answers import own_answers
from app.services.reporting.quality import agreement_report
from tests.factories import classes_of, make_project, make_round, make_user
from tests.service.answers import image_at, say
from tests.service.web import JSON, Web, token_of, web

__all__ = ["web"]

LEASE = 3600.0  # nothing of what is claimed comes again because a machine is slow


@dataclass
class Scene:
    """A project whose last ``gold`` images are gold, and people to be checked; image i truly is of class i modulo 3."""

    database: Database
    project_id: int
    users: list[int]
    class_ids: list[int]

    def claim(self, count: int = 1, user: int = 0) -> list[Ask]:
        with self.database.transaction() as session:
            asks = claiming.claim(session, self.project_id, self.users[user], count, LEASE)
            session.commit()
        return asks

    def answer(
        self, ask: Ask, chosen: int | Outcome = 0, *, user: int = 0, client_id: UUID | None = None,
        corrects: UUID | None = None,
    ) -> Answered:  # fmt: skip
        outcome = chosen if isinstance(chosen, Outcome) else Outcome.LABEL
        class_id = None if isinstance(chosen, Outcome) else self.class_ids[chosen]
        given = Answer(
            client_id or uuid4(), self.project_id, ask.query_id, self.users[user], outcome, class_id, corrects=corrects
        )
        with self.database.transaction() as session:
            answered = labeling.answer(session, given)
            session.commit()
        return answered

    def next_check(self, source: QuerySource = QuerySource.GOLD, user: int = 0) -> Ask:
        """Label until a check comes."""
        for _ in range(200):
            [ask] = self.claim(user=user)
            if ask.source is source:
                return ask
            self.answer(ask, user=user)
        raise AssertionError("no check came")

    def used(self) -> int:
        with self.database.transaction() as session:
            return session.get_one(Project, self.project_id).labels_used


def scene(
    database: Database, *, queries: int = 60, known: int = 10, people: int = 1, gold_share: float = 0.5,
    repeat_share: float = 0.0, told: bool = False, overlap: int = 1, budget: int = 1000,
) -> Scene:  # fmt: skip
    with database.transaction() as session:
        project = make_project(session, queries + known, overlap=overlap, budget=budget)
        if known:
            gold.mark_named(session, project.id, [f"image-{row}.png" for row in range(queries, queries + known)])
        projects.set_checks(session, project.id, gold_share=gold_share, gold_feedback=told, repeat_share=repeat_share)
        make_round(session, project, queries=queries)
        users = [make_user(session).id for _ in range(people)]
        class_ids = [each.id for each in classes_of(session, project)]
        session.commit()
        return Scene(database, project.id, users, class_ids)


def label_all(made: Scene, user: int = 0, count: int = 4) -> list[Ask]:
    asked = []
    while asks := made.claim(count, user):
        for ask in asks:
            made.answer(ask, user=user)
        asked += asks
        assert len(asked) < 1000
    return asked


def test_without_a_share_nobody_is_checked(database: Database) -> None:
    made = scene(database, gold_share=0.0)
    assert {ask.source for ask in label_all(made)} == {QuerySource.ACQUISITION}


def test_each_gold_image_is_shown_once_to_everybody_and_the_ranking_is_answered_whole(database: Database) -> None:
    made = scene(database, queries=40, known=6, people=2, overlap=2)
    for user in (0, 1):
        asked = label_all(made, user)
        assert Counter(ask.source for ask in asked) == {QuerySource.ACQUISITION: 40, QuerySource.GOLD: 6}
        assert max(Counter(ask.image_id for ask in asked).values()) == 1
    with database.transaction() as session:
        left = select(func.count()).where(Query.project_id == made.project_id, Query.closed_at.is_(None))
        assert session.scalar(left) == 0
        assert rounds.is_open(session, made.project_id), "the batch is answered, checks or not"


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_the_share_of_checks_is_the_projects(database: Database, share: float) -> None:
    made = scene(database, queries=150, known=200, gold_share=share)
    asked = label_all(made, count=6)
    found = sum(ask.source is QuerySource.GOLD for ask in asked) / len(asked)
    assert found == pytest.approx(share, abs=0.1)


def test_no_check_comes_where_there_is_nothing_to_label(database: Database) -> None:
    made = scene(database, queries=0)
    assert made.claim(6) == []
    spent = scene(database, queries=20, budget=1)
    label_all(spent)
    assert spent.used() == 1 and spent.claim(6) == []
    paused = scene(database)
    with database.transaction() as session:
        projects.set_state(session, paused.project_id, ProjectState.PAUSED)
        session.commit()
    assert paused.claim(6) == []


def test_the_budget_is_used_to_the_last_label_in_spite_of_checks(database: Database) -> None:
    made = scene(database, queries=40, known=30, budget=13)
    label_all(made)
    assert made.used() == 13


def test_an_answer_to_a_check_counts_for_nothing(database: Database) -> None:
    made = scene(database)
    ask = made.next_check()
    before = made.used()
    with database.transaction() as session:
        shown = labeling_progress.progress(session, made.project_id, made.users[0])
    assert made.answer(ask, 1).counted
    assert made.used() == before
    with database.transaction() as session:
        image = session.get_one(Image, ask.image_id)
        assert (image.label_class_id, image.label_rule, image.review_reason) == (None, None, None)
        [kept] = session.scalars(select(Annotation).where(Annotation.query_id == ask.query_id)).all()
        assert (kept.is_check, kept.counted) == (True, False)
        rows = snapshots.read_snapshot(session, session.get_one(Project, made.project_id), made.class_ids)
        assert image.row not in {row for row, _ in rows.labelled} | set(rows.candidates)
        assert agreement_report(session, made.project_id).images == 0
        after = labeling_progress.progress(session, made.project_id, made.users[0])
        assert after == shown, "neither the batch nor the person's labels have moved"


@pytest.mark.parametrize("outcome", [Outcome.SKIP, Outcome.UNSURE, Outcome.UNUSABLE])
def test_an_answer_without_a_class_ends_a_check_too(database: Database, outcome: Outcome) -> None:
    made = scene(database)
    ask = made.next_check()
    assert made.answer(ask, outcome).counted
    with database.transaction() as session:
        image = session.get_one(Image, ask.image_id)
        assert (image.unusable_at, image.review_reason) == (None, None)
        assert session.get_one(Query, ask.query_id).closed_at is not None
        [row] = check_results(session, made.project_id).people
        assert (row.gold.count, row.without_class) == (0, 1)


def test_a_check_that_is_let_go_is_nobody_elses_and_may_come_again(database: Database) -> None:
    made = scene(database, people=2, known=1)
    ask = made.next_check()
    with database.transaction() as session:
        assert leases.release(session, made.project_id, made.users[0], [ask.query_id]) == 1
        session.commit()
    late = made.answer(ask)
    assert isinstance(late.refusal, LeaseLost)
    with database.transaction() as session:
        query = session.get_one(Query, ask.query_id)
        assert (query.open_answers, query.closed_at is None) == (0, False)
    assert {one.query_id for one in label_all(made, 1)}.isdisjoint({ask.query_id})


def test_undo_and_correction_work_on_a_check_as_on_anything(database: Database) -> None:
    made = scene(database)
    ask = made.next_check()
    first, second = uuid4(), uuid4()
    made.answer(ask, 1, client_id=first)
    assert made.answer(ask, 1, client_id=first).replay
    with database.transaction() as session:
        assert labeling.undo(session, made.project_id, made.users[0], LEASE).query_id == ask.query_id
        held = session.scalars(select(Lease).where(Lease.query_id == ask.query_id)).one()
        assert held.is_check
        session.commit()
    made.answer(ask, 2, client_id=second)
    assert made.answer(ask, 0, corrects=second).counted
    with database.transaction() as session:
        assert [given.class_id for given in own_answers(session, made.project_id, made.users[0]).answers[:1]] == [
            made.class_ids[0]
        ]
        [row] = check_results(session, made.project_id).people
        truth = session.get_one(Image, ask.image_id).gold_class_id
        assert (row.gold.right, row.gold.count) == (int(truth == made.class_ids[0]), 1)


def test_who_was_told_the_answer_cannot_change_theirs(database: Database) -> None:
    made = scene(database, told=True)
    ask = made.next_check()
    with database.transaction() as session:
        image = session.get_one(Image, ask.image_id)
        right = image.row % 3
    first = uuid4()
    answered = made.answer(ask, (right + 1) % 3, client_id=first)
    with database.transaction() as session:
        told = feedback(session, made.project_id, answered.annotation_id)
        assert told is not None and (told.is_right, told.known) == (False, str(right))
        with pytest.raises(AnswerGone, match="you have been told"):
            labeling.undo(session, made.project_id, made.users[0], LEASE)
    corrected = made.answer(ask, right, corrects=first)
    assert isinstance(corrected.refusal, AnswerGone)
    with database.transaction() as session:
        [row] = check_results(session, made.project_id).people
        assert (row.gold.right, row.gold.count) == (0, 1)


def test_nothing_is_told_without_the_switch_or_about_ordinary_images(database: Database) -> None:
    quiet, loud = scene(database), scene(database, told=True, gold_share=0.0)
    for made, ask in ((quiet, quiet.next_check()), (loud, loud.claim()[0])):
        answered = made.answer(ask)
        with database.transaction() as session:
            assert feedback(session, made.project_id, answered.annotation_id) is None


def test_repeats_show_what_the_person_labelled_long_enough_ago_once(database: Database) -> None:
    made = scene(database, queries=80, known=0, gold_share=0.0, repeat_share=0.4)
    asked = label_all(made, count=3)
    places = {ask.image_id: place for place, ask in reversed(list(enumerate(asked)))}
    repeats = [(place, ask) for place, ask in enumerate(asked) if ask.source is QuerySource.REPEAT]
    assert len(repeats) > 15
    assert len({ask.image_id for _, ask in repeats}) == len(repeats)
    for place, ask in repeats:
        first = places[ask.image_id]
        assert asked[first].source is QuerySource.ACQUISITION
        labels = sum(one.source is QuerySource.ACQUISITION for one in asked[:place])
        between = sum(one.source is QuerySource.ACQUISITION for one in asked[first:place])
        assert between > min(20, labels // 2) - 4, "long enough ago, but for what the claim brought along"
    with database.transaction() as session:
        [row] = check_results(session, made.project_id).people
    assert (row.repeats.right, row.repeats.count, row.kappa) == (len(repeats), len(repeats), None)
    assert made.used() == 80


def test_what_is_said_otherwise_the_second_time_is_counted_against_the_first(database: Database) -> None:
    made = scene(database, queries=60, known=0, gold_share=0.0, repeat_share=0.5)
    said: list[bool] = []
    while asks := made.claim(3):
        for ask in asks:
            is_repeat = ask.source is QuerySource.REPEAT
            chosen = ask.image_id % 2 if not is_repeat or len(said) % 3 else 2
            said += [chosen != 2] if is_repeat else []
            made.answer(ask, chosen)
    with database.transaction() as session:
        [row] = check_results(session, made.project_id).people
        labels = session.execute(
            select(Image.id, Image.label_class_id).where(Image.project_id == made.project_id)
        ).all()
        assert all(label == made.class_ids[image_id % 2] for image_id, label in labels), "the first answer is the label"
    assert (row.repeats.right, row.repeats.count) == (sum(said), len(said))
    assert row.kappa is not None and 0 < row.kappa < 1


def test_gold_results_tell_right_answers_and_mistakes(database: Database) -> None:
    made = scene(database, queries=60, known=9)
    with database.transaction() as session:
        rows = dict(session.execute(select(Image.id, Image.row).where(Image.project_id == made.project_id)).all())
    while asks := made.claim(3):
        for ask in asks:
            made.answer(ask, min(1, rows[ask.image_id] % 3))  # takes every 2 for a 1
    with database.transaction() as session:
        results = check_results(session, made.project_id)
    [row] = results.people
    assert (row.gold.right, row.gold.count) == (6, 9)
    assert [(each.known, each.said, each.times) for each in results.mistakes] == [("2", "1", 3)]


def test_nothing_on_the_wire_tells_a_check_from_a_query_of_the_ranking(web: Web) -> None:
    made = scene(web.database)
    with web.database.transaction() as session:
        projects.set_reasons_shown(session, made.project_id, ReasonsShown.ALWAYS)
        user = make_user(session)
        session.commit()
    client, path = web.client(user), f"/projects/{made.project_id}"
    headers = JSON | {"X-Form-Token": token_of(client, "/")}
    claimed = client.post(f"{path}/claim", json={"count": 30}, headers=headers).json()["queries"]
    with web.database.transaction() as session:
        sources = {
            query_id: (source, parts)
            for query_id, source, parts in session.execute(
                select(Query.id, Query.source, Query.parts).where(Query.project_id == made.project_id)
            )
        }
    golds = [query for query in claimed if sources[query["query_id"]][0] is QuerySource.GOLD]
    others = [query for query in claimed if query not in golds]
    assert golds and others
    assert {tuple(sorted(query)) for query in golds} == {tuple(sorted(query)) for query in others}
    for field in ("round", "reserve", "width", "height"):
        assert {query[field] for query in golds} <= {query[field] for query in others}, field
    assert claimed[-len(golds) :] != golds, "they are mixed in"
    one = golds[0]["query_id"]
    page = client.get(f"{path}/queries/{one}/why", headers=headers).text
    assert "fair sample" in page and "known" not in page.lower()
    body = {"client_id": str(uuid4()), "query_id": one, "outcome": "label", "class_id": made.class_ids[0]}
    kept = client.post(f"{path}/answers", json=body, headers=headers).json()
    assert kept["feedback"] is None
    assert "Its answer was known" in client.get(f"{path}/queries/{one}/why", headers=headers).text


def test_feedback_comes_with_the_answer_where_the_project_tells(web: Web) -> None:
    made = scene(web.database, told=True)
    with web.database.transaction() as session:
        user = make_user(session)
        session.commit()
    made.users = [user.id]
    ask = made.next_check()
    client, path = web.client(user), f"/projects/{made.project_id}"
    headers = JSON | {"X-Form-Token": token_of(client, "/")}
    with web.database.transaction() as session:
        right = session.get_one(Image, ask.image_id).row % 3
    body = {
        "client_id": str(uuid4()), "query_id": ask.query_id, "outcome": "label",
        "class_id": made.class_ids[(right + 1) % 3],
    }  # fmt: skip
    for _ in range(2):  # the reply to the first try may have been lost
        kept = client.post(f"{path}/answers", json=body, headers=headers).json()
        assert kept["feedback"] == {"is_right": False, "known": str(right)}


def test_a_repeat_looks_as_it_did_the_first_time(database: Database) -> None:
    made = scene(database, known=0, gold_share=0.0, repeat_share=0.5)
    ask = made.next_check(QuerySource.REPEAT)
    with database.transaction() as session:
        because = asked_because(session, made.project_id, ask.query_id, made.users[0])
        assert (because.source, because.acquisition) == (QuerySource.ACQUISITION, "entropy")
        first = session.scalars(
            select(Query).where(Query.image_id == ask.image_id, Query.source == QuerySource.ACQUISITION)
        ).one()
        assert because.score == first.score
        assert because.parts == (), "nothing of how it is kept"


def test_people_who_claim_at_the_same_time_share_nothing_and_get_each_gold_image_once(database: Database) -> None:
    made = scene(database, queries=120, known=15, people=2, gold_share=0.5)
    barrier = Barrier(4)

    def race(page: int) -> list[Ask]:
        taken = []
        for _ in range(3):
            barrier.wait()
            taken += made.claim(12, page % 2)  # of so many, some are checks: the draw depends on ids
        return taken

    with ThreadPoolExecutor(4) as pool:  # two pages for each of two people
        pages = list(pool.map(race, range(4)))
    for person in (0, 1):
        shown = [ask for ask in pages[person] + pages[person + 2] if ask.source is QuerySource.GOLD]
        assert shown
        assert max(Counter(ask.image_id for ask in shown).values()) == 1
    ranked = Counter(ask.query_id for page in pages for ask in page if ask.source is QuerySource.ACQUISITION)
    assert max(ranked.values()) == 1, "no query of the ranking was handed out twice"
    checks = [ask.query_id for page in pages for ask in page if ask.source is QuerySource.GOLD]
    assert len(set(checks)) == len(checks), "a check is one person's"


def test_gold_images_are_drawn_from_those_with_an_imported_class_that_nobody_is_asked_about(
    database: Database,
) -> None:
    with database.transaction() as session:
        project = make_project(session, 30, test_images=5)
        make_round(session, project, queries=10)
        image_at(session, project.id, 24).true_class_id = None
        session.flush()
        assert gold.mark_some(session, project.id, 4) == 4
        first = set(
            session.scalars(select(Image.row).where(Image.gold_class_id.is_not(None), Image.project_id == project.id))
        )
        assert gold.mark_some(session, project.id, 100) == 10
        rows = session.scalars(
            select(Image).where(Image.gold_class_id.is_not(None), Image.project_id == project.id)
        ).all()
        assert {image.row for image in rows} == set(range(10, 24)) and first <= set(range(10, 24))
        assert all(image.gold_class_id == image.true_class_id for image in rows)
        with pytest.raises(Conflict, match="no image of the pool"):
            gold.mark_some(session, project.id, 1)
        assert gold.count_gold(session, project.id) == 14
        assert gold.unmark_all(session, project.id) == 14
        assert gold.count_gold(session, project.id) == 0


def test_gold_images_are_named_with_their_imported_class_or_their_label(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, 6)
        for image in session.scalars(select(Image).where(Image.project_id == project.id)):
            image.true_class_id = None
        make_round(session, project, queries=3)
        say(session, project, make_user(session).id, {0: "2", 1: "0"})
        assert gold.mark_named(session, project.id, ["image-0.png", " image-1.png ", ""]) == 2
        session.expire_all()
        assert image_at(session, project.id, 0).gold_class_id == classes_of(session, project)[2].id
        for names, why in (
            (["nothing.png"], "no image is called"),
            (["image-5.png"], "nobody knows"),
            ([" "], "there are 0"),
        ):
            with pytest.raises(BadInput, match=why):
                gold.mark_named(session, project.id, names)
        image_at(session, project.id, 2).true_class_id = classes_of(session, project)[0].id
        session.flush()
        with pytest.raises(Conflict, match="people are being asked about"):
            gold.mark_named(session, project.id, ["image-2.png"])


@pytest.mark.parametrize("shares", [(0.6, 0.0), (-0.1, 0.0), (0.3, 0.3), (float("nan"), 0.0)])
def test_shares_out_of_bounds_are_refused(database: Database, shares: tuple[float, float]) -> None:
    made = scene(database, known=0)
    with database.transaction() as session, pytest.raises(BadInput, match="out of bounds"):
        projects.set_checks(session, made.project_id, gold_share=shares[0], gold_feedback=False, repeat_share=shares[1])


def test_admins_choose_checks_and_rule_on_the_quality_page(web: Web) -> None:
    with web.database.transaction() as session:
        project_id = make_project(session, 12).id
        session.commit()
    client, path = web.admin(), f"/projects/{project_id}/quality"
    headers = {"X-Form-Token": token_of(client)}
    for name, data in (
        ("checks", {"gold_share": "12,5", "repeat_share": "5", "told": "yes"}),
        ("labels", {"rule": "annotator model", "certainty": "90"}),
        ("gold", {"count": "3"}),
        ("gold", {"names": "image-0.png\r\nimage-1.png"}),
    ):
        sent = client.post(f"{path}/{name}", data=data, headers=headers)
        assert (sent.status_code, sent.headers["location"]) == (303, path), (name, sent.text)
    with web.database.transaction() as session:
        project = session.get_one(Project, project_id)
        assert (project.gold_share, project.repeat_share, project.gold_feedback) == (0.125, 0.05, True)
        assert (project.label_rule, project.review_below) == ("annotator model", 0.9)
        count = gold.count_gold(session, project_id)
        assert count in {3, 4, 5}
    page = client.get(path).text
    assert f"{count} gold images" in page and 'value="12.5"' in page
    assert client.post(f"{path}/no-gold", headers=headers).status_code == 303
    for name, data in (
        ("checks", {"gold_share": "51"}), ("checks", {"gold_share": "x"}), ("labels", {"rule": "review"}),
        ("labels", {"rule": "majority", "certainty": "101"}), ("gold", {"count": "0"}), ("gold", {"count": "x"}),
        ("gold", {"names": "nothing"}),
    ):  # fmt: skip
        assert client.post(f"{path}/{name}", data=data, headers=headers).status_code == 400, (name, data)
