"""The ledger: what a round writes into it, how people end its entries, and what a snapshot reads of it."""

from __future__ import annotations

from uuid import uuid4

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database import Database
from app.errors import BadInput, BudgetSpent, Conflict, NotFound
from app.records import (
    Image,
    Outcome,
    Project,
    ProjectState,
    PseudoLabel,
    Query,
    QuerySource,
    Round,
    RoundReason,
)
from app.services import auditing, claiming, labeling, leases, ledger, projects, rounds, snapshots
from app.services.claiming import Ask
from app.services.labeling import Answer
from app.services.ledger import Change, Entries, Proposal
from app.services.locks import lock_project
from app.services.reporting.ledger_summary import ledger_summary
from app.services.rounds import FittedModel, RankedImage, RoundResult
from tests.factories import classes_of, make_entries, make_project, make_round, make_user

LEASE = 60.0
LABELER: dict[str, object] = {"pseudo_labeler": "threshold"}
GOES_ON: dict[str, object] = {"pseudo_labeler": "most_confident"}


def entries(session: Session, project: Project) -> list[tuple[int, str, float, str | None]]:
    """Return (row, class, confidence, reason of its end) of every entry, in the order they were written."""
    session.expire_all()
    names = {known.id: known.name for known in classes_of(session, project)}
    found = session.execute(
        select(Image.row, PseudoLabel)
        .join(Image, Image.id == PseudoLabel.image_id)
        .where(PseudoLabel.project_id == project.id)
        .order_by(PseudoLabel.id)
    )
    return [(row, names[each.class_id], each.confidence, each.superseded_reason) for row, each in found]


def standing(session: Session, project: Project) -> dict[int, str]:
    return {row: name for row, name, _, reason in entries(session, project) if reason is None}


def ended(session: Session, project: Project) -> dict[int, str]:
    return {row: reason for row, _, _, reason in entries(session, project) if reason is not None}


def a_round(session: Session, project: Project) -> Round:
    """Make a finished round that asks about nothing."""
    return make_round(session, project, queries=0)


def answer(
    session: Session, project: Project, ask: Ask, user_id: int, chosen: int | None = 0, outcome: Outcome = Outcome.LABEL
) -> None:
    class_id = None if chosen is None or outcome is not Outcome.LABEL else classes_of(session, project)[chosen].id
    given = labeling.answer(session, Answer(uuid4(), project.id, ask.query_id, user_id, outcome, class_id))
    assert given.counted


def entry_id(session: Session, project: Project, row: int) -> int:
    wanted = select(PseudoLabel.id).join(Image, Image.id == PseudoLabel.image_id).where(Image.row == row)
    return (
        session.scalars(wanted.where(PseudoLabel.project_id == project.id).order_by(PseudoLabel.id.desc())).first() or 0
    )


def image_at(session: Session, project: Project, row: int) -> Image:
    return session.scalars(select(Image).where(Image.project_id == project.id, Image.row == row)).one()


def test_a_round_keeps_what_it_says_again_and_ends_the_rest_for_a_reason(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session)
        first, second = a_round(session, project), a_round(session, project)
        assert make_entries(session, project, first, {0: 0, 1: 1, 2: 2}, confidence=0.9) == Change(3, 0, 3)
        assert make_entries(session, project, second, {0: 0, 1: 2, 5: 1}, confidence=0.8) == Change(2, 2, 3)
        assert entries(session, project) == [
            (0, "0", 0.9, None),  # as it was written
            (1, "1", 0.901, "round 1's model says 2"),
            (2, "2", 0.902, "round 1's model no longer says so"),
            (1, "2", 0.801, None),
            (5, "1", 0.805, None),
        ]
        of_round = select(func.count()).select_from(PseudoLabel).join(Round, Round.id == first.id)
        assert session.scalar(of_round.where(PseudoLabel.rule == "threshold"))


