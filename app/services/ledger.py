"""The ledger of pseudo-labels: what stands, and what a round changes in it.

People come first. An image that somebody has labelled, found unusable or was unsure about gets no entry, and one that
people are being asked about keeps the entry it has until they answer. How an answer ends an entry is written with the
answer (``app.services.queue``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Double,
    Integer,
    TableValuedAlias,
    and_,
    case,
    cast,
    column,
    exists,
    false,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session, aliased

from app.records import CHECKS, Class, Image, Lease, Project, PseudoLabel, Query
from app.services.queue import awaits_review


@dataclass(frozen=True)
class Entries:
    """Labels of models: array rows, class ids and confidences in [0, 1], one each, by rising row and no row twice."""

    rows: Sequence[int] = ()
    class_ids: Sequence[int] = ()
    confidences: Sequence[float] = ()

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Proposal:
    """The entries that shall stand once a round has ended, all of them, and the pseudo-labeler that chose them.

    ``rule`` is None when the recipe labels nothing by itself.
    """

    rule: str | None = None
    entries: Entries = Entries()


@dataclass(frozen=True)
class Change:
    """What a round did to the ledger: entries written, entries ended, entries that stand now."""

    added: int
    withdrawn: int
    standing: int


def read_standing(session: Session, project_id: int, class_ids: Iterable[int]) -> Entries:
    """Return the entries that stand, of these classes only."""
    wanted = (
        select(Image.row, PseudoLabel.class_id, PseudoLabel.confidence)
        .join(Image, Image.id == PseudoLabel.image_id)
        .where(PseudoLabel.project_id == project_id, _stands(), PseudoLabel.class_id.in_(list(class_ids)))
        .order_by(Image.row)
    )
    found = session.execute(wanted).all()
    return Entries([row for row, _, _ in found], [known for _, known, _ in found], [chance for _, _, chance in found])


def reconcile(
    session: Session, project: Project, round_number: int, model_id: int | None, proposal: Proposal
) -> Change:
    """Make the ledger say what a round proposes, within the transaction that ends the round.

    Entries that stand with the same class stay as they were written; the others are ended, each for a reason. Images
    about which people decided, or are asked, since the snapshot was read are left out.

    Args:
        project: locked, so that nobody answers meanwhile.
        round_number: the round that ends; its queries are written already.
        model_id: what the round fitted, None if it fitted nothing.
        proposal: what shall stand; classes that were retired meanwhile are left out.
    """
    said, says = _said(proposal.entries), f"round {round_number}'s model"
    if proposal.rule is None:
        withdrawn = _withdraw(session, project, said, "the recipe labels nothing by itself", says, spared=false())
        return Change(0, withdrawn, count_standing(session, project.id))
    reason = f"{says} no longer says so" if model_id is not None else f"round {round_number} had nothing to learn from"
    withdrawn = _withdraw(session, project, said, reason, f"{says} says ", spared=_is_asked())
    added = 0 if model_id is None else _add(session, project, said, model_id, proposal.rule)
    return Change(added, withdrawn, count_standing(session, project.id))


def count_standing(session: Session, project_id: int) -> int:
    """Return how many entries of a project stand."""
    return session.scalar(select(func.count()).where(PseudoLabel.project_id == project_id, _stands())) or 0


def _stands() -> ColumnElement[bool]:
    return PseudoLabel.superseded_at.is_(None)


def _said(entries: Entries) -> TableValuedAlias:
    """Return entries as a table of three parameters, however many there are."""
    arrays = (
        cast(list(entries.rows), ARRAY(Integer)),
        cast(list(entries.class_ids), ARRAY(BigInteger)),
        cast(list(entries.confidences), ARRAY(Double)),
    )
    columns = (column("row", Integer), column("class_id", BigInteger), column("confidence", Double))
    return func.unnest(*arrays).table_valued(*columns).render_derived(name="said")


def _withdraw(
    session: Session, project: Project, said: TableValuedAlias, reason: str, says: str, *, spared: ColumnElement[bool]
) -> int:
    """End the entries that are not said again: for ``reason``, or because the model ``says`` another class."""
    own, other = aliased(Class), aliased(Class)
    why = case(
        (own.retired_at.is_not(None), "its class is retired"),
        (other.id.is_(None), reason),
        else_=literal(says) + other.name,
    )
    gone = (
        select(PseudoLabel.id, why.label("why"))
        .join(Image, Image.id == PseudoLabel.image_id)
        .join(own, own.id == PseudoLabel.class_id)
        .outerjoin(said, said.c.row == Image.row)
        .outerjoin(other, and_(other.id == said.c.class_id, other.retired_at.is_(None)))
        .where(PseudoLabel.project_id == project.id, _stands(), ~spared)
        .where(other.id.is_distinct_from(PseudoLabel.class_id))
        .cte("gone")
    )
    ended = (
        update(PseudoLabel)
        .where(PseudoLabel.id == gone.c.id)
        .values(superseded_at=func.now(), superseded_reason=gone.c.why)
        .returning(PseudoLabel.id)
        .cte("ended")
    )
    return session.scalar(select(func.count()).select_from(ended)) or 0


def _add(session: Session, project: Project, said: TableValuedAlias, model_id: int, rule: str) -> int:
    """Write what is said about images that have no entry and that no person decides about."""
    there = aliased(PseudoLabel)
    free = (
        select(literal(project.id), Image.id, Class.id, literal(model_id), said.c.confidence, literal(rule))
        .select_from(said)
        .join(Image, and_(Image.project_id == project.id, Image.row == said.c.row))
        .join(Class, and_(Class.project_id == project.id, Class.id == said.c.class_id, Class.retired_at.is_(None)))
        .outerjoin(there, and_(there.image_id == Image.id, there.superseded_at.is_(None)))
        .where(there.id.is_(None), ~Image.has_human_label, Image.unusable_at.is_(None), ~awaits_review(), ~_is_asked())
        .order_by(Image.row)
    )
    added = (
        insert(PseudoLabel)
        .from_select(["project_id", "image_id", "class_id", "model_id", "confidence", "rule"], free)
        .returning(PseudoLabel.id)
        .cte("added")
    )
    return session.scalar(select(func.count()).select_from(added)) or 0


def _is_asked() -> ColumnElement[bool]:
    """Return the condition that people are asked about an image: it is in the batch, or somebody holds it."""
    held = exists().where(Lease.query_id == Query.id)
    about_it = Query.source.not_in(CHECKS)
    return exists().where(Query.image_id == Image.id, Query.closed_at.is_(None), about_it, or_(~Query.reserve, held))
