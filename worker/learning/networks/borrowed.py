"""What the networks borrowed from torchvision share: their input, their split into trunk and head, their weights."""

from __future__ import annotations

import pickle
from typing import Any

import torch
from torch import Generator, Tensor, nn

from app.errors import RecipeError
from worker.learning.devices import global_seed
from worker.learning.networks.base import Network, NetworkSpec
from worker.learning.vision import import_torchvision

IMAGENET_MEAN, IMAGENET_SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
# Layers of a published network that ours replace (the classifier) or leave out (the auxiliary heads).
_NOT_OURS = ("fc.", "classifier.", "aux1.", "aux2.", "AuxLogits.")


class Input(nn.Module):
    """Images in [0, 1] as the published networks were shown them: three channels, shifted and scaled.

    A grey image becomes three equal channels, so published filters see what they know and new ones lose nothing.
    """

    mean_C11: Tensor
    spread_C11: Tensor

    def __init__(self, mean: tuple[float, ...], spread: tuple[float, ...]) -> None:
        super().__init__()
        # Constants of the family: rebuilt with it, so they are not part of its weights.
        self.register_buffer("mean_C11", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("spread_C11", torch.tensor(spread).view(3, 1, 1), persistent=False)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return float images of three channels."""
        shown: Tensor = (images_NCHW.expand(-1, 3, -1, -1) - self.mean_C11) / self.spread_C11
        return shown


def borrow(spec: NetworkSpec, **options: Any) -> Any:
    """Build torchvision's network of the specification's name with new weights and no auxiliary heads."""
    return import_torchvision().models.get_model(spec.name, weights=None, num_classes=spec.class_count, **options)


def split(
    spec: NetworkSpec,
    body: nn.Module,
    head: nn.Module,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    spread: tuple[float, ...] = IMAGENET_SPREAD,
) -> Network:
    """Put a network together from ``body``, which gives features_ND of prepared images, and ``head``."""
    return Network(spec, nn.Sequential(Input(mean, spread), body), head)


def load_published(network: Network) -> None:
    """Load the weights published for ImageNet into the trunk, through torchvision and torch's folder of downloads.

    The folder is ``torch.hub.get_dir()`` + ``/checkpoints``; a file that is there is not downloaded.

    Raises:
        RecipeError: the file cannot be downloaded (the message says where to put it), or is not what it should be.
    """
    name = network.spec.name
    models = import_torchvision().models
    published = models.get_model_weights(name).IMAGENET1K_V1
    path = f"{torch.hub.get_dir()}/checkpoints/{published.url.rpartition('/')[2]}"
    try:
        with global_seed(Generator(), torch.device("cpu")):
            state = models.get_model(name, weights=published, progress=False).state_dict()
    except OSError as error:
        remedy = f"download {published.url} where there is a network and save it as {path}"
        raise RecipeError("network.weights", f"those of {name} cannot be fetched ({error})", remedy) from error
    except (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError) as error:
        remedy = f"delete {path}, or put {published.url} in its place"
        raise RecipeError("network.weights", f"the file is not {name} as published", remedy) from error
    ours = {key: value for key, value in state.items() if not key.startswith(_NOT_OURS)}
    network.trunk.get_submodule("1").load_state_dict(ours)
