"""Keys of the labeling page: which class or other answer each one gives, by default and as an admin chooses.

Ten classes get digits, the next ones letters that no action has. When even those are too few, letters are left for
typing the class's name, and actions move to signs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import BadInput
from app.outbox import EventKind, announce
from app.records import Class, Project
from app.services.locks import lock_project

DIGITS = "1234567890"
FIXED = "/?+-"  # to find a class, for help, and to zoom: the same in every project


class Action(StrEnum):
    """What has a key of its own on the labeling page besides the classes."""

    UNDO = "undo"
    SKIP = "skip"
    UNSURE = "unsure"
    UNUSABLE = "unusable"
    WHY = "why"
    ADJUST = "adjust"


# first choices first; what a class has been given is passed over
_CANDIDATES = {
    Action.UNDO: "z;",
    Action.SKIP: "sk,",
    Action.UNSURE: "uq.",
    Action.UNUSABLE: "xn!",
    Action.WHY: "wy:",
    Action.ADJUST: "bv*",
}
LETTERS = "".join(
    letter
    for letter in "abcdefghijklmnopqrstuvwxyz"
    if letter not in {candidates[0] for candidates in _CANDIDATES.values()}
)


def assign_keys(names: Sequence[str], taken: Iterable[str] = ()) -> list[str | None]:
    """Return a key for each new class, or None where typing its name is the way.

    A class that is called like a digit or a letter gets that as its key, if nobody has it.

    Args:
        names: of the new classes, in their order.
        taken: keys that other classes have.
    """
    used = set(taken)
    own: dict[int, str] = {}
    for place, name in enumerate(names):
        key = name.lower()
        if len(key) == 1 and key.isalnum() and key not in used:
            own[place] = key
            used.add(key)
    rest = [place for place in range(len(names)) if place not in own]
    free = [key for key in DIGITS + LETTERS if key not in used]
    if len(rest) > len(free) and not any(key.isalpha() for key in used):
        free = [key for key in free if key in DIGITS]
    given = own | dict(zip(rest, free, strict=False))
    return [given.get(place) for place in range(len(names))]


def letters_type(class_keys: Sequence[str | None]) -> bool:
    """Whether every letter starts typing the name of a class, since some have no key and none has a letter."""
    return None in class_keys and not any(key is not None and key.isalpha() for key in class_keys)


def action_keys(chosen: Mapping[str, str], class_keys: Sequence[str | None]) -> dict[Action, str | None]:
    """Return the key of each action; None when whatever it might have is taken.

    Args:
        chosen: what an admin chose, by action; the others get the first of their candidates that is free.
        class_keys: keys of the classes, which always win.
    """
    is_for_typing = letters_type(class_keys)
    used = {key for key in class_keys if key is not None}
    keys: dict[Action, str | None] = {}
    for action in Action:
        wanted = chosen.get(action)
        if wanted is not None and wanted not in used:
            keys[action] = wanted
            used.add(wanted)
    for action, candidates in _CANDIDATES.items():
        if action not in keys:
            free = (key for key in candidates if key not in used and not (is_for_typing and key.isalpha()))
            keys[action] = next(free, None)
            used.add(keys[action] or "")
    return {action: keys[action] for action in Action}


def set_keys(session: Session, project_id: int, class_keys: Mapping[int, str], chosen: Mapping[Action, str]) -> Project:
    """Give classes and actions other keys; an empty one is none for a class and the default for an action.

    Args:
        class_keys: keys by class id; classes that are not named keep theirs.
        chosen: keys by action.
    Raises:
        BadInput: no single printable character, a key that is fixed, one for two, or a class of another project.
    """
    project = lock_project(session, project_id)
    classes = session.scalars(
        select(Class).where(Class.project_id == project_id, Class.retired_at.is_(None)).order_by(Class.position)
    ).all()
    unknown = set(class_keys) - {known.id for known in classes}
    if unknown:
        raise BadInput(f"class {min(unknown)}", "this project has no such class", "reload the page")
    wanted = {
        known: _checked(class_keys[known.id], known.name) if known.id in class_keys else known.key for known in classes
    }
    wanted_actions = {action: _checked(key, action.value.capitalize()) for action, key in chosen.items()}
    _refuse_conflicts(
        [(key, known.name) for known, key in wanted.items()]
        + [(key, action.value.capitalize()) for action, key in wanted_actions.items()]
    )
    for known in classes:
        known.key = None  # first, so that two classes may swap keys
    session.flush()
    for known, key in wanted.items():
        known.key = key
    project.action_keys = {action.value: key for action, key in wanted_actions.items() if key is not None}
    project.classes_version += 1
    session.flush()
    announce(session, project_id, EventKind.PROJECT)
    return project


def _checked(given: str, subject: str) -> str | None:
    key = given.strip().lower()
    if not key:
        return None
    if len(key) != 1 or not key.isprintable():
        raise BadInput(f"key of {subject}", f"{given!r} is not one character", "use one letter, digit or sign")
    if key in FIXED:
        raise BadInput(f"key of {subject}", f"“{key}” means something else in every project", "use another")
    return key


def _refuse_conflicts(pairs: Sequence[tuple[str | None, str]]) -> None:
    users: dict[str, list[str]] = defaultdict(list)
    for key, subject in pairs:
        if key is not None:
            users[key].append(subject)
    conflicts = [f"“{key}” is given to {' and to '.join(names)}" for key, names in users.items() if len(names) > 1]
    if conflicts:
        raise BadInput("keys", "; ".join(conflicts), "give each a key of its own")
