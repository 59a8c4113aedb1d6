"""Agreement beyond chance, against the definitions, published examples and scikit-learn."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import permutations, product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from app.services.agreement import (
    Said,
    cohen_kappa,
    coincidences,
    fleiss_kappa,
    krippendorff_alpha,
    krippendorff_alpha_of_class,
    pair_tables,
    tables_against_others,
)

# Fleiss 1971, table 1: 30 patients, 6 psychiatrists, 5 diagnoses; published kappa 0.430
FLEISS_1971 = """
0 0 0 6 0|0 3 0 0 3|0 1 4 0 1|0 0 0 0 6|0 3 0 3 0|2 0 4 0 0|0 0 4 0 2|2 0 3 1 0|2 0 0 4 0|0 0 0 0 6
1 0 0 5 0|1 1 0 4 0|0 3 3 0 0|1 0 0 5 0|0 2 0 3 1|0 0 5 0 1|3 0 0 1 2|5 1 0 0 0|0 2 0 4 0|1 0 2 0 3
0 0 0 0 6|0 1 0 5 0|0 2 0 1 3|2 0 0 4 0|1 0 0 4 1|0 5 0 1 0|4 0 0 0 2|0 2 0 4 0|1 0 5 0 0|0 0 0 0 6
"""
# Krippendorff 2011, part C: four observers, twelve units, missing data; nominal alpha 0.743
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
    (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
)

images = st.lists(st.dictionaries(st.integers(0, 4), st.integers(0, 3), max_size=5), max_size=12)


def units(observers: tuple[tuple[int | None, ...], ...]) -> list[Said]:
    return [
        {person: said for person, said in enumerate(column) if said is not None}
        for column in zip(*observers, strict=True)
    ]


def naive_alpha(said: list[Said]) -> float | None:
    """1 - observed / expected disagreement, from every ordered pair of answers by its definition."""
    paired = [list(image.values()) for image in said if len(image) > 1]
    everything = [value for image in paired for value in image]
    n = len(everything)
    observed = sum(sum(one != other for one, other in permutations(image, 2)) / (len(image) - 1) for image in paired)
    expected = sum(one != other for one, other in permutations(everything, 2))
    return None if not expected else 1 - (observed / n) / (expected / (n * (n - 1)))


def naive_kappa(one: list[int], other: list[int]) -> float | None:
    n = len(one)
    if not n:
        return None
    agreed = sum(a == b for a, b in zip(one, other, strict=True)) / n
    chance = sum(one.count(known) * other.count(known) for known in {*one, *other}) / n**2
    return None if chance == 1 else (agreed - chance) / (1 - chance)


def same(found: float | None, wanted: float | None) -> bool:
    return (found is None) == (wanted is None) and (found is None or found == pytest.approx(wanted, abs=1e-12))


def test_alpha_of_krippendorffs_example_is_the_published_one() -> None:
    found = coincidences(units(OBSERVERS))
    assert krippendorff_alpha(found) == pytest.approx(0.743, abs=5e-4)
    assert found.images == 11  # the last unit has one answer
    assert dict(found.marginals()) == {1: 9, 2: 13, 3: 10, 4: 5, 5: 3}
    assert found.pairs[1, 1] == 7 and found.pairs[2, 2] == 10 and found.pairs[1, 2] == Fraction(4, 3)


def test_kappa_of_fleiss_example_is_the_published_one() -> None:
    counts = [[int(one) for one in row.split()] for line in FLEISS_1971.split("\n") if line for row in line.split("|")]
    assert len(counts) == 30
    assert [sum(column) for column in zip(*counts, strict=True)] == [26, 26, 30, 55, 43]
    assert fleiss_kappa(counts) == pytest.approx(0.430, abs=5e-4)


def test_kappa_of_cohens_example_is_the_published_one() -> None:
    proportions = ((88, 14, 18), (10, 40, 10), (2, 6, 12))  # Cohen 1960, table 2, of 200: kappa .492
    assert cohen_kappa({(a, b): proportions[a][b] for a, b in product(range(3), repeat=2)}) == pytest.approx(
        0.492, abs=5e-4
    )


@given(images)
def test_alpha_is_its_definition(said: list[Said]) -> None:
    assert same(krippendorff_alpha(coincidences(said)), naive_alpha(said))


@given(images, st.integers(0, 3))
def test_alpha_of_a_class_is_alpha_of_one_against_the_rest(said: list[Said], known: int) -> None:
    binary = [{person: int(value == known) for person, value in image.items()} for image in said]
    assert same(krippendorff_alpha_of_class(coincidences(said), known), naive_alpha(binary))


@given(images, st.permutations(range(4)), st.permutations(range(5)))
def test_names_of_classes_and_people_and_the_order_of_images_do_not_matter(
    said: list[Said], classes: list[int], people: list[int]
) -> None:
    renamed = [{people[who]: classes[what] for who, what in image.items()} for image in reversed(said)]
    assert krippendorff_alpha(coincidences(renamed)) == krippendorff_alpha(coincidences(said))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_cohens_kappa_is_its_definition_and_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    one, other = [a for a, _ in pairs], [b for _, b in pairs]
    found = cohen_kappa(Counter(pairs))
    assert same(found, naive_kappa(one, other))
    assert same(cohen_kappa(Counter((b, a) for a, b in pairs)), found)
    if found is not None:
        assert found == pytest.approx(cohen_kappa_score(one, other), abs=1e-12)


@given(st.integers(2, 5), st.data())
def test_fleiss_kappa_is_its_definition(answers: int, data: st.DataObject) -> None:
    said = data.draw(st.lists(st.lists(st.integers(0, 2), min_size=answers, max_size=answers), min_size=1, max_size=12))
    counts = [[image.count(known) for known in range(3)] for image in said]
    agreed = [sum(a == b for a, b in permutations(image, 2)) / (answers * (answers - 1)) for image in said]
    shares = [sum(image.count(known) for image in said) / (len(said) * answers) for known in range(3)]
    chance = math.fsum(share**2 for share in shares)
    wanted = None if max(shares) == 1 else (math.fsum(agreed) / len(said) - chance) / (1 - chance)
    assert same(fleiss_kappa(counts), wanted)


@given(images)
def test_tables_of_people_are_counted_by_their_definition(said: list[Said]) -> None:
    for (one, other), table in pair_tables(said).items():
        assert one < other
        assert table == Counter((image[one], image[other]) for image in said if one in image and other in image)
    against = tables_against_others(said)
    for person, table in against.items():
        shared = [image for image in said if person in image and len(image) > 1]
        assert sum(table.values()) == len(shared)
        right = sum(
            (
                Fraction(sum(image[person] == what for who, what in image.items() if who != person), len(image) - 1)
                for image in shared
            ),
            Fraction(),
        )
        assert sum((weight for (own, what), weight in table.items() if own == what), Fraction()) == right


@given(images)
def test_of_two_people_the_table_against_others_is_their_own(said: list[Said]) -> None:
    two = [{who: what for who, what in image.items() if who < 2} for image in said]
    tables = pair_tables(two)
    assume(tables)
    assert tables_against_others(two)[0] == dict(tables[0, 1])


@pytest.mark.parametrize(
    "said", [[], [{0: 1}], [{}, {1: 2}], [{0: 1, 1: 1}], [{0: 1, 1: 1, 2: 1}, {3: 1, 4: 1}]], ids=str
)
def test_where_chance_made_no_disagreement_possible_nothing_is_claimed(said: list[Said]) -> None:
    assert krippendorff_alpha(coincidences(said)) is None
    assert krippendorff_alpha_of_class(coincidences(said), 1) is None
    assert all(cohen_kappa(table) is None for table in pair_tables(said).values())


def test_undefined_cases_of_the_kappas() -> None:
    assert cohen_kappa({}) is None and fleiss_kappa([]) is None
    assert fleiss_kappa([[2, 0], [2, 0]]) is None
    assert cohen_kappa({(0, 0): 3}) is None
    assert cohen_kappa({(0, 1): 3}) == 0.0  # never the same, and chance would not agree either
    for wrong in ([[1, 0]], [[1, 1], [2, 1]]):
        with pytest.raises(ValueError, match="same number of answers"):
            fleiss_kappa(wrong)


def test_full_agreement_is_one_and_systematic_disagreement_is_below_zero() -> None:
    agreed = [{0: 0, 1: 0}, {0: 1, 1: 1}]
    assert krippendorff_alpha(coincidences(agreed)) == 1.0
    assert cohen_kappa(pair_tables(agreed)[0, 1]) == 1.0
    swapped = [{0: 0, 1: 1}, {0: 1, 1: 0}]
    assert krippendorff_alpha(coincidences(swapped)) == pytest.approx(-0.5)
    assert cohen_kappa(pair_tables(swapped)[0, 1]) == -1.0
