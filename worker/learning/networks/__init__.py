"""Networks, one module a family; each is a trunk (images to features) and a head (features to logits)."""

from worker.learning.networks.base import NETWORKS, Network, NetworkSpec, build_network
from worker.learning.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["NETWORKS", "Network", "NetworkSpec", "build_network"]
