"""Nearest labelled images: the same as comparing everything with everything, in any chunks."""

import numpy as np
import pytest
import torch

from tests.unit.learning.factories import CPU, make_blobs, make_recipe, make_snapshot
from tests.unit.learning.test_learner import run
from tests.unit.learning.test_posteriors import make_posterior
from worker.learning.errors import ShapeError
from worker.learning.neighbours import nearest_labelled
from worker.learning.posteriors import read_all
from worker.learning.posteriors.base import chunk_size
from worker.learning.reading import Reading

SIDE = 64  # at this side a chunk is sixteen images


class Fixed:
    """A posterior whose features are the pixels of the first row, as they are."""

    def read(self, images_NCHW):
        features_ND = images_NCHW[:, 0, 0, :]
        return Reading(torch.zeros(1, len(features_ND), 2), features_ND)


def naive(features_LD, features_KD, rows, count):
    """The definition, in float64: all cosines, sorted by cosine and then by row."""

    def unit(vectors):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)

    cosines = unit(features_KD.double().numpy()) @ unit(features_LD.double().numpy()).T
    order = [sorted(range(len(rows)), key=lambda place: (-row[place], rows[place]))[:count] for row in cosines]
    return np.array([[rows[place] for place in places] for places in order]), np.take_along_axis(
        cosines, np.array(order), axis=1
    )


def test_neighbours_are_those_of_the_definition_over_several_chunks():
    images, _ = make_blobs(60, side=SIDE)
    posterior, labelled, asked = (
        make_posterior("plugin", side=SIDE),
        np.arange(0, 50, dtype=np.int64),
        np.arange(50, 60),
    )
    assert len(labelled) > 2 * chunk_size(images, CPU)
    features_KD = read_all(posterior, images, asked, CPU).features_ND
    found = nearest_labelled(posterior, images, labelled[::-1].copy(), features_KD, count=5, device=CPU)
    rows, cosines = naive(read_all(posterior, images, labelled, CPU).features_ND, features_KD, labelled, 5)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.similarities, cosines, rtol=1e-4)
    assert (found.rows.dtype, found.similarities.dtype) == (np.int64, np.float32)


def test_equally_near_images_come_in_the_order_of_their_rows():
    images = np.zeros((40, SIDE, SIDE, 1), np.uint8)
    images[:, 0, 0] = 200
    images[[3, 35], 0, 1] = 100
    asked = torch.zeros(1, SIDE)
    asked[0, 0], asked[0, 1] = 1.0, 0.5
    found = nearest_labelled(Fixed(), images, np.arange(40), asked, count=4, device=CPU)
    assert found.rows.tolist() == [[3, 35, 0, 1]]
    assert found.similarities[0, 0] == found.similarities[0, 1] == pytest.approx(1.0)


def test_features_of_length_zero_are_like_nothing():
    images = np.zeros((3, SIDE, SIDE, 1), np.uint8)
    found = nearest_labelled(Fixed(), images, np.arange(3), torch.ones(2, SIDE), count=5, device=CPU)
    assert found.rows.tolist() == [[0, 1, 2], [0, 1, 2]], "fewer than asked for, if there are fewer"
    assert not found.similarities.any()


def test_without_labelled_images_there_are_none():
    images, _ = make_blobs(3, side=SIDE)
    found = nearest_labelled(Fixed(), images, np.empty(0, np.int64), torch.ones(2, SIDE), count=5, device=CPU)
    assert found.rows.shape == found.similarities.shape == (2, 0)


def test_features_of_another_shape_are_refused():
    images, _ = make_blobs(3, side=SIDE)
    with pytest.raises(ShapeError, match="features_KD"):
        nearest_labelled(Fixed(), images, np.arange(3), torch.ones(2), count=5, device=CPU)


def test_a_round_names_neighbours_of_each_ranked_row_if_asked():
    snapshot = make_snapshot()
    ranking = run(make_recipe(acquisition="entropy"), snapshot, neighbours=3).ranking
    assert ranking.neighbours is not None
    assert ranking.neighbours.rows.shape == (len(ranking.rows), 3)
    assert set(ranking.neighbours.rows.ravel()) <= set(snapshot.labelled_rows)
    assert (np.diff(ranking.neighbours.similarities, axis=1) <= 0).all()
    plain = run(make_recipe(acquisition="entropy"), snapshot).ranking
    assert plain.neighbours is None
    np.testing.assert_array_equal(plain.rows, ranking.rows)


def test_a_round_without_labels_names_none():
    assert run(snapshot=make_snapshot(labelled=0), neighbours=3).ranking.neighbours is None
