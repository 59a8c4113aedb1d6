"""Messages that leave a transaction only after its commit: tasks for the worker, events for open pages.

Services put them into the session with ``send_task`` and ``announce``; ``database.Database`` hands them to its courier
once the commit has succeeded, and forgets them after a rollback. A message carries ids only, so that whoever gets it
reads the state anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Session

_KEY = "outbox"


class TaskName(StrEnum):
    """Tasks of the worker, which the web process knows by name only."""

    RUN_ROUND = "worker.run_round"
    ANSWER_BATCH = "worker.answer_batch"
    RUN_IMPORT = "worker.run_import"


class EventKind(StrEnum):
    """What an open page can be told about a project."""

    PROGRESS = "progress"  # the worker is at a new stage, or further in it
    ROUND = "round"  # a round was requested, has started, is done or has failed
    LABELS = "labels"  # an answer came in or was taken back
    PROJECT = "project"  # its state, oracle, budget or classes changed
    IMPORT = "import"  # more images, or the end of an import
    LISTENING = "listening"  # from here on nothing is missed; what was before may have been


@dataclass(frozen=True)
class Task:
    """A task to be sent to the worker."""

    name: TaskName
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Event:
    """Something that open pages of a project should know."""

    project_id: int
    kind: EventKind
    data: dict[str, Any] = field(default_factory=dict)


Message = Task | Event
Courier = Callable[[Sequence[Message]], None]


def send_task(session: Session, name: TaskName, *ids: int) -> None:
    """Send a task once this session's transaction is committed; the same task is sent once."""
    _put(session, Task(name, ids))


def announce(session: Session, project_id: int, kind: EventKind, **data: Any) -> None:
    """Tell the open pages of a project once this session's transaction is committed."""
    _put(session, Event(project_id, kind, data))


def take_messages(session: Session) -> list[Message]:
    """Return what was put and empty the outbox."""
    messages: list[Message] = session.info.pop(_KEY, [])
    return messages


def _put(session: Session, message: Message) -> None:
    waiting = session.info.setdefault(_KEY, [])
    if message not in waiting:
        waiting.append(message)
