import time

import pytest
import torch
from torch import nn
from torch.nn import functional

from app.errors import RecipeError
from tests.unit.learning.factories import CPU, QUICK_NETWORKS, make_fitting, make_network, make_training_set
from worker.learning.errors import ShapeError
from worker.learning.fitting import FITTINGS, Stopped, TrainingSet
from worker.learning.fitting.splitting import stratified_split
from worker.learning.fitting.stopping import BestWeights, Plateau
from worker.learning.pool import normalise

ALL = pytest.mark.parametrize("name", FITTINGS.names())


def fit(
    network,
    data,
    seed=0,
    fitting="supervised",
    deadline=None,
    on_epoch=lambda _report: None,
    validation=None,
    **parameters,
):
    generator = torch.Generator().manual_seed(seed)
    pick, options = make_fitting(fitting, **parameters), {"deadline": deadline, "on_epoch": on_epoch}
    return FITTINGS.get(fitting)(network, data, pick, generator, device=CPU, validation=validation, **options)


def make_unlearnable(count=60, seed=7):
    """Images of other classes than their labels say: the better a network fits, the worse it does on them."""
    data = make_training_set(count, seed=seed)
    return TrainingSet(data.images_NHWC, (data.labels_N + 1) % 3)


def loss_of(network, data):
    with torch.inference_mode():
        return float(functional.cross_entropy(network(normalise(data.images_NHWC)), data.labels_N))


def accuracy_of(network, data):
    with torch.inference_mode():
        return float((network(normalise(data.images_NHWC)).argmax(1) == data.labels_N).float().mean())


@ALL
@pytest.mark.parametrize("network_name", QUICK_NETWORKS)
def test_every_network_learns_what_it_is_shown(name, network_name):
    network = make_network(network_name)
    report = fit(network, make_training_set(60), fitting=name, epochs=30, learning_rate=0.01)
    assert accuracy_of(network, make_training_set(60, seed=1)) > 0.95
    assert report.best.loss < report.epochs[0].loss / 2
    assert not network.training


@ALL
@pytest.mark.parametrize("network_name", QUICK_NETWORKS)
@pytest.mark.parametrize("count", [1, 2, 33])
def test_a_few_labels_of_one_class_are_enough_to_fit(name, network_name, count):
    data = make_training_set(count)
    data = TrainingSet(data.images_NHWC, torch.ones_like(data.labels_N))
    network = make_network(network_name)
    report = fit(network, data, fitting=name, epochs=20, learning_rate=0.05, minibatch=32, augment=True)
    assert torch.isfinite(torch.tensor([epoch.loss for epoch in report.epochs])).all()
    assert accuracy_of(network, data) == 1.0


@ALL
def test_the_same_seed_fits_the_same_and_another_another(name):
    def fitted(seed):
        network = make_network("al_cnn")
        fit(network, make_training_set(40), seed, name, augment=True)
        return torch.cat([value.flatten() for value in network.parameters()])

    assert torch.equal(fitted(0), fitted(0))
    assert not torch.equal(fitted(0), fitted(1))


@ALL
def test_nothing_labelled_is_refused(name):
    with pytest.raises(ValueError, match="no labelled images"):
        fit(make_network(), make_training_set(0), fitting=name)


@ALL
def test_fitting_past_the_deadline_stops_after_one_epoch_and_says_so(name):
    network = make_network()
    report = fit(network, make_training_set(30), fitting=name, deadline=time.monotonic() - 1, epochs=50)
    assert (report.stopped_by, len(report.epochs)) == (Stopped.DEADLINE, 1)
    assert not network.training


@ALL
def test_a_loss_that_is_lost_is_the_learning_rates_fault(name):
    network = make_network()
    with torch.no_grad():
        network.head.weight.fill_(3e38)
    with pytest.raises(RecipeError, match=r"fitting\.learning_rate: the loss was lost in epoch 1; use less"):
        fit(network, make_training_set(30), fitting=name, epochs=50)


@ALL
def test_epochs_are_reported_as_they_end(name):
    told = []
    report = fit(make_network(), make_training_set(30), fitting=name, on_epoch=told.append, validation_share=0.4)
    assert tuple(told) == report.epochs
    assert [epoch.epoch for epoch in told] == [1, 2, 3, 4, 5]
    assert report.stopped_by is Stopped.EPOCHS
    assert all(0 <= epoch.validation_accuracy <= 1 for epoch in told)


def test_fitting_is_adam_on_the_mean_loss():
    data, network, bare = make_training_set(20), make_network(), make_network()
    report = fit(network, data, epochs=3, minibatch=32, learning_rate=0.01)
    optimizer = torch.optim.Adam(bare.parameters(), 0.01)
    losses = []
    for _ in range(3):
        loss = functional.cross_entropy(bare(normalise(data.images_NHWC)), data.labels_N)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert [epoch.loss for epoch in report.epochs] == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(network.head.weight, bare.head.weight)


