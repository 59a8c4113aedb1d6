import math

import numpy as np
import pytest

from worker.learning.oracle import SimulatedOracle, simulated_answers


def make_oracle(count=20_000, classes=5, noise=0.2, seed=3):
    return SimulatedOracle(np.arange(count, dtype=np.int64) % classes, classes, noise, seed)


def test_without_noise_every_answer_is_true():
    oracle = make_oracle(noise=0.0)
    rows = np.arange(20_000)
    assert (oracle.answer(rows) == oracle.true_labels).all()


def test_noise_is_the_share_of_wrong_answers_in_every_class():
    oracle = make_oracle()
    wrong = oracle.answer(np.arange(20_000)) != oracle.true_labels
    deviation = math.sqrt(0.2 * 0.8 / 4000)
    shares = np.array([wrong[oracle.true_labels == label].mean() for label in range(5)])
    assert np.abs(shares - 0.2).max() < 4 * deviation


def test_wrong_answers_are_uniform_over_the_other_classes():
    oracle = make_oracle(noise=1.0)
    answers = oracle.answer(np.arange(20_000))
    for label in range(5):
        counts = np.bincount(answers[oracle.true_labels == label], minlength=5)
        assert counts[label] == 0
        others = np.delete(counts, label) / 4000
        assert np.abs(others - 0.25).max() < 4 * math.sqrt(0.25 * 0.75 / 4000)


def test_an_answer_does_not_depend_on_what_is_asked_with_it():
    oracle, rows = make_oracle(), np.random.default_rng(0).permutation(20_000)
    together = oracle.answer(np.arange(20_000))
    assert (oracle.answer(rows) == together[rows]).all()
    alone = np.array([oracle.answer(np.array([row]))[0] for row in range(200)])
    assert (alone == together[:200]).all()
    assert (together != oracle.true_labels).any()


def test_another_seed_is_wrong_about_other_images():
    rows = np.arange(20_000)
    first, second = (make_oracle(seed=seed).answer(rows) != rows % 5 for seed in (0, 1))
    # Independent mistakes coincide on a share of 0.2 * 0.2.
    assert abs((first & second).mean() - 0.04) < 4 * math.sqrt(0.04 * 0.96 / 20_000)


def test_no_questions_have_no_answers():
    assert make_oracle().answer(np.empty(0, np.int64)).shape == (0,)


@pytest.mark.parametrize(
    ("truths", "classes", "noise"),
    [
        ([0, 1, 2], 2, 0.1),
        ([0, -1, 1], 2, 0.1),
        ([0, 1, 1], 2, 1.5),
        ([0, 1, 1], 2, -0.1),
        ([0, 0, 0], 1, 0.1),
        ([0], 2, 0.1),
    ],
)
def test_what_cannot_be_answered_is_refused(truths, classes, noise):
    with pytest.raises(ValueError, match=r"expected|not a probability"):
        simulated_answers(0, np.arange(3), np.array(truths), classes, noise)
