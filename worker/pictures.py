"""Bytes of an image file into a picture, and a picture into an array of pixels; pure, without database or storage.

What formats are read, what a broken file is, and how the network's view of a picture is cut are decided here. Where
files come from is for ``worker.sources`` to say, where arrays are kept for ``worker.arrays``.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from app.errors import UnreadableImage

MOST_PIXELS = 80_000_000  # below Pillow's own warning; in RGB that is 240 MB of memory
SHOWN_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF")  # browsers show them: files stay as they are (MPO is a JPEG)
# Only what needs no other program to be decoded: Pillow would hand EPS files, for one, to Ghostscript.
READ_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "TGA")
_READABLE_BY_PEOPLE = "PNG, JPEG, WebP, GIF, BMP, TIFF, PPM, AVIF, JPEG 2000"
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
# Pillow's decoders of damaged files raise many kinds of errors (its own fuzzers tolerate the same).
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, AttributeError,
    RuntimeError, ZeroDivisionError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip

Pixels = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]


def decode(data: bytes, name: str = "image") -> Image.Image:
    """Read a picture completely, upright as its EXIF says, what is transparent laid on white.

    Args:
        data: a whole file; of an animation the first frame is read.
        name: what the error calls the file.
    Returns:
        An image of mode "L" (one channel) or "RGB"; its ``format`` is the file's. Whether it is grey is decided by the
        file's mode alone, not by its pixels: a colour file that shows only greys stays "RGB".
    Raises:
        UnreadableImage: the file is empty, no image, damaged, of a kind that is not read, or too large.
    """
    if not data:
        raise UnreadableImage(name, "the file is empty", "replace it, or leave it out")
    try:
        with Image.open(io.BytesIO(data), formats=READ_FORMATS) as opened:
            _check_size(opened, name)
            opened.load()
            image = _flat(ImageOps.exif_transpose(opened))
            image.format = opened.format
            return image
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage(
            name, "it is no image of a kind that is read", f"use one of: {_READABLE_BY_PEOPLE}"
        ) from None
    except Image.DecompressionBombError as error:
        raise UnreadableImage(name, "it has far too many pixels", _make_smaller()) from error
    except _DAMAGE as error:
        raise UnreadableImage(name, f"it is damaged ({_shown(error)})", "replace it, or leave it out") from error


def is_grey(image: Image.Image) -> bool:
    """Say whether a decoded picture has one channel."""
    return image.mode == "L"


def is_shown_by_browsers(image: Image.Image) -> bool:
    """Say whether browsers show the file that a picture was decoded from."""
    return image.format in SHOWN_FORMATS


def as_png(image: Image.Image) -> bytes:
    """Return a picture as the bytes of a PNG file; the same pixels give the same bytes."""
    target = io.BytesIO()
    # level 1: three times as fast as the default, and the small pictures that come in masses hardly grow
    image.save(target, "PNG", compress_level=1)
    return target.getvalue()


def as_array(image: Image.Image, side: int, channels: int) -> Pixels:
    """Return the whole picture as the network sees it: uint8 [side, side, channels], channels 1 (grey) or 3 (RGB).

    The picture is resized (bilinear, antialiased when it shrinks) to the square without padding or cropping: nothing
    that a label may depend on is cut off and no pixel is spent on borders, at the price of stretching long pictures.

    Raises:
        ValueError: another number of channels, or a side below one.
    """
    if channels not in {1, 3} or side < 1:
        raise ValueError(f"side {side}, channels {channels}: expected a side of at least 1, and 1 or 3 channels")
    wanted = image.convert("L" if channels == 1 else "RGB")
    if wanted.size != (side, side):
        wanted = wanted.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(wanted, dtype=np.uint8).reshape(side, side, channels)


def _check_size(opened: Image.Image, name: str) -> None:
    pixels = opened.width * opened.height
    if pixels > MOST_PIXELS:
        shown = f"{opened.width} x {opened.height}"
        raise UnreadableImage(name, f"it has too many pixels ({shown})", _make_smaller())
    if not pixels:
        raise UnreadableImage(name, "it has no pixels", "replace it, or leave it out")


def _flat(image: Image.Image) -> Image.Image:
    grey = image.mode in _GREY_MODES
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif grey and image.mode not in {"1", "L"}:
        return _eight_bits(image)
    return image.convert("L" if grey else "RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Bring deep greys to bytes, where Pillow's convert would cut all above 255."""
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "I" and 255 < values.max() <= 65_535 and values.min() >= 0:  # 16 bits in a wider type
        return Image.fromarray((values >> 8).astype(np.uint8))
    values = np.nan_to_num(values.astype(np.float64))
    low, spread = values.min(), np.ptp(values)
    return Image.fromarray(np.rint((values - low) * (255.0 / spread if spread else 0.0)).astype(np.uint8))


def _make_smaller() -> str:
    return f"make it smaller than {MOST_PIXELS // 1_000_000} million pixels"


def _shown(error: BaseException) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
