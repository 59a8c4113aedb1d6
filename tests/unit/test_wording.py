"""Stored recipes in words."""

from __future__ import annotations

from app.recipes import parse_recipe
from app.services.reporting.wording import recipe_lines


def test_a_side_that_follows_the_images_is_said_and_no_other_zero() -> None:
    def said(**given: object) -> dict[str, str]:
        return {line.title: line.choice for line in recipe_lines(parse_recipe(given).as_json())}

    assert said()["Image side"] == "follows the images"
    assert said()["Seed"] == "0"
    assert said(image_side=28)["Image side"] == "28"
