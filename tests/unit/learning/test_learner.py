from dataclasses import replace

import numpy as np
import pytest
import torch

from app.errors import BadInput, RecipeError
from tests.unit.learning.factories import CPU, make_recipe, make_snapshot
from worker.learning.acquisitions import ACQUISITIONS
from worker.learning.errors import ShapeError
from worker.learning.evaluation import evaluate
from worker.learning.fitting import Start, Stopped
from worker.learning.learner import Progress, Stage, step
from worker.learning.posteriors import Fitted, read_all
from worker.learning.posteriors.plugin import make_plugin
from worker.learning.weights import load_network

NOTHING = np.empty(0, np.int64)


def run(recipe=None, snapshot=None, count=10, round_number=1, **options):
    recipe = recipe or make_recipe()
    return step(recipe, snapshot or make_snapshot(), count=count, round_number=round_number, device="cpu", **options)


def predict(result, snapshot, rows):
    posterior = make_plugin(Fitted(load_network(result.weights), {}, torch.Generator()))
    return read_all(posterior, snapshot.images_NHWC, rows, CPU).log_probs_SNC[0]


def test_a_round_fits_evaluates_scores_and_ranks():
    snapshot = make_snapshot()
    result = run(make_recipe(fitting={"name": "supervised", "epochs": 30, "learning_rate": 0.01}), snapshot)
    assert result.fit.started_from is Start.SCRATCH
    assert result.fit.training_count == 12
    assert result.evaluation.count == 15
    assert result.evaluation.accuracy > 0.9
    assert result.scores.dtype == np.float32 and result.scores.shape == (40,)
    assert min(result.seconds_fit, result.seconds_evaluate, result.seconds_score, result.seconds_select) > 0


def test_the_ranking_is_the_candidates_in_order_of_their_scores():
    snapshot = make_snapshot()
    result = run(make_recipe(acquisition="entropy"), snapshot)
    order = np.argsort(-result.scores, kind="stable")[:10]
    np.testing.assert_array_equal(result.ranking.rows, snapshot.candidate_rows[order])
    np.testing.assert_array_equal(result.ranking.scores, result.scores[order])
    assert result.ranking.chosen_by == "entropy"
    assert result.ranking.propensities is None


def test_scores_evaluation_and_reasons_are_those_of_the_stored_weights():
    snapshot = make_snapshot()
    result = run(make_recipe(acquisition="entropy"), snapshot)
    probs = predict(result, snapshot, snapshot.candidate_rows).double().exp()
    np.testing.assert_allclose(result.scores, -(probs * probs.log()).sum(dim=1).numpy(), rtol=1e-4)
    chosen = predict(result, snapshot, result.ranking.rows).exp().sort(dim=1, descending=True)
    np.testing.assert_array_equal(result.ranking.top_classes, chosen.indices[:, :2].numpy())
    np.testing.assert_allclose(result.ranking.top_probs, chosen.values[:, :2].numpy(), rtol=1e-5)
    np.testing.assert_allclose(result.ranking.parts["entropy"], result.ranking.scores, rtol=1e-4)
    expected = evaluate(predict(result, snapshot, snapshot.test_rows).numpy(), snapshot.test_labels)
    assert result.evaluation.confusion == expected.confusion
    assert result.evaluation.nll == pytest.approx(expected.nll, rel=1e-5)


@pytest.mark.parametrize("acquisition", ACQUISITIONS.names())
def test_a_cold_start_draws_uniformly_whatever_the_recipe(acquisition):
    result = run(make_recipe(acquisition=acquisition), make_snapshot(labelled=0))
    assert (result.weights, result.fit, result.evaluation) == (None, None, None)
    assert (result.ranking.top_classes, result.ranking.top_probs, dict(result.ranking.parts)) == (None, None, {})
    assert result.ranking.chosen_by == "random"
    np.testing.assert_allclose(result.ranking.propensities, [1 / (40 - rank) for rank in range(10)])
    np.testing.assert_array_equal(result.ranking.rows, run(snapshot=make_snapshot(labelled=0)).ranking.rows)


def test_every_candidate_is_as_likely_in_a_cold_start():
    snapshot = make_snapshot(labelled=0, candidates=10)
    drawn = [run(snapshot=snapshot, count=3, round_number=number).ranking.rows for number in range(400)]
    shares = np.bincount(np.concatenate(drawn), minlength=25)[snapshot.candidate_rows] / 400
    # Four standard deviations of a share of 3/10.
    assert np.abs(shares - 0.3).max() < 4 * (0.3 * 0.7 / 400) ** 0.5


