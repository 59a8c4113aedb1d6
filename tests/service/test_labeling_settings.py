"""What an admin chooses for the labeling page of a project: keys, and whether reasons are shown."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from app.database import Database
from app.errors import BadInput
from app.records import Project, ReasonsShown
from app.services import keys, projects
from app.services.keys import Action
from tests.factories import make_project


def keys_of(session: Session, project: Project) -> dict[str, str | None]:
    return {known.name: known.key for known in projects.classes_of(session, project.id)}


def test_two_classes_swap_their_keys(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, 1, classes=("cat", "dog", "owl"))
        cat, dog, _ = projects.classes_of(session, project.id)
        version = project.classes_version
        keys.set_keys(session, project.id, {cat.id: "2", dog.id: "1"}, {})
        assert keys_of(session, project) == {"cat": "2", "dog": "1", "owl": "3"}
        assert project.classes_version == version + 1


def test_an_empty_key_is_none_for_a_class_and_the_default_for_an_action(database: Database) -> None:
    with database.transaction() as session:
        project = make_project(session, 1, classes=("cat", "dog"))
        cat, _ = projects.classes_of(session, project.id)
        keys.set_keys(session, project.id, {cat.id: " "}, {Action.SKIP: "Q", Action.UNDO: ""})
        assert keys_of(session, project) == {"cat": None, "dog": "2"}
        assert project.action_keys == {"skip": "q"}


@pytest.mark.parametrize(
    ("cat", "skip", "reason"),
    [
        ("2", "s", "“2” is given to cat and to dog"),
        ("s", "s", "“s” is given to cat and to Skip"),
        ("?", "s", "“\\?” means something else in every project"),
        ("ab", "s", "'ab' is not one character"),
        ("\u200b", "s", "is not one character"),
        ("1", "/", "“/” means something else"),
    ],
)
def test_a_conflict_is_told_and_changes_nothing(database: Database, cat: str, skip: str, reason: str) -> None:
    with database.transaction() as session:
        project = make_project(session, 1, classes=("cat", "dog"))
        first, second = projects.classes_of(session, project.id)
        with pytest.raises(BadInput, match=reason):
            keys.set_keys(session, project.id, {first.id: cat, second.id: "2"}, {Action.SKIP: skip})
        assert keys_of(session, project) == {"cat": "1", "dog": "2"}


def test_a_class_of_another_project_is_refused(database: Database) -> None:
    with database.transaction() as session:
        project, other = make_project(session, 1), make_project(session, 1)
        foreign = projects.classes_of(session, other.id)[0]
        with pytest.raises(BadInput, match="no such class"):
            keys.set_keys(session, project.id, {foreign.id: "q"}, {})


@pytest.mark.parametrize(
    ("shown", "overlap", "shows"),
    [
        (ReasonsShown.WHEN_ALONE, 1, True),
        (ReasonsShown.WHEN_ALONE, 2, False),
        (ReasonsShown.ALWAYS, 2, True),
        (ReasonsShown.NEVER, 1, False),
    ],
)
def test_reasons_are_hidden_while_several_people_answer_blind(
    database: Database, shown: ReasonsShown, overlap: int, shows: bool
) -> None:
    with database.transaction() as session:
        project = make_project(session, 1, overlap=overlap)
        assert project.shows_reasons == (overlap == 1)
        projects.set_reasons_shown(session, project.id, shown)
        assert project.shows_reasons == shows
