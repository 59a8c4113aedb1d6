"""The annotator model: against majority and against what simulated people really do, and what must always hold."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.services.agreement import Said
from app.services.annotator_model import Fit, fit

CLASSES = [10, 20, 30]
images = st.lists(st.dictionaries(st.integers(1, 4), st.sampled_from(CLASSES), max_size=4), min_size=1, max_size=15)


def simulated(
    skills: dict[int, dict[int, dict[int, float]]], count: int, seed: int, classes: list[int] | None = None
) -> tuple[list[Said], list[int]]:
    """People answer all images, each by a confusion matrix: true class to class said."""
    chance = random.Random(seed)
    truths = [chance.choice(classes or CLASSES) for _ in range(count)]
    said = [
        {who: chance.choices(list(rows[true]), list(rows[true].values()))[0] for who, rows in skills.items()}
        for true in truths
    ]
    return said, truths


def right_with(share: float, classes: list[int] | None = None) -> dict[int, dict[int, float]]:
    known = classes or CLASSES
    return {true: {said: share if said == true else (1 - share) / (len(known) - 1) for said in known} for true in known}


def best(found: Fit) -> list[int]:
    return [max(chances, key=lambda known: chances[known]) for chances in found.chances]


def majority(said: list[Said]) -> list[int]:
    return [Counter(image.values()).most_common(1)[0][0] for image in said]


def accuracy(labels: list[int], truths: list[int]) -> float:
    return sum(label == true for label, true in zip(labels, truths, strict=True)) / len(truths)


@pytest.mark.parametrize("seed", range(3))
def test_where_people_differ_in_skill_it_beats_the_majority(seed: int) -> None:
    skills = {who: right_with(share) for who, share in enumerate((0.95, 0.9, 0.34, 0.34, 0.34, 0.34))}
    said, truths = simulated(skills, 600, seed)
    assert accuracy(best(fit(said, CLASSES)), truths) > accuracy(majority(said), truths) + 0.05


def test_it_recovers_who_mixes_up_what() -> None:
    biased = right_with(0.9) | {10: {10: 0.3, 20: 0.7, 30: 0.0}}
    skills = {1: right_with(0.9), 2: right_with(0.8), 3: biased, 4: right_with(0.85)}
    said, truths = simulated(skills, 3000, 1)
    found = fit(said, CLASSES)
    for who, rows in skills.items():
        for true, row in rows.items():
            assert sum(found.confusions[who][true].values()) == pytest.approx(1)
            for word, share in row.items():
                assert found.confusions[who][true][word] == pytest.approx(share, abs=0.05)
    for known in CLASSES:
        assert found.shares[known] == pytest.approx(truths.count(known) / len(truths), abs=0.03)


def test_how_sure_it_is_is_how_often_it_is_right() -> None:
    said, truths = simulated({who: right_with(0.6 + 0.1 * who) for who in range(4)}, 3000, 2)
    found = fit(said, CLASSES)
    chances = [max(each.values()) for each in found.chances]
    assert sum(chances) / len(chances) == pytest.approx(accuracy(best(found), truths), abs=0.02)


@settings(deadline=None)
@given(images)
def test_the_objective_never_falls_and_chances_are_chances(said: list[Said]) -> None:
    found = fit(said, CLASSES)
    for before, after in zip(found.objectives, found.objectives[1:], strict=False):
        assert after >= before - 1e-9 * abs(before)
    for each in found.chances:
        assert sum(each.values()) == pytest.approx(1)
        assert set(each) == set(CLASSES)
        assert all(0 <= chance <= 1 for chance in each.values())
    assert fit(said, CLASSES) == found, "the same answers give the same result"


@settings(deadline=None)
@given(images, st.permutations(CLASSES), st.permutations(range(1, 5)))
def test_names_of_classes_and_people_do_not_matter(said: list[Said], classes: list[int], people: list[int]) -> None:
    renamed_class = dict(zip(CLASSES, classes, strict=True))
    renamed = [{people[who - 1]: renamed_class[what] for who, what in image.items()} for image in said]
    found, other = fit(said, CLASSES), fit(renamed, CLASSES)
    for mine, theirs in zip(found.chances, other.chances, strict=True):
        for known in CLASSES:
            assert theirs[renamed_class[known]] == pytest.approx(mine[known], abs=1e-4)


@settings(deadline=None)
@given(st.lists(st.sampled_from(CLASSES), min_size=1, max_size=40))
def test_one_person_is_taken_at_their_word(words: list[int]) -> None:
    assert best(fit([{7: word} for word in words], CLASSES)) == words


def test_full_agreement_is_nearly_certain_and_an_even_split_is_not() -> None:
    said: list[Said] = [{1: known, 2: known} for known in CLASSES * 10] + [{1: 10, 2: 20}]
    *agreed, split = fit(said, CLASSES).chances
    assert all(max(each.values()) > 0.98 for each in agreed)
    assert split[10] == pytest.approx(split[20], abs=1e-3) and split[10] < 0.51


def test_known_answers_tell_whom_to_trust() -> None:
    said: list[Said] = [{1: 10, 2: 20}] * 30
    honest = [({1: known, 2: wrong}, known) for known in CLASSES for wrong in CLASSES if wrong != known] * 5
    assert set(best(fit(said, CLASSES, honest))) == {10}
    swapped = [({1: answers[2], 2: answers[1]}, known) for answers, known in honest]
    assert set(best(fit(said, CLASSES, swapped))) == {20}
    assert len(fit(said, CLASSES, honest).chances) == 30


def test_with_many_classes_an_image_is_of_one_that_somebody_gave() -> None:
    many = list(range(100))
    said, truths = simulated({who: right_with(0.8, many) for who in range(3)}, 400, 3, many)
    found = fit(said, many)
    assert all(set(chances) == set(image.values()) for chances, image in zip(found.chances, said, strict=True))
    assert accuracy(best(found), truths) > 0.9
    for before, after in zip(found.objectives, found.objectives[1:], strict=False):
        assert after >= before - 1e-9 * abs(before)


def test_borders() -> None:
    nothing = fit([], CLASSES)
    assert nothing.chances == () and nothing.confusions == {}
    [unanswered] = fit([{}], CLASSES).chances
    assert unanswered == pytest.approx(dict.fromkeys(CLASSES, 1 / 3))
    assert fit([{1: 10}], [10]).chances == ({10: 1.0},)
    with pytest.raises(ValueError, match="class 99"):
        fit([{1: 99}], CLASSES)
    with pytest.raises(ValueError, match="class 99"):
        fit([], CLASSES, [({1: 10}, 99)])
