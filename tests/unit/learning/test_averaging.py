"""Averaged weights against the recurrence written out, and which network is which."""

import copy

import pytest
import torch

from tests.unit.learning.factories import make_network
from worker.learning.fitting.averaging import Averaged


def change_all(network, seed):
    """Put other numbers in the place of all weights and buffers, as a gradient step would."""
    generator = torch.Generator().manual_seed(seed)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator))
        else:
            value.add_(1)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.99])
def test_weights_and_buffers_follow_the_recurrence(share):
    live = make_network("al_cnn")
    averaged, expected = Averaged(live, share), copy.deepcopy(live.state_dict())
    for step in range(1, 6):
        change_all(live, step)
        averaged.move()
        kept = min(share, (1 + step) / (10 + step))
        for name, value in live.state_dict().items():
            is_mean = value.is_floating_point()
            expected[name] = kept * expected[name] + (1 - kept) * value if is_mean else value.clone()
    for name, value in averaged.network.state_dict().items():
        torch.testing.assert_close(value, expected[name])


def test_averaging_leaves_the_live_weights_alone_until_it_settles():
    live = make_network("al_cnn")
    averaged = Averaged(live, 0.5)
    change_all(live, 1)
    before = copy.deepcopy(live.state_dict())
    averaged.move()
    assert all(torch.equal(value, before[name]) for name, value in live.state_dict().items())
    averaged.settle()
    means = averaged.network.state_dict()
    assert all(torch.equal(value, means[name]) for name, value in live.state_dict().items())
    assert any(not torch.equal(value, before[name]) for name, value in live.state_dict().items())


def test_a_share_of_nothing_is_the_live_network():
    live = make_network()
    averaged = Averaged(live, 0.0)
    change_all(live, 1)
    before = copy.deepcopy(live.state_dict())
    averaged.move()
    averaged.settle()
    assert averaged.network is live
    assert all(torch.equal(value, before[name]) for name, value in live.state_dict().items())
