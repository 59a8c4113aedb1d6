"""Co-training: who teaches whom against a naive loop, and what a pair learns from in which epoch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from app.errors import RecipeError
from app.recipes import PSEUDO_LABELERS, parse_pick
from tests.unit.learning.factories import CPU, make_blobs, make_fitting, make_network, make_training_set
from worker.learning.co_training import (
    NOBODY,
    Pupil,
    Source,
    co_train,
    find_teachers,
    halve,
    source_of,
    take_sure,
)
from worker.learning.errors import ShapeError
from worker.learning.fitting import FITTINGS, TrainingSet
from worker.learning.pool import epoch_minibatches, normalise


def make_pick(**parameters):
    plain = {"name": "co_training", "epochs": 4, "learning_rate": 0.001, "condition": 2, "labelled": "own"}
    return parse_pick(PSEUDO_LABELERS, {**plain, **parameters})


def make_pupils(network="al_cnn", count=12, fitted=10, seed=0):
    """A pair, each fitted to images of its own; those of the second are none of the first's."""
    pupils = []
    for own in range(2):
        net, data = make_network(network, seed=own), make_training_set(count, seed=100 * (seed + 1) + own)
        generator = torch.Generator().manual_seed(own)
        pick = make_fitting(epochs=fitted, learning_rate=0.01)
        FITTINGS.get("supervised")(net, data, pick, generator, device=CPU)
        pupils.append(Pupil(net, data, torch.Generator().manual_seed(10 + own)))
    return tuple(pupils)


def train_pair(pick, fitting=None, pupils=None, rows=None, **options):
    """Co-train on 60 images of noisy bands; return the epochs that were told."""
    images, _ = make_blobs(60, seed=5)
    rows = np.arange(60) if rows is None else rows
    told = []
    fitting = fitting or make_fitting()
    last = co_train(pupils or make_pupils(), images, rows, pick, fitting, device=CPU, on_epoch=told.append, **options)
    assert last is told[-1]
    return told


def weights_of(pupils):
    return torch.cat([value.flatten() for pupil in pupils for value in pupil.network.parameters()])


def naive_teachers(probs_A_NC, probs_B_NC, threshold):
    """As published, image by image: they differ, one is above the threshold and the other is below."""
    found = []
    for probs_a, probs_b in zip(probs_A_NC.tolist(), probs_B_NC.tolist(), strict=True):
        class_a, class_b = probs_a.index(max(probs_a)), probs_b.index(max(probs_b))
        if class_a == class_b or (max(probs_a) >= threshold) == (max(probs_b) >= threshold):
            found.append((NOBODY, None, None))
        elif max(probs_a) >= threshold:
            found.append((0, class_a, max(probs_a)))
        else:
            found.append((1, class_b, max(probs_b)))
    return found


@st.composite
def probabilities(draw):
    count, classes = draw(st.integers(0, 30)), draw(st.integers(2, 5))
    # Small whole numbers give ties and values that meet the threshold exactly.
    weights = st.lists(st.integers(0, 4), min_size=classes, max_size=classes).filter(any)
    pair = [draw(st.lists(weights, min_size=count, max_size=count)) for _ in range(2)]
    weights_2NC = torch.tensor(pair, dtype=torch.float64).reshape(2, count, classes)
    return tuple(weights_2NC / weights_2NC.sum(-1, keepdim=True))


@given(probabilities(), st.sampled_from([0.0, 0.25, 0.4, 0.5, 0.75, 1.0]))
def test_teachers_are_those_of_the_naive_rule(probs, threshold):
    found = find_teachers(*probs, threshold)
    for place, (teacher, label, confidence) in enumerate(naive_teachers(*probs, threshold)):
        assert int(found.teachers_N[place]) == teacher
        if teacher != NOBODY:
            assert (int(found.classes_N[place]), float(found.confidences_N[place])) == (label, confidence)


@given(probabilities(), st.floats(0, 1))
def test_changing_places_changes_the_teacher_and_nothing_else(probs, threshold):
    one, other = find_teachers(*probs, threshold), find_teachers(*reversed(probs), threshold)
    swapped = torch.where(other.teachers_N == NOBODY, NOBODY, 1 - other.teachers_N)
    assert torch.equal(one.teachers_N, swapped)
    taught = one.teachers_N != NOBODY
    assert torch.equal(one.classes_N[taught], other.classes_N[taught])
    assert torch.equal(one.confidences_N[taught], other.confidences_N[taught])