def test_what_people_decide_ends_an_entry_at_once_and_no_round_labels_that_image_again(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session)
        said, user = {0: 0, 1: 1, 2: 2, 3: 0}, make_user(session).id
        make_entries(session, project, a_round(session, project), said)
        make_round(session, project, queries=3)
        asks = claiming.claim(session, project.id, user, 3, LEASE)
        answer(session, project, asks[0], user, 2)
        answer(session, project, asks[1], user, outcome=Outcome.UNUSABLE)
        answer(session, project, asks[2], user, outcome=Outcome.UNSURE)
        assert standing(session, project) == {3: "0"}
        reasons = {0: "human label", 1: "a person found the image unusable", 2: "a person was unsure"}
        assert ended(session, project) == reasons
        assert make_entries(session, project, a_round(session, project), said) == Change(0, 0, 1)


def test_the_database_itself_refuses_an_entry_beside_a_human_label(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session)
        made = a_round(session, project)
        make_entries(session, project, made, {0: 0})
        image = image_at(session, project, 0)
        image.label_class_id, image.has_human_label = classes_of(session, project)[1].id, True
        with pytest.raises(IntegrityError, match="human_label_wins"):
            session.flush()


def test_an_entry_ends_for_a_reason_or_not_at_all(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session)
        make_entries(session, project, a_round(session, project), {0: 0})
        with pytest.raises(IntegrityError, match="superseded_for_a_reason"):
            session.execute(text("UPDATE pseudo_labels SET superseded_at = now()"))


def test_images_that_people_are_asked_about_get_no_entry_and_keep_the_one_they_have(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session)
        first = a_round(session, project)
        make_entries(session, project, first, {0: 0, 2: 0, 4: 0})
        second = make_round(session, project, queries=2, reserve=4)  # rows 0 and 1 are asked, 2 to 5 in reserve
        held = claiming.claim(session, project.id, make_user(session).id, 4, LEASE)
        assert {session.get_one(Image, ask.image_id).row for ask in held} == {0, 1, 2, 3}, "two of the reserve, ahead"
        assert make_entries(session, project, second, dict.fromkeys(range(6), 1)) == Change(2, 1, 4)
        assert standing(session, project) == {0: "0", 2: "0", 4: "1", 5: "1"}, "who asks people waits for them"


def test_a_label_that_is_taken_back_leaves_the_image_to_the_next_round(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, recipe=LABELER)
        make_entries(session, project, a_round(session, project), {0: 0})
        made, user = make_round(session, project, queries=1), make_user(session).id
        [ask] = claiming.claim(session, project.id, user, 1, LEASE)
        answer(session, project, ask, user, 1)
        labeling.undo(session, project.id, user, LEASE)
        assert standing(session, project) == {}
        assert make_entries(session, project, made, {0: 1}).added == 0, "the person holds it again"
        leases.release(session, project.id, user)
        finish(session, project, begin(session, project), {0: 1})
        assert [(name, reason) for _, name, _, reason in entries(session, project)] == [
            ("0", "human label"),
            ("1", None),
        ]


def test_a_retired_class_is_written_no_more_and_what_stands_of_it_ends(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session)
        first, second = a_round(session, project), a_round(session, project)
        make_entries(session, project, first, {0: 0, 1: 1})
        retired = classes_of(session, project)[1]
        retired.retired_at = session.scalar(select(func.now()))
        session.flush()
        class_ids = [known.id for known in projects.classes_of(session, project.id)]
        assert snapshots.read_snapshot(session, project, class_ids).pseudo == Entries([0], [class_ids[0]], [0.9])
        assert make_entries(session, project, second, {0: 0, 1: 1, 2: 1}) == Change(0, 1, 1)
        assert ended(session, project) == {1: "its class is retired"}


def test_a_renamed_class_keeps_its_entries(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session)
        first, second = a_round(session, project), a_round(session, project)
        make_entries(session, project, first, {0: 0})
        classes_of(session, project)[0].name = "zero"
        session.flush()
        assert make_entries(session, project, second, {0: 0}) == Change(0, 0, 1)
        assert standing(session, project) == {0: "zero"}


