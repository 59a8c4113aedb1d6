"""Rounds with co-training: what the pair is fitted to, what it leaves behind, and that it does no harm."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from app.errors import RecipeError
from tests.unit.learning.factories import CPU, make_recipe, make_snapshot
from worker.image_sets import read_digits
from worker.learning.fitting import Stopped
from worker.learning.learner import Progress, Snapshot, Stage, step
from worker.learning.posteriors import read_all
from worker.learning.posteriors.committee import Committee
from worker.learning.pseudo_labelers import PseudoLabels
from worker.learning.weights import Weights, load_networks

QUICK = {"name": "supervised", "epochs": 3, "least_steps": 1, "augment": False, "learning_rate": 0.01}


def make_pair_recipe(fitting=None, **pseudo_labeler):
    plain = {"name": "co_training", "epochs": 3, "confidence": 0.4, "learning_rate": 0.001}
    labeler = {**plain, "condition": 2, "labelled": "own", **pseudo_labeler}
    return make_recipe(network="al_cnn", pseudo_labeler=labeler, fitting={**QUICK, **(fitting or {})}, batch_size=5)


def run(recipe=None, snapshot=None, **options):
    recipe, snapshot = recipe or make_pair_recipe(), snapshot or make_snapshot()
    return step(recipe, snapshot, count=5, round_number=1, device="cpu", **options)


def states_equal(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_without_teaching_the_pair_is_two_networks_fitted_to_disjoint_halves_that_cover_the_labels():
    """An image changes the network alone that is fitted to it."""
    snapshot, recipe = make_snapshot(), make_pair_recipe(condition=0)
    before = Weights.from_bytes(run(recipe, snapshot).weights).members
    sides = []
    for place in range(len(snapshot.labels)):
        images = snapshot.images_NHWC.copy()
        images[snapshot.labelled_rows[place]] ^= 255
        after = Weights.from_bytes(run(recipe, replace(snapshot, images_NHWC=images)).weights).members
        changed = [not states_equal(one, other) for one, other in zip(before, after, strict=True)]
        assert sum(changed) == 1
        sides.append(changed.index(True))
    for label in range(3):
        assert abs(np.bincount(np.array(sides)[snapshot.labels == label], minlength=2) @ [1, -1]) <= 1


def test_with_the_labels_of_both_each_image_changes_either_network():
    snapshot, recipe = make_snapshot(), make_pair_recipe(condition=0, labelled="both")
    before = Weights.from_bytes(run(recipe, snapshot).weights).members
    for place in (0, 3):
        images = snapshot.images_NHWC.copy()
        images[snapshot.labelled_rows[place]] ^= 255
        after = Weights.from_bytes(run(recipe, replace(snapshot, images_NHWC=images)).weights).members
        assert not any(states_equal(one, other) for one, other in zip(before, after, strict=True))


def test_before_the_pair_teaches_its_networks_have_seen_their_own_labels_alone():
    starts = []
    for labelled in ("own", "both"):
        states = []
        run(
            make_pair_recipe(condition=0, labelled=labelled, epochs=1),
            on_pair=lambda epoch, kept=states: kept.append(copy.deepcopy(epoch.networks[0].state_dict())),
        )
        starts.append(states)
    (own_start, own_end), (both_start, both_end) = starts
    assert states_equal(own_start, both_start)
    assert not states_equal(own_end, both_end)


def test_what_was_taken_last_is_kept_but_for_what_people_are_asked_about():
    snapshot, told = make_snapshot(), []
    result = run(make_pair_recipe(epochs=1), snapshot, on_pair=told.append)
    taken = told[-1].taken[0].joined(told[-1].taken[1])
    asked = set(result.ranking.rows)
    expected = [(row, label) for row, label in zip(taken.rows, taken.labels, strict=True) if row not in asked]
    assert list(zip(result.pseudo.rows, result.pseudo.labels, strict=True)) == expected
    assert expected and len(expected) < len(taken), "a test of nothing: choose another confidence"
    assert set(result.pseudo.rows) <= set(snapshot.candidate_rows)
    assert (result.pseudo.confidences >= 0.4).all()
    whole = run(make_pair_recipe(epochs=1), replace(snapshot, is_spent=True)).pseudo
    assert whole.rows.tolist() == taken.rows.tolist()


def test_the_report_tells_the_parameters_and_every_epoch():
    told = []
    result = run(make_pair_recipe(condition=1), on_pair=told.append)
    report = result.pseudo_report
    assert (report["rule"], report["condition"], report["own_epochs"]) == ("co_training", 1, "even")
    assert report["pair"] == [epoch.as_json() for epoch in told]
    assert [(one["epoch"], one["source"]) for one in report["pair"]] == [
        (0, "nobody"),
        (1, "other"),
        (2, "other"),
        (3, "other"),
    ]
    assert report["standing"] == report["added"] == len(result.pseudo)


def test_labels_of_earlier_models_are_not_learned_from_and_leave():
    snapshot = make_snapshot()
    old = PseudoLabels(snapshot.candidate_rows[:9], np.zeros(9, np.int64), np.ones(9, np.float32))
    recipe = make_pair_recipe(epochs=1)
    plain, later = run(recipe, snapshot), run(recipe, replace(snapshot, pseudo=old))
    assert plain.weights == later.weights
    assert len(plain.pseudo)
    assert plain.pseudo.rows.tolist() == later.pseudo.rows.tolist()
    assert later.pseudo_report["withdrawn"] == 9 - len(np.intersect1d(old.rows, later.pseudo.rows))


def test_the_weights_kept_are_those_after_the_last_epoch():
    snapshot, told = make_snapshot(), []
    result = run(snapshot=snapshot, on_pair=told.append)
    stored = load_networks(result.weights)
    readings = [
        read_all(Committee(pair), snapshot.images_NHWC, snapshot.test_rows, CPU).log_probs_SNC
        for pair in (stored, told[-1].networks)
    ]
    torch.testing.assert_close(*readings)
    found = readings[0].exp().mean(0).argmax(1).numpy() == snapshot.test_labels
    assert result.evaluation.correct == found.sum()


def test_the_same_seed_teaches_the_same_and_another_another():
    one, again = run(), run()
    assert one.weights == again.weights
    assert one.pseudo.rows.tolist() == again.pseudo.rows.tolist()
    assert one.weights != run(replace(make_pair_recipe(), seed=1)).weights


def test_looking_at_the_pair_changes_nothing():
    snapshot = make_snapshot()

    def look(epoch):
        read_all(Committee(epoch.networks), snapshot.images_NHWC, snapshot.test_rows, CPU)

    assert run(snapshot=snapshot, on_pair=look).weights == run(snapshot=snapshot).weights


def test_what_fitting_kept_aside_is_not_learned_while_co_training_either():
    """Kept-aside images decide when fitting stops; apart from that, showing others in their place changes nothing."""
    snapshot = make_snapshot(labelled=60)
    recipe = make_pair_recipe({"validation_share": 0.4, "patience": 1000, "epochs": 1}, condition=0)
    before = Weights.from_bytes(run(recipe, snapshot).weights).members
    unchanged = 0
    for place in range(0, 60, 3):
        images = snapshot.images_NHWC.copy()
        images[snapshot.labelled_rows[place]] ^= 255
        after = Weights.from_bytes(run(recipe, replace(snapshot, images_NHWC=images)).weights).members
        unchanged += all(states_equal(one, other) for one, other in zip(before, after, strict=True))
    assert 0.15 < unchanged / 20 < 0.65


def test_progress_counts_the_epochs_of_both_networks_and_of_the_pair():
    told = []
    run(progress=told.append)
    fitting = [one for one in told if one.stage is Stage.FITTING]
    assert [(one.done, one.total) for one in fitting] == [(done, 9) for done in range(1, 10)]
    assert all(isinstance(one, Progress) and one.loss is not None for one in fitting)


def test_a_passed_deadline_still_ends_in_a_pair_and_a_ranking():
    told = []
    result = run(deadline=0.0, on_pair=told.append)
    assert result.fit.stopped_by is Stopped.DEADLINE
    assert [epoch.epoch for epoch in told] == [0, 1]
    assert len(load_networks(result.weights)) == 2
    assert len(result.ranking.rows) == 5


def test_a_single_label_cannot_be_divided():
    with pytest.raises(RecipeError, match="there is but one; label more"):
        run(snapshot=make_snapshot(labelled=1))


def test_two_labels_and_an_empty_pool_still_make_a_round():
    result = run(snapshot=make_snapshot(labelled=2, candidates=0))
    assert len(result.pseudo) == len(result.ranking.rows) == 0
    assert result.evaluation.count == 15


def test_without_labels_nothing_is_taught():
    result = run(snapshot=make_snapshot(labelled=0))
    assert len(result.pseudo) == 0
    assert result.pseudo_report["reason"] == "there is no network yet"


def test_a_warm_round_goes_on_with_the_pair():
    parent = run().weights
    barely = {"epochs": 1, "learning_rate": 1e-6, "weight_decay": 0, "start": "warm"}
    child = run(make_pair_recipe(barely, epochs=1, learning_rate=1e-6), parent=parent)
    for before, after in zip(
        Weights.from_bytes(parent).members, Weights.from_bytes(child.weights).members, strict=True
    ):
        learned = {name: value for name, value in before.items() if name.endswith(("weight", "bias"))}
        assert all((value - after[name]).abs().max() < 1e-4 for name, value in learned.items())


def digits_snapshot(seed):
    digits = read_digits()
    images, labels = digits.images[..., None], np.asarray(digits.labels, np.int64)
    known, open_rows, test = np.split(np.random.default_rng(seed).permutation(1797), [80, 1397])
    return Snapshot(images, 10, known, labels[known], np.sort(open_rows), test, labels[test], is_spent=True)


def test_digits_are_told_apart_no_worse_for_teaching_each_other():
    """Four seeds, 40 labels a network: on average both members gain, and what they take is mostly right."""
    digits, gains, right = np.asarray(read_digits().labels), [], []
    for seed in range(4):
        snapshot, accuracies = digits_snapshot(seed), []

        def look(epoch, snapshot=snapshot, accuracies=accuracies):
            reading = read_all(Committee(epoch.networks), snapshot.images_NHWC, snapshot.test_rows, CPU)
            hits_SN = reading.log_probs_SNC.argmax(-1).numpy() == snapshot.test_labels
            accuracies.append(hits_SN.mean(1))

        fitting = {"name": "supervised", "epochs": 30, "least_steps": 4, "learning_rate": 0.002}
        recipe = make_recipe(
            network="al_cnn", fitting=fitting, pseudo_labeler={"name": "co_training", "epochs": 10}, seed=seed
        )
        result = run(recipe, snapshot, on_pair=look)
        gains.append(accuracies[-1] - accuracies[0])
        right.append((result.pseudo.labels == digits[result.pseudo.rows]).mean())
    assert np.mean(gains) > 0.01, gains
    assert np.mean(right) > 0.5, right
