from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from app.errors import RecipeError
from tests.unit.learning.factories import CPU, make_blobs, make_network, make_recipe, make_snapshot, make_spec
from worker.learning.learner import step
from worker.learning.networks import Network, build_network
from worker.learning.pool import normalise
from worker.learning.posteriors import Fitted, read_all
from worker.learning.posteriors.heads import SampledLastLayer
from worker.learning.posteriors.mc_dropout import MaskedDropout, check_dropout, make_mc_dropout

WITH_TWO = nn.Sequential(nn.Dropout(0.3), nn.Linear(64, 20), nn.Dropout(0.5), nn.ReLU(), nn.Linear(20, 3))


def make_posterior(network, samples=4, seed=0):
    return make_mc_dropout(Fitted(network.eval(), {"samples": samples}, torch.Generator().manual_seed(seed)))


def make_two_dropouts():
    return Network(make_spec("al_cnn"), make_network("al_cnn").trunk, WITH_TWO)


def read(posterior, images):
    return read_all(posterior, images, np.arange(len(images)), CPU).log_probs_SNC


@pytest.mark.parametrize("make", [lambda: make_network("al_cnn"), make_two_dropouts], ids=["folded", "masked"])
def test_the_same_units_are_silenced_for_the_whole_pool(make):
    """Copies of one image are read alike within a chunk and between chunks; samples differ."""
    one, _ = make_blobs(1, side=8)
    posterior = make_posterior(make())
    first, again = read(posterior, np.repeat(one, 6, axis=0)), read(posterior, one)
    torch.testing.assert_close(first, again.expand(-1, 6, -1), atol=1e-5, rtol=1e-5)
    assert (first[0] - first[1]).abs().max() > 1e-3


@pytest.mark.parametrize("make", [lambda: make_network("al_cnn"), make_two_dropouts], ids=["folded", "masked"])
def test_samples_scatter_around_what_fitting_sees(make):
    """The mean and spread of logits over many masks are those of torch's own dropout."""
    network, images = make(), normalise(torch.from_numpy(make_blobs(1)[0]))
    with torch.inference_mode():
        ours = read(make_posterior(network, samples=1000), make_blobs(1)[0])[:, 0]
        features = network.trunk(images)
        network.head.train()
        torch.manual_seed(0)
        theirs = torch.log_softmax(network.head(features.expand(4000, -1)), dim=-1)
        network.head.eval()
    error = theirs.std(0) / 1000**0.5
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 5 * error).all()
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.15)


def test_a_folded_mask_is_the_mask_itself():
    """Folding masks into the last weights and multiplying them onto the hidden units say the same."""
    network, images = make_network("al_cnn"), make_blobs(7)[0]
    folded = make_posterior(network, samples=5)
    *_, dropout, _linear = network.head
    drawn = torch.rand(5, 512, generator=torch.Generator().manual_seed(0)) < 0.5
    masked = MaskedDropout(network, {dropout: drawn.float() / 0.5})
    assert isinstance(folded, SampledLastLayer)
    torch.testing.assert_close(read(folded, images), read(masked, images), atol=1e-5, rtol=1e-5)


def test_the_trunk_runs_once_whatever_the_samples():
    network, calls = make_network("al_cnn"), []
    posterior = make_posterior(network, samples=50)
    network.trunk.register_forward_hook(lambda *_: calls.append(1))
    read(posterior, make_blobs(6)[0])
    assert len(calls) == 1


def test_channels_are_silenced_as_a_whole():
    head = nn.Sequential(nn.Unflatten(1, (4, 4, 4)), nn.Dropout2d(0.5), nn.Flatten(), nn.Linear(64, 3))
    posterior = make_posterior(Network(make_spec("al_cnn"), make_network("al_cnn").trunk, head), samples=9)
    [masks] = posterior.masks.values()
    assert masks.shape == (9, 4, 1, 1)
    assert set(masks.unique().tolist()) == {0.0, 2.0}
    assert read(posterior, make_blobs(3)[0]).shape == (9, 3, 3)


@pytest.mark.parametrize("recipe", [{"network": "softmax_regression"}, {"network": {"name": "al_cnn", "dropout": 0}}])
def test_a_network_that_silences_nothing_is_refused_before_it_is_fitted(recipe):
    told = []
    with pytest.raises(RecipeError, match="silences no units") as error:
        step(
            make_recipe(posterior="mc_dropout", **recipe),
            make_snapshot(),
            count=3,
            round_number=1,
            progress=told.append,
        )
    assert error.value.subject == "posterior"
    assert told == []


def test_dropout_in_the_trunk_stays_off():
    trunk = nn.Sequential(nn.Dropout(0.5), make_network("al_cnn").trunk)
    network = Network(make_spec("al_cnn"), trunk, make_network("al_cnn").head)
    images = make_blobs(6)[0]
    torch.testing.assert_close(
        read(make_posterior(network), images), read(make_posterior(make_network("al_cnn")), images)
    )
    with pytest.raises(RecipeError, match="silences no units"):
        check_dropout(Network(make_spec("al_cnn"), trunk, nn.Linear(64, 3)), {})


def test_a_residual_network_is_sampled_once_its_features_are_silenced():
    images = make_blobs(5)[0]
    plain = make_network("resnet18")
    with pytest.raises(RecipeError, match="the head of resnet18 silences no units"):
        check_dropout(plain, {})
    spec = make_spec("resnet18")
    silenced = build_network(replace(spec, parameters={**spec.parameters, "dropout": 0.5}), torch.Generator()).eval()
    silenced.load_state_dict(plain.state_dict())  # weights fit with and without
    log_probs_SNC = read(make_posterior(silenced), images)
    assert (log_probs_SNC[0] - log_probs_SNC[1]).abs().max() > 1e-3
    torch.testing.assert_close(
        silenced(normalise(torch.from_numpy(images))), plain(normalise(torch.from_numpy(images)))
    )
