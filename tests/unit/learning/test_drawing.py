import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch

from worker.learning.drawing import Distinct, Mixing, draw_ranking
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.selections.power import power
from worker.learning.selections.top_k import top_k


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def in_order(pending_N, wanted):
    return top_k(torch.zeros(len(pending_N)), pending_N, wanted)


def no_features(positions):
    raise AssertionError("features are read only to find near duplicates")


def mixing(share=0.0, logits_N=None, is_uniform=False, features_ND=None, similarity=0.999):
    if features_ND is None:
        return Mixing(share, logits_N, is_uniform, no_features, 1.0)
    return Mixing(share, logits_N, is_uniform, lambda positions: features_ND[positions], similarity)


def draw(total, count, generator=None, order=in_order, **options):
    return draw_ranking(order, total, count, mixing(**options), generator or seeded())


def test_without_a_share_the_order_is_the_ranking_and_nothing_was_drawn():
    drawn = draw(9, 4)
    assert drawn.positions_K.tolist() == [0, 1, 2, 3]
    assert not drawn.is_random_K.any()
    assert drawn.propensities_K is None


def test_an_order_that_is_a_uniform_draw_is_left_alone_and_has_its_propensities():
    drawn = draw(9, 4, share=0.7, is_uniform=True)
    assert drawn.positions_K.tolist() == [0, 1, 2, 3]
    assert drawn.is_random_K.all()
    np.testing.assert_allclose(drawn.propensities_K, [1 / 9, 1 / 8, 1 / 7, 1 / 6])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("total", "count"), [(0, 5), (7, 0), (7, 1), (7, 7), (7, 30), (1, 1)])
def test_a_ranking_is_as_many_different_images_as_there_are(share, total, count):
    drawn = draw(total, count, share=share)
    assert len(set(drawn.positions_K.tolist())) == len(drawn.positions_K) == min(total, count)
    assert len(drawn.is_random_K) == len(drawn.positions_K)
    assert drawn.positions_K.dtype == torch.int64


def test_the_share_of_uniform_draws_is_as_wanted():
    flags = torch.cat([draw(400, 50, seeded(seed), share=0.1).is_random_K for seed in range(60)])
    # Four standard deviations of a share of 1/10.
    assert float(flags.double().mean()) == pytest.approx(0.1, abs=4 * math.sqrt(0.1 * 0.9 / 3000))


def test_uniform_draws_reach_every_image_that_is_left_alike():
    drawn = [draw(6, 3, seeded(seed), share=0.5) for seed in range(2500)]
    first = [int(one.positions_K[0]) for one in drawn if one.is_random_K[0]]
    shares = np.bincount(first, minlength=6) / len(first)
    assert np.abs(shares - 1 / 6).max() < 4 * math.sqrt(5 / 36 / len(first))
    # Given that 0 and 1 came first by the order, the third drawn uniformly is one of the other four.
    third = [
        int(one.positions_K[2])
        for one in drawn
        if one.positions_K[:2].tolist() == [0, 1] and one.is_random_K.tolist() == [False, False, True]
    ]
    shares = np.bincount(third, minlength=6) / len(third)
    assert np.abs(shares - np.array([0, 0, 0.25, 0.25, 0.25, 0.25])).max() < 4 * math.sqrt(3 / 16 / len(third))


def weighted_order(logits_N, generator):
    return lambda pending_N, wanted: power(logits_N, pending_N, wanted, generator)


@pytest.mark.parametrize("logits", [None, [0.0, 1.5, -1.0, 0.5]])
def test_propensities_are_how_often_a_ranking_comes(logits):
    logits_N = None if logits is None else torch.tensor(logits, dtype=torch.float64)
    generator, runs = seeded(3), 3000
    order = in_order if logits_N is None else weighted_order(logits_N, generator)
    seen, chances = Counter(), {}
    for _ in range(runs):
        drawn = draw(4, 2, generator, order, share=0.4, logits_N=logits_N)
        ranking = tuple(drawn.positions_K.tolist())
        seen[ranking] += 1
        chances[ranking] = float(drawn.propensities_K.prod())
    assert sum(chances.values()) == pytest.approx(1)
    for ranking in itertools.permutations(range(4), 2):
        chance = chances.get(ranking, 0)
        assert seen[ranking] / runs == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / runs) + 1e-9)


