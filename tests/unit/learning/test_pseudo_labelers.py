import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.learning.factories import make_labeler
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.pseudo_labelers import PSEUDO_LABELERS, Guesses, HeldOut, PseudoLabels
from worker.learning.pseudo_labelling import count_changes

ALL = pytest.mark.parametrize("name", PSEUDO_LABELERS.names())
LABELING = [name for name in PSEUDO_LABELERS.names() if PSEUDO_LABELERS.get(name).reads_pool]
PRECISE = [name for name in LABELING if "way" in make_labeler(name).parameters]
NOTHING = np.empty(0, np.int64)


def make_pseudo(rows, labels=None, confidences=None):
    rows = np.asarray(rows, np.int64)
    labels = np.zeros(len(rows), np.int64) if labels is None else np.asarray(labels, np.int64)
    confidences = np.full(len(rows), 0.5, np.float32) if confidences is None else np.asarray(confidences, np.float32)
    return PseudoLabels(rows, labels, confidences)


def make_guesses(count=30, classes=3, seed=0, order=None, **changes):
    """Guesses of rows 100, 101, ..., with confidences from 1 / C on; ``order`` turns all of it around."""
    draws = np.random.default_rng(seed)
    order = np.arange(count) if order is None else order
    rows, labels = np.arange(count, dtype=np.int64) + 100, draws.integers(0, classes, count)
    confidences = draws.uniform(1 / classes, 1, count).astype(np.float32)
    return Guesses(rows[order], labels[order], confidences[order], **changes)


def label(name, guesses, **parameters):
    return PSEUDO_LABELERS.get(name).label(guesses, make_labeler(name, **parameters))


def listed(pseudo):
    return list(zip(pseudo.rows.tolist(), pseudo.labels.tolist(), pseudo.confidences.tolist(), strict=True))


@ALL
@pytest.mark.parametrize("count", [0, 1, 30])
def test_labels_are_candidates_with_the_class_and_confidence_that_was_guessed(name, count):
    guesses = make_guesses(count)
    pseudo = label(name, guesses).pseudo
    assert pseudo.rows.tolist() == sorted(set(pseudo.rows.tolist()))
    assert (pseudo.rows.dtype, pseudo.labels.dtype, pseudo.confidences.dtype) == (np.int64, np.int64, np.float32)
    guessed = listed(PseudoLabels(guesses.rows, guesses.classes, guesses.confidences))
    assert set(listed(pseudo)) <= set(guessed)
    assert (len(pseudo) > 0) == (name in LABELING and count > 0)


@ALL
def test_the_same_guesses_are_labelled_the_same_in_any_order(name):
    turned = np.random.default_rng(1).permutation(30)
    standing, asked = make_pseudo([103, 104, 250]), np.array([107, 108])
    first = label(name, make_guesses(standing=standing, asked=asked))
    again = label(name, make_guesses(order=turned, standing=standing, asked=asked[::-1]))
    assert listed(first.pseudo) == listed(again.pseudo)
    assert dict(first.report) == dict(again.report)


@ALL
def test_what_people_are_asked_about_is_never_labelled_in_the_same_round(name):
    guesses = make_guesses()
    surest = guesses.rows[np.argsort(-guesses.confidences)][:5]
    pseudo = label(name, make_guesses(asked=surest)).pseudo
    assert not set(pseudo.rows) & set(surest)
    assert len(label(name, make_guesses(asked=guesses.rows)).pseudo) == 0


@pytest.mark.parametrize("name", LABELING)
def test_a_label_that_stands_is_not_withdrawn_because_a_person_is_asked(name):
    guesses = make_guesses()
    sure = guesses.rows[np.argsort(-guesses.confidences)][:3]
    standing = guesses.as_labels(np.isin(guesses.rows, sure))
    pseudo = label(name, make_guesses(standing=standing, asked=sure)).pseudo
    assert set(sure) <= set(pseudo.rows)


@pytest.mark.parametrize("name", LABELING)
def test_a_label_that_stands_and_was_not_looked_at_goes_on_standing(name):
    standing = make_pseudo([7, 500], labels=[2, 1], confidences=[0.25, 0.75])
    pseudo = label(name, make_guesses(standing=standing)).pseudo
    assert {(7, 2, 0.25), (500, 1, 0.75)} <= set(listed(pseudo))


