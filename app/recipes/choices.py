"""What a choice is: a named way of doing a group's work, with bounded parameters and one-line explanations."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from app.errors import RecipeError

Value = int | float | bool | str


class ParameterKind(StrEnum):
    """How a parameter is typed into a form and read from text."""

    INTEGER = "integer"
    NUMBER = "number"
    SWITCH = "switch"
    CHOICE = "choice"


@dataclass(frozen=True)
class Parameter:
    """One bounded knob of a choice; ``low`` and ``high`` are inclusive."""

    name: str
    kind: ParameterKind
    default: Value
    explanation: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def parse(self, value: object, where: str) -> Value:
        """Return ``value`` as this parameter's type.

        Args:
            value: a JSON value, or the text of a form field or a command-line option.
            where: dotted name of the input, used in the error.
        Raises:
            RecipeError: the type is wrong or the value is out of bounds.
        """
        match self.kind:
            case ParameterKind.SWITCH:
                return _parse_switch(value, where)
            case ParameterKind.CHOICE:
                if value not in self.choices:
                    remedy = f"use one of: {listed(self.choices)}"
                    raise RecipeError(where, f"{value!r} is not one of its values", remedy)
                return str(value)
            case ParameterKind.INTEGER | ParameterKind.NUMBER:
                return self._parse_number(value, where)

    def _parse_number(self, value: object, where: str) -> int | float:
        wanted = "a whole number" if self.kind is ParameterKind.INTEGER else "a number"
        bounds = f"use {wanted} from {_shown(self.low)} to {_shown(self.high)}"
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise RecipeError(where, f"{value!r} is not {wanted}", bounds)
        try:
            number = float(value)
        except ValueError:
            raise RecipeError(where, f"{value!r} is not {wanted}", bounds) from None
        if self.kind is ParameterKind.INTEGER and not number.is_integer():
            raise RecipeError(where, f"{value!r} is not {wanted}", bounds)
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if not low <= number <= high:
            raise RecipeError(where, f"{value!r} is out of bounds", bounds)
        return int(number) if self.kind is ParameterKind.INTEGER else number


@dataclass(frozen=True)
class Choice:
    """One named way of doing a group's work, with what a person needs to know to choose it.

    ``least_samples`` is the fewest posterior samples that it can work with. ``goes_on`` says of a pseudo-labeler that
    rounds go on by themselves when the budget is spent, as long as it adds labels.
    """

    name: str
    title: str
    explanation: str
    source: str
    when: str
    parameters: tuple[Parameter, ...] = ()
    least_samples: int = 1
    goes_on: bool = False


@dataclass(frozen=True)
class Group:
    """Choices of which a recipe takes exactly one; the first is the default."""

    name: str
    title: str
    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        names = [choice.name for choice in self.choices]
        if len(set(names)) != len(names):
            raise ValueError(f"group {self.name!r} lists a name twice: {names}")

    def choice(self, name: object) -> Choice:
        """Return the choice called ``name``; raise RecipeError naming the others if there is none."""
        for choice in self.choices:
            if choice.name == name:
                return choice
        known = listed(choice.name for choice in self.choices)
        raise RecipeError(self.name, f"there is no {self.name} called {name!r}", f"use one of: {known}")


def number(name: str, default: float, low: float, high: float, explanation: str) -> Parameter:
    """Return a parameter that is a number."""
    return Parameter(name, ParameterKind.NUMBER, default, explanation, low, high)


def integer(name: str, default: int, low: int, high: int, explanation: str) -> Parameter:
    """Return a parameter that is a whole number."""
    return Parameter(name, ParameterKind.INTEGER, default, explanation, low, high)


def switch(name: str, default: bool, explanation: str) -> Parameter:
    """Return a parameter that is a switch."""
    return Parameter(name, ParameterKind.SWITCH, default, explanation)


def one_of(name: str, choices: tuple[str, ...], explanation: str) -> Parameter:
    """Return a parameter that is one of several words, the first by default."""
    return Parameter(name, ParameterKind.CHOICE, choices[0], explanation, choices=choices)


def _parse_switch(value: object, where: str) -> bool:
    if isinstance(value, bool):
        return value
    match str(value).strip().lower():
        case "true" | "on" | "yes" | "1":
            return True
        case "false" | "off" | "no" | "0" | "":
            return False
    raise RecipeError(where, f"{value!r} is neither on nor off", "use true or false")


def listed(names: Iterable[str]) -> str:
    """Return names as a sentence lists them."""
    return ", ".join(names)


def _shown(bound: float | None) -> str:
    return "any" if bound is None else f"{bound:g}" if abs(bound) < 1e6 else f"{bound:.0f}"
