"""Templates and static files: nothing inline, nothing unescaped, and vendored files that are what they claim."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from app.pages.templating import STATIC, TEMPLATES

PAGES = sorted(TEMPLATES.rglob("*.html"))
VENDOR = STATIC / "vendor"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(TEMPLATES)))
def test_a_template_holds_no_inline_code_or_style_and_escapes_everything(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\|\s*safe|autoescape|Markup", text)
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|hx-on", text)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(TEMPLATES)))
def test_every_form_that_posts_carries_its_token(path: Path) -> None:
    text = path.read_text()
    posts = re.findall(r"<form[^>]*method=\"post\".*?</form>", text, re.DOTALL)
    assert all("form_token" in form for form in posts)


def test_vendored_files_are_the_ones_that_were_vetted() -> None:
    listed = json.loads((VENDOR / "vendor.json").read_text())
    files = {name: digest for library in listed.values() for name, digest in library["files"].items()}
    there = {str(path.relative_to(VENDOR)) for path in VENDOR.rglob("*") if path.is_file()}
    assert there == set(files) | {"vendor.json", "README.md"}
    for name, digest in files.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
    assert all(library["licence"] and library["version"] for library in listed.values())
