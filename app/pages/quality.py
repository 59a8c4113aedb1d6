"""The quality page: how well people agree, how they do on checks, and what an admin chooses about both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from app.errors import BadInput
from app.pages.paths import ProjectId
from app.pages.shell import Wired, Wiring, go_to, render
from app.records import LabelRule
from app.services import gold, projects
from app.services.reporting.check_results import check_results
from app.services.reporting.label_trail import label_trail
from app.services.reporting.quality import agreement_report
from app.services.reporting.review_queue import waiting_for_review

router = APIRouter()

RULES = (LabelRule.MAJORITY, LabelRule.ANNOTATOR_MODEL)
LONGEST_LIST = 1_000_000
Field = Annotated[str, Form(max_length=20)]


@router.get("/projects/{project_id}/quality")
def quality_page(request: Request, wired: Wired, project_id: ProjectId) -> Response:
    """Show how well people agree in a project, and how they do on checks."""
    with wired.database.transaction() as session:
        project = projects.get(session, project_id)
        return render(
            request,
            "quality/page.html",
            project=project,
            report=agreement_report(session, project_id),
            checks=check_results(session, project_id),
            trail=label_trail(session, project_id),
            waiting=waiting_for_review(session, project_id),
            gold_count=gold.count_gold(session, project_id),
        )


@router.post("/projects/{project_id}/quality/labels")
def change_rule(
    request: Request, wired: Wired, project_id: ProjectId, rule: Field = "", certainty: Field = "80"
) -> Response:
    """Choose how the label of an image with several answers is made; ``certainty`` is in per cent."""
    if rule not in set(RULES):
        raise BadInput("rule", f"{rule!r} is none", f"use one of: {', '.join(RULES)}")
    share = _share("certainty", certainty)
    wanted = LabelRule(rule)
    return _change(
        request, wired, project_id, lambda session: projects.set_label_rule(session, project_id, wanted, share)
    )


@router.post("/projects/{project_id}/quality/checks")
def change_checks(
    request: Request,
    wired: Wired,
    project_id: ProjectId,
    *,
    gold_share: Field = "0",
    repeat_share: Field = "0",
    told: Field = "",
) -> Response:
    """Choose how much of what a person is shown checks them; shares are in per cent."""
    of_gold, of_repeats = _share("gold", gold_share), _share("repeats", repeat_share)
    return _change(
        request,
        wired,
        project_id,
        lambda session: projects.set_checks(
            session, project_id, gold_share=of_gold, gold_feedback=bool(told), repeat_share=of_repeats
        ),
    )


@router.post("/projects/{project_id}/quality/gold")
def mark_gold(
    request: Request,
    wired: Wired,
    project_id: ProjectId,
    *,
    count: Field = "",
    names: Annotated[str, Form(max_length=LONGEST_LIST)] = "",
) -> Response:
    """Make images gold: those that are named, one a line, or else a number of those with imported classes."""
    if names.strip():
        return _change(
            request, wired, project_id, lambda session: gold.mark_named(session, project_id, names.splitlines())
        )
    if not count.isascii() or not count.isdecimal():
        raise BadInput("number", f"{count!r} is not a whole number", "use digits, or name files")
    return _change(request, wired, project_id, lambda session: gold.mark_some(session, project_id, int(count)))


@router.post("/projects/{project_id}/quality/no-gold")
def unmark_gold(request: Request, wired: Wired, project_id: ProjectId) -> Response:
    """Let all gold images be ordinary ones again."""
    return _change(request, wired, project_id, lambda session: gold.unmark_all(session, project_id))


def _change(request: Request, wired: Wiring, project_id: int, change: Callable[[Session], object]) -> Response:
    with wired.database.transaction() as session:
        change(session)
        session.commit()
    return go_to(request, f"/projects/{project_id}/quality")


def _share(field: str, given: str) -> float:
    try:
        return float(given.replace(",", ".") or "0") / 100
    except ValueError:
        raise BadInput(field, f"{given!r} is not a number", "use a number of per cent") from None
