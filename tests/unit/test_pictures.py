"""Decoding: every readable kind, upright and flat; every damage told as a reason; the network's view of a picture."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.errors import UnreadableImage
from worker import pictures
from worker.pictures import as_array, as_png, decode, is_grey, is_shown_by_browsers

GRADIENT = Image.fromarray(np.arange(6 * 4 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_what_browsers_show_is_kept_as_it_is(kind: str) -> None:
    assert is_shown_by_browsers(decode(encoded(GRADIENT, kind)))


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM", "TGA", "ICO", "JPEG2000"])
def test_what_browsers_do_not_show_becomes_a_png_of_the_same_pixels(kind: str) -> None:
    options = {"sizes": [(6, 4)]} if kind == "ICO" else {}
    image = decode(encoded(GRADIENT, kind, **options))
    assert not is_shown_by_browsers(image)
    assert np.array_equal(np.asarray(decode(as_png(image))), np.asarray(image))


@pytest.mark.parametrize(("mode", "grey"), [("1", True), ("L", True), ("LA", True), ("RGB", False), ("P", False)])
def test_grey_is_decided_by_the_mode_of_the_file(mode: str, grey: bool) -> None:
    assert is_grey(decode(encoded(GRADIENT.convert(mode), "PNG"))) is grey


def test_a_picture_is_turned_upright_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(GRADIENT, "JPEG", exif=exif)).size == (4, 6)


def test_what_is_transparent_becomes_white() -> None:
    half_clear = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    half_clear.putpixel((1, 0), (0, 0, 0, 0))
    assert np.asarray(decode(encoded(half_clear, "PNG"))).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_sixteen_bit_grey_is_scaled_and_not_cut_off() -> None:
    deep = Image.fromarray(np.array([[0, 255, 256, 32_768, 65_535]], dtype=np.uint16))
    assert np.asarray(decode(encoded(deep, "PNG"))).tolist() == [[0, 0, 1, 128, 255]]


def test_floating_point_grey_is_stretched_over_all_greys() -> None:
    floating = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    assert np.asarray(decode(encoded(floating, "TIFF"))).tolist() == [[0, 128, 255]]


def test_an_animation_is_its_first_frame() -> None:
    second = Image.new("RGB", GRADIENT.size, "red")
    data = encoded(GRADIENT, "GIF", save_all=True, append_images=[second])
    assert np.array_equal(np.asarray(decode(data)), np.asarray(decode(encoded(GRADIENT, "GIF"))))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"label,file\ncat,1.png\n", "it is no image of a kind that is read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no image of a kind that is read"),
        (encoded(GRADIENT, "JPEG")[:-20], "it is damaged"),
        (encoded(GRADIENT, "PNG")[:-30], "it is damaged"),
    ],
    ids=["empty", "text", "a kind that needs another program", "cut off jpeg", "cut off png"],
)
def test_a_broken_file_is_told_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImage) as told:
        decode(data, "cat.png")
    assert told.value.subject == "cat.png"
    assert told.value.reason.startswith(reason)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_PIXELS", 23)
    with pytest.raises(UnreadableImage, match=r"too many pixels \(6 x 4\)"):
        decode(encoded(GRADIENT, "PNG"))


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it mends
@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "AVIF"]))
def test_no_damage_raises_anything_but_unreadable_image(seed: int, kind: str) -> None:
    chance = random.Random(seed)
    data = bytearray(encoded(GRADIENT, kind))
    for _ in range(chance.randint(1, 5)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    try:
        decode(bytes(data[: chance.randint(1, len(data))]))
    except UnreadableImage as error:
        assert error.reason


def test_an_array_has_the_side_and_the_channels_that_were_asked_for() -> None:
    image = decode(encoded(GRADIENT, "PNG"))
    for side, channels in [(1, 1), (5, 3), (16, 1), (32, 3)]:
        pixels = as_array(image, side, channels)
        assert pixels.shape == (side, side, channels)
        assert pixels.dtype == np.uint8


def test_an_array_of_the_pictures_own_size_is_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8)
    assert np.array_equal(as_array(Image.fromarray(pixels), 9, 1)[:, :, 0], pixels)


def test_shrinking_takes_the_whole_picture_and_averages_it() -> None:
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
    shrunk = as_array(Image.fromarray(stripes), 8, 1)
    assert np.abs(shrunk.astype(int) - 127).max() <= 16  # without antialiasing it would be black or white


def test_a_long_picture_is_squeezed_and_not_cropped() -> None:
    long = np.zeros((8, 80), dtype=np.uint8)
    long[:, :8] = 255
    long[:, -8:] = 255
    squeezed = as_array(Image.fromarray(long), 8, 1)[:, :, 0]
    assert (squeezed[:, [0, -1]] > 128).all()
    assert (squeezed[:, 3:5] == 0).all()


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="1 or 3 channels"):
        as_array(GRADIENT, 8, 2)