def test_without_a_pseudo_labeler_nothing_stands_any_more(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session)
        first = a_round(session, project)
        make_entries(session, project, first, {0: 0, 29: 1})
        make_round(session, project, queries=1)  # row 0 is asked
        assert ledger.reconcile(session, project, 2, None, Proposal()) == Change(0, 2, 0)
        assert set(ended(session, project).values()) == {"the recipe labels nothing by itself"}


def test_a_round_that_fits_nothing_leaves_nothing_standing(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session)
        make_entries(session, project, a_round(session, project), {0: 0})
        assert ledger.reconcile(session, project, 4, None, Proposal("threshold")) == Change(0, 1, 0)
        assert ended(session, project) == {0: "round 4 had nothing to learn from"}


def test_a_snapshot_carries_what_stands_and_leaves_its_images_to_be_asked_about(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, images=10)
        classes = [known.id for known in classes_of(session, project)]
        make_entries(session, project, a_round(session, project), {4: 1, 2: 0})
        read = snapshots.read_snapshot(session, project, classes)
        assert read.pseudo == Entries([2, 4], [classes[0], classes[1]], [0.902, 0.904])
        assert read.candidates == list(range(10))
        assert not read.is_spent
        user = make_user(session).id
        make_round(session, project, queries=1, first_row=4)
        [held] = claiming.claim(session, project.id, user, 2, LEASE)
        assert held.image_id == image_at(session, project, 4).id
        read = snapshots.read_snapshot(session, project, classes)
        assert 4 not in read.candidates, "somebody holds it"
        assert read.pseudo.rows == [2, 4]
        without = snapshots.read_snapshot(session, project, classes, with_ledger=False)
        assert without.pseudo == Entries()


@pytest.mark.parametrize(
    ("source", "parts", "is_drawn"),
    [
        (QuerySource.RANDOM, {"acquisition": "random"}, True),
        (QuerySource.SEED, {"acquisition": "random"}, True),
        (QuerySource.SEED, {"acquisition": "clusters"}, False),
        (QuerySource.ACQUISITION, {"acquisition": "entropy"}, False),
        (QuerySource.AUDIT, {}, False),
    ],
)
def test_a_snapshot_says_which_labels_answer_a_uniform_draw(
    database: Database, source: QuerySource, parts: dict[str, object], is_drawn: bool
) -> None:
    with database.transaction() as session:
        project = make_project(session, images=5)
        made, user = make_round(session, project, queries=2), make_user(session).id
        asked = session.scalars(select(Query).where(Query.round_id == made.id).order_by(Query.rank)).all()
        asked[0].source, asked[0].parts = source, parts
        session.flush()
        for ask in claiming.claim(session, project.id, user, 2, LEASE):
            answer(session, project, ask, user)
        read = snapshots.read_snapshot(session, project, [known.id for known in classes_of(session, project)])
        assert read.drawn == (frozenset({0}) if is_drawn else frozenset())
        assert [row for row, _ in read.labelled] == [0, 1]


def begin(session: Session, project: Project) -> Round:
    begun = rounds.begin(session, lock_project(session, project.id))
    assert begun is not None
    return begun


def finish(session: Session, project: Project, begun: Round, said: dict[int, int] | None, asked: int = 0) -> None:
    """Finish a round that fitted a network, asks about the first ``asked`` images and labels what is said."""
    images = session.scalars(select(Image.id).where(Image.project_id == project.id).order_by(Image.row)).all()
    classes = [known.id for known in classes_of(session, project)]
    rows = sorted(said or {})
    named = str(project.recipe["pseudo_labeler"]["name"])
    chosen = Entries(rows, [classes[(said or {})[row]] for row in rows], [0.99] * len(rows))
    result = RoundResult(
        [RankedImage(image_id, QuerySource.ACQUISITION) for image_id in images],
        asked,
        {},
        metrics={"test_accuracy": 0.5},
        model=FittedModel("0" * 64, {}, classes, None),
        proposal=Proposal() if said is None else Proposal(named, chosen),
        pseudo_report={"threshold": 0.97},
    )
    assert rounds.finish(session, begun.id, begun.attempt, result)