def test_random_asking_has_propensities_and_reasons():
    result = run(make_recipe(acquisition="random"))
    np.testing.assert_allclose(result.ranking.propensities, [1 / (40 - rank) for rank in range(10)])
    assert result.ranking.top_classes.shape == result.ranking.top_probs.shape == (10, 2)
    assert len(np.unique(result.scores)) == 40


@pytest.mark.parametrize("labelled", [0, 12])
def test_a_batch_larger_than_the_pool_is_the_whole_pool(labelled):
    snapshot = make_snapshot(labelled=labelled)
    np.testing.assert_array_equal(np.sort(run(snapshot=snapshot, count=99).ranking.rows), snapshot.candidate_rows)


@pytest.mark.parametrize("labelled", [0, 12])
@pytest.mark.parametrize("acquisition", ACQUISITIONS.names())
def test_an_empty_pool_gives_an_empty_ranking_and_still_a_model(labelled, acquisition):
    result = run(make_recipe(acquisition=acquisition), make_snapshot(labelled=labelled, candidates=0))
    assert result.ranking.rows.shape == result.ranking.scores.shape == result.scores.shape == (0,)
    assert (result.weights is not None) == (labelled > 0)


def test_labels_of_one_class_still_make_a_round():
    snapshot = make_snapshot()
    result = run(snapshot=replace(snapshot, labels=np.zeros(12, np.int64)))
    assert len(result.ranking.rows) == 10
    assert np.isfinite(result.scores).all()


def test_without_test_images_there_is_no_evaluation():
    result = run(snapshot=replace(make_snapshot(), test_rows=NOTHING, test_labels=NOTHING))
    assert result.evaluation is None
    assert result.weights is not None


def test_test_images_change_nothing_but_the_evaluation():
    snapshot = make_snapshot()
    with_test, without = run(snapshot=snapshot), run(snapshot=replace(snapshot, test_rows=NOTHING, test_labels=NOTHING))
    assert with_test.weights == without.weights
    np.testing.assert_array_equal(with_test.ranking.rows, without.ranking.rows)


def test_fits_look_at_the_validation_images_of_the_snapshot():
    snapshot = make_snapshot(test=30)
    rows, labels = snapshot.test_rows, snapshot.test_labels
    watched = replace(snapshot, validation_rows=rows, validation_labels=labels)
    recipe = make_recipe(fitting={"name": "supervised", "epochs": 9, "learning_rate": 0.01, "stop_by": "accuracy"})
    result = run(recipe, watched)
    assert (result.fit.training_count, result.fit.validation_count) == (12, 30)
    assert result.fit.validation_accuracy == pytest.approx(result.evaluation.accuracy)
    assert result.fit.best_epoch < 9
    other = run(recipe, replace(watched, validation_labels=np.roll(labels, 1)))
    assert other.weights != result.weights


def test_validation_images_are_seen_through_a_frozen_trunk():
    parent = run(make_recipe(network="al_cnn"))
    snapshot = make_snapshot(test=30)
    watched = replace(snapshot, validation_rows=snapshot.test_rows, validation_labels=snapshot.test_labels)
    fitting = {"name": "supervised", "epochs": 5, "start": "warm", "trunk": "frozen", "stop_by": "accuracy"}
    result = run(make_recipe(network="al_cnn", fitting=fitting), watched, parent=parent.weights)
    assert result.fit.validation_accuracy == pytest.approx(result.evaluation.accuracy)


def test_a_posterior_is_given_the_validation_images_of_the_snapshot():
    snapshot = make_snapshot(labelled=30, test=30)
    scores = []
    for labels in (snapshot.test_labels, np.roll(snapshot.test_labels, 1)):
        watched = replace(snapshot, validation_rows=snapshot.test_rows, validation_labels=labels)
        fitting = {"name": "supervised", "epochs": 1, "least_steps": 1}  # one epoch leaves nothing to choose
        recipe = make_recipe(fitting=fitting, posterior={"name": "laplace", "prior": "validation"})
        scores.append(run(recipe, watched).scores)
    assert not np.array_equal(scores[0], scores[1])


@pytest.mark.parametrize("name", ["labelled_rows", "candidate_rows"])
def test_an_image_for_validation_is_neither_labelled_nor_asked_about(name):
    snapshot = make_snapshot()
    rows = getattr(snapshot, name)[:2]
    with pytest.raises(ValueError, match="validation_rows: a row is for validation and"):
        replace(snapshot, validation_rows=rows, validation_labels=np.zeros(2, np.int64))
    with pytest.raises(ShapeError, match=r"validation_labels: expected shape \[2\], got \[0\]"):
        replace(snapshot, validation_rows=rows)


