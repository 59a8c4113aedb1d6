"""Features of images by a trunk that does not change: read once, found again by content.

With a frozen trunk a round only fits and reads the head. Its images are the features, in the shape of one pixel of D
channels [N, 1, 1, D], so that fittings and posteriors work on them as they do on images.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from worker.learning.errors import ShapeError, check_shape
from worker.learning.networks import Network
from worker.learning.pool import Images, Rows
from worker.learning.posteriors import read_chunks
from worker.learning.reading import Reading

_DIGEST_BYTES = 16


@dataclass(frozen=True)
class FeatureTable:
    """``features_MD`` (float32) of M images by one trunk; ``contents_MK`` are digests (uint8) of the images' pixels."""

    trunk: str
    contents_MK: np.ndarray
    features_MD: np.ndarray

    def __post_init__(self) -> None:
        check_shape("contents_MK", self.contents_MK.shape, ("M", _DIGEST_BYTES))
        if self.features_MD.ndim != 2 or len(self.features_MD) != len(self.contents_MK):
            raise ShapeError("features_MD", (len(self.contents_MK), "D"), self.features_MD.shape)

    def to_bytes(self) -> bytes:
        """Write the table as one file."""
        buffer = io.BytesIO()
        np.savez(buffer, trunk=np.array(self.trunk), contents=self.contents_MK, features=self.features_MD)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> FeatureTable | None:
        """Read what ``to_bytes`` wrote; None if it is anything else, since whatever it held can be read again."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                return cls(str(file["trunk"]), file["contents"], file["features"])
        except (zipfile.BadZipFile, LookupError, ValueError, EOFError, OSError):
            return None


class OverFeatures(Network):
    """A network's head behind features instead of images; it shares the head's weights with that network."""

    def __init__(self, network: Network) -> None:
        super().__init__(network.spec, nn.Flatten(), network.head)
        self._whole = (network,)  # in a tuple, so that its trunk is no part of this one

    def blank(self) -> Tensor:
        """Return the features of one black image, in the shape of an image of one pixel."""
        (whole,) = self._whole
        features_ND: Tensor = whole.trunk(whole.blank())
        return features_ND[:, :, None, None]

    def forward(self, features_ND11: Tensor) -> Tensor:
        """Return logits_NC of features in the shape of images of one pixel.

        Raises:
            ShapeError: other than one pixel.
        """
        check_shape("features_ND11", features_ND11.shape, ("N", "D", 1, 1))
        logits_NC: Tensor = self.head(self.trunk(features_ND11))
        return logits_NC


def read_features(
    network: Network,
    images_NHWC: Images,
    rows: Rows,
    device: torch.device,
    *,
    known: FeatureTable | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[np.ndarray, FeatureTable]:
    """Return the features of rows of an array, reading only images that are not known by their pixels.

    Args:
        network: its trunk is in evaluation mode on ``device``.
        images_NHWC: uint8, in memory or memory-mapped.
        rows: int64 rows whose features are wanted.
        device: where the network is.
        known: what an earlier call returned; of another trunk it is of no use.
        progress: told (images read, images to read) after each chunk.
    Returns:
        features_N11D, float32, where N is as long as the array and only the wanted rows are filled in; and the table of
        all that is known now.
    """
    trunk = trunk_digest(network)
    contents = [_digest(images_NHWC[row]) for row in rows]
    place: dict[bytes, int] = {}
    if known is not None and known.trunk == trunk:
        place = {content.tobytes(): at for at, content in enumerate(known.contents_MK)}
    unseen = list[int]()
    for row, content in zip(rows, contents, strict=True):
        if content not in place:
            place[content] = len(place)
            unseen.append(int(row))
    parts = [known.features_MD] if known is not None and known.trunk == trunk else []
    chunks = read_chunks(_TrunkOnly(network), images_NHWC, np.array(unseen, np.int64), device, progress)
    parts += [reading.features_ND.cpu().numpy() for _, reading in chunks]
    features_MD = np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
    contents_MK = np.frombuffer(b"".join(place), np.uint8).reshape(-1, _DIGEST_BYTES)
    wanted = np.array([place[content] for content in contents], np.int64)
    features_N11D = np.zeros((len(images_NHWC), 1, 1, features_MD.shape[1]), np.float32)
    features_N11D[rows, 0, 0] = features_MD[wanted]
    return features_N11D, FeatureTable(trunk, contents_MK, features_MD)


def trunk_digest(network: Network) -> str:
    """Return what tells trunks apart: family, sizes, layers (some have no weights) and every weight."""
    spec = network.spec
    digest = hashlib.blake2b(f"{spec.name}/{spec.channels}/{spec.side}/{spec.is_pretrained}/{network.trunk}".encode())
    for name, value in network.trunk.state_dict().items():
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _TrunkOnly:
    """A posterior that reads features and says nothing about classes."""

    network: Network

    def read(self, images_NCHW: Tensor) -> Reading:
        """Return features_ND, with predictions over no classes."""
        features_ND = self.network.trunk(images_NCHW).float()
        return Reading(features_ND.new_empty(1, len(features_ND), 0), features_ND)


def _digest(image_HWC: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image_HWC).data, digest_size=_DIGEST_BYTES).digest()