def a_project(session: Session, recipe: dict[str, object], budget: int = 1000) -> Project:
    """Make a project whose first round is requested, as one whose labels are all given asks for it."""
    project = make_project(session, images=10, recipe=recipe, budget=budget)
    session.add(Round(project_id=project.id, number=0, reason=RoundReason.FIRST_QUERIES))
    session.flush()
    return project


def test_a_finished_round_writes_the_ledger_and_counts_it_in_its_metrics(database: Database) -> None:
    with database.transaction() as session:
        project = a_project(session, LABELER)
        made = begin(session, project)
        finish(session, project, made, {0: 0, 5: 1, 6: 1}, asked=2)
        assert standing(session, project) == {5: "1", 6: "1"}, "rows 0 and 1 are the batch"
        assert made.metrics == {
            "test_accuracy": 0.5,
            "pseudo": {"rule": "threshold", "report": {"threshold": 0.97}, "added": 2, "withdrawn": 0, "standing": 2},
        }


def test_a_round_without_a_pseudo_labeler_says_nothing_of_the_ledger(database: Database) -> None:
    with database.transaction() as session:
        project = a_project(session, {})
        made = begin(session, project)
        finish(session, project, made, None)
        assert made.metrics == {"test_accuracy": 0.5}


def test_the_network_goes_on_from_its_own_labels_when_the_budget_is_spent_until_it_adds_none(
    database: Database,
) -> None:
    with database.transaction() as session:
        project = a_project(session, GOES_ON, budget=1)
        project.labels_used = 1
        finish(session, project, begin(session, project), {0: 0})
        latest = rounds.latest_round(session, project.id)
        assert latest is not None
        assert (latest.number, latest.reason) == (1, RoundReason.AUTOMATIC_LABELS)
        finish(session, project, begin(session, project), {0: 0, 1: 0})
        assert rounds.is_open(session, project.id)
        finish(session, project, begin(session, project), {0: 0, 1: 0})
        assert rounds.is_settled(session, project.id), "it added nothing"


def test_a_paused_network_goes_on_from_its_own_labels_when_it_is_started_again(database: Database) -> None:
    with database.transaction() as session:
        project = a_project(session, GOES_ON, budget=1)
        project.labels_used, project.state = 1, ProjectState.PAUSED
        finish(session, project, begin(session, project), {0: 0})
        assert not rounds.is_open(session, project.id)
        projects.set_state(session, project.id, ProjectState.RUNNING)
        assert rounds.is_open(session, project.id)


@pytest.mark.parametrize(("recipe", "used"), [(GOES_ON, 0), (LABELER, 1)], ids=["labels left", "another rule"])
def test_the_network_does_not_go_on_alone(database: Database, recipe: dict[str, object], used: int) -> None:
    with database.transaction() as session:
        project = make_project(session, images=10, recipe=recipe, budget=1)
        make_round(session, project, queries=1)
        if not used:  # somebody holds what the last label is for, so that the round asks nothing
            assert len(claiming.claim(session, project.id, make_user(session).id, 1, LEASE)) == 1
        project.labels_used = used
        rounds.request_by_admin(session, project.id)
        finish(session, project, begin(session, project), {5: 0}, asked=1)
        assert standing(session, project) == {5: "0"}, "it added a label"
        assert not rounds.is_open(session, project.id)


