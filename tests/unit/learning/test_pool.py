import numpy as np
import pytest
import torch

from tests.unit.learning.factories import CPU
from worker.learning.augmentation import jitter
from worker.learning.errors import ShapeError
from worker.learning.pool import check_images, check_rows, epoch_minibatches, normalise, take


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_rows_are_taken_in_their_order_and_normalised_to_channels_first():
    images = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)
    got = normalise(take(images, np.array([3, 1]), CPU))
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), images[[3, 1]].transpose(0, 3, 1, 2) / 255, rtol=1e-6)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_rows_of_a_read_only_memory_map_are_copied_out(tmp_path):
    np.save(tmp_path / "images.npy", np.full((3, 4, 4, 1), 7, np.uint8))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    taken = take(mapped, np.array([0, 2]), CPU)
    taken.zero_()
    assert mapped[0, 0, 0, 0] == 7


@pytest.mark.parametrize(
    ("shape", "told"), [((2, 8, 8), "2, 8, 8"), ((2, 8, 9, 1), "2, 8, 9, 1"), ((2, 8, 8, 2), "2, 8, 8, 2")]
)
def test_images_of_another_shape_are_refused_naming_both(shape, told):
    with pytest.raises(ShapeError, match=rf"expected shape \[N, side, side, 1 or 3\], got \[{told}\]"):
        check_images(np.zeros(shape, np.uint8))


def test_images_that_are_not_bytes_are_refused():
    with pytest.raises(TypeError, match="expected uint8, got float32"):
        check_images(np.zeros((1, 8, 8, 1), np.float32))


@pytest.mark.parametrize("rows", [[-1], [3], [0, 5]])
def test_rows_outside_the_array_are_refused(rows):
    with pytest.raises(IndexError, match="do not fit 3 images"):
        check_rows("labelled_rows", np.array(rows), 3)


@pytest.mark.parametrize(
    ("count", "size", "least_steps"), [(2, 32, 1), (33, 32, 1), (200, 32, 6), (20, 32, 6), (5, 1, 1)]
)
def test_minibatches_hold_every_row_equally_often_and_never_one_alone(count, size, least_steps):
    minibatches = epoch_minibatches(count, size, least_steps, seeded())
    times = torch.cat(minibatches).bincount(minlength=count)
    assert times.min() == times.max() >= 1
    assert len(minibatches) >= least_steps
    assert min(map(len, minibatches)) >= 2
    assert max(map(len, minibatches)) <= max(size, 3)


def test_one_row_comes_twice_in_a_minibatch():
    assert [rows.tolist() for rows in epoch_minibatches(1, 32, 2, seeded())] == [[0, 0], [0, 0]]


def test_each_pass_shuffles_anew_and_the_same_seed_alike():
    first, second = epoch_minibatches(16, 16, 2, seeded())
    again = epoch_minibatches(16, 16, 2, seeded())
    assert first.tolist() != second.tolist()
    assert [rows.tolist() for rows in again] == [first.tolist(), second.tolist()]


def test_jitter_moves_every_image_its_own_way_and_a_little():
    image = torch.zeros(1, 1, 20, 20)
    image[0, 0, 8:12, 8:12] = 1
    moved = jitter(image.expand(64, 1, 20, 20), seeded())
    assert torch.equal(moved, jitter(image.expand(64, 1, 20, 20), seeded()))
    assert not torch.equal(moved, jitter(image.expand(64, 1, 20, 20), seeded(1)))
    assert len({tuple(one.flatten().tolist()) for one in moved}) == 64
    axis = torch.arange(20.0)
    mass = moved.sum(dim=(1, 2, 3))
    centres = (moved.sum(dim=(1, 2)) * axis).sum(dim=1) / mass
    # A tenth of 20 pixels to either side, and at most (1 + 0.12)^2 of the area.
    assert 1 < (centres - 9.5).abs().max() < 2.5
    assert 0.75 * 16 < mass.min() < mass.max() < 1.35 * 16


def test_jitter_invents_no_background():
    white = torch.ones(8, 3, 6, 6)
    torch.testing.assert_close(jitter(white, seeded()), white)


def test_jitter_refuses_what_is_no_minibatch():
    with pytest.raises(ShapeError, match=r"expected shape \[N, C, H, W\], got \[6, 6\]"):
        jitter(torch.ones(6, 6), seeded())
