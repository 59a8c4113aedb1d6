import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

from tests.unit.learning.factories import CPU, make_blobs, make_fitting, make_network, make_recipe, make_snapshot
from worker.learning.errors import ShapeError
from worker.learning.fitting import FITTINGS, TrainingSet
from worker.learning.fitting.consistency import consistency_loss
from worker.learning.fitting.course import balance
from worker.learning.learner import step
from worker.learning.pool import ImageRows, normalise, take


def make_lesson(labelled=6, pool=300, seed=0, **sizes):
    """A few labels, a pool of the same kind of images, and fresh images to judge by."""
    images, labels = make_blobs(labelled + pool + 300, seed=seed, **sizes)
    rows = np.arange(labelled, labelled + pool)
    data = TrainingSet(
        torch.from_numpy(images[:labelled]),
        torch.from_numpy(labels[:labelled]),
        unlabelled=ImageRows(images, rows, CPU),
    )
    return data, normalise(torch.from_numpy(images[labelled + pool :])), torch.from_numpy(labels[labelled + pool :])


def fit(network, data, seed=0, **parameters):
    pick = make_fitting("consistency", **parameters)
    return FITTINGS.get("consistency")(network, data, pick, torch.Generator().manual_seed(seed), device=CPU)


def weights_of(network):
    return torch.cat([value.flatten() for value in network.parameters()])


def naive_consistency_loss(weak, strong, threshold):
    total = 0.0
    for one, other in zip(weak.double().tolist(), strong.double().tolist(), strict=True):
        exps = [math.exp(value) for value in one]
        best = max(range(len(one)), key=one.__getitem__)
        if exps[best] / sum(exps) >= threshold:
            total += math.log(sum(math.exp(value) for value in other)) - other[best]
    return total / len(weak)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7, 0.95, 1.0])
def test_the_loss_agrees_with_its_definition(threshold):
    generator = torch.Generator().manual_seed(0)
    weak, strong = (2 * torch.randn(50, 4, generator=generator) for _ in range(2))
    got = float(consistency_loss(weak, strong, threshold))
    assert got == pytest.approx(naive_consistency_loss(weak, strong, threshold), rel=1e-5)
    assert (got > 0) == (threshold < 1)


def test_nothing_is_learned_through_the_weak_view():
    weak, strong = torch.eye(3).mul(9).requires_grad_(), torch.zeros(3, 3, requires_grad=True)
    consistency_loss(weak, strong, 0.5).backward()
    assert weak.grad is None
    assert strong.grad.diagonal().max() < 0  # a higher logit of the class lowers the loss


def test_views_of_uneven_shape_are_refused_naming_both():
    with pytest.raises(ShapeError, match=r"strong_NC: expected shape \[4, 3\], got \[5, 3\]"):
        consistency_loss(torch.zeros(4, 3), torch.zeros(5, 3), 0.9)


def test_the_pool_teaches_what_a_few_labels_do_not():
    digits = load_digits()
    images, labels = (digits.images * 255 / 16).astype(np.uint8)[..., None], digits.target.astype(np.int64)
    pool = np.arange(1200)
    draws = np.random.default_rng(1)
    rows = np.concatenate([draws.permutation(np.flatnonzero(labels[pool] == label))[:2] for label in range(10)])
    fresh, truth = normalise(torch.from_numpy(images[1200:])), torch.from_numpy(labels[1200:])
    right = []
    for weight in (0.0, 1.0):
        network = make_network("al_cnn", seed=1, classes=10)
        unlabelled = ImageRows(images, pool, CPU)
        data = TrainingSet(torch.from_numpy(images[rows]), torch.from_numpy(labels[rows]), unlabelled=unlabelled)
        sizes = {"epochs": 4, "least_steps": 25, "minibatch": 20, "unlabelled_minibatch": 64}
        fit(network, data, 1, **sizes, unlabelled_weight=weight, threshold=0.8)
        with torch.inference_mode():
            right.append(float((network(fresh).argmax(1) == truth).float().mean()))
    assert right[1] > right[0] + 0.05


def test_the_pool_is_learned_from_only_if_it_counts_and_is_sure():
    def fitted(pool_seed, **parameters):
        data, _, _ = make_lesson()
        pool, _ = make_blobs(200, seed=pool_seed)
        data = TrainingSet(data.images_NHWC, data.labels_N, unlabelled=ImageRows(pool, np.arange(200), CPU))
        network = make_network()
        fit(network, data, **parameters)
        return weights_of(network)

    for ignored in ({"unlabelled_weight": 0.0}, {"threshold": 1.0}):
        assert torch.equal(fitted(1, **ignored), fitted(2, **ignored))
    assert not torch.equal(fitted(1, threshold=0.0), fitted(2, threshold=0.0))


def test_only_rows_of_the_pool_are_drawn():
    images, labels = make_blobs(60)
    spoiled = images.copy()
    spoiled[40:] = 255 - spoiled[40:]
    found = []
    for shown in (images, spoiled):
        network = make_network()
        pool = ImageRows(shown, np.arange(6, 40), CPU)
        data = TrainingSet(torch.from_numpy(shown[:6]), torch.from_numpy(labels[:6]), unlabelled=pool)
        fit(network, data, threshold=0.0)
        found.append(weights_of(network))
    assert torch.equal(*found)


@pytest.mark.parametrize("pool", [None, 0])
def test_without_a_pool_the_labelled_images_are_shown_twice(pool):
    data, _, _ = make_lesson()
    rows = None if pool is None else ImageRows(make_blobs(3)[0], np.empty(0, np.int64), CPU)
    alone = TrainingSet(data.images_NHWC, data.labels_N, unlabelled=rows)
    itself = ImageRows(data.images_NHWC.numpy(), np.arange(6), CPU)
    networks = [make_network(), make_network()]
    fit(networks[0], alone, threshold=0.0)
    fit(networks[1], TrainingSet(data.images_NHWC, data.labels_N, unlabelled=itself), threshold=0.0)
    assert torch.equal(weights_of(networks[0]), weights_of(networks[1]))