def test_probabilities_of_other_shapes_are_refused():
    with pytest.raises(ShapeError, match="probs_B_NC"):
        find_teachers(torch.rand(4, 3), torch.rand(4, 2), 0.5)
    with pytest.raises(ShapeError, match="probs_A_NC"):
        find_teachers(torch.rand(3), torch.rand(3), 0.5)


@pytest.mark.parametrize(
    ("condition", "own_epochs", "sources"),
    [
        (1, "even", ["other"] * 4),
        (1, "odd", ["other"] * 4),
        (2, "even", ["other", "own", "other", "own"]),
        (2, "odd", ["own", "other", "own", "other"]),
        (0, "even", ["nobody"] * 4),
    ],
)
def test_conditions_and_parity(condition, own_epochs, sources):
    assert [source_of(epoch, condition, own_epochs).value for epoch in range(1, 5)] == sources


@given(st.lists(st.integers(0, 4), max_size=60), st.integers(0, 99))
def test_halves_are_disjoint_cover_all_and_share_every_class_evenly(labels, seed):
    labels_N = torch.tensor(labels, dtype=torch.int64)
    first, second = halve(labels_N, torch.Generator().manual_seed(seed))
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(len(labels)))
    for part in (torch.bincount(labels_N[half], minlength=5) for half in (first, second)):
        assert ((torch.bincount(labels_N, minlength=5) / 2 - part).abs() <= 0.5).all()


def test_another_seed_draws_other_halves():
    labels_N = torch.arange(40) % 3
    first, _ = halve(labels_N, torch.Generator().manual_seed(0))
    other, _ = halve(labels_N, torch.Generator().manual_seed(1))
    assert first.tolist() != other.tolist()


def test_what_is_taken_is_what_the_rule_says_of_both_networks_predictions():
    pupils, (images, _) = make_pupils(), make_blobs(60, seed=5)
    networks = tuple(pupil.network for pupil in pupils)
    rows = np.arange(3, 60)
    taken = take_sure(networks, images, rows, make_pick(confidence=0.5), CPU)
    with torch.inference_mode():
        shown = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        probs = [network(shown).softmax(1) for network in networks]
    expected = naive_teachers(*(one[3:] for one in probs), 0.5)
    assert sum(map(len, taken)) > 0
    for own, labels in enumerate(taken):
        wanted = [(row, label) for row, (teacher, label, _) in zip(rows, expected, strict=True) if teacher == own]
        assert list(zip(labels.rows.tolist(), labels.labels.tolist(), strict=True)) == wanted
        assert (labels.confidences >= 0.5).all()


def naive_pair(pick, fitting, rows, epochs=4):
    """The same epochs with no more than torch: labels and what is taught, one after the other, in one pass each."""
    pupils, (images, _) = make_pupils("softmax_regression", fitted=2), make_blobs(60, seed=5)
    optimizers = [torch.optim.Adam(pupil.network.parameters(), 0.001) for pupil in pupils]
    weight, taken_by_epoch = pick.number("weight"), []
    for epoch in range(1, epochs + 1):
        taken = naive_taken([pupil.network for pupil in pupils], images, rows, pick.number("confidence"))
        is_own_turn = pick.integer("condition") == 2 and ["even", "odd"][epoch % 2] == pick.text("own_epochs")
        for own, pupil in enumerate(pupils):
            is_taught = pick.integer("condition") > 0
            taught = taken[own if is_own_turn else 1 - own] if is_taught and weight else []
            whose = {"own": [own], "both": [0, 1], "source": [1 - own if is_taught and not is_own_turn else own]}
            along = [pupils[each].labelled for each in whose[pick.text("labelled")]]
            pseudo = torch.from_numpy(images[[row for row, _ in taught]])
            shown = torch.cat([*(each.images_NHWC for each in along), pseudo])
            labels = [label for each in along for label in each.labels_N.tolist()]
            weights = torch.cat([torch.ones(len(labels)), torch.full((len(taught),), weight)])
            labels = torch.tensor(labels + [label for _, label in taught])
            torch.manual_seed(int(torch.randint(2**62, (), generator=pupil.generator)))
            pupil.network.train()
            for part in epoch_minibatches(len(labels), fitting.integer("minibatch"), 1, pupil.generator):
                logits = pupil.network(normalise(shown[part]))
                losses = functional.cross_entropy(logits, labels[part], reduction="none")
                optimizers[own].zero_grad()
                (losses * weights[part]).mean().backward()
                optimizers[own].step()
            pupil.network.eval()
        taken_by_epoch.append([taken[0], taken[1]] if pick.integer("condition") else [[], []])
    return pupils, taken_by_epoch


