"""What can go wrong inside learning when code, not a person, is at fault.

    LearningError
    ├── ShapeError       an array whose axes are not the ones promised; names both shapes
    └── NotFiniteError   a score or a probability that is NaN or infinite

A choice that a person can mend (a learning rate that diverges, a side too small for a network) raises
``app.errors.RecipeError`` instead.
"""

from __future__ import annotations

from collections.abc import Sequence


class LearningError(Exception):
    """Base of the tree."""


class ShapeError(LearningError, ValueError):
    """An array has other axes than its name promises."""

    def __init__(self, name: str, expected: Sequence[int | str], got: Sequence[int]) -> None:
        wanted = ", ".join(str(size) for size in expected)
        super().__init__(f"{name}: expected shape [{wanted}], got [{', '.join(map(str, got))}]")


class NotFiniteError(LearningError, ArithmeticError):
    """A number that has to be finite is NaN or infinite."""


def check_shape(name: str, got: Sequence[int], expected: Sequence[int | str]) -> None:
    """Compare a shape with the promised one; a word in ``expected`` stands for any size, nothing included.

    Raises:
        ShapeError: another number of axes, or another size on a numbered axis.
    """
    if len(got) != len(expected) or any(
        isinstance(wanted, int) and size != wanted for size, wanted in zip(got, expected, strict=True)
    ):
        raise ShapeError(name, expected, got)