@ALL
def test_a_pool_of_one_class_and_of_equal_confidences_is_labelled_from_the_lowest_row_on(name):
    order = np.random.default_rng(2).permutation(20)
    rows = np.arange(20, dtype=np.int64)[order]
    guesses = Guesses(rows, np.zeros(20, np.int64), np.full(20, 0.9, np.float32))
    pseudo = label(name, guesses).pseudo
    wanted = {"none": 0, "threshold": 20, "most_confident": 7, "budget_annotator": 7}.get(name, len(pseudo))
    assert pseudo.rows.tolist() == list(range(wanted))
    assert not pseudo.labels.any()


@ALL
def test_more_labels_wanted_than_there_are_images_is_all_of_them(name):
    pseudo = label(name, make_guesses(4), count=50, per_round=50, total=50).pseudo
    assert len(pseudo) == (4 if name in LABELING else 0)


@ALL
def test_the_guesses_are_left_as_they_were(name):
    guesses = make_guesses(standing=make_pseudo([103, 110]), asked=np.array([101]))
    before = [array.copy() for array in (guesses.rows, guesses.classes, guesses.confidences, guesses.standing.rows)]
    label(name, guesses)
    for array, kept in zip(
        (guesses.rows, guesses.classes, guesses.confidences, guesses.standing.rows), before, strict=True
    ):
        np.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize("name", PRECISE)
def test_without_answers_held_out_a_precision_labels_nothing_and_says_so_in_numbers(name):
    held_out = HeldOut(np.full(41, 0.99, np.float32), np.ones(41, np.bool_))
    labelling = label(name, make_guesses(5000, held_out=held_out), way="precision", total=9999)
    assert len(labelling.pseudo) == 0
    assert labelling.report["threshold"] is None
    assert labelling.report["reason"] == "41 held-out answers, 150 are needed"


@pytest.mark.parametrize("name", PRECISE)
def test_with_right_answers_held_out_a_precision_finds_its_threshold(name):
    draws = np.random.default_rng(3)
    held_out = HeldOut(draws.uniform(1 / 3, 1, 600).astype(np.float32), np.ones(600, np.bool_))
    guesses = make_guesses(5000, held_out=held_out)
    labelling = label(name, guesses, way="precision", per_round=9999, total=9999)
    assert labelling.report["threshold"] == guesses.confidences.min() or labelling.report["threshold"] < 0.4
    assert len(labelling.pseudo) > 4500


def test_none_leaves_all_labels_to_people():
    assert not PSEUDO_LABELERS.get("none").reads_pool
    assert len(label("none", make_guesses(standing=make_pseudo([103]))).pseudo) == 0


def test_most_confident_waits_until_the_human_budget_is_spent():
    standing = make_pseudo([105])
    waiting = label("most_confident", make_guesses(standing=standing), after="budget")
    assert listed(waiting.pseudo) == listed(standing)
    assert waiting.report["reason"] == "human labels are left in the budget"
    begun = label("most_confident", make_guesses(standing=standing, is_spent=True), after="budget", count=4)
    assert len(begun.pseudo) == 5
    assert listed(label("most_confident", make_guesses(is_spent=True), after="budget").pseudo) == listed(
        label("most_confident", make_guesses(), after="always").pseudo
    )


def test_a_label_that_leaves_gives_its_place_in_the_budget_back():
    guesses = make_guesses(6, classes=2)
    standing = make_pseudo(guesses.rows[:3], labels=[1 - guesses.classes[0], *guesses.classes[1:3]])
    pseudo = label("budget_annotator", make_guesses(6, classes=2, standing=standing), total=3).pseudo
    assert len(pseudo) == 3
    assert guesses.rows[0] not in pseudo.rows
    assert set(guesses.rows[1:3]) <= set(pseudo.rows)


rows_of_images = st.integers(0, 25)
images = st.dictionaries(
    rows_of_images, st.tuples(st.integers(0, 2), st.sampled_from([0.4, 0.5, 0.7, 0.9, 1.0])), max_size=20
)
cases = {
    "images": images,
    "standing": st.dictionaries(rows_of_images, st.integers(0, 2), max_size=12),
    "asked": st.sets(rows_of_images, max_size=8),
    "number": st.integers(0, 12),
    "threshold": st.sampled_from([0.0, 0.5, 0.75, 1.0]),
    "shuffle": st.randoms(use_true_random=False),
}