def naive_taken(networks, images, rows, threshold):
    with torch.inference_mode():
        shown = normalise(torch.from_numpy(images[rows]))
        probs = [network(shown).softmax(1) for network in networks]
    found = naive_teachers(*probs, threshold)
    return [
        [(row, label) for row, (teacher, label, _) in zip(rows, found, strict=True) if teacher == own] for own in (0, 1)
    ]


@pytest.mark.parametrize(
    "parameters",
    [
        {"condition": 1},
        {"condition": 2},
        {"condition": 2, "own_epochs": "odd"},
        {"condition": 0},
        {"condition": 1, "weight": 0.25},
        {"condition": 1, "weight": 0, "labelled": "source"},
        {"condition": 2, "labelled": "both"},
        {"condition": 0, "labelled": "both"},
        {"condition": 1, "labelled": "source"},
        {"condition": 2, "labelled": "source"},
        {"condition": 2, "labelled": "source", "own_epochs": "odd"},
        {"condition": 0, "labelled": "source"},
    ],
    ids=str,
)
def test_epochs_are_those_of_a_naive_loop_over_the_whole_pool_and_the_labels(parameters):
    pick, fitting, rows = make_pick(confidence=0.45, **parameters), make_fitting(), np.arange(2, 60)
    pupils = make_pupils("softmax_regression", fitted=2)
    told = train_pair(pick, fitting, pupils, rows)
    expected, taken = naive_pair(pick, fitting, rows.tolist())
    torch.testing.assert_close(weights_of(pupils), weights_of(expected), atol=1e-5, rtol=1e-4)
    assert [
        [list(zip(one.rows.tolist(), one.labels.tolist(), strict=True)) for one in each.taken] for each in told[1:]
    ] == taken
    assert parameters["condition"] == 0 or sum(len(one) for each in taken for one in each) > 4


@pytest.mark.parametrize(("average", "kept"), [(0.0, 0.0), (0.1, 0.1), (0.99, 2 / 11)])
def test_what_is_told_of_and_remains_is_the_average_of_the_steps(average, kept):
    def trained(**parameters):
        pupils = make_pupils("softmax_regression", count=6)
        before = weights_of(pupils)
        [_, last] = train_pair(make_pick(condition=0, epochs=1, **parameters), pupils=pupils)
        told = torch.cat([value.flatten() for network in last.networks for value in network.parameters()])
        assert torch.equal(told, weights_of(pupils))
        return before, told

    before, stepped = trained()  # one minibatch holds all labels, so an epoch is one step
    _, found = trained(average=average)
    assert not torch.equal(before, stepped)
    torch.testing.assert_close(found, kept * before + (1 - kept) * stepped)


def test_it_is_the_averaged_pair_that_teaches():
    (images, _), rows, pick = make_blobs(60, seed=5), np.arange(60), make_pick(confidence=0.45, average=0.9)
    would_teach, taught = [], []

    def look(epoch):
        taught.append([one.rows.tolist() for one in epoch.taken])
        would_teach.append([one.rows.tolist() for one in take_sure(epoch.networks, images, rows, pick, CPU)])

    co_train(make_pupils(), images, rows, pick, make_fitting(), device=CPU, on_epoch=look)
    assert taught[1:] == would_teach[:-1]
    assert any(map(len, taught[-1]))


