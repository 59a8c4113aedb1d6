"""Pseudo-labels in a whole round: what reads them, what must not, and which answers a network is never shown."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from app.recipes import POSTERIORS as POSTERIOR_CHOICES
from app.recipes import parse_pick
from tests.unit.learning.factories import (
    CPU,
    make_fitting,
    make_labeler,
    make_network,
    make_recipe,
    make_snapshot,
    make_training_set,
)
from worker.learning.devices import seeded
from worker.learning.errors import ShapeError
from worker.learning.fitting import FITTINGS, Start, Stopped, TrainingSet
from worker.learning.fitting.base import EpochReport
from worker.learning.fitting.course import Course, fitting
from worker.learning.fitting.splitting import split, stratified_split
from worker.learning.learner import step
from worker.learning.posteriors import POSTERIORS, Fitted, read_all
from worker.learning.posteriors.plugin import make_plugin
from worker.learning.pseudo_labelers import PSEUDO_LABELERS, PseudoLabels
from worker.learning.pseudo_labelling import hold_out, judge
from worker.learning.weights import load_network

FIT = {"name": "supervised", "epochs": 12, "learning_rate": 0.01}
LABELING = [name for name in PSEUDO_LABELERS.names() if PSEUDO_LABELERS.get(name).reads_pool]


def run(snapshot, labeler="threshold", count=10, round_number=1, parent=None, batch_size=5, **parts):
    given = {"fitting": FIT, "batch_size": batch_size, **parts}
    recipe = make_recipe(**given, pseudo_labeler=labeler if isinstance(labeler, dict) else {"name": labeler})
    return step(recipe, snapshot, count=count, round_number=round_number, parent=parent, device="cpu")


def eager(name, **parameters):
    return make_labeler(name, **parameters).as_json()


def with_pseudo(snapshot, count, label=None):
    """The first candidates with labels of a model: the given one, or that of the image's band."""
    rows = snapshot.candidate_rows[:count]
    bright = snapshot.images_NHWC[rows][..., 0].reshape(count, 8, 8)[:, :6].reshape(count, 3, 16).mean(2).argmax(1)
    labels = bright.astype(np.int64) if label is None else np.full(count, label)
    return replace(snapshot, pseudo=PseudoLabels(rows, labels, np.full(count, 0.9, np.float32)))


def as_if_labelled(snapshot):
    """The same snapshot with its pseudo-labels given by people."""
    rows = np.concatenate([snapshot.labelled_rows, snapshot.pseudo.rows])
    labels = np.concatenate([snapshot.labels, snapshot.pseudo.labels])
    return replace(snapshot, labelled_rows=rows, labels=labels, pseudo=PseudoLabels.none())


@pytest.mark.parametrize("fit", [{}, {"class_weights": "balanced"}, {"name": "consistency", "unlabelled_minibatch": 8}])
def test_networks_learn_from_pseudo_labels_as_from_those_of_people(fit):
    snapshot = with_pseudo(make_snapshot(), 20)
    fit = {"name": "supervised", "epochs": 5, **fit}
    found = run(snapshot, eager("threshold"), fitting=fit)
    expected = run(as_if_labelled(snapshot), "none", fitting=fit)
    assert found.weights == expected.weights
    assert (found.fit.training_count, found.fit.pseudo_count) == (12, 20)
    assert (expected.fit.training_count, expected.fit.pseudo_count) == (32, 0)


def test_every_member_of_a_committee_learns_from_pseudo_labels():
    snapshot, posterior = with_pseudo(make_snapshot(), 20), {"name": "committee", "members": 2}
    found = run(snapshot, eager("threshold"), posterior=posterior)
    assert found.weights == run(as_if_labelled(snapshot), "none", posterior=posterior).weights


