import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from app.errors import RecipeError
from app.recipes import POSTERIORS as CHOICES
from app.recipes import parse_pick
from tests.unit.learning.factories import CPU, make_blobs, make_network, make_recipe, make_snapshot, make_spec
from tests.unit.learning.factories import make_training_set as make_training
from worker.learning import learner
from worker.learning.acquisitions.bald import bald_scores
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.fitting import TrainingSet
from worker.learning.learner import step
from worker.learning.networks import Network
from worker.learning.pool import normalise
from worker.learning.posteriors import POSTERIORS, Fitted, read_all
from worker.learning.posteriors.curvature import best_precision, least_loss, linear_curvature, weight_slopes
from worker.learning.posteriors.heads import NormalLogits, SampledLastLayer
from worker.learning.posteriors.laplace import check_laplace, measure_all_weights, measure_last_layer
from worker.learning.scoring import score_rows

KINDS = {"last_layer": measure_last_layer, "all_weights": measure_all_weights}
GIVEN = {"prior": "given", "prior_precision": 3.0}


def fit_briefly(network, training, steps=20):
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(steps):
        loss = functional.cross_entropy(network(normalise(training.images_NHWC)), training.labels_N)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def make_fitted(training, network=None, seed=0, validation=None, is_joint=True, **parameters):
    network = network or fit_briefly(make_network("al_cnn"), training)
    chosen = parse_pick(CHOICES, {"name": "laplace", **parameters}).parameters
    generator = torch.Generator().manual_seed(seed)
    return Fitted(network, chosen, generator, training, validation, is_joint=is_joint)


def read(fitted, images):
    return read_all(POSTERIORS.get("laplace")(fitted), images, np.arange(len(images)), CPU).log_probs_SNC


def loss_of(log_probs_SNC, labels):
    mean = log_probs_SNC.detach().double().exp().mean(0)
    return float(-mean[torch.arange(len(labels)), labels].log().mean())


@pytest.fixture(scope="module")
def training():
    return make_training(40)


@pytest.fixture(scope="module")
def theirs(training):
    """laplace-torch on the same network, images and prior; None of ours is involved but the network."""
    # Its metrics import torchvision, which comes through our door.
    from worker.learning.vision import import_torchvision

    import_torchvision()
    laplace = pytest.importorskip("laplace")
    # It flattens parameters as views, which channels-last weights do not allow.
    network = fit_briefly(make_network("al_cnn"), training).to(memory_format=torch.contiguous_format)
    images = normalise(training.images_NHWC)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, training.labels_N), batch_size=16)
    found = {}
    for ours, name in (("last_layer", "last_layer"), ("all_weights", "all")):
        plain = nn.Sequential(network.trunk, *network.head).eval()
        found[ours] = laplace.Laplace(
            plain, "classification", subset_of_weights=name, hessian_structure="diag", prior_precision=3.0
        )
        found[ours].fit(loader)
    return found


@pytest.mark.parametrize("weights", KINDS)
def test_curvature_and_variances_agree_with_laplace_torch(weights, training, theirs):
    ours = KINDS[weights](make_fitted(training, weights=weights, **GIVEN))
    np.testing.assert_allclose(ours.variances_P, theirs[weights].posterior_variance.detach(), rtol=1e-3)
    largest = float(theirs[weights].H.max())
    np.testing.assert_allclose(ours.curvature_P, theirs[weights].H.detach(), rtol=1e-3, atol=1e-6 * largest)


@pytest.mark.parametrize("weights", KINDS)
def test_the_predictive_of_the_same_draws_agrees_with_laplace_torch(weights, training, theirs):
    images, _ = make_blobs(6, seed=5)
    fitted = make_fitted(training, weights=weights, predictive="sampled", samples=20, **GIVEN)
    expected = theirs[weights].predictive_samples(
        normalise(torch.from_numpy(images)), "nn", n_samples=20, generator=torch.Generator().manual_seed(0)
    )
    np.testing.assert_allclose(read(fitted, images).exp(), expected.detach(), rtol=1e-3, atol=1e-6)


