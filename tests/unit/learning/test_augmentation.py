import math
from dataclasses import replace

import pytest
import torch

from worker.learning.augmentation import (
    DIGITS,
    PHOTOS,
    STRONG_DIGITS,
    STRONG_PHOTOS,
    Change,
    change,
    changes_for,
    jitter,
)
from worker.learning.errors import ShapeError

STILL = Change(turn=0.0, shift=0.0, scale=0.0)
ALL = pytest.mark.parametrize("most", [DIGITS, STRONG_DIGITS, PHOTOS, STRONG_PHOTOS, STILL])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make_images(count=64, channels=3, side=20):
    return torch.rand(count, channels, side, side, generator=seeded(5))


def make_dots(count, row, column, side=21):
    """A soft dot at one place of each image."""
    grid = torch.arange(side, dtype=torch.float32)
    dot = torch.exp(-((grid[:, None] - row) ** 2 + (grid[None, :] - column) ** 2) / 4)
    return dot.expand(count, 1, side, side)


def centres(images):
    """Row and column of the middle of each image's brightness."""
    grid = torch.arange(images.shape[-1], dtype=torch.float32)
    mass = images[:, 0].sum(dim=(1, 2))
    return (images[:, 0].sum(2) * grid).sum(1) / mass, (images[:, 0].sum(1) * grid).sum(1) / mass


@ALL
@pytest.mark.parametrize("channels", [1, 3])
def test_views_stay_images_follow_their_generator_and_leave_the_original(most, channels):
    images = make_images(channels=channels)
    before = images.clone()
    first, same, other = (change(images, most, seeded(seed)) for seed in (0, 0, 1))
    assert first.shape == images.shape
    assert float(first.min()) >= 0 and float(first.max()) <= 1 + 1e-6
    assert torch.equal(first, same)
    assert torch.equal(first, other) == (most is STILL)
    assert torch.equal(images, before)


@pytest.mark.parametrize("most", [STILL, DIGITS, PHOTOS])
def test_an_even_image_has_no_edges_invented(most):
    grey = torch.full((16, 1, 8, 8), 0.5)
    moved = change(grey, replace(most, light=0.0), seeded())
    torch.testing.assert_close(moved, grey)


def test_nothing_to_change_changes_nothing():
    images = make_images()
    torch.testing.assert_close(change(images, STILL, seeded()), images, atol=1e-5, rtol=1e-5)


def test_a_shift_moves_up_to_its_share_in_both_directions_of_both_axes():
    rows, columns = centres(change(make_dots(400, 10, 10), replace(STILL, shift=0.2), seeded()))
    for moved in (rows - 10, columns - 10):
        assert 3.8 < float(moved.max()) <= 4.3
        assert -4.3 <= float(moved.min()) < -3.8
        assert abs(float(moved.mean())) < 0.4


def test_a_turn_keeps_the_distance_from_the_middle_and_stays_in_bounds():
    rows, columns = centres(change(make_dots(400, 10, 15), replace(STILL, turn=math.radians(30)), seeded()))
    distance = ((rows - 10) ** 2 + (columns - 10) ** 2).sqrt()
    torch.testing.assert_close(distance, torch.full_like(distance, 5.0), atol=0.1, rtol=0)
    degrees = torch.rad2deg(torch.atan2(rows - 10, columns - 10))
    assert 28 < float(degrees.max()) <= 31 and -31 <= float(degrees.min()) < -28


def test_a_scale_moves_dots_to_and_from_the_middle():
    _, columns = centres(change(make_dots(400, 10, 14), replace(STILL, scale=0.25), seeded()))
    # The grid grows by up to 25%, so the dot stands at 4 / 1.25 to 4 / 0.75.
    assert 3.2 - 0.1 <= float(columns.min()) - 10 < 3.3
    assert 5.1 < float(columns.max()) - 10 <= 5.34 + 0.1