def test_pseudo_labels_help_where_there_are_few_others():
    snapshot = make_snapshot(labelled=3, candidates=200, test=300)
    noisy = np.random.default_rng(0).normal(0, 60, snapshot.images_NHWC.shape)
    snapshot = replace(snapshot, images_NHWC=np.clip(snapshot.images_NHWC + noisy, 0, 255).astype(np.uint8))
    alone, helped = run(snapshot), run(with_pseudo(snapshot, 200))
    assert helped.evaluation.nll < alone.evaluation.nll - 0.05


def test_a_weight_says_how_much_a_pseudo_label_counts():
    snapshot = make_snapshot()
    wrong = with_pseudo(snapshot, 20, label=0)
    alone = run(snapshot, eager("threshold"))
    losses = {
        weight: run(wrong, eager("threshold", weight=weight)).evaluation.nll for weight in (0, 0.01, 0.3, 1.0, 5.0)
    }
    assert losses[0] == alone.evaluation.nll
    assert run(wrong, eager("threshold", weight=0)).weights == alone.weights
    assert losses[0] < losses[0.01] < losses[0.3] < losses[1.0] < losses[5.0]


def test_without_a_pseudo_labeler_nothing_reads_them_and_nothing_is_said():
    snapshot = make_snapshot()
    alone, beside = run(snapshot, "none"), run(with_pseudo(snapshot, 20, label=0), "none")
    assert alone.weights == beside.weights
    np.testing.assert_array_equal(alone.scores, beside.scores)
    assert (alone.pseudo, dict(alone.pseudo_report)) == (None, {})
    assert alone.mean_pool_entropy == beside.mean_pool_entropy


@pytest.mark.parametrize("name", LABELING)
def test_a_round_labels_what_its_network_says_and_counts_it(name):
    snapshot = make_snapshot()
    result = run(snapshot, eager(name))
    assert len(result.pseudo) > 0
    posterior = make_plugin(Fitted(load_network(result.weights), {}, torch.Generator()))
    log_probs = read_all(posterior, snapshot.images_NHWC, result.pseudo.rows, CPU).log_probs_SNC[0]
    np.testing.assert_array_equal(result.pseudo.labels, log_probs.argmax(1).numpy())
    np.testing.assert_allclose(result.pseudo.confidences, log_probs.exp().amax(1).numpy(), rtol=1e-5)
    assert set(result.pseudo.rows) <= set(snapshot.candidate_rows)
    report = result.pseudo_report
    assert (report["rule"], report["added"], report["standing"]) == (name, len(result.pseudo), len(result.pseudo))


def test_all_candidates_are_judged_on_the_mean_of_the_samples():
    recipe = {"posterior": {"name": "mc_dropout", "samples": 6}, "network": "al_cnn"}
    snapshot = make_snapshot()
    result = run(snapshot, eager("threshold", confidence=0.0), **recipe, acquisition="bald", batch_size=1)
    network = load_network(result.weights)
    parameters = parse_pick(POSTERIOR_CHOICES, recipe["posterior"]).parameters
    posterior = POSTERIORS.get("mc_dropout")(Fitted(network, parameters, seeded(0, 1, "posterior")))
    rows = result.pseudo.rows
    probs_NC = read_all(posterior, snapshot.images_NHWC, rows, CPU).log_probs_SNC.exp().mean(0)
    np.testing.assert_array_equal(result.pseudo.labels, probs_NC.argmax(1).numpy())
    np.testing.assert_allclose(result.pseudo.confidences, probs_NC.amax(1).numpy(), rtol=1e-4)


@pytest.mark.parametrize("name", LABELING)
@pytest.mark.parametrize("acquisition", ["random", "entropy", "redundancy"])
def test_what_the_batch_asks_is_not_labelled_and_its_reserve_is(name, acquisition):
    labeler = eager(name, confidence=0.0, count=99, per_round=99, total=99)
    result = run(make_snapshot(), labeler, acquisition=acquisition, batch_size=5, count=20)
    batch, reserve = set(result.ranking.rows[:5]), set(result.ranking.rows[5:])
    assert not batch & set(result.pseudo.rows)
    assert reserve <= set(result.pseudo.rows)
    assert len(result.pseudo) == 35


