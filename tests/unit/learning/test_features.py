from dataclasses import replace

import numpy as np
import pytest
import torch

from app.errors import RecipeError
from tests.unit.learning.factories import CPU, make_blobs, make_network, make_recipe, make_snapshot, make_spec
from worker.learning.acquisitions import ACQUISITIONS
from worker.learning.errors import ShapeError
from worker.learning.features import FeatureTable, OverFeatures, read_features, trunk_digest
from worker.learning.fitting import Start
from worker.learning.learner import Stage, step
from worker.learning.networks import build_network
from worker.learning.pool import normalise
from worker.learning.posteriors import POSTERIORS, Fitted, read_all
from worker.learning.selections import SELECTIONS
from worker.learning.weights import Weights, load_network

FROZEN = {"name": "supervised", "epochs": 20, "learning_rate": 0.01, "start": "warm", "trunk": "frozen"}


def run(snapshot=None, parent=None, number=1, fitting=None, **options):
    parts = {
        name: options.pop(name) for name in ("acquisition", "posterior", "selection", "network") if name in options
    }
    recipe = make_recipe(**{"network": "al_cnn", **parts}, fitting=fitting or FROZEN)
    snapshot = snapshot or make_snapshot()
    return step(recipe, snapshot, count=6, round_number=number, parent=parent, device="cpu", **options)


def make_parent(seed=1):
    return Weights.of(make_network("al_cnn", seed=seed)).to_bytes()


def read(rows, network=None, images=None, known=None):
    told = []
    network, images = network or make_network("al_cnn"), make_blobs(30)[0] if images is None else images
    rows = np.array(rows, np.int64)
    features, table = read_features(network, images, rows, CPU, known=known, progress=lambda *done: told.append(done))
    return features, table, told[-1][1] if told else 0


def trunk_of(network, images):
    with torch.inference_mode():
        return network.trunk(normalise(torch.from_numpy(images))).numpy()


def test_features_are_the_trunks_in_the_rows_of_the_images():
    network, (images, _) = make_network("al_cnn"), make_blobs(30)
    features, table, count = read([7, 3, 20], network, images)
    assert features.shape == (30, 1, 1, 64) and features.dtype == np.float32
    np.testing.assert_allclose(features[[7, 3, 20], 0, 0], trunk_of(network, images)[[7, 3, 20]], rtol=1e-4, atol=1e-6)
    assert (table.features_MD.shape, count) == ((3, 64), 3)


def test_what_is_known_is_not_read_again_and_what_is_new_is():
    whole, _, _ = read(range(20))
    _, known, _ = read(range(12))
    features, table, count = read(range(20), known=known)
    assert count == 8
    np.testing.assert_allclose(features, whole, rtol=1e-4, atol=1e-6)
    again, same, none = read(range(20), known=table)
    assert none == 0
    np.testing.assert_array_equal(again, features)
    np.testing.assert_array_equal(same.contents_MK, table.contents_MK)


def test_images_are_known_by_their_pixels_not_by_their_rows():
    images, _ = make_blobs(30)
    features, known, _ = read(range(30), images=images)
    shuffled, _, count = read(range(30), images=images[::-1].copy(), known=known)
    assert count == 0
    np.testing.assert_array_equal(shuffled, features[::-1])
    changed = images.copy()
    changed[4, 0, 0, 0] ^= 1
    assert read(range(30), images=changed, known=known)[2] == 1


def test_equal_images_are_read_once():
    images = np.repeat(make_blobs(5)[0], 3, axis=0)
    features, table, count = read(range(15), images=images)
    assert (count, len(table.features_MD)) == (5, 5)
    np.testing.assert_array_equal(features[0::3], features[2::3])


def test_another_trunk_makes_a_table_useless_and_another_head_does_not():
    first, other = make_network("al_cnn"), make_network("al_cnn", seed=1)
    _, known, _ = read(range(10), first)
    assert read(range(10), other, known=known)[2] == 10
    with torch.no_grad():
        first.head[-1].weight.add_(1)
    assert read(range(10), first, known=known)[2] == 0
    with torch.no_grad():
        first.trunk[1].running_mean[0].add_(1e-3)
    assert read(range(10), first, known=known)[2] == 10
    assert trunk_digest(make_network("softmax_regression")) != trunk_digest(make_network("softmax_regression", side=9))


def test_features_told_apart_in_other_cells_are_read_anew():
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 1), np.uint8)
    spec, tables = make_spec("al_cnn", side=32), []
    for side in (1, 2):
        spec = replace(spec, parameters={**spec.parameters, "feature_side": side})
        network = build_network(spec, torch.Generator().manual_seed(0)).eval()  # the same trunk's weights both times
        tables.append(read(range(6), network, images, known=tables[-1] if tables else None)[1])
    assert [table.features_MD.shape for table in tables] == [(6, 64), (6, 256)]


def test_no_rows_read_nothing():
    features, table, count = read([])
    assert (features.shape[:3], len(table.features_MD), count) == ((30, 1, 1), 0, 0)


def test_a_table_survives_being_stored_and_rubbish_is_no_table():
    _, table, _ = read(range(9))
    again = FeatureTable.from_bytes(table.to_bytes())
    assert again.trunk == table.trunk
    np.testing.assert_array_equal(again.features_MD, table.features_MD)
    np.testing.assert_array_equal(again.contents_MK, table.contents_MK)
    for rubbish in (b"", b"rubbish", table.to_bytes()[:100], table.to_bytes()[:-40]):
        assert FeatureTable.from_bytes(rubbish) is None


