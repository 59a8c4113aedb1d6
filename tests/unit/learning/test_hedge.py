"""The hedge: which part of a batch is by looks, in which order, and what it finds that scores cannot."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.recipes import SELECTIONS as CHOICES
from app.recipes import parse_pick
from tests.unit.learning.test_selections import make_scores, select
from worker.learning.selections.hedge import alternate, part_of, share_by_looks


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def parameters(**changes):
    return parse_pick(CHOICES, {"name": "hedge", **changes}).parameters


def heaps(sizes, width=3):
    """Points around places far from each other."""
    return torch.cat(
        [100.0 * place + torch.randn(size, width, generator=seeded(place)) for place, size in enumerate(sizes)]
    )


@given(st.integers(0, 200), st.floats(0, 1), st.integers(0, 2**32))
def test_a_part_is_whole_and_within_one_of_the_share(batch, share, seed):
    part = part_of(batch, share, seeded(seed))
    assert 0 <= part <= batch
    assert abs(part - batch * share) < 1


def test_parts_are_right_in_the_mean():
    generator = seeded()
    draws = [part_of(1, 0.3, generator) for _ in range(4000)]
    assert abs(sum(draws) / 4000 - 0.3) < 0.03  # four standard errors
    assert {part_of(4, 0.5, generator) for _ in range(20)} == {2}


@given(st.integers(0, 30), st.integers(0, 30))
def test_alternating_keeps_both_orders_and_spreads_the_shorter(longer, shorter):
    merged = alternate(torch.arange(longer), torch.arange(100, 100 + shorter)).tolist()
    assert [one for one in merged if one < 100] == list(range(longer))
    assert [one for one in merged if one >= 100] == list(range(100, 100 + shorter))
    for length in range(len(merged)):
        expected = length * shorter / max(longer + shorter, 1)
        assert abs(sum(one >= 100 for one in merged[:length]) - expected) <= 1


@given(st.floats(0, 100), st.floats(0, 1), st.floats(0.1, 100))
def test_looks_choose_all_at_first_and_evenly_less_until_their_share(labels, share, until):
    assert share_by_looks(0, share, until) == 1
    assert share_by_looks(until, share, until) == pytest.approx(share)
    assert share_by_looks(until + labels, share, until) == pytest.approx(share)
    assert share_by_looks(until / 4, share, until) == pytest.approx(1 - (1 - share) / 4)


def test_without_a_bound_the_share_is_the_same_from_the_first_label_on():
    assert share_by_looks(0, 0.3, 0) == pytest.approx(0.3)
    assert share_by_looks(50, 0.3, 0) == pytest.approx(0.3)


def test_the_more_labels_there_are_the_more_is_asked_by_score():
    looks = heaps([60, *[8] * 6], width=7)
    scores = torch.cat([1 + make_scores(60), torch.zeros(48)])  # the highest are all in the first heap

    def outside_of_it(labels_per_class):
        found = select(
            "hedge",
            scores,
            7,
            parameters=parameters(share=0.0, looks_until=10.0, widen=5.0),
            read_looks=lambda positions: looks[positions],
            batch_size=7,
            labels_per_class=labels_per_class,
        )
        return sum(row >= 60 for row in found)

    assert outside_of_it(0.0) == 6
    assert 0 < outside_of_it(5.0) < 6
    assert outside_of_it(10.0) == outside_of_it(70.0) == 0


def test_a_group_that_the_network_is_sure_of_is_asked_about_all_the_same():
    looks = heaps([30, 30, 30])
    scores = torch.cat([0.1 + make_scores(60), torch.zeros(30)])  # of the third group it is sure, and has no label
    given = {
        "parameters": parameters(share=0.5, looks_until=0.0),
        "read_looks": lambda positions: torch.cat([looks[positions], looks[[0, 35]]]),
        "batch_size": 4,
    }
    assert set(select("hedge", scores, 4, **given)) & set(range(60, 90))
    assert not set(select("cluster_margin", scores, 4, batch_size=4)) & set(range(60, 90))


@pytest.mark.parametrize(("share", "other"), [(0.0, "cluster_margin"), (1.0, "typiclust")])
def test_at_the_ends_of_the_share_it_is_one_of_its_two_parts(share, other):
    scores, looks = make_scores(98), heaps(range(8, 21, 2), width=7)  # seven groups, so that clusters are no draw
    given = {"read_looks": lambda positions: looks[positions], "batch_size": 7, "labelled_features_LD": None}
    found = select("hedge", scores, 7, parameters=parameters(share=share, looks_until=0.0), **given)
    if other == "typiclust":
        given["parameters"] = parse_pick(CHOICES, {"name": other, "see": "looks"}).parameters
        assert found == select(other, scores, 7, **given)
    else:
        assert sorted(found) == sorted(set(found))
        best = set(scores.sort(descending=True).indices[:70].tolist())
        assert set(found) <= best
        assert found == sorted(found, key=lambda row: -scores[row])


def test_the_reserve_follows_by_score():
    scores = make_scores(80)
    found = select("hedge", scores, 80, parameters=parameters(), batch_size=10)
    assert sorted(found) == list(range(80))
    assert found[10:] == sorted(found[10:], key=lambda row: -scores[row])
