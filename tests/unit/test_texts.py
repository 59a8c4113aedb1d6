"""Texts: every language says the same things, and the labeling page says nothing that is not among them."""

from __future__ import annotations

import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from app.errors import AnsweredAlready, AnswerGone, BudgetSpent, ClassRetired, LeftProject, NotAMember
from app.pages.templating import STATIC, TEMPLATES
from app.recipes import ACQUISITIONS, NETWORKS, Group
from app.records import TYPICAL, QuerySource, RoundState, UnusableReason
from app.services.keys import Action
from app.services.labeling_progress import NothingKind
from app.texts import FOLDER, LEADING, PLACEHOLDER, languages, pick_language, texts_of
from worker.learning.selections import SELECTIONS
from worker.learning.snapshot import Stage

ROOT = Path(__file__).resolve().parents[2]
OTHERS = [code for code in languages() if code != LEADING]
TRANSLATED = [
    *sorted((TEMPLATES / "labeling").glob("*.html")),
    *sorted((TEMPLATES / "grid").glob("*.html")),
    TEMPLATES / "base.html",
    *sorted((TEMPLATES / "me").glob("*.html")),
    *sorted((TEMPLATES / "sign_in").glob("*.html")),
]
SCRIPTS = [path for room in ("labeling", "grid") for path in sorted((STATIC / room).glob("*.js"))]
SPOKEN_ATTRIBUTES = ("title", "aria-label", "alt", "placeholder", "aria-description")
NAMES = {
    "Querent",
    "JavaScript",
    "querent user link NAME",
    "labeling-page",
    "labeling-page grid-page",
}  # the same in every language
COMMENT = re.compile(r"/\*.*?\*/|(?<![:\"'`\\])//[^\n]*", re.DOTALL)
STRING = re.compile(r"\"((?:[^\"\\\n]|\\.)*)\"|'((?:[^'\\\n]|\\.)*)'|`((?:[^`\\]|\\.)*)`")
# values that the web platform gives: names of keys, of headers and the like
PLATFORM = re.compile(
    r"Arrow(Left|Right|Up|Down)|Page(Up|Down)|Enter|Escape|Home|End|Control|Shift|Alt(Graph)?|Backspace"
    r"|Content-Type|Accept|X-Form-Token|POST|GET|NFD|BUTTON"
)


def test_there_is_a_second_language() -> None:
    assert languages()[0] == LEADING and OTHERS == ["de"]


@pytest.mark.parametrize("code", OTHERS)
def test_every_language_has_the_same_texts_with_the_same_placeholders(code: str) -> None:
    leading, other = texts_of(LEADING), texts_of(code)
    assert other.all_keys() == leading.all_keys()
    for key in leading.all_keys():
        mine, theirs = leading.find(key, ""), other.find(key, "")
        assert sorted(set(PLACEHOLDER.findall(theirs))) == sorted(set(PLACEHOLDER.findall(mine))), key
        assert theirs.strip() == theirs and theirs, key
        assert "<" not in theirs + mine, "texts hold no markup"


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("labeling.script.nothing.", [f"{kind.value}.{part}" for kind in NothingKind for part in ("reason", "remedy")]),
        ("labeling.script.stage.", ["decoding", *Stage]),
        ("labeling.script.worker.", list(RoundState)),
        (
            "labeling.script.refused.",
            [kind.code for kind in (AnsweredAlready, AnswerGone, BudgetSpent, ClassRetired, LeftProject, NotAMember)],
        ),
        ("labeling.reasons.", [reason.value.replace(" ", "_") for reason in UnusableReason]),
        ("labeling.why.", list(QuerySource)),
        (
            "labeling.why.not-by-score.",
            [TYPICAL, *(name for name in SELECTIONS.names() if SELECTIONS.get(name).ignores_scores)],
        ),
        (
            "labeling.",
            [f"{action.value}.says" for action in (Action.UNDO, Action.SKIP, Action.UNSURE, Action.UNUSABLE)],
        ),
    ],
)
def test_every_word_that_a_page_makes_a_key_of_has_a_text(prefix: str, words: list[str]) -> None:
    assert {f"{prefix}{word}" for word in words} <= texts_of(LEADING).all_keys()


@pytest.mark.parametrize(
    ("group", "names"),
    [
        (ACQUISITIONS, [choice.name for choice in ACQUISITIONS.choices]),
        (NETWORKS, ["al_cnn", "softmax_regression", "ssl_cnn"]),  # the others are called alike in every language
    ],
)
def test_what_pages_call_a_choice_is_what_the_recipe_book_calls_it(group: Group, names: list[str]) -> None:
    titles = {choice.name: choice.title for choice in group.choices}
    texts = texts_of(LEADING)
    assert [texts.find(f"recipe.{group.name}.{name}", "") for name in names] == [titles[name] for name in names]


