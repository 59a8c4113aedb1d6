import numpy as np
import pytest
import torch

from app.recipes import POSTERIORS as CHOICES
from app.recipes import parse_pick
from tests.unit.learning.factories import CPU, make_blobs, make_network, make_training_set
from worker.learning.pool import normalise
from worker.learning.posteriors import POSTERIORS, Fitted, read_all, read_chunks
from worker.learning.posteriors.base import chunk_size

ALL = pytest.mark.parametrize(
    "name",
    [
        *POSTERIORS.names(),
        {"name": "laplace", "samples": 6, "is_joint": True},
        {"name": "laplace", "weights": "all_weights", "samples": 6},
        {"name": "laplace", "weights": "all_weights", "predictive": "sampled", "samples": 6},
    ],
    ids=lambda pick: pick if isinstance(pick, str) else "-".join(map(str, pick.values())),
)


def make_posterior(name, seed=0, network="al_cnn", training=None, validation=None, **sizes):
    is_joint = isinstance(name, dict) and name.get("is_joint", False)
    pick = parse_pick(CHOICES, {key: value for key, value in name.items() if key != "is_joint"} if is_joint else name)
    first, *others = (
        make_network(network, seed=member, **sizes) for member in range(int(pick.parameters.get("members", 1)))
    )
    training = training or make_training_set(12, side=first.spec.side)
    generator = torch.Generator().manual_seed(seed)
    fitted = Fitted(first, pick.parameters, generator, training, validation, tuple(others), is_joint)
    return POSTERIORS.get(pick.name)(fitted)


def rows_of(*rows):
    return np.array(rows, dtype=np.int64)


@ALL
def test_a_reading_holds_distributions_and_features(name):
    images, _ = make_blobs(9)
    reading = read_all(make_posterior(name), images, np.arange(9), CPU)
    samples, count, classes = reading.log_probs_SNC.shape
    assert samples >= 1 and (count, classes) == (9, 3)
    assert reading.log_probs_SNC.dtype == reading.features_ND.dtype == torch.float32
    torch.testing.assert_close(reading.log_probs_SNC.exp().sum(dim=-1), torch.ones(samples, 9))
    assert reading.features_ND.shape == (9, 64)
    assert torch.isfinite(reading.features_ND).all()


@ALL
def test_a_reading_follows_the_order_of_the_rows(name):
    images, _ = make_blobs(9)
    posterior = make_posterior(name)
    whole = read_all(posterior, images, np.arange(9), CPU)
    part = read_all(posterior, images, rows_of(7, 2), CPU)
    # To rounding: convolutions sum otherwise for another number of images.
    torch.testing.assert_close(part.log_probs_SNC, whole.log_probs_SNC[:, [7, 2]], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(part.features_ND, whole.features_ND[[7, 2]])


@ALL
def test_chunks_cover_every_row_once_in_order_and_say_so(name):
    images, _ = make_blobs(40, side=64)
    size = chunk_size(images, CPU)
    assert size < 40
    told = []
    chunks = read_chunks(make_posterior(name, side=64), images, np.arange(40), CPU, lambda *done: told.append(done))
    parts = [(part, reading.log_probs_SNC.shape[1]) for part, reading in chunks]
    assert [row for part, _ in parts for row in range(part.start, part.stop)] == list(range(40))
    assert [count for _, count in parts] == [part.stop - part.start for part, _ in parts]
    assert told == [(part.stop, 40) for part, _ in parts]


@ALL
def test_no_rows_give_no_chunks(name):
    images, _ = make_blobs(3)
    assert list(read_chunks(make_posterior(name), images, rows_of(), CPU)) == []


@ALL
def test_the_same_seed_reads_the_same(name):
    images, _ = make_blobs(5)
    first, second = (read_all(make_posterior(name), images, np.arange(5), CPU) for _ in range(2))
    assert torch.equal(first.log_probs_SNC, second.log_probs_SNC)


@ALL
def test_reading_leaves_the_network_as_it_was(name):
    images, _ = make_blobs(5)
    posterior = make_posterior(name)
    network = posterior.networks[0] if name == "committee" else posterior.network
    before = {key: value.clone() for key, value in network.state_dict().items()}
    read_all(posterior, images, np.arange(5), CPU)
    assert not network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@ALL
def test_features_are_those_of_the_fitted_network(name):
    images, _ = make_blobs(5)
    features = read_all(make_posterior("plugin"), images, np.arange(5), CPU).features_ND
    torch.testing.assert_close(read_all(make_posterior(name), images, np.arange(5), CPU).features_ND, features)


@pytest.mark.parametrize("name", ["mc_dropout", "laplace"])
def test_another_seed_draws_other_samples(name):
    images, _ = make_blobs(5)
    first, second = (read_all(make_posterior(name, seed=seed), images, np.arange(5), CPU) for seed in (0, 1))
    assert not torch.allclose(first.log_probs_SNC, second.log_probs_SNC, atol=1e-3)


def test_plugin_is_the_softmax_of_the_network():
    images, _ = make_blobs(6)
    posterior = make_posterior("plugin")
    reading = read_all(posterior, images, np.arange(6), CPU)
    with torch.inference_mode():
        logits = posterior.network(normalise(torch.from_numpy(images))).double()
    assert reading.log_probs_SNC.shape[0] == 1
    torch.testing.assert_close(
        reading.log_probs_SNC[0].double(), torch.log_softmax(logits, dim=-1), atol=1e-6, rtol=1e-5
    )
