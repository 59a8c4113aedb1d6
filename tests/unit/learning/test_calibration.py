import math

import numpy as np
import pytest
import torch

from app.errors import RecipeError
from tests.unit.learning.factories import (
    CPU,
    QUICK_NETWORKS,
    make_fitting,
    make_network,
    make_training_set,
)
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.evaluation import evaluate
from worker.learning.fitting import FITTINGS, Stopped, TrainingSet
from worker.learning.fitting.calibration import assign_folds, best_temperature, scale_logits
from worker.learning.networks import Network
from worker.learning.pool import normalise


def fit(network, data, name="supervised", deadline=None, **parameters):
    generator = torch.Generator().manual_seed(0)
    return FITTINGS.get(name)(network, data, make_fitting(name, **parameters), generator, device=CPU, deadline=deadline)


def make_logits(count=400, classes=4, seed=0):
    """Logits, and labels drawn from their softmax: perfectly calibrated."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, classes, generator=generator)
    return logits, torch.multinomial(torch.softmax(logits, dim=1), 1, generator=generator).squeeze(1)


def smoothed_loss(logits, labels, temperature):
    """The definition: cross-entropy with labels smoothed by the rule of succession, in float64."""
    count, classes = logits.shape
    log_probs = torch.log_softmax(logits.double() / temperature, dim=1)
    targets = torch.full((count, classes), 1 / (count + classes), dtype=torch.float64)
    targets[torch.arange(count), labels] = (count + 1) / (count + classes)
    return float(-(targets * log_probs).sum() / count)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("count", [5, 400])
def test_the_temperature_has_the_least_smoothed_loss(scale, count):
    logits, labels = make_logits(count)
    best = best_temperature(scale * logits, labels)
    losses = {
        factor: smoothed_loss(scale * logits, labels, best * factor) for factor in (0.5, 0.9, 0.99, 1, 1.01, 1.1, 2)
    }
    assert min(losses, key=losses.get) == 1


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_temperature_undoes_a_scale(scale):
    logits, labels = make_logits(20_000)
    assert best_temperature(scale * logits, labels) == pytest.approx(scale, rel=0.05)


def test_a_few_labels_that_all_are_right_do_not_ask_for_certainty():
    logits = torch.eye(3).repeat(4, 1)
    temperature = best_temperature(logits, torch.arange(3).repeat(4))
    # At the optimum every probability is its smoothed label: 13 / 15 for the class, 1 / 15 for each other.
    assert 1 / temperature == pytest.approx(math.log(13), rel=1e-6)


def test_logits_of_no_information_leave_a_temperature_in_bounds():
    assert 0.05 <= best_temperature(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])) <= 20
    wrong = torch.eye(2).repeat(5, 1) * 50
    assert best_temperature(wrong, torch.tensor([1, 0]).repeat(5)) == pytest.approx(20)


def test_bad_logits_are_refused():
    with pytest.raises(ShapeError, match=r"labels_N: expected shape \[3\], got \[2\]"):
        best_temperature(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"expected shape \[N >= 1, C\], got \[0, 2\]"):
        best_temperature(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(NotFiniteError):
        best_temperature(torch.full((1, 2), math.nan), torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize("name", QUICK_NETWORKS)
def test_scaling_the_last_layer_scales_the_logits_of_every_network(name):
    network, images = make_network(name), torch.rand(2, 1, 8, 8)
    with torch.inference_mode():
        before, features = network(images), network.trunk(images)
        scale_logits(network, 0.25)
        torch.testing.assert_close(network(images), before / 4, atol=1e-5, rtol=1e-4)
        assert torch.equal(network.trunk(images), features)


def test_a_head_without_a_last_linear_layer_is_told():
    network = Network(
        make_network().spec, torch.nn.Flatten(), torch.nn.Sequential(torch.nn.Linear(64, 3), torch.nn.ReLU())
    )
    with pytest.raises(TypeError, match="ends in ReLU"):
        scale_logits(network, 2.0)


def make_noisy(count, seed=0, wrong=0.3):
    """Blobs of which a share has a random label: whoever learns them by heart is too sure."""
    data = make_training_set(count, seed=seed)
    draws = np.random.default_rng(seed)
    labels = torch.from_numpy(np.where(draws.random(count) < wrong, draws.integers(0, 3, count), data.labels_N.numpy()))
    return TrainingSet(data.images_NHWC, labels)


def evaluate_on(network, data):
    with torch.inference_mode():
        log_probs = torch.log_softmax(network(normalise(data.images_NHWC)), dim=1)
    return evaluate(log_probs.numpy(), data.labels_N.numpy())


OVERFIT = {"epochs": 60, "learning_rate": 0.02, "patience": 1000, "least_steps": 4}


@pytest.mark.parametrize(("way", "share"), [("validation", 0.3), ("cross_fit", 0.0), ("cross_fit", 0.3)])
def test_a_network_that_is_too_sure_becomes_as_sure_as_it_is_right(way, share):
    data, fresh = make_noisy(120), make_noisy(600, seed=1)
    plain, tempered = make_network(), make_network()
    options = {**OVERFIT, "validation_share": share, "reduce_after": 1000}
    options |= {"epochs": 20} if share else {}
    fit(plain, data, **options)
    report = fit(tempered, data, **options, temperature=way)
    before, after = evaluate_on(plain, fresh), evaluate_on(tempered, fresh)
    assert after.accuracy == before.accuracy
    assert report.temperature > 1
    assert after.nll < before.nll
    # Fits to fewer labels are less right, so crossing them errs towards doubt; validation labels judge the fit itself.
    assert way == "cross_fit" or after.ece < before.ece
    with torch.inference_mode():
        images = normalise(fresh.images_NHWC)
        torch.testing.assert_close(tempered(images) * report.temperature, plain(images), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", FITTINGS.names())
def test_without_a_temperature_nothing_is_measured(name):
    assert fit(make_network(), make_training_set(30), name, validation_share=0.4).temperature is None


@pytest.mark.parametrize("name", FITTINGS.names())
@pytest.mark.parametrize(("way", "share"), [("validation", 0.4), ("cross_fit", 0.0)])
def test_every_fitting_measures_a_temperature(name, way, share):
    report = fit(make_network(), make_training_set(30), name, validation_share=share, temperature=way)
    assert 0.05 <= report.temperature <= 20


def test_a_temperature_of_validation_labels_needs_a_share_of_them():
    with pytest.raises(RecipeError, match=r"fitting\.temperature: there are no validation labels.*cross_fit"):
        fit(make_network(), make_training_set(30), temperature="validation")


def test_too_few_labels_measure_no_temperature():
    assert (
        fit(make_network(), make_training_set(20), temperature="validation", validation_share=0.1).temperature is None
    )
    assert fit(make_network(), make_training_set(5), temperature="cross_fit").temperature is None


def test_a_fit_cut_short_measures_no_temperature():
    report = fit(make_network(), make_training_set(30), deadline=0.0, epochs=9, temperature="cross_fit")
    assert (report.stopped_by, report.temperature) == (Stopped.DEADLINE, None)


def test_folds_are_even_within_every_class_and_drawn_by_their_generator():
    labels = torch.tensor([0] * 9 + [1] * 6 + [2] * 2)[torch.randperm(17, generator=torch.Generator().manual_seed(3))]
    folds, same, other = (assign_folds(labels, 3, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(folds, same) and not torch.equal(folds, other)
    assert [int(((labels == 0) & (folds == fold)).sum()) for fold in range(3)] == [3, 3, 3]
    assert [int(((labels == 1) & (folds == fold)).sum()) for fold in range(3)] == [2, 2, 2]
    assert max(int(((labels == 2) & (folds == fold)).sum()) for fold in range(3)) == 1
