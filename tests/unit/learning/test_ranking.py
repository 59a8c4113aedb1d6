"""Rounds as a whole: what the selection, the uniform share and near duplicates make of a ranking."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from app.errors import RecipeError
from tests.unit.learning.factories import make_recipe, make_snapshot
from tests.unit.learning.test_learner import predict, run
from worker.learning.posteriors import POSTERIORS
from worker.learning.selections import SELECTIONS
from worker.learning.selections.badge import GradientEmbeddings
from worker.learning.selections.k_center import k_center

SAMPLING = set(POSTERIORS.names()) - {"plugin"}
SELECTING = pytest.mark.parametrize("name", [name for name in SELECTIONS.names() if name != "batch_bald" or SAMPLING])


@SELECTING
@pytest.mark.parametrize(("count", "ranked"), [(1, 1), (10, 10), (99, 40)])
def test_every_selection_ranks_candidates_and_no_labelled_ones(name, count, ranked):
    snapshot = make_snapshot()
    ranking = run(make_recipe(selection=name), snapshot, count=count).ranking
    assert len(set(ranking.rows)) == len(ranking.rows) == ranked
    assert set(ranking.rows) <= set(snapshot.candidate_rows)
    assert (ranking.propensities is not None) == (name == "power")


@SELECTING
def test_every_selection_ranks_an_empty_pool(name):
    recipe = make_recipe(selection=name, random_share=0.3)
    assert len(run(recipe, make_snapshot(candidates=0)).ranking.rows) == 0


def test_labelled_images_are_centres():
    snapshot = make_snapshot()
    result = run(make_recipe(selection="k_center"), snapshot)
    pixels = torch.from_numpy(snapshot.images_NHWC / 255).float().permute(0, 3, 1, 2).flatten(1)
    expected = k_center(
        pixels[snapshot.candidate_rows],
        torch.zeros(40),
        torch.zeros(40, dtype=torch.bool),
        pixels[snapshot.labelled_rows],
        10,
    )
    np.testing.assert_array_equal(result.ranking.rows, snapshot.candidate_rows[expected.numpy()])


def test_a_single_sample_is_refused_where_samples_are_compared():
    with pytest.raises(RecipeError, match=r"batch_bald .*samples"):
        run(make_recipe(selection="batch_bald", posterior="plugin"))


def test_a_share_of_the_ranking_is_drawn_uniformly_and_says_so():
    snapshot = make_snapshot()
    plain, mixed = run(snapshot=snapshot, count=40).ranking, run(make_recipe(random_share=0.4), snapshot, count=40)
    ranking = mixed.ranking
    assert not plain.is_random.any()
    assert 5 < ranking.is_random.sum() < 30
    asked = ranking.rows[~ranking.is_random]
    order = [row for row in plain.rows if row in set(asked)]
    np.testing.assert_array_equal(asked, order)
    assert ranking.propensities.shape == (40,)
    left = 40 - np.arange(40)
    assert (ranking.propensities >= 0.4 / left - 1e-12).all()
    assert ranking.propensities[-1] == pytest.approx(1)
    assert (ranking.propensities[~ranking.is_random] >= 0.6).all()
    np.testing.assert_array_equal(ranking.scores, mixed.scores[np.searchsorted(snapshot.candidate_rows, ranking.rows)])


def test_what_is_typical_is_told_from_what_scores_and_draws_chose():
    hedge = {"name": "hedge", "share": 0.5, "looks_until": 0.0}
    ranking = run(make_recipe(selection=hedge, random_share=0.3, batch_size=20), make_snapshot(), count=30).ranking
    assert 5 <= ranking.is_typical.sum() <= 10
    assert ranking.is_random.any() and not (ranking.is_typical & ranking.is_random).any()
    assert not run(make_recipe(selection="top_k")).ranking.is_typical.any()
    assert run(make_recipe(selection="typiclust"), count=10).ranking.is_typical.all()


@pytest.mark.parametrize(
    ("selection", "chosen_by"), [("top_k", "margin"), ("k_center", "k_center"), ("badge", "badge")]
)
def test_what_ignores_scores_is_named_in_place_of_the_acquisition(selection, chosen_by):
    assert run(make_recipe(acquisition="margin", selection=selection)).ranking.chosen_by == chosen_by


def test_random_asking_is_random_throughout_and_diverse_asking_of_it_is_not():
    assert run(make_recipe(acquisition="random")).ranking.is_random.all()
    assert run(make_recipe(acquisition="random", random_share=0.3)).ranking.is_random.all()
    diverse = run(make_recipe(acquisition="random", selection="k_center")).ranking
    assert not diverse.is_random.any()
    assert diverse.propensities is None


def with_copies(snapshot, of, copies):
    """Candidates ``copies`` become pictures of the candidate ``of``, with a byte of difference."""
    images = snapshot.images_NHWC.copy()
    for place, copy in enumerate(copies):
        images[copy] = images[of]
        images[copy, 0, 0, 0] = place
    return replace(snapshot, images_NHWC=images)


@pytest.mark.parametrize("labelled", [0, 12])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_near_copies_enter_a_batch_once(labelled, share):
    snapshot = make_snapshot(labelled=labelled)
    alike = snapshot.candidate_rows[[3, 8, 15, 30, 31]]
    snapshot = with_copies(snapshot, alike[0], alike[1:])
    ranking = run(make_recipe(random_share=share), snapshot, count=99).ranking
    assert len(set(ranking.rows) & set(alike)) == 1
    assert len(ranking.rows) == 36
    everything = run(make_recipe(random_share=share, duplicate_similarity=1), snapshot, count=99).ranking
    assert sorted(everything.rows) == sorted(snapshot.candidate_rows)


def test_the_best_of_near_copies_is_the_one_that_is_asked():
    snapshot = make_snapshot()
    alike = snapshot.candidate_rows[[3, 8]]
    snapshot = with_copies(snapshot, alike[0], alike[1:])
    result = run(make_recipe(acquisition="margin"), snapshot, count=99)
    scores = dict(zip(snapshot.candidate_rows, result.scores, strict=True))
    [asked] = set(result.ranking.rows) & set(alike)
    assert scores[asked] == max(scores[row] for row in alike)
    assert len({scores[row] for row in alike}) == 2


def test_a_cold_start_by_clusters_ranks_everything_and_reaches_every_class_at_once():
    snapshot = make_snapshot(labelled=0)
    result = run(make_recipe(cold_start="clusters", seed_set=3), snapshot, count=40)
    ranking = result.ranking
    truths = np.arange(55) % 3
    assert sorted(truths[ranking.rows[:3]]) == [0, 1, 2]
    assert sorted(ranking.rows) == sorted(snapshot.candidate_rows)
    assert (ranking.chosen_by, ranking.propensities, ranking.top_classes) == ("clusters", None, None)
    assert not ranking.is_random.any()
    assert (np.diff(ranking.scores) < 0).all()
    np.testing.assert_array_equal(ranking.scores, result.scores[np.searchsorted(snapshot.candidate_rows, ranking.rows)])
    assert (result.scores.min(), result.scores.max()) == (0, 1)


def test_a_cold_start_by_clusters_may_be_mixed_and_the_pool_may_be_empty():
    recipe = make_recipe(cold_start="clusters", random_share=0.5)
    ranking = run(recipe, make_snapshot(labelled=0), count=30).ranking
    assert 0 < ranking.is_random.sum() < 30
    assert ranking.propensities.shape == (30,)
    assert len(run(recipe, make_snapshot(labelled=0, candidates=0)).ranking.rows) == 0


def test_badge_sees_the_mean_prediction_of_the_candidates():
    snapshot = make_snapshot()
    result = run(make_recipe(selection="badge"), snapshot)
    pixels = torch.from_numpy(snapshot.images_NHWC / 255).float().permute(0, 3, 1, 2).flatten(1)
    log_probs = predict(result, snapshot, snapshot.candidate_rows)
    gradients = GradientEmbeddings.of(log_probs, pixels[snapshot.candidate_rows])
    assert result.ranking.rows[0] == snapshot.candidate_rows[int(gradients.squares_N.argmax())]