def test_when_the_budget_is_spent_nobody_is_asked_so_all_may_be_labelled():
    snapshot = replace(make_snapshot(), is_spent=True)
    assert len(run(snapshot, eager("threshold", confidence=0.0)).pseudo) == 40
    waiting = run(make_snapshot(), eager("most_confident", after="budget"))
    assert (len(waiting.pseudo), waiting.pseudo_report["reason"]) == (0, "human labels are left in the budget")
    assert len(run(snapshot, eager("most_confident", after="budget", count=3)).pseudo) == 3


@pytest.mark.parametrize("name", LABELING)
def test_without_a_label_of_a_person_no_model_stands_for_what_earlier_ones_said(name):
    result = run(with_pseudo(make_snapshot(labelled=0), 4), name)
    assert len(result.pseudo) == 0
    told = {"rule": name, "reason": "there is no network yet", "added": 0, "withdrawn": 4, "changed": 0, "standing": 0}
    assert dict(result.pseudo_report) == told


@pytest.mark.parametrize("name", LABELING)
def test_an_empty_pool_is_labelled_by_nobody(name):
    result = run(make_snapshot(candidates=0), eager(name))
    assert (len(result.pseudo), result.pseudo_report["standing"], result.mean_pool_entropy) == (0, 0, None)


def test_a_frozen_trunk_reads_pseudo_labelled_images_that_are_no_candidates():
    snapshot = with_pseudo(make_snapshot(), 20)
    parent = run(snapshot, network="al_cnn").weights
    held = replace(snapshot, candidate_rows=snapshot.candidate_rows[20:])
    fitting = {"name": "supervised", "epochs": 3, "trunk": "frozen", "start": "warm"}
    parts = {"network": "al_cnn", "fitting": fitting, "parent": parent}
    found = run(held, eager("threshold"), **parts)
    assert found.fit.started_from is Start.WARM
    assert found.weights == run(as_if_labelled(held), "none", **parts).weights


def test_the_mean_entropy_of_the_pool_is_that_of_its_mean_predictions():
    snapshot = make_snapshot()
    result = run(snapshot, "none", acquisition="margin")
    posterior = make_plugin(Fitted(load_network(result.weights), {}, torch.Generator()))
    probs = read_all(posterior, snapshot.images_NHWC, snapshot.candidate_rows, CPU).log_probs_SNC[0].double().exp()
    assert result.mean_pool_entropy == pytest.approx(float(-(probs * probs.log()).sum(1).mean()), rel=1e-5)
    assert run(snapshot, "none", acquisition="random").mean_pool_entropy is None
    read = run(snapshot, eager("threshold"), acquisition="random")
    assert read.mean_pool_entropy == pytest.approx(result.mean_pool_entropy, rel=1e-5)


def test_a_laplace_posterior_is_pinned_down_by_labels_of_people_alone():
    snapshot = with_pseudo(make_snapshot(labelled=30), 20)
    posterior = {"name": "laplace", "samples": 20}
    fitting = {"name": "supervised", "epochs": 10, "validation_share": 0.4}
    result = run(snapshot, eager("threshold"), posterior=posterior, fitting=fitting, acquisition="entropy")
    assert (result.fit.training_count, result.fit.validation_count, result.fit.pseudo_count) == (18, 12, 20)
    labels = torch.from_numpy(snapshot.labels)
    people = TrainingSet(torch.from_numpy(snapshot.images_NHWC[snapshot.labelled_rows]), labels)
    _, kept_aside = stratified_split(labels, 0.4, seeded(0, 1, "fitting"))
    parameters = parse_pick(POSTERIOR_CHOICES, posterior).parameters
    network, generator = load_network(result.weights), seeded(0, 1, "posterior")
    own = POSTERIORS.get("laplace")(Fitted(network, parameters, generator, people, people.at(kept_aside)))
    probs = read_all(own, snapshot.images_NHWC, snapshot.candidate_rows, CPU).log_probs_SNC.double().exp().mean(0)
    np.testing.assert_allclose(result.scores, -(probs * probs.log()).sum(1).numpy(), rtol=1e-4)