@pytest.mark.parametrize("fitted", [True, False])
def test_images_are_changed_as_in_the_fitting_unless_it_is_said_otherwise(fitted):
    def trained(augment, fitting):
        pupils = make_pupils()
        train_pair(make_pick(condition=0, epochs=1, augment=augment), make_fitting(augment=fitting), pupils)
        return weights_of(pupils)

    changed, unchanged = trained("as_fitted", True), trained("as_fitted", False)
    assert not torch.equal(changed, unchanged)
    assert torch.equal(trained("on", fitted), changed)
    assert torch.equal(trained("off", fitted), unchanged)


def test_an_image_is_never_taught_by_both():
    for epoch in train_pair(make_pick(confidence=0.45)):
        assert not set(epoch.taken[0].rows) & set(epoch.taken[1].rows)


def test_condition_0_takes_nothing_and_still_goes_on_learning():
    pupils = make_pupils()
    before = weights_of(pupils)
    told = train_pair(make_pick(condition=0), pupils=pupils)
    assert [(epoch.epoch, epoch.source, *map(len, epoch.taken)) for epoch in told[1:]] == [
        (epoch, Source.NOBODY, 0, 0) for epoch in range(1, 5)
    ]
    assert not torch.equal(before, weights_of(pupils))


def test_the_same_draws_train_the_same_pair_and_others_another():
    def trained(shift=0):
        pupils = make_pupils()
        pupils = tuple(
            Pupil(one.network, one.labelled, torch.Generator().manual_seed(10 + own + shift))
            for own, one in enumerate(pupils)
        )
        train_pair(make_pick(confidence=0.45), pupils=pupils)
        return weights_of(pupils)

    assert torch.equal(trained(), trained())
    assert not torch.equal(trained(), trained(shift=7))


def test_epochs_are_told_from_the_pair_as_it_came_on():
    pupils = make_pupils()
    told = train_pair(make_pick(), pupils=pupils)
    assert [epoch.epoch for epoch in told] == [0, 1, 2, 3, 4]
    assert told[0].losses is None and told[0].as_json()["loss_a"] is None
    assert all(math.isfinite(loss) for epoch in told[1:] for loss in epoch.losses)
    assert not any(network.training for network in told[-1].networks)
    assert told[2].as_json() == {
        "epoch": 2,
        "source": "own",
        "taken_a": len(told[2].taken[0]),
        "taken_b": len(told[2].taken[1]),
        "loss_a": told[2].losses[0],
        "loss_b": told[2].losses[1],
    }


def test_watching_the_pair_changes_nothing():
    def trained(on_epoch):
        pupils, (images, _) = make_pupils(), make_blobs(60, seed=5)
        fitting = make_fitting()
        co_train(pupils, images, np.arange(60), make_pick(), fitting, device=CPU, on_epoch=on_epoch)
        return weights_of(pupils)

    def read(epoch):
        take_sure(epoch.networks, make_blobs(9)[0], np.arange(9), make_pick(), CPU)

    assert torch.equal(trained(lambda _epoch: None), trained(read))


def test_a_passed_deadline_ends_after_one_epoch():
    assert [epoch.epoch for epoch in train_pair(make_pick(), deadline=0.0)] == [0, 1]


def test_an_empty_pool_is_learned_from_as_no_pool():
    told = train_pair(make_pick(), rows=np.empty(0, np.int64))
    assert [len(one) for epoch in told for one in epoch.taken] == [0] * 10


def test_a_single_labelled_image_each_is_enough():
    pupils = tuple(
        Pupil(make_network(seed=own), make_training_set(1), torch.Generator().manual_seed(own)) for own in range(2)
    )
    assert len(train_pair(make_pick(), pupils=pupils)) == 5


def test_balanced_classes_and_none_learn_otherwise():
    lopsided = torch.tensor([0, 1] + [2] * 10)

    def trained(class_weights):
        pupils = tuple(
            Pupil(one.network, TrainingSet(one.labelled.images_NHWC, lopsided), one.generator) for one in make_pupils()
        )
        train_pair(make_pick(), make_fitting(class_weights=class_weights), pupils)
        return weights_of(pupils)

    assert not torch.equal(trained("balanced"), trained("none"))


def test_a_lost_loss_is_told():
    pupils = make_pupils()
    with torch.no_grad():
        next(pupils[0].network.parameters()).fill_(torch.nan)
    with pytest.raises(RecipeError, match="the loss was lost in epoch 1"):
        train_pair(make_pick(condition=0), pupils=pupils)
