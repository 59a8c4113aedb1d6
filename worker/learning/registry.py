"""A tiny typed registry: the names of one group of the catalogue, each with the code that does its work."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from app.errors import RecipeError

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Names of one group mapped to entries, filled by the modules of one package as they are imported."""

    def __init__(self, group: str) -> None:
        self.group = group
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, entry: Entry) -> Entry:
        """Enter ``entry`` under ``name`` and return it; a name that is taken raises ValueError."""
        if name in self._entries:
            raise ValueError(f"{self.group} {name!r} is registered twice")
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Return a decorator that enters what it decorates under ``name``."""
        return lambda entry: self.add(name, entry)

    def get(self, name: str) -> Entry:
        """Return the entry called ``name``; raise RecipeError naming the others if there is none."""
        if name not in self._entries:
            known = ", ".join(self.names())
            raise RecipeError(self.group, f"there is no {self.group} called {name!r}", f"use one of: {known}")
        return self._entries[name]

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted."""
        return tuple(sorted(self._entries))


def import_modules(package: str, path: Iterable[str]) -> None:
    """Import every module of a package, so that adding a choice is adding its module."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
