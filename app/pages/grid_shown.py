"""What the grid shows besides images: its choices of size and its keys; the buttons are the labeling page's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.pages.labeling_shown import (
    FOUND_BY_NAME,
    HelpGroup,
    HelpLine,
    LabelingPage,
    ShownClass,
    ShownReason,
    labeling_page,
)
from app.records import Class, Project
from app.services.keys import Action, letters_type
from app.texts import Texts

OTHERS = (Action.SKIP, Action.UNSURE, Action.UNUSABLE)  # answers to one image besides its class
COUNTS = (6, 12, 24, 48, 96)
SIDES = (("small", 64), ("medium", 96), ("large", 144), ("huge", 216))  # of a thumbnail on screen, in pixels


@dataclass(frozen=True)
class GridShown:
    """Everything on the page that is not an image; ``page_data`` is what its script reads, as JSON."""

    project_id: int
    project_name: str
    classes_version: int
    shows_reasons: bool
    classes: tuple[ShownClass, ...]
    buttons: tuple[ShownClass, ...]
    has_short_names: bool
    has_chooser_button: bool
    keys: dict[str, str | None]
    reasons: tuple[ShownReason, ...]
    help: tuple[HelpGroup, ...]
    page_data: str
    counts: tuple[int, ...] = COUNTS
    sides: tuple[tuple[str, int], ...] = SIDES


def grid_page(project: Project, known: Sequence[Class], t: Texts) -> GridShown:
    """Return what the grid of a project shows, in one language."""
    page = labeling_page(project, known, t)
    return GridShown(
        project_id=page.project_id,
        project_name=page.project_name,
        classes_version=page.classes_version,
        shows_reasons=page.shows_reasons,
        classes=page.classes,
        buttons=page.buttons,
        has_short_names=page.has_short_names,
        has_chooser_button=page.has_chooser_button,
        keys=page.keys,
        reasons=page.reasons,
        help=_help(page, t),
        page_data=page.page_data,
    )


def _help(page: LabelingPage, t: Texts) -> tuple[HelpGroup, ...]:
    """Return every key of the page."""
    class_keys = [each.key for each in page.classes]
    has_names = len(class_keys) > FOUND_BY_NAME or None in class_keys
    finding = ["/", t("labeling.help.type")] if letters_type(class_keys) else ["/"]
    undo = f"{t('labeling.key.control')} Z"

    def line(says: str, *shown: str | None) -> HelpLine:
        return HelpLine(tuple(key.upper() if len(key) == 1 else key for key in shown if key), t(says))

    groups = {
        "page": [
            line("grid.help.toggle", t("grid.key.space"), t("grid.key.click")),
            line("grid.help.confirm", t("grid.key.enter")),
            line("grid.help.name", t("labeling.key.escape")),
            line("grid.help.undo", page.keys["undo"], t("labeling.key.backspace"), undo),
            line("grid.help.move", "←", "→", "↑", "↓"),
            line("grid.help.ends", t("grid.key.home"), t("labeling.key.end")),
        ],
        "other": [
            line("grid.help.own", *class_keys),
            line("labeling.help.choose", *(finding if has_names else [])),
            *[line(f"labeling.{action}.title", page.keys[action]) for action in OTHERS],
            line("labeling.help.help", "?"),
            line("labeling.help.escape", t("labeling.key.escape")),
        ],
    }
    return tuple(
        HelpGroup(t(f"grid.help.{name}"), tuple(each for each in lines if each.keys)) for name, lines in groups.items()
    )
