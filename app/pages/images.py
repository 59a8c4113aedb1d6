"""The bytes of images: as they were imported, or as thumbnails."""

from __future__ import annotations

import io
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from PIL import Image, ImageOps, UnidentifiedImageError

from app.errors import UnreadableImage
from app.pages.shell import ContentHash, Wired

router = APIRouter()

SMALLEST = 16
LARGEST = 2048
SHOWN_AS_THEY_ARE = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})

Side = Annotated[int | None, Query(ge=SMALLEST, le=LARGEST)]


@router.get("/images/{image_id}")
def image_bytes(
    wired: Wired, blob: ContentHash, size: Side = None, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """Return an image, or a thumbnail of at most ``size`` pixels a side; images never change, so keep them for ever."""
    tag = f'"{blob[:32]}{"" if size is None else f"-{size}"}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=31536000, immutable"}
    if if_none_match == tag:
        return Response(status_code=304, headers=headers)
    data, media_type = shown(wired.storage.get(blob), size)
    return Response(data, media_type=media_type, headers=headers)


def shown(data: bytes, size: int | None) -> tuple[bytes, str]:
    """Return bytes that a browser shows, and their media type.

    Args:
        data: an image file.
        size: longest side in pixels; a smaller image is left as it is.
    Raises:
        UnreadableImage: the stored file is no image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            media_type = Image.MIME.get(image.format or "", "")
            fits = size is None or max(image.size) <= size
            if fits and media_type in SHOWN_AS_THEY_ARE:
                return data, media_type
            upright = ImageOps.exif_transpose(image)
            small = upright.convert("RGBA" if "A" in upright.getbands() or "transparency" in image.info else "RGB")
            if size is not None:
                small.thumbnail((size, size))
            return _encoded(small)
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise UnreadableImage("image", "its stored file cannot be read", "import it again") from error


def _encoded(image: Image.Image) -> tuple[bytes, str]:
    target = io.BytesIO()
    if image.mode == "RGB" and max(image.size) > 64:
        image.save(target, "JPEG", quality=85)
        return target.getvalue(), "image/jpeg"
    image.save(target, "PNG")
    return target.getvalue(), "image/png"
