"""What pages and scripts say, in every language: one TOML file each, read once, looked up by key.

English leads; every other file has the same keys with the same placeholders (tested). A text holds no markup, so that
templates escape it like anything else. Messages of errors and explanations of the recipe book are not here yet.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
LEADING = "en"
PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Texts:
    """The texts of one language; ``texts(key, name=value)`` fills the placeholders of one."""

    def __init__(self, language: str, entries: Mapping[str, str]) -> None:
        self.language = language
        self._entries = entries

    def __call__(self, key: str, /, **values: object) -> str:
        """Return a text with its placeholders filled; raise KeyError for an unknown key or a missing value."""
        return PLACEHOLDER.sub(lambda found: str(values[found.group(1)]), self._entries[key])

    def count(self, key: str, number: int, /, **values: object) -> str:
        """Return the text for one or for any other number; ``{count}`` stands for the number."""
        return self(f"{key}.{'one' if number == 1 else 'other'}", count=grouped(number), **values)

    def percent(self, share: float, digits: int = 0) -> str:
        """Return a share in [0, 1] as a percentage."""
        return self("number.percent", number=self.decimal(share * 100, f".{digits}f"))

    def decimal(self, value: float, shape: str) -> str:
        """Return a number in a format of Python's, with this language's decimal sign."""
        return format(value, shape).replace(".", self("number.decimal"))

    def find(self, key: str, default: str, /) -> str:
        """Return a text without placeholders, or what stands in for it where the key is open-ended."""
        return self._entries.get(key, default)

    def under(self, prefix: str) -> dict[str, str]:
        """Return all texts below a key, without that prefix, as a script gets them."""
        start = f"{prefix}."
        return {key.removeprefix(start): text for key, text in self._entries.items() if key.startswith(start)}

    def all_keys(self) -> frozenset[str]:
        """Return all keys."""
        return frozenset(self._entries)


@cache
def languages() -> tuple[str, ...]:
    """Return the codes of all languages, the leading one first."""
    found = sorted(path.stem for path in FOLDER.glob("*.toml"))
    return (LEADING, *(code for code in found if code != LEADING))


@cache
def texts_of(language: str) -> Texts:
    """Return the texts of a language that ``languages`` names."""
    if language not in languages():
        raise KeyError(language)
    return Texts(language, dict(_flat(tomllib.loads((FOLDER / f"{language}.toml").read_text("utf-8")))))


def pick_language(chosen: str | None, accepted: str | None) -> str:
    """Return the language to speak: what a person chose, else what the browser would rather have, else English.

    Args:
        chosen: a code, or anything, as it comes from a cookie.
        accepted: the header ``Accept-Language`` (RFC 9110, 12.5.4).
    """
    if chosen in languages():
        return str(chosen)
    for wanted in _by_preference(accepted or ""):
        if wanted in languages():
            return wanted
    return LEADING


def grouped(number: int) -> str:
    """Return a whole number with thin spaces between thousands, as in every language here."""
    return f"{number:,}".replace(",", "\u202f")


def _by_preference(accepted: str) -> list[str]:
    weighed: list[tuple[float, str]] = []
    for part in accepted.split(",")[:20]:
        name, _, weight = part.strip().partition(";")
        given = re.fullmatch(r"\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*", weight)
        if not weight or (given and float(given.group(1))):
            weighed.append((float(given.group(1)) if given else 1.0, name.strip().lower().partition("-")[0]))
    return [name for _, name in sorted(weighed, key=lambda pair: -pair[0])]


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in table.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", str(value))]
    return pairs