def test_the_network_goes_on_alone_for_so_many_rounds_and_an_admin_may_let_it_go_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "MOST_ROUNDS_ALONE", 2)
    with database.transaction() as session:
        project = a_project(session, GOES_ON, budget=1)
        project.labels_used, said = 1, dict[int, int]()
        for number in range(3):
            said[number] = 0
            assert rounds.is_open(session, project.id), f"round {number}"
            finish(session, project, begin(session, project), said)
        assert not rounds.is_open(session, project.id), "round 0 and two of its own"
        rounds.request_by_admin(session, project.id)
        finish(session, project, begin(session, project), {**said, 3: 0})
        latest = rounds.latest_round(session, project.id)
        assert latest is not None
        assert (latest.number, latest.reason) == (4, RoundReason.AUTOMATIC_LABELS)


def test_deleting_a_project_takes_its_ledger_with_it(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session)
        make_entries(session, project, a_round(session, project), {0: 0})
        projects.delete(session, project.id)
        assert session.scalar(select(func.count()).where(PseudoLabel.project_id == project.id)) == 0


def test_an_admin_corrects_an_entry_by_an_answer_like_any_other(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session)
        made, user = make_round(session, project, queries=2, first_row=28), make_user(session).id
        classes = [known.id for known in classes_of(session, project)]
        make_entries(session, project, made, {0: 0, 1: 1})
        auditing.correct(
            session, project.id, entry_id(session, project, 0), user, outcome=Outcome.LABEL, class_id=classes[2]
        )
        image = image_at(session, project, 0)
        assert (image.has_human_label, image.label_class_id, project.labels_used) == (True, classes[2], 1)
        assert standing(session, project) == {1: "1"}
        query = session.scalars(select(Query).where(Query.image_id == image.id)).one()
        assert (query.source, query.round_id, query.rank, query.reserve) == (QuerySource.AUDIT, made.id, 3, True)
        assert query.closed_at is not None
        read = snapshots.read_snapshot(session, project, classes)
        assert (read.labelled, read.drawn) == ([(0, classes[2])], frozenset()), "an admin's pick is no draw"
        labeling.undo(session, project.id, user, LEASE)
        session.expire_all()
        assert not image_at(session, project, 0).has_human_label


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [(Outcome.UNSURE, "a person was unsure"), (Outcome.UNUSABLE, "a person found the image unusable")],
)
def test_an_admin_may_end_an_entry_without_a_label_when_the_budget_is_spent(
    database: Database, outcome: Outcome, reason: str
) -> None:
    with database.transaction() as session:
        project, user = make_project(session, budget=1), make_user(session).id
        make_entries(session, project, a_round(session, project), {0: 0})
        project.labels_used = 1
        session.flush()
        entry, class_id = entry_id(session, project, 0), classes_of(session, project)[1].id
        with pytest.raises(BudgetSpent, match="all 1 labels are given"):
            auditing.correct(session, project.id, entry, user, outcome=Outcome.LABEL, class_id=class_id)
        auditing.correct(session, project.id, entry, user, outcome=outcome)
        assert ended(session, project) == {0: reason}
        assert project.labels_used == 1


def test_an_entry_whose_image_is_in_the_batch_is_corrected_in_its_place(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session)
        make_entries(session, project, a_round(session, project), {0: 0})
        made, user = make_round(session, project, queries=2), make_user(session).id
        class_id = classes_of(session, project)[1].id
        auditing.correct(
            session, project.id, entry_id(session, project, 0), user, outcome=Outcome.LABEL, class_id=class_id
        )
        asked = select(Query.rank).where(Query.round_id == made.id, Query.closed_at.is_(None))
        assert session.scalars(asked).all() == [2], "nobody is asked about it any more"


def test_an_entry_is_not_corrected_while_somebody_else_answers_its_image(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session)
        make_entries(session, project, a_round(session, project), {0: 0})
        make_round(session, project, queries=1)
        user, other = make_user(session).id, make_user(session).id
        claiming.claim(session, project.id, other, 1, LEASE)
        entry = entry_id(session, project, 0)
        with pytest.raises(Conflict, match="being asked about it right now"):
            auditing.correct(session, project.id, entry, user, outcome=Outcome.UNSURE)


