"""The ledger on a project's page: how much stands, by which rule and threshold, and how often people agreed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.recipes import PSEUDO_LABELERS
from app.records import Annotation, Image, Outcome, Project, PseudoLabel, Query, QuerySource, Round, RoundState
from app.records.ledger import HUMAN_LABEL
from app.services.queue import drawn_by_chance, standing
from app.services.reporting.agreement import Agreement


@dataclass(frozen=True)
class LastLabelling:
    """What the latest round did to the ledger; ``threshold`` is None if there was none, ``why`` says how it came."""

    round_number: int
    added: int
    withdrawn: int
    learned_from: int
    threshold: float | None
    why: str | None


@dataclass(frozen=True)
class LedgerSummary:
    """What a project's page says of its ledger.

    Attributes:
        rule: title of the recipe's pseudo-labeler, None if it has none.
        by_rule: entries that stand, by the title of the rule that wrote them.
        last: the latest round, if it had to do with the ledger.
        drawn: entries that people checked because a uniform draw asked them: the ledger's precision.
        picked: those they checked because the strategy or an admin chose the image: no fair sample.
        draws: whether the recipe asks about images drawn uniformly.
        has_entries: whether a model ever labelled anything.
    """

    rule: str | None
    by_rule: tuple[tuple[str, int], ...]
    last: LastLabelling | None
    drawn: Agreement
    picked: Agreement
    draws: bool
    has_entries: bool

    @property
    def standing(self) -> int:
        """Entries that stand."""
        return sum(count for _, count in self.by_rule)

    @property
    def is_shown(self) -> bool:
        """Whether there is anything to say."""
        return self.rule is not None or self.has_entries


def ledger_summary(session: Session, project: Project) -> LedgerSummary:
    """Return what a project's page says of its ledger."""
    name = project.recipe.get("pseudo_labeler", {}).get("name")
    last, has_entries = _last(session, project.id)
    drawn, picked = _agreements(session, project.id)
    return LedgerSummary(
        rule=None if name in (None, PSEUDO_LABELERS.choices[0].name) else rule_title(name),
        by_rule=_by_rule(session, project.id),
        last=last,
        drawn=drawn,
        picked=picked,
        draws=project.recipe.get("random_share", 0) > 0,
        has_entries=has_entries,
    )


def rule_title(name: str) -> str:
    """Return a pseudo-labeler as people know it; one of an earlier release as it was stored."""
    return next((choice.title for choice in PSEUDO_LABELERS.choices if choice.name == name), name)


def _by_rule(session: Session, project_id: int) -> tuple[tuple[str, int], ...]:
    counted = (
        select(PseudoLabel.rule, func.count())
        .where(PseudoLabel.project_id == project_id, PseudoLabel.superseded_at.is_(None))
        .group_by(PseudoLabel.rule)
        .order_by(func.count().desc(), PseudoLabel.rule)
    )
    return tuple((rule_title(rule), count) for rule, count in session.execute(counted))


def _last(session: Session, project_id: int) -> tuple[LastLabelling | None, bool]:
    """Return what the latest finished round did, and whether any round ever wrote an entry."""
    has_entries = exists().where(PseudoLabel.project_id == Round.project_id)
    found = session.execute(
        select(Round.number, Round.metrics["pseudo"], has_entries)
        .where(Round.project_id == project_id, Round.state == RoundState.DONE)
        .order_by(Round.number.desc())
        .limit(1)
    ).first()
    if found is None or found[1] is None:
        return None, found is not None and found[2]
    number, pseudo, _ = found
    report = pseudo["report"]
    last = LastLabelling(
        round_number=number,
        added=pseudo["added"],
        withdrawn=pseudo["withdrawn"],
        learned_from=report.get("learned_from", 0),
        threshold=report.get("threshold"),
        why=_why(report),
    )
    return last, found[2]


def _why(report: Mapping[str, Any]) -> str | None:
    """Say how a threshold was found, or why there is none."""
    if report.get("reason") is not None:
        return str(report["reason"])
    if "held_out_above" in report:
        above, wrong = report["held_out_above"], report["held_out_wrong"]
        return f"of {above} answers above it that the network was not shown, it gets {wrong} wrong"
    return None


def _agreements(session: Session, project_id: int) -> tuple[Agreement, Agreement]:
    """Compare ended entries with the labels that ended them, once an image: by uniform draws, and otherwise."""
    latest = (
        select(PseudoLabel.image_id, PseudoLabel.class_id)
        .where(PseudoLabel.project_id == project_id, PseudoLabel.superseded_reason == HUMAN_LABEL)
        .ext(distinct_on(PseudoLabel.image_id))
        .order_by(PseudoLabel.image_id, PseudoLabel.id.desc())
        .subquery()
    )
    otherwise = exists().where(
        Annotation.image_id == Image.id,
        Annotation.outcome == Outcome.LABEL,
        *standing(),
        Query.id == Annotation.query_id,
        Query.source != QuerySource.REVIEW,
        ~drawn_by_chance(),
    )
    compared = (
        select((Image.label_class_id == latest.c.class_id).label("right"), (~otherwise).label("drawn"))
        .join(latest, latest.c.image_id == Image.id)
        .where(Image.has_human_label)
        .subquery()
    )
    right, drawn = compared.c.right, compared.c.drawn
    counts = session.execute(
        select(
            func.count().filter(drawn, right),
            func.count().filter(drawn),
            func.count().filter(~drawn, right),
            func.count().filter(~drawn),
        ).select_from(compared)
    ).one()
    return Agreement(counts[0], counts[1]), Agreement(counts[2], counts[3])