@pytest.mark.parametrize("network_name", ["softmax_regression", "al_cnn"])
def test_what_remains_of_a_fit_is_the_average_of_its_steps(network_name):
    data, share = make_training_set(20), 0.3
    epochs = {"minibatch": 32, "learning_rate": 0.001}  # one minibatch holds all, so an epoch is one step
    expected = make_network(network_name).state_dict()
    for steps in (1, 2, 3):
        live = make_network(network_name)
        fit(live, data, epochs=steps, **epochs)
        kept = min(share, (1 + steps) / (10 + steps))
        for name, value in live.state_dict().items():
            mixed = kept * expected[name] + (1 - kept) * value
            expected[name] = mixed if value.is_floating_point() else value
    network = make_network(network_name)
    report = fit(network, data, epochs=3, average=share, **epochs)
    assert report.best_epoch == 3
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, expected[name], msg=name)


def test_it_is_the_averaged_weights_that_are_validated_and_kept():
    data, validation = make_training_set(40), make_unlearnable(30)
    parameters = {"average": 0.9, "epochs": 6, "learning_rate": 0.01, "patience": 50}
    network = make_network()
    report = fit(network, data, validation=validation, **parameters)
    assert report.best.validation_loss == min(epoch.validation_loss for epoch in report.epochs)
    assert loss_of(network, validation) == pytest.approx(report.best.validation_loss, rel=1e-5)
    plain = fit(make_network(), data, validation=validation, **{**parameters, "average": 0.0})
    assert [epoch.loss for epoch in report.epochs] == [epoch.loss for epoch in plain.epochs]
    assert report.epochs[-1].validation_loss < plain.epochs[-1].validation_loss  # it lags behind what it does worse


def test_an_epoch_of_few_labels_takes_at_least_the_steps_asked_for():
    report = fit(make_network(), make_training_set(20), epochs=2, minibatch=8, least_steps=5)
    assert report.steps == 2 * 6  # two passes of three minibatches


def test_the_best_weights_are_restored_when_later_epochs_are_worse():
    # Validation images show the next class here, so the better the network fits the worse they do.
    data = make_training_set(60)
    rows, kept_aside = stratified_split(data.labels_N, 0.5, torch.Generator().manual_seed(0))
    images = data.images_NHWC.clone()
    images[kept_aside] = data.images_NHWC[(kept_aside + 1) % 60]
    network, wrong = make_network(), TrainingSet(images, data.labels_N)
    report = fit(network, wrong, epochs=12, patience=100, learning_rate=0.01, validation_share=0.5)
    losses = [epoch.validation_loss for epoch in report.epochs]
    assert losses[-1] > min(losses)
    assert losses[report.best_epoch - 1] == min(losses)
    assert loss_of(network, wrong.at(kept_aside)) == pytest.approx(min(losses), rel=1e-5)
    assert report.validation_accuracy == pytest.approx(accuracy_of(network, wrong.at(kept_aside)))
    assert (report.training_count, report.validation_count) == (len(rows), len(kept_aside)) == (30, 30)


def test_fitting_stops_when_patience_runs_out():
    network = make_network()
    with torch.no_grad():
        network.head.weight.zero_()
    # Two copies of one image with different labels: nothing can be learned after the start.
    image = torch.full((2, 8, 8, 1), 100, dtype=torch.uint8)
    report = fit(network, TrainingSet(image, torch.tensor([0, 1])), epochs=500, patience=3, learning_rate=1.0)
    assert report.stopped_by is Stopped.PATIENCE
    assert len(report.epochs) == report.best_epoch + 3 < 500


def test_validation_images_are_never_trained_on():
    data = make_training_set(60)
    generator = torch.Generator().manual_seed(0)
    _, kept_aside = stratified_split(data.labels_N, 0.5, generator)
    images = data.images_NHWC.clone()
    images[kept_aside] = 255 - images[kept_aside]
    networks = []
    for shown in (data.images_NHWC, images):
        networks.append(make_network())
        fit(networks[-1], TrainingSet(shown, data.labels_N), epochs=1, validation_share=0.5)
    assert torch.equal(networks[0].head.weight, networks[1].head.weight)


def test_too_few_labels_are_all_trained_on():
    report = fit(make_network(), make_training_set(30), validation_share=0.2)
    assert (report.training_count, report.validation_count) == (30, 0)
    assert report.validation_accuracy is None