def make_mixed(people=30, models=20):
    """Images labelled by people and by models in turn, as long as there are both."""
    data, others = make_training_set(people), make_training_set(models, seed=5)
    joined = data.joined(others, 1)
    order = torch.randperm(people + models, generator=torch.Generator().manual_seed(0))
    return joined.at(order)


def test_only_labels_of_people_are_kept_aside():
    data = make_mixed()
    rows, kept_aside = split(data, 0.5, torch.Generator().manual_seed(3))
    people = data.by_people()
    assert len(kept_aside) == 15
    assert set(kept_aside.tolist()) <= set(people.tolist())
    assert sorted([*rows.tolist(), *kept_aside.tolist()]) == list(range(50))
    _, expected = stratified_split(data.labels_N[people], 0.5, torch.Generator().manual_seed(3))
    assert kept_aside.tolist() == people[expected].tolist()


def test_no_lesson_validates_or_measures_on_labels_of_models():
    data, lessons = make_mixed(), []

    def teach(lesson):
        lessons.append(lesson)
        return Course((EpochReport(1, 0.5, 0.1),), 1, 1, Stopped.EPOCHS)

    pick = make_fitting(temperature="cross_fit", validation_share=0.4, class_weights="balanced")
    report = fitting(teach)(make_network(), data, pick, torch.Generator().manual_seed(0), device=CPU)
    whole, *copies = lessons
    assert (report.training_count, report.validation_count, report.pseudo_count) == (18, 12, 20)
    assert len(copies) == 3
    assert all(not lesson.validation.is_pseudo_N.any() for lesson in lessons)
    assert all(int(lesson.training.is_pseudo_N.sum()) == 20 for lesson in lessons)
    # Each of the eighteen labels of people that are trained on is left out of one copy.
    assert sorted(len(lesson.training) for lesson in copies) == [32, 32, 32]
    assert report.temperature is not None
    assert float(whole.training.weights_N.sum()) == pytest.approx(38, rel=1e-5)


@pytest.mark.parametrize("name", FITTINGS.names())
def test_every_fitting_takes_labels_of_models_along(name):
    data = make_training_set(12).joined(make_training_set(30, seed=5), 0.5)
    pick = make_fitting(name, epochs=2)
    report = FITTINGS.get(name)(make_network(), data, pick, torch.Generator().manual_seed(0), device=CPU)
    assert (report.training_count, report.pseudo_count) == (12, 30)
    assert report.as_json()["pseudo_count"] == 30


def test_sets_of_people_stand_beside_each_other_in_order_and_others_do_not():
    data, others = make_training_set(3), make_training_set(2, seed=5)
    both = data.beside(others)
    assert torch.equal(both.labels_N, torch.cat([data.labels_N, others.labels_N]))
    assert torch.equal(both.images_NHWC[3:], others.images_NHWC)
    assert both.by_people() is None
    with pytest.raises(ValueError, match="beside"):
        data.beside(data.joined(others, 1))


def test_joined_sets_keep_order_and_weights():
    data, others = make_training_set(3), make_training_set(2, seed=5)
    plain, light = data.joined(others, 1), data.joined(others, 0.25)
    assert plain.weights_N is None
    assert light.weights_N.tolist() == [1, 1, 1, 0.25, 0.25]
    heavy = replace(data, weights_N=torch.tensor([3.0, 2.0, 1.0])).joined(others, 1)
    assert heavy.weights_N.tolist() == [3, 2, 1, 1, 1]
    assert plain.is_pseudo_N.tolist() == [False] * 3 + [True] * 2
    assert light.at(torch.tensor([4, 0])).is_pseudo_N.tolist() == [True, False]
    assert torch.equal(plain.images_NHWC, torch.cat([data.images_NHWC, others.images_NHWC]))
    with pytest.raises(ShapeError, match=r"is_pseudo_N: expected shape \[3\], got \[2\]"):
        replace(data, is_pseudo_N=torch.ones(2, dtype=torch.bool))