def test_a_warm_recipe_goes_on_from_its_parent_and_a_scratch_one_does_not():
    barely = {"name": "supervised", "epochs": 1, "learning_rate": 1e-6, "weight_decay": 0, "least_steps": 1}
    well = {"name": "supervised", "epochs": 40, "learning_rate": 0.01}
    parent = run(make_recipe(fitting=well))
    warm = run(make_recipe(fitting={**barely, "start": "warm"}), parent=parent.weights)
    scratch = run(make_recipe(fitting=barely), parent=parent.weights)
    assert (warm.fit.started_from, scratch.fit.started_from) == (Start.WARM, Start.SCRATCH)
    assert warm.evaluation.nll == pytest.approx(parent.evaluation.nll, rel=0.01)
    assert scratch.evaluation.nll > 2 * parent.evaluation.nll


def test_progress_goes_through_the_stages_in_order():
    told = []
    result = run(progress=told.append)
    stages = list(dict.fromkeys(progress.stage for progress in told))
    assert stages == [Stage.FITTING, Stage.EVALUATING, Stage.SCORING, Stage.SELECTING]
    fitting = [progress for progress in told if progress.stage is Stage.FITTING]
    assert [(one.done, one.total) for one in fitting] == [(1, 3), (2, 3), (3, 3)]
    assert [one.loss for one in fitting] == [epoch.loss for epoch in result.fit.epochs]
    assert told[-1] == Progress(Stage.SELECTING, 10, 10)
    assert Progress(Stage.SCORING, 40, 40) in told


def test_a_passed_deadline_still_ends_in_a_ranking():
    result = run(deadline=0.0)
    assert (result.fit.stopped_by, len(result.fit.epochs)) == (Stopped.DEADLINE, 1)
    assert len(result.ranking.rows) == 10


def test_images_may_be_a_read_only_memory_map(tmp_path):
    snapshot = make_snapshot()
    np.save(tmp_path / "images.npy", snapshot.images_NHWC)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        run(snapshot=replace(snapshot, images_NHWC=mapped)).scores, run(snapshot=snapshot).scores
    )


def test_the_snapshot_is_left_as_it_was():
    snapshot = make_snapshot()
    images, labels = snapshot.images_NHWC.copy(), snapshot.labels.copy()
    run(make_recipe(fitting={"name": "supervised", "epochs": 2, "augment": True}), snapshot)
    np.testing.assert_array_equal(snapshot.images_NHWC, images)
    np.testing.assert_array_equal(snapshot.labels, labels)


def test_images_of_another_side_than_the_recipes_are_refused_naming_both():
    with pytest.raises(ShapeError, match=r"expected shape \[N, 16, 16, 1\], got \[67, 8, 8, 1\]"):
        run(make_recipe(image_side=16))


def test_bytes_that_are_no_weights_are_no_parent():
    recipe = make_recipe(fitting={"name": "supervised", "start": "warm"})
    with pytest.raises(BadInput, match="it holds no weights of ours"):
        run(recipe, parent=b"something else")


def test_one_class_cannot_be_learned():
    snapshot = make_snapshot()
    only = replace(snapshot, class_count=1, labels=np.zeros(12, np.int64), test_rows=NOTHING, test_labels=NOTHING)
    with pytest.raises(BadInput, match="nothing to tell apart with 1"):
        run(snapshot=only)


def test_images_too_large_for_the_network_name_the_side_to_use():
    recipe = make_recipe(network="ssl_cnn", image_side=129)
    snapshot = replace(make_snapshot(), images_NHWC=np.zeros((67, 129, 129, 1), np.uint8))
    with pytest.raises(RecipeError, match="use 128 or fewer"):
        run(recipe, snapshot)


def test_a_side_that_still_has_to_follow_the_images_is_refused():
    with pytest.raises(ShapeError, match=r"images_NHWC: expected shape \[N, 0, 0, 1\]"):
        run(make_recipe(image_side=0))


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"labels": np.zeros(3, np.int64)}, ShapeError, r"labels: expected shape \[12\], got \[3\]"),
        ({"labels": np.full(12, 3)}, IndexError, "labels: rows 3 to 3 do not fit 3"),
        ({"candidate_rows": np.array([67])}, IndexError, "candidate_rows"),
        ({"test_labels": NOTHING}, ShapeError, r"test_labels: expected shape \[15\], got \[0\]"),
        ({"images_NHWC": np.zeros((67, 8, 8), np.uint8)}, ShapeError, r"got \[67, 8, 8\]"),
        ({"labelled_rows": np.zeros(12)}, TypeError, "labelled_rows: expected int64, got float64"),
    ],
)
def test_a_snapshot_that_does_not_fit_together_is_refused(change, error, told):
    with pytest.raises(error, match=told):
        replace(make_snapshot(), **change)