def test_a_table_of_uneven_length_is_refused_naming_both():
    with pytest.raises(ShapeError, match=r"features_MD: expected shape \[3, D\], got \[2, 5\]"):
        FeatureTable("", np.zeros((3, 16), np.uint8), np.zeros((2, 5), np.float32))


def test_a_head_over_features_is_the_network():
    network, (images, _) = make_network("al_cnn"), make_blobs(12)
    features, _, _ = read(range(12), network, images)
    plugin = POSTERIORS.get("plugin")
    over, whole = (Fitted(one, {}, torch.Generator()) for one in (OverFeatures(network), network))
    left, right = (
        read_all(plugin(over), features, np.arange(12), CPU),
        read_all(plugin(whole), images, np.arange(12), CPU),
    )
    torch.testing.assert_close(left.log_probs_SNC, right.log_probs_SNC)
    torch.testing.assert_close(left.features_ND, right.features_ND)
    with pytest.raises(ShapeError, match=r"expected shape \[N, D, 1, 1\], got \[2, 64, 2, 1\]"):
        OverFeatures(network)(torch.zeros(2, 64, 2, 1))


def test_a_frozen_round_fits_the_head_and_leaves_the_trunk():
    parent = make_parent()
    result = run(parent=parent)
    before, after = load_network(parent), load_network(result.weights)
    assert trunk_digest(after) == trunk_digest(before)
    assert not torch.equal(after.head[-1].weight, before.head[-1].weight)
    assert result.fit.started_from is Start.WARM
    assert result.fit.best.loss < result.fit.epochs[0].loss / 2
    assert result.evaluation.accuracy > 0.9


def test_scores_of_a_frozen_round_are_those_of_the_stored_weights():
    snapshot = make_snapshot()
    result = run(snapshot, make_parent())
    posterior = POSTERIORS.get("plugin")(Fitted(load_network(result.weights), {}, torch.Generator()))
    probs = read_all(posterior, snapshot.images_NHWC, snapshot.candidate_rows, CPU).log_probs_SNC[0].double().exp()
    best_N2 = probs.topk(2, dim=1).values
    np.testing.assert_allclose(result.scores, (best_N2[:, 1] - best_N2[:, 0]).numpy(), rtol=1e-3, atol=1e-5)


def test_the_next_round_reads_no_image_and_finds_the_same():
    first = run(parent=make_parent())
    told = []
    again = run(parent=first.weights, number=2, features=first.features, progress=told.append)
    afresh = run(parent=first.weights, number=2)
    assert Stage.READING not in {progress.stage for progress in told}
    assert again.weights == afresh.weights
    np.testing.assert_array_equal(again.ranking.rows, afresh.ranking.rows)


def test_reading_is_told_before_fitting():
    told = []
    run(parent=make_parent(), progress=told.append)
    assert told[0].stage is Stage.READING and (told[0].done, told[0].total) == (67, 67)


def test_a_trained_trunk_keeps_no_features():
    assert run(fitting={"name": "supervised", "epochs": 1}).features is None


def test_what_looks_at_no_weights_of_the_trunk_fits_the_same_frozen_as_not():
    options = {"name": "supervised", "epochs": 5, "augment": False}
    frozen, trained = (
        run(network="softmax_regression", fitting={**options, "trunk": trunk}) for trunk in ("frozen", "trained")
    )
    left, right = (load_network(result.weights).head.weight for result in (frozen, trained))
    torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)
    assert frozen.fit.started_from is Start.SCRATCH


def test_features_are_never_augmented():
    on, off = (run(parent=make_parent(), fitting={**FROZEN, "augment": augment}) for augment in (True, False))
    assert on.weights == off.weights


@pytest.mark.parametrize("start", ["scratch", "warm"])
def test_new_weights_are_not_worth_freezing(start):
    with pytest.raises(RecipeError, match=r"fitting\.trunk: new weights have no features worth keeping; use network"):
        run(fitting={**FROZEN, "start": start})


def test_the_snapshot_keeps_its_images():
    snapshot = make_snapshot()
    before = snapshot.images_NHWC.copy()
    run(snapshot, make_parent())
    np.testing.assert_array_equal(snapshot.images_NHWC, before)


@pytest.mark.parametrize(
    ("group", "name"),
    [
        *(("posterior", name) for name in POSTERIORS.names() if name != "committee"),
        *(("acquisition", name) for name in ACQUISITIONS.names()),
        *(("selection", name) for name in SELECTIONS.names()),
    ],
)
def test_every_choice_works_over_a_frozen_trunk(group, name):
    result = run(parent=make_parent(), fitting={**FROZEN, "epochs": 2}, **{group: name})
    assert len(result.ranking.rows) == 6
    assert np.isfinite(result.scores).all()


def test_a_committee_over_a_frozen_trunk_is_refused():
    with pytest.raises(RecipeError, match="trunks of their own"):
        run(parent=make_parent(), fitting=FROZEN, posterior="committee")


def test_an_empty_pool_and_no_test_images_freeze_too():
    snapshot = make_snapshot(candidates=0)
    nothing = np.empty(0, np.int64)
    result = run(replace(snapshot, test_rows=nothing, test_labels=nothing), make_parent())
    assert result.weights is not None and result.ranking.rows.shape == (0,)