# --- answers that the network is not shown ---

PRECISE = {"way": "precision", "most_wrong": 0.2, "certainty": 0.9, "held_out": 0.5}


def make_drawn(labelled=120, **sizes):
    snapshot = make_snapshot(labelled=labelled, **sizes)
    is_drawn = np.ones(labelled, np.bool_)
    is_drawn[:10] = False
    return replace(snapshot, is_drawn_N=is_drawn)


def held_out_of(snapshot, start="scratch", **parameters):
    fitting = {"name": "supervised", "start": start}
    recipe = make_recipe(fitting=fitting, pseudo_labeler={"name": "threshold", **PRECISE, **parameters})
    return hold_out(recipe, snapshot.labelled_rows, snapshot.is_drawn_N, len(snapshot.images_NHWC))


def test_answers_are_held_out_of_the_uniformly_drawn_ones_alone():
    snapshot = make_drawn()
    is_held_out = held_out_of(snapshot)
    assert not is_held_out[:10].any()
    assert 35 <= is_held_out.sum() <= 75
    assert not held_out_of(snapshot, way="given").any()
    assert not held_out_of(replace(snapshot, is_drawn_N=None)).any()


def test_the_same_images_are_held_out_in_every_round_however_many_there_are():
    snapshot = make_drawn()
    first = set(snapshot.labelled_rows[held_out_of(snapshot)])
    grown = np.concatenate([snapshot.candidate_rows, snapshot.labelled_rows[::-1]])
    later = replace(
        snapshot,
        images_NHWC=np.concatenate([snapshot.images_NHWC, snapshot.images_NHWC]),
        labelled_rows=grown,
        labels=np.zeros(len(grown), np.int64),
        candidate_rows=np.empty(0, np.int64),
        is_drawn_N=np.concatenate([np.ones(len(snapshot.candidate_rows), np.bool_), snapshot.is_drawn_N[::-1]]),
    )
    again = set(grown[held_out_of(later)])
    assert first <= again
    assert again - first <= set(snapshot.candidate_rows)


def test_from_scratch_nothing_is_held_out_until_a_threshold_can_be_chosen_and_warm_it_always_is():
    snapshot = make_drawn(labelled=30)
    assert not held_out_of(snapshot).any()  # about ten, and ln(0.1) / ln(0.8) = 10.3 are needed
    assert held_out_of(snapshot, start="warm").any()
    assert held_out_of(make_drawn(labelled=60)).any()


def test_something_is_left_to_learn_from():
    fitting = {"name": "supervised", "start": "warm"}
    recipe = make_recipe(fitting=fitting, pseudo_labeler={"name": "threshold", **PRECISE, "held_out": 0.9})
    drawn = np.ones(2, np.bool_)
    held = [hold_out(recipe, np.array([row, row + 1]), drawn, 60) for row in range(59)]
    assert max(one.sum() for one in held) == 1


