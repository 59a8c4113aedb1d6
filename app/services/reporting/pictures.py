"""Which blob an image's bytes are in."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.records import Image


def image_blob(session: Session, image_id: int) -> str:
    """Return the content hash of an image's file; raise NotFound if there is no such image."""
    content_hash = session.scalar(select(Image.content_hash).where(Image.id == image_id))
    if content_hash is None:
        raise NotFound(f"image {image_id}", "there is no such image", "go back to the project")
    return content_hash
