import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from worker.learning.errors import ShapeError
from worker.learning.pseudo_labelers.precision import HeldOut, answers_needed, at_most, choose_threshold

MOST_WRONG, CERTAINTY = 0.02, 0.95
# Chances of being wrong at a confidence: every way of misjudging oneself that there is.
MISTAKES = {
    "calibrated": lambda c: 1 - c,
    "too_sure": lambda c: np.minimum(1, 0.015 + 0.8 * (1 - c)),
    "just_too_often": lambda c: np.full(len(c), 0.0201),
    "just_rarely_enough": lambda c: np.full(len(c), 0.0199),
    "half_allowed": lambda c: np.full(len(c), 0.01),
    "worst_when_surest": lambda c: np.where(c > np.quantile(c, 0.7), 0.03, 0.0),
    "good_until_a_jump": lambda c: np.where(c > np.quantile(c, 0.4), 0.004, 0.2),
}


def choose(pool, held_out, is_free=None, most_wrong=MOST_WRONG, certainty=CERTAINTY):
    is_free = np.ones(len(pool), np.bool_) if is_free is None else is_free
    return choose_threshold(pool, is_free, held_out, most_wrong, certainty)


def simulate(mistake, pool, answers, times, seed, decimals=None):
    """Pools, each with answers held out at random and a few images being asked about; wrong shares and coverages."""
    draws = np.random.default_rng(seed)
    shares, coverages = np.zeros(times), np.zeros(times)
    for number in range(times):
        confidences = 0.1 + 0.9 * draws.beta(6, 0.7, pool + answers)
        is_wrong = draws.random(pool + answers) < MISTAKES[mistake](confidences)
        seen = confidences.astype(np.float32) if decimals is None else confidences.round(decimals).astype(np.float32)
        is_held_out = np.zeros(pool + answers, np.bool_)
        is_held_out[draws.permutation(pool + answers)[:answers]] = True
        is_free = draws.random(pool) < 0.97
        held_out = HeldOut(seen[is_held_out], ~is_wrong[is_held_out])
        found = choose(seen[~is_held_out], held_out, is_free)
        if found.value is not None:
            labelled = is_free & (seen[~is_held_out] >= found.value)
            shares[number] = is_wrong[~is_held_out][labelled].mean()
            coverages[number] = labelled.mean()
    return shares, coverages


def most_violations(times):
    """Violations that 5% of so many tries can bring by chance; more come once in ten thousand."""
    return int(stats.binom.ppf(0.9999, times, 1 - CERTAINTY))


@pytest.mark.parametrize(("pool", "answers"), [(3000, 400), (300, 900), (1200, 250)])
@pytest.mark.parametrize("mistake", sorted(MISTAKES))
def test_no_more_than_promised_is_wrong_whatever_the_confidences_mean(mistake, pool, answers):
    shares, _ = simulate(mistake, pool, answers, times=500, seed=sum(map(ord, mistake)) + pool)
    assert (shares > MOST_WRONG).sum() <= most_violations(500)


@pytest.mark.parametrize("mistake", ["just_too_often", "just_rarely_enough", "worst_when_surest", "calibrated"])
def test_the_promise_holds_where_many_confidences_are_equal(mistake):
    shares, _ = simulate(mistake, 1000, 500, times=500, seed=len(mistake), decimals=2)
    assert (shares > MOST_WRONG).sum() <= most_violations(500)


def test_the_simulation_would_see_a_threshold_that_is_too_low():
    draws, times, violations = np.random.default_rng(5), 300, 0
    for _ in range(times):  # a threshold that keeps the answers' own share below the wanted one promises too much
        confidences = draws.random(1400).astype(np.float32)
        is_wrong = draws.random(1400) < 0.0201
        held, right = confidences[:400], ~is_wrong[:400]
        passing = [
            level for level in np.quantile(held, np.linspace(0, 0.9, 20)) if (~right[held >= level]).mean() <= 0.02
        ]
        if passing:
            violations += is_wrong[400:][confidences[400:] >= min(passing)].mean() > MOST_WRONG
    assert violations > most_violations(times)


@pytest.mark.parametrize(("pool", "answers"), [(3000, 400), (10_000, 1000), (600, 300)])
def test_an_easy_pool_is_mostly_labelled(pool, answers):
    draws, coverages = np.random.default_rng(pool), []
    for _ in range(60):
        confidences = (0.1 + 0.9 * draws.beta(8, 0.5, pool + answers)).astype(np.float32)
        is_wrong = draws.random(pool + answers) < (1 - confidences) ** 2 / 2
        found = choose(confidences[answers:], HeldOut(confidences[:answers], ~is_wrong[:answers]))
        coverages.append(0.0 if found.value is None else (confidences[answers:] >= found.value).mean())
    assert np.mean(coverages) > 0.8
    assert np.median(coverages) > 0.95


def test_a_jump_in_the_mistakes_is_where_labels_end():
    _, coverages = simulate("good_until_a_jump", 5000, 2000, times=60, seed=1)
    found = coverages[coverages > 0]
    assert len(found) > 35
    assert np.all(found < 0.68)
    assert np.median(found) > 0.55


