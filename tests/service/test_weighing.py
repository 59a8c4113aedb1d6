"""Labels by the annotator model: what it changes, what it leaves alone, and the trail it leaves."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import select

from app.database import Database
from app.errors import BadInput, NotFound
from app.records import Annotation, Image, LabelChange, LabelRule, Outcome, Project, ReviewReason, Role
from app.services import labeling, projects, reviewing, weighing
from app.services.annotator_model import fit
from app.services.labeling import Answer
from app.settings import Settings
from app.storage import Storage
from tests.factories import classes_of, make_user
from tests.service.answers import image_at, make_answered, say
from worker.rounds import RoundRunner

# the first two are good, the third knows nothing, and where the good ones disagree the third sides with the worse
GOOD, FAIR, POOR = "012012012012012", "012012012012010", "210021102201100"


def made(database: Database, *words: str, rule: LabelRule = LabelRule.ANNOTATOR_MODEL, **options: object) -> int:
    with database.transaction() as session:
        said = {make_user(session).id: word for word in words}
        project = make_answered(session, said, **options)  # type: ignore[arg-type]
        projects.set_label_rule(session, project.id, rule, 0.8)
        session.commit()
        return project.id


def weigh(database: Database, project_id: int) -> int:
    changed = 0
    with database.transaction() as session:
        weighed = weighing.weigh(weighing.read(session, project_id))
    for part in weighing.batches(weighed):
        with database.transaction() as session:
            changed += weighing.apply(session, project_id, part)
            session.commit()
    return changed


def labels(database: Database, project_id: int) -> list[tuple[str | None, LabelRule | None, float | None, str | None]]:
    with database.transaction() as session:
        names = {known.id: known.name for known in classes_of(session, session.get_one(Project, project_id))}
        images = session.scalars(select(Image).where(Image.project_id == project_id).order_by(Image.row))
        return [
            (names.get(each.label_class_id or 0), each.label_rule, each.label_certainty, each.review_reason)
            for each in images
        ]


def test_labels_are_the_models_with_its_chances(database: Database) -> None:
    project_id = made(database, GOOD, FAIR, POOR)
    assert weigh(database, project_id) == 15
    said = [{who: int(word[row]) for who, word in enumerate((GOOD, FAIR, POOR))} for row in range(15)]
    for (label, rule, certainty, review), chances in zip(
        labels(database, project_id), fit(said, [0, 1, 2]).chances, strict=True
    ):
        top = max(chances, key=lambda known: chances[known])
        assert (label, rule) == (str(top), LabelRule.ANNOTATOR_MODEL)
        assert certainty == pytest.approx(chances[top], abs=1e-3)
        assert review == (ReviewReason.UNCERTAIN if chances[top] < 0.8 else None)
    assert weigh(database, project_id) == 0, "the same answers change nothing"


def test_a_label_that_the_model_changes_leaves_a_trail_and_majority_brings_it_back(database: Database) -> None:
    known = "0" * 10 + "1" * 10 + "2" * 10
    words = (known + "0", known + "0", "012" * 10 + "1", "120" * 10 + "1", "201" * 10 + "1")
    project_id = made(database, *words)
    before = labels(database, project_id)
    assert before[-1][:2] == ("1", LabelRule.MAJORITY)
    assert weigh(database, project_id) == 31
    after = labels(database, project_id)
    assert after[-1][:2] == ("0", LabelRule.ANNOTATOR_MODEL), "two who know outweigh three who guess"
    with database.transaction() as session:
        last = image_at(session, project_id, 30)
        [change] = session.scalars(select(LabelChange).where(LabelChange.image_id == last.id)).all()
        classes = [each.id for each in classes_of(session, session.get_one(Project, project_id))]
        assert (change.from_class_id, change.to_class_id) == (classes[1], classes[0])
        assert (change.rule, change.certainty) == (LabelRule.ANNOTATOR_MODEL, last.label_certainty)
        projects.set_label_rule(session, project_id, LabelRule.MAJORITY, 0.8)
        session.commit()
    assert weigh(database, project_id) == 31
    assert labels(database, project_id) == before
    with database.transaction() as session:
        changes = session.scalars(select(LabelChange).where(LabelChange.image_id == last.id)).all()
        assert len(changes) == 2, "nothing is rewritten: both changes stand"


def test_answers_to_images_of_one_person_are_left_as_they_are(database: Database) -> None:
    project_id = made(database, GOOD)
    before = labels(database, project_id)
    assert weigh(database, project_id) == 0
    assert labels(database, project_id) == before


def test_what_a_reviewer_decided_or_somebody_found_unusable_is_not_weighed(database: Database) -> None:
    project_id = made(database, GOOD + "0", FAIR + "1", POOR + "!")
    with database.transaction() as session:
        projects.set_label_rule(session, project_id, LabelRule.ANNOTATOR_MODEL, 1.0)
        session.commit()
    weigh(database, project_id)
    with database.transaction() as session:
        admin = make_user(session, role=Role.ADMIN)
        class_id = classes_of(session, session.get_one(Project, project_id))[1].id
        image = image_at(session, project_id, 0)
        assert image.review_reason is ReviewReason.UNCERTAIN
        reviewing.decide(session, project_id, image.id, admin.id, outcome=Outcome.LABEL, class_id=class_id)
        session.commit()
    weigh(database, project_id)
    found = labels(database, project_id)
    assert found[0] == ("1", LabelRule.REVIEW, 1.0, None)
    assert found[15] == (None, None, None, None)


def test_what_was_answered_meanwhile_is_left_to_the_next_round(database: Database) -> None:
    project_id = made(database, GOOD, FAIR, POOR)
    with database.transaction() as session:
        weighed = weighing.weigh(weighing.read(session, project_id))
    with database.transaction() as session:
        own = session.scalars(
            select(Annotation).where(Annotation.image_id == image_at(session, project_id, 3).id).order_by(Annotation.id)
        ).first()
        assert own is not None
        class_id = classes_of(session, session.get_one(Project, project_id))[2].id
        corrected = Answer(
            uuid4(), project_id, own.query_id, own.user_id, Outcome.LABEL, class_id, corrects=own.client_id
        )
        assert labeling.answer(session, corrected).counted
        session.commit()
    with database.transaction() as session:
        assert weighing.apply(session, project_id, weighed) == 14
        session.commit()
    assert labels(database, project_id)[3][1] is not LabelRule.ANNOTATOR_MODEL


def test_an_image_that_is_asked_about_is_not_weighed(database: Database) -> None:
    project_id = made(database, GOOD, FAIR)
    with database.transaction() as session:
        latest = session.scalars(
            select(Annotation).where(Annotation.project_id == project_id).order_by(Annotation.id.desc())
        ).first()
        assert latest is not None
        labeling.undo(session, project_id, latest.user_id, 60.0)
        session.commit()
    assert weigh(database, project_id) == 14


def test_an_even_split_has_no_label_and_unsure_comes_first(database: Database) -> None:
    project_id = made(database, "012012012" * 2 + "00", "012012012" * 2 + "1?")
    weigh(database, project_id)
    found = labels(database, project_id)
    assert found[18][0] is None or (found[18][2] or 0) < 0.8
    assert found[18][3] is ReviewReason.UNCERTAIN
    assert found[19] == ("0", LabelRule.MAJORITY, 1.0, ReviewReason.UNSURE), "one answer is no case for the model"


def test_settings_out_of_bounds_are_refused(database: Database) -> None:
    project_id = made(database, "0")
    with database.transaction() as session:
        with pytest.raises(BadInput, match="reviewers decide in any case"):
            projects.set_label_rule(session, project_id, LabelRule.REVIEW, 0.8)
        for wrong in (-0.1, 1.1, float("nan")):
            with pytest.raises(BadInput, match="is not a chance"):
                projects.set_label_rule(session, project_id, LabelRule.MAJORITY, wrong)
        with pytest.raises(NotFound):
            weighing.read(session, 2**40)


def test_a_round_weighs_before_it_learns(database: Database, settings: Settings, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "blobs"))
    with database.transaction() as session:
        people = [make_user(session).id for _ in range(2)]
        project = make_answered(
            session, dict.fromkeys(people, "012012"), images=8, storage=storage,
            recipe={"network": "softmax_regression", "fitting": {"epochs": 1}},
        )  # fmt: skip
        for person in people:
            say(session, project, person, {6: "0", 7: "1"})
        projects.set_label_rule(session, project.id, LabelRule.ANNOTATOR_MODEL, 0.1)
        session.commit()
    RoundRunner(database, storage, settings).run(project.id)
    assert {rule for _, rule, _, _ in labels(database, project.id)} == {LabelRule.ANNOTATOR_MODEL}
