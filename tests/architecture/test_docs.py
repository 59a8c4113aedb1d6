"""Docs are tested: every setting, command and choice of the catalogue appears in them, and links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from app.cli import commands
from app.recipes import GROUPS, SIZES
from app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
RECIPES = (ROOT / "docs" / "recipes.md").read_text()
SERVERS = {"database_url": "DATABASE_URL", "redis_url": "REDIS_URL"}


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_in_the_readme_with_its_explanation(name: str) -> None:
    variable = SERVERS.get(name, f"QUERENT_{name.upper()}")
    [row] = [line for line in README.splitlines() if line.startswith(f"| `{variable}` |")]
    assert str(Settings.model_fields[name].description) in row


def test_every_command_is_in_the_readme() -> None:
    top = get_command(commands)
    for name, found in top.commands.items():  # type: ignore[attr-defined]
        for sub in getattr(found, "commands", {None: None}):
            words = f"querent {name}" if sub is None else f"querent {name} {sub}"
            assert words in README, f"{words} is not in the README"


@pytest.mark.parametrize(
    ("group", "choice"), [(group, choice) for group in GROUPS for choice in group.choices], ids=lambda part: part.name
)
def test_every_choice_is_in_the_recipe_book_with_its_explanation(group: object, choice: object) -> None:
    del group
    for text in (f"`{choice.name}`", choice.explanation, choice.source, choice.when):  # type: ignore[attr-defined]
        assert text in RECIPES
    for parameter in choice.parameters:  # type: ignore[attr-defined]
        assert f"`{parameter.name}`" in RECIPES
        assert parameter.explanation in RECIPES


def test_every_size_is_in_the_recipe_book() -> None:
    for size in SIZES:
        assert f"`{size.name}`" in RECIPES
        assert size.explanation in RECIPES


@pytest.mark.parametrize("document", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=str)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), f"{target} is not there"