def test_a_correction_is_refused_when_the_entry_or_the_class_is_not_there_any_more(database: Database) -> None:
    with database.transaction() as session:
        project, user = make_project(session), make_user(session).id
        first, second = a_round(session, project), a_round(session, project)
        make_entries(session, project, first, {0: 0, 1: 1})
        gone, stands = entry_id(session, project, 0), entry_id(session, project, 1)
        make_entries(session, project, second, {1: 1})
        with pytest.raises(Conflict, match="no longer says so"):
            auditing.correct(session, project.id, gone, user, outcome=Outcome.UNSURE)
        with pytest.raises(BadInput, match="no such class"):
            auditing.correct(session, project.id, stands, user, outcome=Outcome.LABEL, class_id=10**9)
        with pytest.raises(NotFound):
            auditing.correct(session, make_project(session).id, stands, user, outcome=Outcome.UNSURE)


def test_who_skipped_an_image_before_takes_that_back_before_correcting_it(database: Database) -> None:
    with database.transaction() as session:
        project, user = make_project(session), make_user(session).id
        make_entries(session, project, a_round(session, project), {0: 0})
        make_round(session, project, queries=1)
        answer(session, project, claiming.claim(session, project.id, user, 1, LEASE)[0], user, outcome=Outcome.SKIP)
        with pytest.raises(Conflict):
            auditing.correct(session, project.id, entry_id(session, project, 0), user, outcome=Outcome.UNSURE)


def test_a_correction_that_was_taken_back_can_be_made_again(database: Database) -> None:
    with database.transaction() as session:
        project, user = make_project(session), make_user(session).id
        first = a_round(session, project)
        classes = [known.id for known in classes_of(session, project)]
        for chosen in (1, 2):
            leases.release(session, project.id, user)
            make_entries(session, project, first, {0: 0})
            entry = entry_id(session, project, 0)
            auditing.correct(session, project.id, entry, user, outcome=Outcome.LABEL, class_id=classes[chosen])
            assert image_at(session, project, 0).label_class_id == classes[chosen]
            if chosen == 1:
                labeling.undo(session, project.id, user, LEASE)
                session.expire_all()


def test_the_ledgers_precision_counts_uniform_draws_and_what_was_picked_apart(database: Database) -> None:
    with database.transaction() as session:
        project, user = make_project(session), make_user(session).id
        first = a_round(session, project)
        classes = [known.id for known in classes_of(session, project)]
        make_entries(session, project, first, dict.fromkeys(range(10), 0))
        made = make_round(session, project, queries=6)
        asked = session.scalars(select(Query).where(Query.round_id == made.id).order_by(Query.rank)).all()
        for query in asked[:4]:
            query.source = QuerySource.RANDOM
        session.flush()
        by_image = {query.image_id: query.rank - 1 for query in asked}
        for ask in claiming.claim(session, project.id, user, 6, LEASE):
            row = by_image[ask.image_id]
            if row == 3:
                answer(session, project, ask, user, outcome=Outcome.UNSURE)
            else:  # drawn: 0 and 1 agree, 2 does not; chosen: 4 agrees, 5 does not
                answer(session, project, ask, user, 0 if row in (0, 1, 4) else 1)
        auditing.correct(
            session, project.id, entry_id(session, project, 6), user, outcome=Outcome.LABEL, class_id=classes[1]
        )
        found = ledger_summary(session, project)
        assert (found.drawn.right, found.drawn.count) == (2, 3)
        assert (found.picked.right, found.picked.count) == (1, 3)
        assert (found.standing, found.by_rule) == (3, (("Above a threshold", 3),))
        labeling.undo(session, project.id, user, LEASE)
        session.expire_all()
        found = ledger_summary(session, project)
        assert (found.picked.right, found.picked.count) == (1, 2), "what was taken back is no answer"
