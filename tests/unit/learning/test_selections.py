import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.recipes import SELECTIONS as CHOICES
from app.recipes import parse_pick
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.reading import mean_log_probs
from worker.learning.selections import SELECTIONS, Scored
from worker.learning.selections.top_k import top_k

DRAWING = {"badge", "cluster_margin", "hedge", "power", "typiclust"}
ALL = pytest.mark.parametrize("name", SELECTIONS.names())


def make_scores(count, seed=0):
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


def make_features(count, width=4, seed=7):
    return torch.rand(count, width, generator=torch.Generator().manual_seed(seed))


def make_log_probs(count, samples=3, classes=4, seed=8):
    draws = torch.randn(samples, count, classes, generator=torch.Generator().manual_seed(seed))
    return torch.log_softmax(3 * draws, dim=-1)


def make_scored(name, scores_N, count, pending=(), seed=0, order=None, **changes):
    """A pool as a selection sees it; ``order`` turns all of it around."""
    total = len(scores_N)
    order = torch.arange(total) if order is None else order
    pending_N = torch.zeros(total, dtype=torch.bool)
    pending_N[list(pending)] = True
    log_probs_SNC, looks_ND = make_log_probs(total)[:, order], make_features(total, seed=4)[order]
    given = {
        "parameters": parse_pick(CHOICES, name).parameters,
        "features_ND": make_features(total)[order],
        "labelled_features_LD": make_features(3, seed=9),
        "log_probs_NC": mean_log_probs(log_probs_SNC),
        "read_log_probs": lambda positions: log_probs_SNC[:, positions],
        "read_looks": lambda positions: torch.cat([looks_ND[positions], make_features(3, seed=5)]),
        **changes,
    }
    return Scored(scores_N[order], pending_N[order], count, torch.Generator().manual_seed(seed), **given)


def select(name, scores_N, count, **options):
    return SELECTIONS.get(name).select(make_scored(name, scores_N, count, **options)).tolist()


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
def test_turned_scores_change_the_choice_unless_it_ignores_them(name):
    scores_N, labelled = make_scores(60), {"labels_per_class": 100.0, "batch_size": 8}
    parameters = {**parse_pick(CHOICES, name).parameters}
    if "shortlist" in parameters:
        parameters["shortlist"] = 10
    if "most_images" in parameters:
        parameters["most_images"] = 30  # those that are not looked at follow by score
    up, down = (select(name, turn * scores_N, 60, parameters=parameters, **labelled) for turn in (1, -1))
    assert (up == down) == SELECTIONS.get(name).ignores_scores


@ALL
def test_the_same_seed_selects_the_same(name):
    assert select(name, make_scores(30), 8, seed=5) == select(name, make_scores(30), 8, seed=5)


@ALL
def test_another_seed_changes_only_what_draws(name):
    batches = {tuple(select(name, make_scores(60), 5, seed=seed)) for seed in range(6)}
    assert (len(batches) > 1) == (name in DRAWING)


@pytest.mark.parametrize("name", sorted(set(SELECTIONS.names()) - DRAWING))
@pytest.mark.parametrize("pending", [(), (0, 5)])
def test_the_images_have_no_order(name, pending):
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    batch = select(name, make_scores(40), 12, pending=pending)
    turned = select(name, make_scores(40), 12, pending=pending, order=order)
    assert order[turned].tolist() == batch


@ALL
def test_a_longer_reserve_leaves_the_batch_as_it_is(name):
    batch = select(name, make_scores(60), 6, batch_size=6)
    assert select(name, make_scores(60), 40, batch_size=6)[:6] == batch


@ALL
def test_images_that_are_all_alike_are_taken_in_order_or_drawn(name):
    same = {
        "features_ND": torch.full((30, 4), 0.3),
        "labelled_features_LD": torch.full((2, 4), 0.3),
        "log_probs_NC": torch.tensor([0.6, 0.3, 0.1]).log().expand(30, 3),
        "read_log_probs": lambda positions: (
            torch.tensor([[0.6, 0.4], [0.1, 0.9]]).log()[:, None].expand(2, len(positions), 2)
        ),
        "read_looks": lambda positions: torch.full((len(positions) + 2, 4), 0.3),
    }
    batch = select(name, torch.zeros(30), 8, **same)
    assert len(set(batch)) == 8
    if name in set(SELECTIONS.names()) - DRAWING:
        assert batch == list(range(8))


@ALL
def test_certain_predictions_make_a_batch_too(name):
    certain = torch.eye(4)[torch.arange(20) % 4].log()
    both = {"log_probs_NC": certain, "read_log_probs": lambda positions: certain[positions].expand(2, -1, -1)}
    assert len(set(select(name, make_scores(20), 6, **both))) == 6


@ALL
def test_float32_features_choose_as_float64_ones(name):
    double = {"features_ND": make_features(40).double(), "labelled_features_LD": make_features(3, seed=9).double()}
    assert select(name, make_scores(40), 9, **double) == select(name, make_scores(40), 9)


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