@pytest.mark.parametrize("start", ["scratch", "warm"])
@pytest.mark.parametrize("fitting", [{}, {"validation_share": 0.3, "temperature": "validation"}])
def test_what_is_held_out_reaches_no_network_and_decides_the_threshold(start, fitting):
    snapshot = make_drawn()
    labeler = {"name": "threshold", **PRECISE}
    is_held_out = held_out_of(snapshot, start)
    wrong = replace(snapshot, labels=np.where(is_held_out, (snapshot.labels + 1) % 3, snapshot.labels))
    fitting = {"name": "supervised", "epochs": 15, "learning_rate": 0.01, "start": start, **fitting}
    found, misled = run(snapshot, labeler, fitting=fitting), run(wrong, labeler, fitting=fitting)
    assert found.weights == misled.weights
    np.testing.assert_array_equal(found.scores, misled.scores)
    assert found.fit.training_count + found.fit.validation_count == 120 - is_held_out.sum()
    assert found.pseudo_report["held_out"] == misled.pseudo_report["held_out"] == is_held_out.sum()
    assert found.pseudo_report["threshold"] is not None and len(found.pseudo) > 20
    assert misled.pseudo_report["threshold"] is None and len(misled.pseudo) == 0
    assert "held-out answers above the strictest threshold are wrong" in misled.pseudo_report["reason"]


def test_answers_are_judged_chunk_by_chunk_against_what_people_said():
    snapshot = make_snapshot()
    posterior = make_plugin(Fitted(make_network(), {}, torch.Generator()))
    labels = np.arange(12) % 3
    held_out = judge(posterior, snapshot.images_NHWC, snapshot.labelled_rows, labels, CPU)
    probs = read_all(posterior, snapshot.images_NHWC, snapshot.labelled_rows, CPU).log_probs_SNC[0].exp()
    np.testing.assert_allclose(held_out.confidences, probs.amax(1).numpy(), rtol=1e-6)
    np.testing.assert_array_equal(held_out.is_right, probs.argmax(1).numpy() == labels)
    assert len(judge(posterior, snapshot.images_NHWC, np.empty(0, np.int64), labels[:0], CPU)) == 0


def test_when_nobody_knows_what_was_drawn_no_precision_is_promised():
    result = run(replace(make_drawn(), is_drawn_N=None), {"name": "threshold", **PRECISE})
    assert len(result.pseudo) == 0
    assert result.fit.training_count == 120
    assert result.pseudo_report["reason"] == (
        "nobody knows which labels were drawn uniformly, so none could be held out"
    )


def test_held_out_images_are_shown_as_images_without_a_label():
    """To a fitting that reads the pool they are like any other, so that nothing tells them from it."""
    snapshot = make_drawn(labelled=60)
    fit = {"name": "consistency", "epochs": 2, "unlabelled_minibatch": 16, "least_steps": 3}
    found = run(snapshot, {"name": "threshold", **PRECISE}, fitting=fit)
    is_held_out = held_out_of(snapshot)
    moved = replace(
        snapshot,
        labelled_rows=snapshot.labelled_rows[~is_held_out],
        labels=snapshot.labels[~is_held_out],
        candidate_rows=np.concatenate([snapshot.candidate_rows, snapshot.labelled_rows[is_held_out]]),
        is_drawn_N=None,
    )
    assert found.weights == run(moved, "none", fitting=fit).weights


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"is_drawn_N": np.ones(3, np.bool_)}, ShapeError, r"is_drawn_N: expected shape \[12\], got \[3\]"),
        ({"pseudo": ([0], [3])}, IndexError, "pseudo.labels: rows 3 to 3 do not fit 3"),
        ({"pseudo": ([99], [0])}, IndexError, "pseudo.rows: rows 99 to 99 do not fit 67"),
    ],
)
def test_a_snapshot_whose_pseudo_labels_do_not_fit_is_refused(change, error, told):
    if "pseudo" in change:
        rows, labels = map(np.array, change["pseudo"])
        change = {"pseudo": PseudoLabels(rows, labels, np.ones(1, np.float32))}
    with pytest.raises(error, match=told):
        replace(make_snapshot(), **change)


def test_a_row_with_two_labels_is_refused():
    snapshot = make_snapshot()
    twice = PseudoLabels(snapshot.labelled_rows[:1], np.zeros(1, np.int64), np.ones(1, np.float32))
    with pytest.raises(ValueError, match="the label of a person and that of a model"):
        replace(snapshot, pseudo=twice)
