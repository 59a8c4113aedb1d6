"""Readings: the mean prediction, which is taken a faster way than the logarithms alone would need."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from worker.learning.errors import ShapeError
from worker.learning.reading import Reading


def reading_of(samples: int, spread: float, classes: int = 5) -> Reading:
    draws = torch.randn(samples, 40, classes, generator=torch.Generator().manual_seed(samples), dtype=torch.float64)
    return Reading(torch.log_softmax(spread * draws, dim=-1).float(), torch.ones(40, 3))


@pytest.mark.parametrize("samples", [1, 2, 100])
@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0, 300.0])  # the last two have means far below what float32 holds
def test_the_mean_prediction_is_exact_however_unlikely_a_class_is(samples: int, spread: float) -> None:
    reading = reading_of(samples, spread)
    expected_NC = logsumexp(reading.log_probs_SNC.double().numpy(), axis=0) - math.log(samples)
    np.testing.assert_allclose(reading.mean_log_probs_NC.numpy(), expected_NC, rtol=2e-6, atol=2e-6)
    assert reading.mean.log_probs_SNC.shape == (1, 40, 5)
    assert torch.equal(reading.mean.log_probs_SNC[0], reading.mean_log_probs_NC)
    assert reading.mean.features_ND is reading.features_ND


def test_a_class_that_no_sample_allows_stays_impossible() -> None:
    never_SNC = torch.tensor([[[0.0, -torch.inf]], [[0.0, -torch.inf]]])
    assert Reading(never_SNC, torch.empty(1, 0)).mean_log_probs_NC.tolist() == [[0.0, -math.inf]]


def test_what_is_not_a_number_stays_so() -> None:
    broken_SNC = reading_of(3, 1.0).log_probs_SNC.clone()
    broken_SNC[1, 7, 2] = torch.nan
    assert (
        Reading(broken_SNC, torch.empty(40, 0)).mean_log_probs_NC[7].isnan().tolist()
        == [False, False, True] + [False] * 2
    )


def test_no_images_are_no_error_but_one_class_is() -> None:
    assert Reading(torch.empty(3, 0, 4), torch.empty(0, 2)).mean_log_probs_NC.shape == (0, 4)
    with pytest.raises(ShapeError, match="log_probs_SNC"):
        _ = Reading(torch.zeros(3, 2, 1), torch.empty(2, 0)).mean_log_probs_NC
