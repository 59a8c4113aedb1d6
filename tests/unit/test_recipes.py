"""The catalogue: whatever it allows survives being stored, and whatever it does not allow is named in the error."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.recipe_options import changed_recipe, given_recipe
from app.errors import RecipeError
from app.recipes import (
    ACQUISITIONS,
    GROUPS,
    POSTERIORS,
    PSEUDO_LABELERS,
    SELECTIONS,
    SIZES,
    Choice,
    Group,
    Parameter,
    ParameterKind,
    Pick,
    parse_recipe,
    posterior_samples,
)
from app.recipes.reading import LEAST_SIDE

BOUNDED = [
    (group, choice, parameter)
    for group in GROUPS
    for choice in group.choices
    for parameter in choice.parameters
]  # fmt: skip


def values_of(parameter: Parameter) -> st.SearchStrategy[Any]:
    match parameter.kind:
        case ParameterKind.SWITCH:
            return st.booleans()
        case ParameterKind.CHOICE:
            return st.sampled_from(parameter.choices)
        case ParameterKind.INTEGER:
            assert parameter.low is not None
            assert parameter.high is not None
            return st.integers(math.ceil(parameter.low), math.floor(parameter.high))
        case ParameterKind.NUMBER:
            return st.floats(parameter.low, parameter.high)


def picks_of(group: Group) -> st.SearchStrategy[dict[str, Any]]:
    def filled(choice: Choice) -> st.SearchStrategy[dict[str, Any]]:
        optional = {parameter.name: values_of(parameter) for parameter in choice.parameters}
        return st.fixed_dictionaries({"name": st.just(choice.name)}, optional=optional)

    return st.sampled_from(group.choices).flatmap(filled)


def asking(parts: dict[str, Any]) -> tuple[str, str]:
    """The names of acquisition and selection, those that are not given too."""
    named = [parts[group.name]["name"] if group.name in parts else None for group in (ACQUISITIONS, SELECTIONS)]
    acquisition, selection = named
    return acquisition or "margin", selection or ("hedge" if acquisition is None else "top_k")


def work_together(parts: dict[str, Any]) -> bool:
    """Whether the posterior has the samples that the others compare, and a precision the labels to be measured on."""
    labeler = parts.get("pseudo_labeler", {})
    is_baseline = asking(parts) == ("random", "top_k")
    draws = parts.get("cold_start") != "clusters" or parts.get("random_share", 0.1) > 0 or is_baseline
    if asking(parts) == ("random", "hedge"):
        return False
    if labeler.get("way") == "precision" and not (labeler.get("held_out", 0.2) and draws):
        return False
    posterior = parts.get("posterior", {"name": POSTERIORS.choices[0].name})
    choice = POSTERIORS.choice(posterior["name"])
    defaults = {parameter.name: parameter.default for parameter in choice.parameters}
    samples = posterior_samples(Pick(choice.name, {**defaults, **posterior}))
    picks = [(group, parts[group.name]) for group in (ACQUISITIONS, SELECTIONS) if group.name in parts]
    return all(group.choice(pick["name"]).least_samples <= samples for group, pick in picks)


def paired(parts: dict[str, Any]) -> dict[str, Any]:
    """Give co-training the two networks and the fitting that it needs; by chance it would hardly ever have them."""
    if parts.get("pseudo_labeler", {}).get("name") != "co_training":
        return parts
    fitting = parts.get("fitting", {})
    fitting = fitting if fitting.get("name") == "supervised" else {"name": "supervised"}
    return {**parts, "posterior": {"name": "committee", "members": 2}, "fitting": fitting}


recipes = (
    st.fixed_dictionaries(
        {},
        optional={
            **{group.name: picks_of(group) for group in GROUPS},
            **{size.name: values_of(size) for size in SIZES if size.name != "image_side"},
            "image_side": st.just(0) | st.integers(LEAST_SIDE, 512),
        },
    )
    .map(paired)
    .filter(work_together)
)


def test_an_acquisition_named_alone_is_followed_as_it_is() -> None:
    assert parse_recipe().selection.name == "hedge"
    assert parse_recipe({"batch_size": 5}).selection.name == "hedge"
    assert parse_recipe({"acquisition": "margin"}).selection.name == "top_k"
    assert parse_recipe({"acquisition": "random"}).selection.name == "top_k"
    assert parse_recipe({"acquisition": "margin", "selection": "hedge"}).selection.name == "hedge"


def test_random_queries_cannot_be_hedged() -> None:
    with pytest.raises(RecipeError, match="top_k"):
        parse_recipe({"acquisition": "random", "selection": "hedge"})


@given(recipes)
def test_a_recipe_survives_being_stored_as_json(given_parts: dict[str, Any]) -> None:
    recipe = parse_recipe(given_parts)
    assert parse_recipe(json.loads(json.dumps(recipe.as_json()))) == recipe
    for name, value in given_parts.items():
        stored = recipe.as_json()[name]
        assert stored == value if not isinstance(value, dict) else stored.items() >= value.items()


@given(recipes)
def test_a_recipe_written_as_text_is_the_same_recipe(given_parts: dict[str, Any]) -> None:
    assignments = []
    for name, value in given_parts.items():
        for parameter, part in value.items() if isinstance(value, dict) else [("", value)]:
            where = f"{name}.{parameter}".rstrip(".").removesuffix(".name")
            assignments.append(f"{where}={part}")
    assert parse_recipe(given_recipe(assignments=assignments)) == parse_recipe(given_parts)


def test_nothing_given_is_the_first_choice_of_every_group() -> None:
    recipe = parse_recipe()
    assert {group.name: getattr(recipe, group.name).name for group in GROUPS} == {
        group.name: group.choices[0].name for group in GROUPS
    }


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_an_unknown_name_is_told_with_the_names_there_are(group: Group) -> None:
    with pytest.raises(RecipeError) as told:
        parse_recipe({group.name: "sortition"})
    assert told.value.subject == group.name
    assert "'sortition'" in told.value.reason
    assert all(choice.name in told.value.remedy for choice in group.choices)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_an_unknown_parameter_is_told(group: Group) -> None:
    with pytest.raises(RecipeError) as told:
        parse_recipe({group.name: {"name": group.choices[0].name, "zeal": 1}})
    assert told.value.subject == f"{group.name}.zeal"


@pytest.mark.parametrize(
    ("group", "choice", "parameter"), BOUNDED, ids=lambda part: getattr(part, "name", None)
)  # fmt: skip
def test_a_bad_value_of_a_parameter_names_its_place(group: Group, choice: Choice, parameter: Parameter) -> None:
    for bad in bad_values(parameter):
        with pytest.raises(RecipeError) as told:
            parse_recipe({group.name: {"name": choice.name, parameter.name: bad}})
        assert told.value.subject == f"{group.name}.{parameter.name}"
        assert repr(bad) in told.value.reason


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)
def test_a_bad_size_is_named(size: Parameter) -> None:
    for bad in bad_values(size):
        with pytest.raises(RecipeError) as told:
            parse_recipe({size.name: bad})
        assert told.value.subject == size.name


@pytest.mark.parametrize("bad", [7, ["entropy"], 0.5])
def test_what_is_no_choice_at_all_is_told(bad: object) -> None:
    with pytest.raises(RecipeError, match="is not a choice"):
        parse_recipe({"acquisition": bad})


def test_an_unknown_part_is_told() -> None:
    with pytest.raises(RecipeError) as told:
        parse_recipe({"strategy": "entropy"})
    assert told.value.subject == "strategy"


@pytest.mark.parametrize("bad", ["fitting.epochs", "=3", "fitting.=3", "seed.deep=1=2=", ""])
def test_what_is_no_assignment_is_told(bad: str) -> None:
    with pytest.raises(RecipeError):
        parse_recipe(given_recipe(assignments=[bad]))


PRECISE = [choice.name for choice in PSEUDO_LABELERS.choices if any(one.name == "way" for one in choice.parameters)]


@pytest.mark.parametrize("name", PRECISE)
@pytest.mark.parametrize(
    ("parts", "subject", "remedy"),
    [
        ({"held_out": 0}, "pseudo_labeler.held_out", "hold out a share such as 0.2"),
        ({"random_share": 0, "cold_start": "clusters"}, "pseudo_labeler.way", "use random_share = 0.1 or more"),
        (
            {"random_share": 0, "cold_start": "clusters", "acquisition": "random", "selection": "k_center"},
            "pseudo_labeler.way",
            "cold_start = random",
        ),
    ],
)
def test_a_precision_that_nothing_can_measure_is_told_with_its_remedy(
    name: str, parts: dict[str, Any], subject: str, remedy: str
) -> None:
    own = {"held_out": parts["held_out"]} if "held_out" in parts else {}
    others = {key: value for key, value in parts.items() if key not in own}
    with pytest.raises(RecipeError) as told:
        parse_recipe({**others, "pseudo_labeler": {"name": name, "way": "precision", **own}})
    assert told.value.subject == subject
    assert remedy in told.value.remedy
    parse_recipe({**others, "pseudo_labeler": {"name": name, "way": "given", **own}})
    parse_recipe({**others, "random_share": 0.1, "pseudo_labeler": {"name": name, "way": "precision"}})


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({}, "and the posterior is plugin; use posterior = committee with posterior.members = 2"),
        ({"posterior": "committee"}, "and the posterior is a committee of 5; use posterior = committee"),
        ({"posterior": {"name": "laplace", "samples": 2}}, "and the posterior is laplace"),
        (
            {"posterior": {"name": "committee", "members": 2}, "fitting": "consistency"},
            "and consistency does more; use fitting = supervised",
        ),
    ],
)
def test_co_training_without_a_pair_is_told_with_its_remedy(parts: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        parse_recipe({**parts, "pseudo_labeler": "co_training"})


@pytest.mark.parametrize(("shorter_side", "side"), [(0, 16), (28, 16), (31, 16), (32, 32), (2000, 32)])
def test_a_side_that_is_not_given_follows_the_images(shorter_side: int, side: int) -> None:
    recipe = parse_recipe()
    assert recipe.image_side == 0
    seen = recipe.for_images(shorter_side)
    assert seen == parse_recipe({"image_side": side})
    assert seen.for_images(2000 - shorter_side) == seen


@pytest.mark.parametrize("side", [1, 3, -1, 513])
def test_a_side_at_which_nothing_is_seen_is_told_with_its_remedy(side: int) -> None:
    with pytest.raises(RecipeError, match=r"image_side.*(use 4 or more, or 0|0 to 512)"):
        parse_recipe({"image_side": side})
    assert parse_recipe({"image_side": 4}).image_side == 4


def test_options_and_assignments_go_together() -> None:
    recipe = parse_recipe(
        given_recipe(network="al_cnn", batch_size=7, assignments=["network.dropout=0.25", "image_side=28"])
    )
    assert (recipe.network.name, recipe.network.number("dropout")) == ("al_cnn", 0.25)
    assert (recipe.batch_size, recipe.image_side) == (7, 28)


def test_a_change_keeps_the_parameters_of_the_same_choice_only() -> None:
    before = parse_recipe({"network": {"name": "al_cnn", "dropout": 0.25}, "fitting": {"epochs": 9}}).as_json()
    kept = changed_recipe(before, given_recipe(network="al_cnn", assignments=["fitting.patience=3"]))
    assert (kept.network.number("dropout"), kept.fitting.integer("epochs")) == (0.25, 9)
    assert kept.fitting.integer("patience") == 3
    assert changed_recipe(before, given_recipe(network="softmax_regression")).network.parameters == {}


def bad_values(parameter: Parameter) -> list[object]:
    bad: list[object] = ["much", None, [1]]
    match parameter.kind:
        case ParameterKind.INTEGER | ParameterKind.NUMBER:
            assert parameter.low is not None
            assert parameter.high is not None
            bad += [parameter.low - 1, parameter.high + 1, float("nan"), float("inf"), True, ""]
            bad += [parameter.low + 0.5] if parameter.kind is ParameterKind.INTEGER else []
        case ParameterKind.CHOICE | ParameterKind.SWITCH:
            bad += [2]
    return bad