def test_every_text_that_counts_has_one_and_other() -> None:
    keys = texts_of(LEADING).all_keys()
    for key in keys:
        if key.endswith(".one") or (key.endswith(".other") and f"{key.removesuffix('.other')}.one" in keys):
            stem = key.rpartition(".")[0]
            assert {f"{stem}.one", f"{stem}.other"} <= keys


def test_every_text_is_used_somewhere() -> None:
    """Keys are written out, except below a few prefixes to which a name is added."""
    sources = [*TEMPLATES.rglob("*.html"), *SCRIPTS, *(ROOT / "app").rglob("*.py")]
    used = "\n".join(path.read_text() for path in sources)
    made = ("labeling.reasons.", "labeling.why.", "labeling.help.", "labeling.key.", "labeling.light.", "recipe.")
    made += ("grid.sides.", "grid.help.")
    made += tuple(f"labeling.{action}." for action in ("undo", "skip", "unsure", "unusable"))
    made += tuple(f"labeling.script.{group}." for group in ("nothing", "worker", "stage", "refused"))
    for key in texts_of(LEADING).all_keys():
        name = key.removeprefix("labeling.script.")
        name = re.sub(r"\.(one|other)$", "", name)
        assert key.startswith(made) or f'"{name}"' in used or f"'{name}'" in used, key


class Spoken(HTMLParser):
    """Collects what a template would show or say by itself, once its expressions are taken out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attributes if name in SPOKEN_ATTRIBUTES and value]

    def handle_data(self, data: str) -> None:
        self.found.append(data)


@pytest.mark.parametrize("path", TRANSLATED, ids=lambda path: path.name)
def test_a_translated_template_says_nothing_by_itself(path: Path) -> None:
    text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", path.read_text(), flags=re.DOTALL)
    parser = Spoken()
    parser.feed(text)
    literal = {words.strip(" \n·") for words in parser.found}
    assert not {words for words in literal if re.search(r"[^\W\d_]{2}", words)} - NAMES


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_of_the_labeling_page_says_nothing_by_itself(path: Path) -> None:
    """No string of it reads like words: two of them, or one that begins with a capital."""
    code = COMMENT.sub("", path.read_text())
    for parts in STRING.findall(code):
        literal = re.sub(r"\$\{[^}]*\}", "", "".join(parts))
        if re.fullmatch(r"[a-z.#\[:][\w\-\[\]=\".#:, >()]*", literal) and re.search(r"[.#\[=(>]", literal):
            continue  # a selector
        assert not re.search(r"[^\W\d_]{2,} [^\W\d_]{2,}", literal), literal
        assert PLATFORM.fullmatch(literal) or not re.match(r"[A-Z][a-z]+", literal), literal


def test_the_reader_of_scripts_finds_words() -> None:
    """The test above can fail."""
    assert [STRING.findall(code) != [] for code in ('say("Two words")', "say(`Two ${many} words`)")] == [True, True]
    assert COMMENT.sub("", 'const a = "http://x"; // words here\n/* and here */').strip() == 'const a = "http://x";'


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_language_names_itself(path: Path) -> None:
    assert tomllib.loads(path.read_text("utf-8"))["language"] == texts_of(path.stem)("language")


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [
        (None, None, "en"),
        (None, "de", "de"),
        (None, "de-AT,de;q=0.9,en;q=0.8", "de"),
        (None, "en-GB,en;q=0.9,de;q=0.8", "en"),
        (None, "fr,de;q=0.5", "de"),
        (None, "fr;q=0.9,en;q=0.1,de;q=0.7", "de"),
        (None, "de;q=0, en;q=0.1", "en"),
        (None, "fr, ja", "en"),
        (None, ";;q=x,,de ;q=nonsense", "en"),
        ("de", "en", "de"),
        ("en", "de", "en"),
        ("klingon", "de", "de"),
    ],
)
def test_the_language_is_the_chosen_one_else_the_browsers(
    chosen: str | None, accepted: str | None, language: str
) -> None:
    assert pick_language(chosen, accepted) == language


def test_a_text_fills_its_placeholders_and_counts() -> None:
    english, german = texts_of("en"), texts_of("de")
    assert english("labeling.with_key", name="{key}", key="1") == "{key}, key 1", "values are not read again"
    assert english.count("labeling.chooser.button", 1) == "1 class"
    assert german.count("labeling.chooser.button", 1234) == "Alle 1\u202f234 Klassen"
    assert (english.percent(0.4567, 1), german.percent(0.4567, 1)) == ("45.7%", "45,7 %")
    with pytest.raises(KeyError):
        english("no.such.key")
    with pytest.raises(KeyError):
        english("labeling.with_key", name="x")
