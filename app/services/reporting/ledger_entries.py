"""The ledger's entries on pages: a list of them, and what models said of an image before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Select, select, true, tuple_
from sqlalchemy.orm import Session, aliased

from app.records import Class, Image, Model, PseudoLabel, Round
from app.records.ledger import HUMAN_LABEL
from app.services.reporting.listing import Thumb

PAGE_SIZE = 60
OTHERS_SHOWN = 3


class Shown(StrEnum):
    """Which entries are listed."""

    STANDING = "standing"  # least confident first
    ANSWERED = "answered"  # ended by a human label, the latest first
    WITHDRAWN = "withdrawn"  # ended for another reason, the latest first


@dataclass(frozen=True)
class LedgerFilter:
    """What the list is narrowed to; ``after`` is the entry to go on from.

    ``entry_id`` names a single entry, whatever else is asked.
    """

    shown: Shown = Shown.STANDING
    class_id: int | None = None
    after: int | None = None
    entry_id: int | None = None


@dataclass(frozen=True)
class ToldEntry:
    """What a round's model says of an image, and how that ended; ``ending`` is None while it stands."""

    id: int
    class_name: str
    round_number: int
    confidence: float
    ending: str | None


@dataclass(frozen=True)
class LedgerRow:
    """One entry of the list; ``others`` are the latest other entries of its image."""

    thumb: Thumb
    class_id: int
    entry: ToldEntry
    written_at: datetime
    ended_at: datetime | None
    others: tuple[ToldEntry, ...]


@dataclass(frozen=True)
class LedgerPage:
    """One page of entries; ``next_after`` is the one to go on from, if there are more."""

    rows: tuple[LedgerRow, ...]
    classes: tuple[tuple[int, str], ...]
    next_after: int | None


def list_entries(session: Session, project_id: int, wanted: LedgerFilter) -> LedgerPage:
    """Return a page of a project's ledger."""
    classes = tuple(
        session.execute(
            select(Class.id, Class.name).where(Class.project_id == project_id).order_by(Class.position)
        ).all()
    )
    names = dict(classes)
    found = session.execute(_listed(project_id, wanted).limit(PAGE_SIZE + 1)).all()
    shown = found[:PAGE_SIZE]
    others = past_entries(session, [entry.image_id for entry, *_ in shown], names)
    rows = tuple(
        LedgerRow(
            thumb=Thumb(entry.image_id, width, height),
            class_id=entry.class_id,
            entry=_told(entry, number, label, names),
            written_at=entry.created_at,
            ended_at=entry.superseded_at,
            others=tuple(other for other in others.get(entry.image_id, ()) if other.id != entry.id)[:OTHERS_SHOWN],
        )
        for entry, number, label, width, height in shown
    )
    return LedgerPage(rows, classes, rows[-1].entry.id if len(found) > PAGE_SIZE else None)


def past_entries(
    session: Session, image_ids: Sequence[int], names: Mapping[int, str]
) -> dict[int, tuple[ToldEntry, ...]]:
    """Return the entries of images, ended or not, the latest few of each first; ``names`` are those of classes."""
    of_image = (
        select(PseudoLabel)
        .where(PseudoLabel.image_id == Image.id)
        .order_by(PseudoLabel.id.desc())
        .limit(OTHERS_SHOWN + 1)
        .lateral()
    )
    entry = aliased(PseudoLabel, of_image)
    rows = session.execute(
        select(entry, Round.number, Image.label_class_id)
        .select_from(Image)
        .join(of_image, true())
        .join(Model, Model.id == entry.model_id)
        .join(Round, Round.id == Model.round_id)
        .where(Image.id.in_(image_ids))
        .order_by(Image.id, entry.id.desc())
    )
    found: dict[int, list[ToldEntry]] = defaultdict(list)
    for each, number, label in rows:
        found[each.image_id].append(_told(each, number, label, names))
    return {image_id: tuple(entries) for image_id, entries in found.items()}


def _listed(project_id: int, wanted: LedgerFilter) -> Select[PseudoLabel, int, int | None, int, int]:
    listed = (
        select(PseudoLabel, Round.number, Image.label_class_id, Image.width, Image.height)
        .join(Image, Image.id == PseudoLabel.image_id)
        .join(Model, Model.id == PseudoLabel.model_id)
        .join(Round, Round.id == Model.round_id)
        .where(PseudoLabel.project_id == project_id)
    )
    if wanted.entry_id is not None:
        return listed.where(PseudoLabel.id == wanted.entry_id)
    if wanted.class_id is not None:
        listed = listed.where(PseudoLabel.class_id == wanted.class_id)
    last = aliased(PseudoLabel)
    last = aliased(PseudoLabel)
    if wanted.after is not None:
        listed = listed.join(last, last.id == wanted.after)
    if wanted.shown is Shown.STANDING:
        listed = listed.where(PseudoLabel.superseded_at.is_(None))
        rising = (PseudoLabel.confidence, PseudoLabel.id)
        if wanted.after is not None:
            listed = listed.where(tuple_(*rising) > tuple_(last.confidence, last.id))
        return listed.order_by(*rising)
    is_answered = PseudoLabel.superseded_reason == HUMAN_LABEL
    listed = listed.where(
        PseudoLabel.superseded_at.is_not(None), is_answered if wanted.shown is Shown.ANSWERED else ~is_answered
    )
    if wanted.after is not None:
        place = tuple_(PseudoLabel.superseded_at, PseudoLabel.id)
        listed = listed.where(place < tuple_(last.superseded_at, last.id))
    return listed.order_by(PseudoLabel.superseded_at.desc(), PseudoLabel.id.desc())


def _told(entry: PseudoLabel, round_number: int, label: int | None, names: Mapping[int, str]) -> ToldEntry:
    return ToldEntry(
        id=entry.id,
        class_name=names.get(entry.class_id, str(entry.class_id)),
        round_number=round_number,
        confidence=entry.confidence,
        ending=None if entry.superseded_reason is None else _ending(entry, label, names),
    )


def _ending(entry: PseudoLabel, label: int | None, names: Mapping[int, str]) -> str:
    if entry.superseded_reason != HUMAN_LABEL:
        return str(entry.superseded_reason)
    if label is None:
        return "a person labelled it and took that back"
    return "a person agreed" if label == entry.class_id else f"a person said {names.get(label, str(label))}"