def test_kept_weights_are_the_average_of_the_steps():
    data, _, _ = make_lesson()
    first = weights_of(make_network())

    def fitted(average, epochs=1):
        network = make_network()
        assert fit(network, data, epochs=epochs, average=average).steps == epochs
        return weights_of(network)

    live = fitted(0.0)
    # After one step at most 2 / 11 of the first weights are kept, and no more than the average says.
    torch.testing.assert_close(fitted(0.9), first.lerp(live, 1 - 2 / 11))
    torch.testing.assert_close(fitted(0.1), first.lerp(live, 0.9))


def test_the_learning_rate_falls_along_a_cosine():
    data, _, _ = make_lesson()
    report = fit(make_network(), data, epochs=5, least_steps=2, learning_rate=0.01)
    started = [0, *range(1, 8, 2)]  # the rate of the last step before each epoch
    expected = [0.01 * math.cos(7 * math.pi * step / (16 * report.steps)) for step in started]
    assert [epoch.learning_rate for epoch in report.epochs] == pytest.approx(expected)


def test_the_epoch_with_the_least_validation_loss_is_kept():
    data, _, _ = make_lesson(labelled=60)
    # A third of the labels are wrong, so that fitting them ends up worse on others.
    labels = torch.where(torch.arange(60) % 3 == 0, (data.labels_N + torch.arange(60)) % 3, data.labels_N)
    wrong = TrainingSet(data.images_NHWC, labels, unlabelled=data.unlabelled)
    options = {"epochs": 30, "least_steps": 4, "learning_rate": 0.1, "unlabelled_weight": 0.0, "average": 0.0}
    report = fit(make_network(), wrong, validation_share=0.5, **options)
    losses = [epoch.validation_loss for epoch in report.epochs]
    assert report.best_epoch == 1 + losses.index(min(losses)) < 30
    assert fit(make_network(), wrong, **options).best_epoch == 30


def test_a_round_learns_from_candidates_and_never_from_test_images():
    recipe = make_recipe(fitting={"name": "consistency", "epochs": 2, "least_steps": 2, "threshold": 0.0})
    snapshot = make_snapshot()

    def weights(changed_rows):
        images = snapshot.images_NHWC.copy()
        images[changed_rows] = 255 - images[changed_rows]
        other = type(snapshot)(**{**vars(snapshot), "images_NHWC": images})
        return step(recipe, other, count=3, round_number=1, device="cpu").weights

    nothing = weights(np.empty(0, np.int64))
    assert weights(snapshot.test_rows) == nothing
    assert weights(snapshot.candidate_rows) != nothing


def test_image_rows_are_those_of_the_array():
    images, _ = make_blobs(30)
    rows = np.array([7, 3, 29, 3])
    pool = ImageRows(images, rows, CPU)
    assert len(pool) == 4
    assert torch.equal(pool.at(torch.tensor([2, 0, 0])), take(images, rows[[2, 0, 0]], CPU))


def test_balanced_classes_weigh_the_same_and_the_mean_weight_stays():
    labels = torch.tensor([0] * 6 + [2] * 3 + [5])
    data = TrainingSet(torch.zeros(10, 2, 2, 1, dtype=torch.uint8), labels)
    weights = balance(data).weights_N
    torch.testing.assert_close(weights, torch.tensor([10 / 18] * 6 + [10 / 9] * 3 + [10 / 3]))
    given = TrainingSet(data.images_NHWC, labels, torch.tensor([2.0] * 3 + [1.0] * 7))
    again = balance(given).weights_N
    totals = [float(again[labels == label].sum()) for label in (0, 2, 5)]
    assert totals == pytest.approx([13 / 3] * 3)
    assert float(again[0] / again[3]) == pytest.approx(2)


@pytest.mark.parametrize("name", FITTINGS.names())
def test_balanced_classes_make_the_network_notice_the_rare_one(name):
    images, labels = make_blobs(400)
    overlap = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
    images = (images // 4 + 3 * (overlap // 4)).astype(np.uint8)
    rare = np.concatenate([np.flatnonzero(labels == 0)[:80], np.flatnonzero(labels == 1)[:4]])
    data = TrainingSet(torch.from_numpy(images[rare]), torch.from_numpy(labels[rare]))
    fresh = normalise(torch.from_numpy(images[np.flatnonzero(labels == 1)[4:]]))
    recalls = []
    for way in ("none", "balanced"):
        network = make_network()
        pick = make_fitting(name, epochs=10, learning_rate=0.01, class_weights=way, threshold=1.0, average=0.0)
        FITTINGS.get(name)(network, data, pick, torch.Generator().manual_seed(0), device=CPU)
        with torch.inference_mode():
            recalls.append(float((network(fresh).argmax(1) == 1).float().mean()))
    assert recalls[1] > recalls[0] + 0.2


def test_the_labelled_loss_is_the_cross_entropy_alone_when_the_pool_does_not_count():
    data, _, _ = make_lesson()
    still = TrainingSet(torch.full_like(data.images_NHWC, 90), data.labels_N)
    network = make_network()
    with torch.inference_mode():
        expected = float(functional.cross_entropy(network(normalise(still.images_NHWC)), still.labels_N))
    report = fit(network, still, epochs=1, unlabelled_weight=0.0)
    assert report.epochs[0].loss == pytest.approx(expected, rel=1e-5)
