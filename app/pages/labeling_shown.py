"""What the labeling page shows besides images: buttons with their keys, the help, and the card "Why this image?"."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from app.recipes import ACQUISITIONS, NETWORKS, Group
from app.records import Class, Project, QuerySource, UnusableReason
from app.services.keys import Action, action_keys, letters_type
from app.services.reporting.asked_because import AskedBecause
from app.texts import Texts

SHORT_NAME = 3
BUTTONS = 40  # of classes; the others are found by typing
FOUND_BY_NAME = 10  # classes, from which on finding one by its name is worth a button
ZOOM_RESET_KEYS = "0_=#"


@dataclass(frozen=True)
class ShownClass:
    """A class as a button."""

    id: int
    name: str
    key: str | None

    @property
    def is_its_key(self) -> bool:
        """Whether the name says the key already, as for digits."""
        return self.name.lower() == self.key


@dataclass(frozen=True)
class ShownReason:
    """Why an image is unusable, as a button and as it is said afterwards."""

    value: str
    title: str
    given: str


@dataclass(frozen=True)
class HelpLine:
    """What one or several keys do."""

    keys: tuple[str, ...]
    says: str


@dataclass(frozen=True)
class HelpGroup:
    """Keys that belong together."""

    title: str
    lines: tuple[HelpLine, ...]


@dataclass(frozen=True)
class LabelingPage:
    """Everything on the page that is not an image; ``data`` is what its script reads, as JSON."""

    project_id: int
    project_name: str
    classes_version: int
    shows_reasons: bool
    classes: tuple[ShownClass, ...]
    buttons: tuple[ShownClass, ...]
    has_short_names: bool
    has_chooser_button: bool
    keys: dict[str, str | None]
    zoom_reset_key: str
    reasons: tuple[ShownReason, ...]
    help: tuple[HelpGroup, ...]
    page_data: str


def labeling_page(project: Project, known: Sequence[Class], t: Texts) -> LabelingPage:
    """Return what the page of a project shows, in one language."""
    classes = tuple(ShownClass(each.id, each.name, each.key) for each in known)
    class_keys = [each.key for each in classes]
    keys = action_keys(project.action_keys, class_keys)
    used = {*class_keys, *keys.values()}
    zoom_reset = next(key for key in ZOOM_RESET_KEYS if key not in used)
    has_chooser = len(classes) > FOUND_BY_NAME or None in class_keys
    shown = sorted(classes, key=lambda each: each.key is None)[:BUTTONS]  # those with keys first, else in their order
    return LabelingPage(
        project_id=project.id,
        project_name=project.name,
        classes_version=project.classes_version,
        shows_reasons=project.shows_reasons,
        classes=classes,
        buttons=tuple(shown),
        has_short_names=all(len(each.name) <= SHORT_NAME for each in classes),
        has_chooser_button=has_chooser,
        keys={action.value: key for action, key in keys.items()},
        zoom_reset_key=zoom_reset,
        reasons=tuple(_reason(reason, t) for reason in UnusableReason),
        help=_help(keys, class_keys, zoom_reset, project, t),
        page_data=json.dumps(
            {
                "classes": [{"id": each.id, "name": each.name, "key": each.key} for each in classes],
                "opens_on_typing": None in class_keys,
                "texts": t.under("labeling.script"),
            }
        ),
    )


def why_asked(because: AskedBecause, t: Texts) -> tuple[str, list[tuple[str, str]]]:
    """Return how an image came to be asked, as a sentence, and the facts below it."""
    acquisition = _title(ACQUISITIONS, because.acquisition or "", t)
    match because.source:
        case QuerySource.SEED:
            how = t("labeling.why.seed") if not because.acquisition else t("labeling.why.cold", acquisition=acquisition)
        case QuerySource.ACQUISITION:
            by_score = t("labeling.why.acquisition", acquisition=acquisition)
            how = t.find(f"labeling.why.not-by-score.{because.acquisition}", by_score)
        case source:
            how = t(f"labeling.why.{source.value}")
    if because.reserve and because.source is QuerySource.ACQUISITION:
        how = f"{how} {t('labeling.why.reserve')}"
    place = t("labeling.why.round_and_rank", round=because.round_number, rank=because.rank)
    facts = [(t("labeling.why.round"), place)]
    if because.score is not None:
        facts.append((t("labeling.why.score"), t.decimal(because.score, ".3g")))
    facts += [(t.find(f"labeling.why.parts.{name}", name), t.decimal(value, ".3g")) for name, value in because.parts]
    if because.propensity is not None:
        facts.append((t("labeling.why.propensity"), t.percent(because.propensity, 2)))
    return how, facts + _model_facts(because, t)


def _model_facts(because: AskedBecause, t: Texts) -> list[tuple[str, str]]:
    model = because.ranked_by
    if model is None:
        return []
    network = _title(NETWORKS, model.network, t)
    facts = [(t("labeling.why.model"), t("labeling.why.model_is", network=network, labels=model.labels or 0))]
    if model.accuracy is not None and model.low is not None and model.high is not None:
        share, low, high = (t.percent(value, 1) for value in (model.accuracy, model.low, model.high))
        facts.append((t("labeling.why.accuracy"), t("labeling.why.accuracy_is", share=share, low=low, high=high)))
    return facts


def _title(group: Group, name: str, t: Texts) -> str:
    """Return a choice's name for people: in their language where there is one, else the recipe book's."""
    titles = {choice.name: choice.title for choice in group.choices}
    return t.find(f"recipe.{group.name}.{name}", titles.get(name, name))


def _reason(reason: UnusableReason, t: Texts) -> ShownReason:
    title = t(f"labeling.reasons.{reason.value.replace(' ', '_')}")
    return ShownReason(reason.value, title, t("labeling.reasons.given", reason=title))


def _help(
    keys: dict[Action, str | None], class_keys: Sequence[str | None], zoom_reset: str, project: Project, t: Texts
) -> tuple[HelpGroup, ...]:
    """Return every key of the page; what has none, or is switched off, is left out."""
    given = [key for key in class_keys if key is not None]

    def named(*names: str) -> list[str]:
        return [t(f"labeling.key.{name}") for name in names]

    def line(says: str, *shown: str | None) -> HelpLine:
        return HelpLine(tuple(key.upper() if len(key) == 1 else key for key in shown if key), t(says))

    shift = t("labeling.key.shift")
    undo = f"{t('labeling.key.control')} Z"
    finding = ["/", t("labeling.help.type")] if letters_type(class_keys) else ["/"]
    has_names = len(class_keys) > FOUND_BY_NAME or None in class_keys
    groups = {
        "classes": [
            line("labeling.help.classes_are", *given),
            line("labeling.help.choose", *(finding if has_names else [])),
        ],
        "answers": [
            line("labeling.undo.title", keys[Action.UNDO], *named("backspace"), undo),
            *[line(f"labeling.{action.value}.title", keys[action]) for action in (Action.SKIP, Action.UNSURE)],
            line("labeling.unusable.title", keys[Action.UNUSABLE]),
        ],
        "review": [
            line("labeling.help.back", "←", *named("page_up")),
            line("labeling.help.forward", "→", *named("page_down")),
            line("labeling.help.leave", *named("end", "escape")),
        ],
        "picture": [
            line("labeling.help.zoom", "+", "-", *named("wheel")),
            line("labeling.help.zoom_reset", zoom_reset, *named("escape")),
            line("labeling.help.move", "←", "→", "↑", "↓"),
            line("labeling.help.brightness", f"{shift} ↑", f"{shift} ↓"),
            line("labeling.help.contrast", f"{shift} →", f"{shift} ←"),
            line("labeling.help.light", keys[Action.ADJUST]),
            line("labeling.help.why", keys[Action.WHY] if project.shows_reasons else None),
            line("labeling.help.help", "?"),
            line("labeling.help.escape", *named("escape")),
        ],
        "touch": [
            line("labeling.help.swipe", *named("swipe_right", "swipe_left")),
            line("labeling.help.pinch", *named("two_fingers")),
        ],
    }
    return tuple(
        HelpGroup(t(f"labeling.help.{name}"), tuple(each for each in lines if each.keys))
        for name, lines in groups.items()
        if any(each.keys for each in lines)
    )