def test_a_shear_slants_rows_and_leaves_the_middle_row():
    most = replace(STILL, shear=0.4)
    rows, columns = centres(change(make_dots(200, 6, 10), most, seeded()))
    torch.testing.assert_close(rows, torch.full_like(rows, 6.0), atol=0.05, rtol=0)
    assert 1.5 < float((columns - 10).max()) <= 4 * math.tan(0.4) + 0.05
    _, still = centres(change(make_dots(200, 10, 14), most, seeded()))
    torch.testing.assert_close(still, torch.full_like(still, 14.0), atol=0.05, rtol=0)


def test_about_half_of_the_photos_are_mirrored_and_digits_never():
    mirrored = change(make_dots(400, 10, 15), replace(STILL, mirrors=True), seeded())
    _, columns = centres(mirrored)
    is_mirrored = columns < 10
    torch.testing.assert_close(columns[is_mirrored], torch.full_like(columns[is_mirrored], 5.0), atol=0.01, rtol=0)
    torch.testing.assert_close(columns[~is_mirrored], torch.full_like(columns[~is_mirrored], 15.0), atol=0.01, rtol=0)
    assert 0.4 < float(is_mirrored.float().mean()) < 0.6
    assert not DIGITS.mirrors and not STRONG_DIGITS.mirrors and PHOTOS.mirrors and STRONG_PHOTOS.mirrors


def test_light_multiplies_contrast_spreads_and_colour_fades():
    images = make_images(200) * 0.2 + 0.3
    bright = change(images, replace(STILL, light=0.3), seeded())
    ratio = bright.mean(dim=(1, 2, 3)) / images.mean(dim=(1, 2, 3))
    assert 0.69 < float(ratio.min()) < 0.72 and 1.28 < float(ratio.max()) < 1.31
    spread = change(images, replace(STILL, contrast=0.5), seeded())
    torch.testing.assert_close(spread.mean(dim=(1, 2, 3)), images.mean(dim=(1, 2, 3)), atol=1e-4, rtol=0)
    ratio = spread.std(dim=(1, 2, 3)) / images.std(dim=(1, 2, 3))
    assert 0.49 < float(ratio.min()) < 0.53 and 1.47 < float(ratio.max()) < 1.51
    faded = change(images, replace(STILL, colour=0.9), seeded())
    torch.testing.assert_close(faded.mean(dim=1), images.mean(dim=1), atol=1e-4, rtol=0)
    assert float((faded.std(dim=1).mean(dim=(1, 2)) / images.std(dim=1).mean(dim=(1, 2))).min()) < 0.15


def test_a_square_is_cut_out_up_to_its_share_and_filled_with_the_mean():
    images = make_images(300, channels=1, side=40)
    views = change(images, replace(STILL, cut=0.5), seeded())
    differs = (views - images).abs() > 1e-4
    shares = differs.float().mean(dim=(1, 2, 3))
    assert 0.2 < float(shares.max()) <= 0.25 + 0.02
    one = int(shares.argmax())
    torch.testing.assert_close(views[one][differs[one]].std(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(views[one][differs[one]][0], images[one].mean(), atol=1e-4, rtol=0)


def test_auto_takes_colour_for_photos_and_grey_for_digits():
    assert changes_for("auto", 1) == changes_for("digits", 3) == (DIGITS, STRONG_DIGITS)
    assert changes_for("auto", 3) == changes_for("photos", 1) == (PHOTOS, STRONG_PHOTOS)


def test_a_strong_view_differs_more_than_a_weak_one():
    images = make_dots(200, 8, 12)
    for weak, strong in ((DIGITS, STRONG_DIGITS), (PHOTOS, STRONG_PHOTOS)):
        near, far = (
            float((change(images, replace(most, mirrors=False), seeded()) - images).square().mean())
            for most in (weak, strong)
        )
        assert far > 1.3 * near


def test_jitter_is_the_weak_change_of_digits():
    images = make_images()
    assert torch.equal(jitter(images, seeded()), change(images, DIGITS, seeded()))


@ALL
def test_what_is_no_minibatch_is_refused(most):
    with pytest.raises(ShapeError, match="images_NCHW"):
        change(torch.ones(6, 6), most, seeded())