def naive_tail(seen, total, wrong, drawn):
    ways = sum(math.comb(wrong, k) * math.comb(total - wrong, drawn - k) for k in range(seen + 1) if drawn >= k)
    return float(Fraction(ways, math.comb(total, drawn)))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data(), total=st.integers(1, 60))
def test_the_tail_is_the_share_of_all_draws(data, total):
    wrong, drawn = data.draw(st.integers(0, total)), data.draw(st.integers(0, total))
    seen = data.draw(st.integers(0, drawn))
    assert at_most(seen, total, wrong, drawn) == pytest.approx(
        naive_tail(seen, total, wrong, drawn), rel=1e-9, abs=1e-15
    )


@pytest.mark.parametrize(
    ("seen", "total", "wrong", "drawn"), [(3, 1_000_000, 20_000, 400), (0, 50_000, 1000, 149), (40, 9000, 200, 2000)]
)
def test_the_tail_is_that_of_scipy_for_large_pools(seen, total, wrong, drawn):
    assert at_most(seen, total, wrong, drawn) == pytest.approx(stats.hypergeom.cdf(seen, total, wrong, drawn), rel=1e-6)


def test_the_tail_nears_the_binomial_one_as_the_pool_grows():
    binomial = stats.binom.cdf(2, 300, 0.02)
    assert at_most(2, 10_000_000, 200_000, 300) == pytest.approx(binomial, rel=1e-3)
    assert answers_needed(10_000_000, 0.02, 0.95) in {149, 150}
    assert answers_needed(10_000_000, 0.1, 0.9) in {22, 23}


@pytest.mark.parametrize("pool", [1, 3, 40, 333, 5000])
@pytest.mark.parametrize(("most_wrong", "certainty"), [(0.02, 0.95), (0.1, 0.8), (0.5, 0.5), (0.001, 0.99)])
def test_the_answers_needed_are_the_fewest_that_can_vouch_for_the_pool(pool, most_wrong, certainty):
    needed = answers_needed(pool, most_wrong, certainty)
    allowed = math.floor(most_wrong * pool)

    def chance_of_none_wrong(answers):  # of allowed + 1 wrong ones, none is among the answers
        return math.prod((pool - k) / (pool + answers - k) for k in range(allowed + 1)) if pool > allowed else 0.0

    assert chance_of_none_wrong(needed) <= 1 - certainty + 1e-12
    assert needed == 1 or chance_of_none_wrong(needed - 1) > 1 - certainty - 1e-12
    surest = HeldOut(np.full(needed, 0.5, np.float32), np.ones(needed, np.bool_))
    assert choose(np.full(pool, 0.5, np.float32), surest, None, most_wrong, certainty).value == 0.5


def test_too_few_answers_and_wrong_ones_are_told_in_numbers():
    pool = np.linspace(0.3, 1, 5000).astype(np.float32)
    few = choose(pool, HeldOut(pool[:41], np.ones(41, np.bool_)))
    assert (few.value, few.report["reason"]) == (None, "41 held-out answers, 150 are needed")
    assert (few.report["held_out"], few.report["held_out_needed"]) == (41, 150)
    none = choose(pool, HeldOut.none())
    assert none.report["reason"] == "0 held-out answers, 150 are needed"
    wrong = choose(pool, HeldOut(pool[::10], np.zeros(500, np.bool_)))
    told = "above the strictest threshold are wrong: that is too many to be 0.95 sure of at most 0.02"
    seen = wrong.report["held_out_above"]
    assert wrong.value is None
    assert wrong.report["reason"] == f"{seen} of {seen} held-out answers {told}"


def test_an_empty_pool_has_no_threshold():
    found = choose(np.empty(0, np.float32), HeldOut(np.ones(500, np.float32), np.ones(500, np.bool_)))
    assert (found.value, found.report["reason"]) == (None, "there are no images to label")


def test_a_pool_in_which_nothing_is_free_has_no_threshold():
    pool = np.linspace(0.3, 1, 2000).astype(np.float32)
    found = choose(pool, HeldOut(pool[::4], np.ones(500, np.bool_)), np.zeros(2000, np.bool_))
    assert (found.value, found.report["reason"]) == (None, "too few images are above any threshold that holds")


def test_the_thresholds_tested_do_not_depend_on_which_images_are_held_out():
    confidences = np.random.default_rng(0).random(2000).astype(np.float32)
    values = set()
    for seed in range(20):  # all right: whichever are held out, the series runs to its end, which is the least of all
        turned = np.random.default_rng(seed).permutation(confidences)
        values.add(choose(turned[400:], HeldOut(turned[:400], np.ones(400, np.bool_))).value)
    assert values == {float(confidences.min())}


def test_the_report_counts_the_answers_above_the_threshold():
    draws = np.random.default_rng(4)
    confidences = draws.random(4000).astype(np.float32)
    is_right = confidences > 0.3
    found = choose(confidences[800:], HeldOut(confidences[:800], is_right[:800]))
    above = confidences[:800] >= found.value
    assert found.value > 0.25
    assert found.report["held_out_above"] == above.sum()
    assert found.report["held_out_wrong"] == (~is_right[:800] & above).sum()
    assert set(map(type, found.report.values())) == {int}


def test_answers_of_other_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"held-out is_right: expected shape \[3\], got \[2\]"):
        HeldOut(np.ones(3, np.float32), np.ones(2, np.bool_))
