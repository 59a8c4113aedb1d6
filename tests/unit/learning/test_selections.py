import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.recipes import SELECTIONS as CHOICES
from app.recipes import parse_pick
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.selections import SELECTIONS, Scored
from worker.learning.selections.top_k import top_k

ALL = pytest.mark.parametrize("name", SELECTIONS.names())


def make_scores(count, seed=0):
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


def select(name, scores_N, count, pending=(), seed=0):
    pending_N = torch.zeros(len(scores_N), dtype=torch.bool)
    pending_N[list(pending)] = True
    features_ND = torch.rand(len(scores_N), 4, generator=torch.Generator().manual_seed(7))
    parameters = parse_pick(CHOICES, name).parameters
    scored = Scored(scores_N, pending_N, count, torch.Generator().manual_seed(seed), parameters, features_ND)
    return SELECTIONS.get(name).select(scored).tolist()


@ALL
@pytest.mark.parametrize(("pool", "count"), [(9, 1), (9, 4), (9, 9), (1, 1)])
def test_a_batch_is_as_many_different_rows_as_wanted(name, pool, count):
    batch = select(name, make_scores(pool), count)
    assert len(set(batch)) == len(batch) == count
    assert set(batch) <= set(range(pool))


@ALL
def test_a_batch_larger_than_the_pool_is_the_whole_pool(name):
    assert sorted(select(name, make_scores(5), 50)) == [0, 1, 2, 3, 4]


@ALL
def test_an_empty_pool_and_an_empty_batch_select_nothing(name):
    assert select(name, make_scores(0), 5) == []
    assert select(name, make_scores(5), 0) == []


@ALL
def test_pending_rows_are_never_selected(name):
    scores = make_scores(10)
    best = int(scores.argmax())
    assert sorted(select(name, scores, 50, pending=[best, 0])) == [row for row in range(10) if row not in {best, 0}]
    assert select(name, scores, 50, pending=range(10)) == []


@ALL
def test_equal_scores_are_a_batch_too(name):
    assert len(set(select(name, torch.zeros(8), 5))) == 5


@ALL
def test_the_same_seed_selects_the_same(name):
    assert select(name, make_scores(30), 8, seed=5) == select(name, make_scores(30), 8, seed=5)


@ALL
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused(name, broken):
    scores = make_scores(4)
    scores[2] = broken
    with pytest.raises(NotFiniteError, match="NaN or infinite"):
        select(name, scores, 2)


def test_wrong_shapes_are_refused_naming_both():
    generator, mask = torch.Generator(), torch.zeros(3, dtype=torch.bool)
    with pytest.raises(ShapeError, match=r"scores_N: expected shape \[N\], got \[3, 1\]"):
        Scored(torch.zeros(3, 1), mask, 1, generator)
    with pytest.raises(ShapeError, match=r"pending_N: expected shape \[4\], got \[3\]"):
        Scored(torch.zeros(4), mask, 1, generator)
    with pytest.raises(ShapeError, match=r"features_ND: expected shape \[3, D\], got \[2, 5\]"):
        Scored(torch.zeros(3), mask, 1, generator, {}, torch.zeros(2, 5))


def test_a_mask_of_numbers_and_a_negative_count_are_refused():
    with pytest.raises(ValueError, match="expected booleans"):
        top_k(torch.zeros(2), torch.zeros(2), 1)
    with pytest.raises(ValueError, match="-1 images cannot be chosen"):
        top_k(torch.zeros(2), torch.zeros(2, dtype=torch.bool), -1)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    images=st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=30),
    count=st.integers(0, 35),
)
def test_top_k_is_the_sorted_free_rows_with_ties_in_order(images, count):
    scores = torch.tensor([float(score) for score, _ in images])
    pending = torch.tensor([is_pending for _, is_pending in images], dtype=torch.bool)
    free = [row for row, (_, is_pending) in enumerate(images) if not is_pending]
    expected = sorted(free, key=lambda row: (-images[row][0], row))[:count]
    assert top_k(scores, pending, count).tolist() == expected


def test_many_ties_stay_in_the_order_of_rows():
    scores = torch.zeros(5000)
    scores[3000:] = 1
    assert top_k(scores, torch.zeros(5000, dtype=torch.bool), 4000).tolist() == [*range(3000, 5000), *range(2000)]