def test_the_chances_at_each_rank_are_those_of_the_formula():
    drawn = draw(10, 10, seeded(5), share=0.25)
    following = 0
    done = set()
    for rank, (position, propensity) in enumerate(
        zip(drawn.positions_K.tolist(), drawn.propensities_K.tolist(), strict=True)
    ):
        while following in done:
            following += 1
        assert propensity == pytest.approx(0.25 / (10 - rank) + 0.75 * (position == following))
        done.add(position)


def test_weights_of_any_size_give_chances():
    logits_N = torch.tensor([0.0, -900.0, 900.0, -900.0], dtype=torch.float64)
    drawn = draw(4, 4, order=weighted_order(logits_N, seeded()), logits_N=logits_N)
    assert drawn.positions_K.tolist()[:2] == [2, 0]
    np.testing.assert_allclose(drawn.propensities_K, [1, 1, 0.5, 1])


def test_copies_enter_once_and_the_next_in_order_takes_their_place():
    features = torch.eye(5)[[0, 0, 1, 2, 1, 3, 4, 0]]
    drawn = draw(8, 4, features_ND=features)
    assert drawn.positions_K.tolist() == [0, 2, 3, 5]
    assert draw(8, 8, features_ND=features).positions_K.tolist() == [0, 2, 3, 5, 6]


def test_similarity_is_the_cosine_whatever_the_length():
    angle = math.acos(0.95)
    features = torch.tensor([[1.0, 0.0], [7 * math.cos(angle), 7 * math.sin(angle)], [0.0, 0.01]])
    assert draw(3, 3, features_ND=features, similarity=0.94).positions_K.tolist() == [0, 2]
    assert draw(3, 3, features_ND=features, similarity=0.96).positions_K.tolist() == [0, 1, 2]


def test_a_similarity_of_one_reads_no_features():
    assert len(draw(8, 8).positions_K) == 8


@pytest.mark.parametrize("copies", [1500, 3000])
def test_a_pool_of_copies_of_one_image_gives_that_image_alone(copies):
    assert draw(copies, 10, features_ND=torch.ones(copies, 3)).positions_K.tolist() == [0]


def test_copies_far_apart_in_the_order_are_found_too():
    distinct = torch.randn(1300, 16, generator=seeded(1))
    features = distinct.repeat(2, 1) * torch.rand(2600, 1, generator=seeded(2)).add(0.5)
    assert draw(2600, 2600, features_ND=features).positions_K.tolist() == list(range(1300))


def test_copies_are_left_out_of_uniform_draws_too():
    features = torch.eye(10).repeat_interleave(5, dim=0)
    for seed in range(20):
        drawn = draw(50, 10, seeded(seed), share=0.5, features_ND=features)
        heaps = (drawn.positions_K // 5).tolist()
        assert len(set(heaps)) == len(heaps)
        assert ((drawn.propensities_K > 0) & (drawn.propensities_K <= 1)).all()


def naive_distinct(features, similarity):
    kept = []
    for row, one in enumerate(features):
        lengths = [np.linalg.norm(one) * np.linalg.norm(features[other]) for other in kept]
        cosines = [one @ features[other] / length for other, length in zip(kept, lengths, strict=True) if length]
        if not any(cosine >= similarity for cosine in cosines):
            kept.append(row)
    return kept


@pytest.mark.parametrize("similarity", [0.9, 0.97])
def test_what_is_admitted_is_what_is_unlike_everything_admitted_before(similarity):
    features = torch.randn(700, 3, generator=seeded(4))
    features[10] = 0
    features[20] = 0
    distinct = Distinct(similarity)
    admitted = distinct.admit(features[:150]) + distinct.admit(features[150:])
    expected = naive_distinct(features.double().numpy(), similarity)
    assert [row for row, is_in in enumerate(admitted) if is_in] == expected
    assert {10, 20} <= set(expected)


def test_features_that_are_broken_are_refused():
    with pytest.raises(NotFiniteError, match="features_ND"):
        Distinct(0.9).admit(torch.tensor([[1.0, math.nan]]))
    with pytest.raises(ShapeError, match=r"features_ND: expected shape \[N, D\], got \[4\]"):
        Distinct(0.9).admit(torch.zeros(4))