def build(images, standing, asked, shuffle, is_spent=True):
    given_rows = list(images)
    shuffle.shuffle(given_rows)
    rows = np.array(given_rows, np.int64)
    classes = np.array([images[row][0] for row in given_rows], np.int64)
    confidences = np.array([images[row][1] for row in given_rows], np.float32)
    before = make_pseudo(sorted(standing), [standing[row] for row in sorted(standing)])
    return Guesses(rows, classes, confidences, before, np.array(sorted(asked), np.int64), is_spent=is_spent)


def as_dict(pseudo):
    return dict(zip(pseudo.rows.tolist(), pseudo.labels.tolist(), strict=True))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(**cases)
def test_threshold_is_what_a_plain_loop_labels(images, standing, asked, number, threshold, shuffle):
    expected = {row: own for row, own in standing.items() if row not in images}
    for row, (own, confidence) in images.items():
        if np.float32(confidence) >= threshold and (row in standing or row not in asked):
            expected[row] = own
    guesses = build(images, standing, asked, shuffle)
    assert as_dict(label("threshold", guesses, confidence=threshold).pseudo) == expected


@settings(max_examples=150, deadline=None, derandomize=True)
@given(**cases)
def test_most_confident_is_what_a_plain_loop_labels(images, standing, asked, number, threshold, shuffle):
    expected, number = dict(standing), max(1, number)
    left = [row for row in sorted(images) if row not in standing and row not in asked]
    for _ in range(min(number, len(left))):
        best = left[0]
        for row in left:
            best = row if images[row][1] > images[best][1] else best
        left.remove(best)
        expected[best] = images[best][0]
    guesses = build(images, standing, asked, shuffle)
    assert as_dict(label("most_confident", guesses, count=number).pseudo) == expected


@settings(max_examples=150, deadline=None, derandomize=True)
@given(**cases, total=st.integers(1, 15), per_class=st.integers(0, 4))
def test_budget_annotator_is_what_a_plain_loop_labels(
    images, standing, asked, number, threshold, shuffle, total, per_class
):
    expected = {row: own for row, own in standing.items() if row not in images or images[row][0] == own}
    left = [row for row in sorted(images) if row not in standing and row not in asked]
    left = sorted((row for row in left if np.float32(images[row][1]) >= threshold), key=lambda row: -images[row][1])
    room, per_round = total - len(expected), max(1, number)
    for row in left:
        own = images[row][0]
        has_place = not per_class or sum(one == own for one in expected.values()) < per_class
        if has_place and room > 0 and per_round > 0:
            expected[row], room, per_round = own, room - 1, per_round - 1
    guesses = build(images, standing, asked, shuffle)
    sizes = {"per_round": max(1, number), "total": total, "per_class": per_class}
    assert as_dict(label("budget_annotator", guesses, confidence=threshold, **sizes).pseudo) == expected


@settings(max_examples=60, deadline=None, derandomize=True)
@given(before=cases["standing"], after=cases["standing"])
def test_changes_are_counted_as_by_hand(before, after):
    counted = count_changes(*(make_pseudo(sorted(one), [one[row] for row in sorted(one)]) for one in (before, after)))
    assert counted == {
        "added": len(after.keys() - before.keys()),
        "withdrawn": len(before.keys() - after.keys()),
        "changed": sum(before[row] != after[row] for row in before.keys() & after.keys()),
        "standing": len(after),
    }


def test_guesses_that_do_not_fit_together_are_refused_naming_both_shapes():
    three = np.arange(3)
    with pytest.raises(ShapeError, match=r"guesses' classes: expected shape \[3\], got \[2\]"):
        Guesses(three, three[:2], np.ones(3, np.float32))
    with pytest.raises(ShapeError, match=r"guesses' confidences: expected shape \[3\], got \[4\]"):
        Guesses(three, three, np.ones(4, np.float32))
    with pytest.raises(ShapeError, match=r"pseudo-labels' labels: expected shape \[3\], got \[2\]"):
        PseudoLabels(three, three[:2], np.ones(3, np.float32))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_confidence_that_is_no_number_is_refused(broken):
    with pytest.raises(NotFiniteError, match="NaN or infinite"):
        Guesses(np.arange(2), np.arange(2), np.array([0.5, broken], np.float32))
    with pytest.raises(NotFiniteError, match="NaN or infinite"):
        HeldOut(np.array([0.5, broken], np.float32), np.ones(2, np.bool_))