@ALL
def test_given_validation_images_take_the_place_of_a_share_of_the_labels(name):
    data, validation = make_training_set(30), make_training_set(20, seed=3)
    network, alone = make_network(), make_network()
    report = fit(network, data, fitting=name, validation=validation, epochs=1)
    fit(alone, data, fitting=name, epochs=1)
    assert (report.training_count, report.validation_count) == (30, 20)
    assert report.validation_accuracy == pytest.approx(accuracy_of(network, validation))
    assert report.best.validation_loss == pytest.approx(loss_of(network, validation), rel=1e-5)
    assert torch.equal(network.head.weight, alone.head.weight)


@ALL
def test_given_validation_images_decide_which_epoch_is_kept(name):
    network, validation = make_network(), make_unlearnable()
    report = fit(network, make_training_set(60), fitting=name, validation=validation, epochs=12, patience=100)
    losses = [epoch.validation_loss for epoch in report.epochs]
    assert report.best_epoch == 1 + losses.index(min(losses)) < 12
    assert loss_of(network, validation) == pytest.approx(min(losses), rel=1e-5)


@ALL
def test_labels_are_not_kept_aside_beside_given_validation_images(name):
    with pytest.raises(RecipeError, match=r"fitting\.validation_share: .* set it to 0"):
        fit(make_network(), make_training_set(30), fitting=name, validation=make_training_set(9), validation_share=0.4)


def test_a_temperature_can_be_measured_on_given_validation_images():
    validation = make_training_set(30, seed=3)
    report = fit(make_network(), make_training_set(30), validation=validation, temperature="validation")
    assert report.temperature is not None


@pytest.mark.parametrize("seed", range(6))
def test_by_accuracy_the_first_most_right_weights_are_kept_those_of_the_start_included(seed):
    validation = make_training_set(40, seed=90)
    labels = torch.randint(3, (40,), generator=torch.Generator().manual_seed(seed))
    validation = TrainingSet(
        validation.images_NHWC, torch.where(torch.arange(40) % 3 == 0, labels, validation.labels_N)
    )
    network = make_network(seed=seed)
    start = accuracy_of(network, validation)
    options = {"stop_by": "accuracy", "epochs": 40, "patience": 6, "learning_rate": 0.003}
    report = fit(network, make_training_set(9, seed=seed), validation=validation, **options)
    accuracies = [report.begun.validation_accuracy, *(epoch.validation_accuracy for epoch in report.epochs)]
    assert accuracies[0] == pytest.approx(start)
    assert report.best_epoch == accuracies.index(max(accuracies))
    assert report.validation_accuracy == max(accuracies)
    assert accuracy_of(network, validation) == pytest.approx(max(accuracies))
    assert report.stopped_by is Stopped.EPOCHS or len(report.epochs) == report.best_epoch + 6


def test_a_fit_that_only_gets_worse_by_accuracy_gives_back_the_weights_it_began_with():
    network, validation = make_network(), make_unlearnable()
    fit(network, validation, epochs=30, learning_rate=0.01)
    before = network.head.weight.clone()
    data = make_training_set(60)
    loss = loss_of(network, data)
    options = {"stop_by": "accuracy", "epochs": 30, "patience": 4, "learning_rate": 0.01}
    report = fit(network, data, validation=validation, **options)
    assert torch.equal(network.head.weight, before)
    assert (report.best_epoch, len(report.epochs), report.stopped_by) == (0, 4, Stopped.PATIENCE)
    assert (report.best.epoch, report.best.validation_accuracy) == (0, 1.0)
    assert report.best.loss == pytest.approx(loss, rel=1e-5)


def test_accuracy_and_loss_may_keep_different_epochs_of_the_same_fit():
    data, validation = make_training_set(30), make_training_set(30, seed=3)
    reports = {}
    for stop_by in ("loss", "accuracy"):
        options = {"stop_by": stop_by, "epochs": 20, "patience": 100, "reduce_after": 100, "learning_rate": 0.01}
        reports[stop_by] = fit(make_network(), data, validation=validation, **options)
    assert reports["loss"].epochs == reports["accuracy"].epochs
    assert reports["loss"].best_epoch == 20  # the loss falls on and on
    assert reports["accuracy"].best_epoch < 20  # nothing is wrong any more
    assert reports["loss"].begun is None


def test_accuracy_cannot_decide_without_validation_images():
    with pytest.raises(RecipeError, match=r"fitting\.stop_by: .* set fitting\.validation_share, or use loss"):
        fit(make_network(), make_training_set(30), stop_by="accuracy")


def test_with_too_few_labels_to_keep_any_aside_the_loss_decides():
    report = fit(make_network(), make_training_set(20), stop_by="accuracy", validation_share=0.2)
    assert (report.validation_count, report.begun) == (0, None)
    assert report.best_epoch == 5