def test_the_logits_of_an_image_are_distributed_as_laplace_torch_says(training, theirs):
    inputs = normalise(torch.from_numpy(make_blobs(6, seed=5)[0]))
    posterior = POSTERIORS.get("laplace")(make_fitted(training, is_joint=False, **GIVEN))
    means, variances = posterior.logits(posterior.network.trunk(inputs))
    expected_means, expected_covariances = theirs["last_layer"]._glm_predictive_distribution(inputs)
    np.testing.assert_allclose(means.detach(), expected_means.detach(), rtol=1e-3, atol=1e-5)
    covariances = torch.diag_embed(variances.detach())
    np.testing.assert_allclose(covariances, expected_covariances.detach(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("weights", KINDS)
def test_the_prior_has_the_largest_marginal_likelihood_of_laplace_torch(weights, training, theirs):
    found = KINDS[weights](make_fitted(training, weights=weights, prior="marginal_likelihood")).prior_precision
    tried = [
        float(theirs[weights].log_marginal_likelihood(torch.tensor(found * factor, dtype=torch.float32)))
        for factor in (0.5, 0.8, 1.0, 1.25, 2.0)
    ]
    assert max(tried) == tried[2] > tried[0] + 1


def test_a_linear_gaussian_model_has_its_closed_form():
    """With orthogonal columns the diagonal is all of the curvature, and evidence and posterior are known exactly."""
    generator, noise = torch.Generator().manual_seed(0), 0.3
    columns = torch.linalg.qr(torch.randn(60, 8, generator=generator, dtype=torch.float64)).Q
    inputs = columns * torch.linspace(1, 6, 8, dtype=torch.float64)
    targets = inputs @ torch.randn(8, generator=generator, dtype=torch.float64) * 0.7
    targets += noise * torch.randn(60, generator=generator, dtype=torch.float64)

    curvature, of_bias = linear_curvature(inputs, torch.full((60, 1), 1 / noise**2, dtype=torch.float64))
    assert of_bias.item() == pytest.approx(60 / noise**2)
    precision, gram, identity = 1.0, inputs.T @ inputs / noise**2, torch.eye(8, dtype=torch.float64)
    for _ in range(200):
        weights = torch.linalg.solve(gram + precision * identity, inputs.T @ targets / noise**2)
        precision = best_precision(curvature[0], weights)
    exact = torch.linalg.inv(gram + precision * identity).diagonal()
    torch.testing.assert_close(1 / (curvature[0] + precision), exact, rtol=1e-9, atol=0)

    def evidence(precision):
        covariance = noise**2 * torch.eye(60, dtype=torch.float64) + inputs @ inputs.T / precision
        return float(torch.distributions.MultivariateNormal(torch.zeros(60).double(), covariance).log_prob(targets))

    assert evidence(precision) > max(evidence(precision * 1.01), evidence(precision / 1.01))


@pytest.mark.parametrize("is_joint", [True, False])
def test_drawn_logits_have_the_mean_and_variance_of_the_closed_form(is_joint):
    training, images = make_training(30), make_blobs(4, seed=7)[0]
    given = {"samples": 1000, "prior": "given", "prior_precision": 20.0}
    fitted = make_fitted(training, make_network(), is_joint=is_joint, **given)
    log_probs = read(fitted, images).double()
    drawn = log_probs[..., 0] - log_probs[..., 1]  # logits up to a constant
    variances = measure_last_layer(fitted).variances_P
    weights, biases = variances[:-3].view(3, 64), variances[-3:]
    inputs = normalise(torch.from_numpy(images)).flatten(1).double()
    expected = inputs.square() @ (weights[0] + weights[1]) + biases[0] + biases[1]
    with torch.inference_mode():
        logits = fitted.network(inputs.float().view(4, 1, 8, 8))
    # Five standard errors of 1,000 draws.
    assert ((drawn.mean(0) - (logits[:, 0] - logits[:, 1])).abs() < 5 * (expected / 1000).sqrt()).all()
    np.testing.assert_allclose(drawn.var(0), expected, rtol=5 * math.sqrt(2 / 1000))


def test_what_is_said_of_images_one_by_one_is_what_shared_weights_say_of_each():
    training, images = make_training(60), make_blobs(8, seed=7)[0]
    network = fit_briefly(make_network("al_cnn"), training)
    given = {"samples": 1000, "prior": "given", "prior_precision": 20.0}
    joint, single = (
        read(make_fitted(training, network, is_joint=is_joint, **given), images).double().exp()
        for is_joint in (True, False)
    )
    bald = [bald_scores(probs.log()) for probs in (joint, single)]
    standard_errors = ((joint.var(0) + single.var(0)) / 1000).sqrt()
    assert ((joint.mean(0) - single.mean(0)).abs() < 5 * standard_errors).all()
    torch.testing.assert_close(bald[0], bald[1], rtol=0.2, atol=1e-4)
    assert bald[1].min() > 1e-3


def test_images_one_by_one_share_their_draws():
    training, images = make_training(30), make_blobs(1, seed=7)[0]
    twice = np.concatenate([images, images])
    log_probs = read(make_fitted(training, is_joint=False, **GIVEN), twice)
    torch.testing.assert_close(log_probs[:, 0], log_probs[:, 1])
    assert log_probs[:, 0].std(0).min() > 0


def test_variances_of_logits_stay_in_float32_under_mixed_precision():
    network, inputs = make_network("softmax_regression"), torch.rand(5, 1, 8, 8)
    posterior = POSTERIORS.get("laplace")(make_fitted(make_training(30), network, is_joint=False, **GIVEN))
    _, expected = posterior.logits(network.trunk(inputs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        means, variances = posterior.logits(network.trunk(inputs))
        assert posterior.read(inputs).log_probs_SNC.dtype == torch.float32
    assert means.dtype == variances.dtype == torch.float32
    torch.testing.assert_close(variances, expected)


def test_a_layer_without_biases_has_certain_ones():
    head = nn.Linear(64, 3, bias=False)
    network = Network(make_spec(), nn.Flatten(), head).eval()
    training, images = make_training(30), make_blobs(4, seed=7)[0]
    for is_joint in (True, False):
        fitted = make_fitted(training, network, is_joint=is_joint, samples=1000, **GIVEN)
        drawn = read(fitted, images).double()
        variances_P = measure_last_layer(fitted).variances_P
        inputs = normalise(torch.from_numpy(images)).flatten(1).double()
        expected = inputs.square() @ (variances_P.view(3, 64)[0] + variances_P.view(3, 64)[1])
        np.testing.assert_allclose((drawn[..., 0] - drawn[..., 1]).var(0), expected, rtol=5 * math.sqrt(2 / 1000))


@pytest.mark.parametrize(("selection", "kind"), [("top_k", NormalLogits), ("batch_bald", SampledLastLayer)])
def test_a_selection_that_reads_images_together_gets_shared_weights(selection, kind, monkeypatch):
    seen = set()

    def noting(entry, parameters, posterior, *given, **named):
        seen.add(type(posterior))
        return score_rows(entry, parameters, posterior, *given, **named)

    monkeypatch.setattr(learner, "score_rows", noting)
    recipe = make_recipe(posterior={"name": "laplace", "samples": 5}, selection=selection, acquisition="bald")
    step(recipe, make_snapshot(labelled=30), count=3, round_number=1, device="cpu")
    assert seen == {kind}


def test_slopes_are_those_of_finite_differences():
    network, images = make_network("al_cnn").double(), torch.rand(3, 1, 8, 8).double()
    logits, slopes = weight_slopes(network, images)
    torch.testing.assert_close(logits, network(images).detach())
    direction = torch.randn(slopes.shape[2], generator=torch.Generator().manual_seed(0)).double() * 1e-6
    with torch.no_grad():
        start = 0
        for parameter in network.parameters():
            parameter.add_(direction[start : start + parameter.numel()].view(parameter.shape))
            start += parameter.numel()
        torch.testing.assert_close(slopes @ direction, network(images) - logits, rtol=1e-3, atol=1e-9)


def test_a_linearised_network_of_one_layer_is_the_network_itself():
    training, images = make_training(30), make_blobs(5, seed=7)[0]
    ways = [{"weights": "last_layer"}, {"weights": "all_weights"}, {"weights": "all_weights", "predictive": "sampled"}]
    first, *others = (read(make_fitted(training, make_network(), samples=9, **GIVEN, **way), images) for way in ways)
    for other in others:
        torch.testing.assert_close(other, first, atol=1e-4, rtol=1e-4)


def test_curvature_is_summed_over_the_images():
    """Twice the labels are twice the curvature: source A averaged, which leaves the prior to decide."""
    training = make_training(20)
    twice = TrainingSet(training.images_NHWC.repeat(2, 1, 1, 1), training.labels_N.repeat(2))
    heavy = TrainingSet(training.images_NHWC, training.labels_N, torch.full((20,), 2.0))
    for measure in KINDS.values():
        network = make_network("al_cnn")
        once, both, weighed = (measure(make_fitted(data, network)).curvature_P for data in (training, twice, heavy))
        torch.testing.assert_close(both, 2 * once, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(weighed, 2 * once, rtol=1e-5, atol=1e-6)
        assert (once >= 0).all()


def test_more_labels_make_it_surer():
    few, many = make_training(6), make_training(300)
    network, images = make_network("al_cnn"), make_blobs(9, seed=3)[0]
    spreads = [read(make_fitted(data, network, **GIVEN), images).exp().std(0).mean() for data in (few, many)]
    assert spreads[1] < 0.8 * spreads[0]


def test_labels_kept_aside_choose_a_prior_that_predicts_them_better():
    training, held_out = make_training(30), make_training(15, seed=9)
    network = fit_briefly(make_network("al_cnn"), training, steps=60)
    losses = {}
    for weights in KINDS:
        for prior in ("validation", "marginal_likelihood"):
            samples = {"weights": weights, "prior": prior, "samples": 10}
            fitted = make_fitted(training, network, validation=held_out, **samples)
            losses[prior] = loss_of(read(fitted, held_out.images_NHWC.numpy()), held_out.labels_N)
        plain = loss_of(network(normalise(held_out.images_NHWC)).log_softmax(-1).unsqueeze(0), held_out.labels_N)
        assert losses["validation"] < losses["marginal_likelihood"]
        assert losses["validation"] < plain + 0.005


def test_without_labels_kept_aside_the_marginal_likelihood_chooses():
    training, images = make_training(30), make_blobs(4)[0]
    nothing = training.at(torch.empty(0, dtype=torch.int64))
    readings = [
        read(make_fitted(training, validation=kept, samples=5, prior=prior), images)
        for kept, prior in ((None, "validation"), (nothing, "validation"), (training, "marginal_likelihood"))
    ]
    assert all(torch.equal(one, other) for one, other in pairwise(readings))


def test_a_round_hands_over_the_labels_that_its_fit_kept_aside():
    fitting = {"name": "supervised", "epochs": 3, "least_steps": 1, "validation_share": 0.3}
    snapshot, found = make_snapshot(labelled=60), {}
    for prior in ("validation", "marginal_likelihood"):
        recipe = make_recipe(fitting=fitting, posterior={"name": "laplace", "prior": prior})
        found[prior] = step(recipe, snapshot, count=3, round_number=1, device="cpu")
    assert found["validation"].fit.validation_count == 18
    assert found["validation"].weights == found["marginal_likelihood"].weights
    assert not np.array_equal(found["validation"].scores, found["marginal_likelihood"].scores)


def test_the_walk_ends_at_the_least_loss_on_either_side():
    for wanted in (1 / 16, 1.0, 1024.0):
        assert least_loss(lambda precision, wanted=wanted: abs(math.log(precision / wanted)), 1.0) == wanted
    assert least_loss(lambda precision: -precision, 1.0) == 2.0**19
    assert least_loss(lambda _precision: 0.0, 5.0) == 5.0


def test_a_prior_is_bounded_where_the_labels_say_nothing():
    assert best_precision(torch.zeros(4), torch.ones(4)) == pytest.approx(1e-6, rel=1e-3)
    assert best_precision(torch.ones(4), torch.zeros(4)) == pytest.approx(1e6, rel=1e-3)
    with pytest.raises(NotFiniteError, match="NaN, infinite or below 0"):
        best_precision(torch.tensor([1.0, math.nan]), torch.ones(2))
    with pytest.raises(ShapeError, match=r"curvature_P: expected shape \[2\], got \[3\]"):
        best_precision(torch.ones(3), torch.ones(2))


@pytest.mark.parametrize("weights", KINDS)
def test_labels_of_one_class_and_a_network_sure_of_itself_stay_finite(weights):
    training = TrainingSet(make_training(3).images_NHWC, torch.zeros(3, dtype=torch.int64))
    network = make_network("al_cnn")
    with torch.no_grad():
        network.head[-1].bias += torch.tensor([200.0, 0.0, 0.0])
    log_probs = read(make_fitted(training, network, weights=weights, samples=4), make_blobs(5)[0])
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(4, 5))


def test_a_head_that_ends_otherwise_is_refused_for_its_last_layer_alone():
    head = nn.Sequential(nn.Linear(64, 3), nn.Softplus())
    network = Network(make_spec("al_cnn"), make_network("al_cnn").trunk, head).eval()
    with pytest.raises(RecipeError, match="does not end in a linear layer") as told:
        POSTERIORS.get("laplace")(make_fitted(make_training(5), network))
    assert "all_weights" in told.value.remedy
    assert (
        read(make_fitted(make_training(5), network, weights="all_weights", samples=3), make_blobs(2)[0]).shape[0] == 3
    )


def test_samples_that_do_not_fit_into_memory_are_refused():
    parameters = parse_pick(CHOICES, {"name": "laplace", "weights": "all_weights", "samples": 1000}).parameters
    check_laplace(make_network("al_cnn"), {**parameters, "samples": 100})
    wide = Network(make_spec(), nn.Flatten(), nn.Linear(64, 5000))
    with pytest.raises(RecipeError, match="1000 samples of the 325,000 weights"):
        check_laplace(wide, parameters)


def test_nothing_to_measure_is_an_error():
    with pytest.raises(ValueError, match="there are none"):
        POSTERIORS.get("laplace")(make_fitted(None, make_network()))