def test_an_image_of_weight_zero_teaches_nothing_and_of_two_as_much_as_two():
    data = make_training_set(12)
    doubled = torch.cat([torch.arange(6), torch.arange(6)])
    networks = [make_network(), make_network()]
    weights = torch.tensor([2.0] * 6 + [0.0] * 6)
    fit(networks[0], TrainingSet(data.images_NHWC, data.labels_N, weights), minibatch=12)
    fit(networks[1], data.at(doubled), minibatch=12)
    torch.testing.assert_close(networks[0].head.weight, networks[1].head.weight)
    assert not torch.equal(networks[0].head.weight, make_network().head.weight)


def test_training_sets_of_uneven_length_are_refused_naming_both():
    data = make_training_set(4)
    with pytest.raises(ShapeError, match=r"labels_N: expected shape \[4\], got \[3\]"):
        TrainingSet(data.images_NHWC, data.labels_N[:3])
    with pytest.raises(ShapeError, match=r"weights_N: expected shape \[4\], got \[5\]"):
        TrainingSet(data.images_NHWC, data.labels_N, torch.ones(5))


def test_the_learning_rate_halves_after_stale_epochs_down_to_its_floor():
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], 5e-6)
    plateau, rates = Plateau(patience=100, reduce_after=2), []
    for loss in (1.0, 1.0, 1.0, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6):
        plateau.see(loss)
        plateau.slow_down(optimizer)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([5e-6, 5e-6, 2.5e-6, 2.5e-6, 2.5e-6, 1.25e-6, 1.25e-6, 1e-6, 1e-6, 1e-6])
    assert (plateau.best_epoch, plateau.best_loss, plateau.stale) == (4, 0.5, 6)


def test_a_learning_rate_below_the_floor_is_left_alone():
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], 1e-7)
    plateau = Plateau(patience=100, reduce_after=1)
    for _ in range(3):
        plateau.see(1.0)
        plateau.slow_down(optimizer)
    assert optimizer.param_groups[0]["lr"] == 1e-7


def test_the_fit_uses_the_halved_learning_rate():
    image = torch.full((2, 8, 8, 1), 100, dtype=torch.uint8)
    data = TrainingSet(image, torch.tensor([0, 1]))
    report = fit(make_network(), data, epochs=60, patience=50, reduce_after=3, learning_rate=1.0)
    rates = [epoch.learning_rate for epoch in report.epochs]
    assert rates[0] == 1.0
    assert rates[-1] < 0.5
    assert set(rates) <= {2.0**-power for power in range(30)}


def test_patience_counts_from_the_last_best():
    plateau = Plateau(patience=2, reduce_after=9)
    seen = [(plateau.see(loss), plateau.is_over) for loss in (1.0, 2.0, 0.9, 0.9, 0.9)]
    assert seen == [(True, False), (False, False), (True, False), (False, False), (False, True)]


def test_best_weights_bring_back_parameters_and_buffers():
    module = nn.BatchNorm2d(2)
    best = BestWeights(module)
    module(torch.rand(4, 2, 3, 3))
    best.keep()
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    with torch.no_grad():
        module.weight.add_(1)
    module(torch.rand(4, 2, 3, 3))
    assert not torch.equal(module.running_mean, kept["running_mean"])
    best.restore()
    assert all(torch.equal(value, kept[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_a_split_keeps_every_class_its_share(share):
    labels = torch.tensor([0] * 100 + [1] * 40 + [2] * 20 + [5])[torch.randperm(161, generator=torch.Generator())]
    rows, kept_aside = stratified_split(labels, share, torch.Generator().manual_seed(0))
    assert sorted([*rows.tolist(), *kept_aside.tolist()]) == list(range(161))
    assert len(kept_aside) == round(share * 161)
    for label, total in ((0, 100), (1, 40), (2, 20)):
        assert abs(int((labels[kept_aside] == label).sum()) - share * total) <= 1
    assert 5 in labels[rows]


def test_a_split_leaves_every_class_something_to_train_on():
    labels = torch.arange(30) % 15
    rows, kept_aside = stratified_split(labels, 0.5, torch.Generator().manual_seed(0))
    assert labels[rows].unique().tolist() == list(range(15))
    assert len(kept_aside) == 15


def test_a_split_never_keeps_the_only_image_of_a_class_aside():
    labels = torch.tensor([0] * 20 + list(range(1, 11)))
    rows, kept_aside = stratified_split(labels, 0.5, torch.Generator().manual_seed(0))
    assert labels[kept_aside].tolist() == [0] * 15
    assert labels[rows].unique().tolist() == list(range(11))


def test_a_split_is_drawn_by_its_generator():
    labels = torch.zeros(40, dtype=torch.int64)
    first, same, other = (stratified_split(labels, 0.5, torch.Generator().manual_seed(seed))[1] for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
