"""Small learning problems and other processes for the tests of this folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.recipes import ACQUISITIONS as ACQUISITION_CHOICES
from app.recipes import FITTINGS as FITTING_CHOICES
from app.recipes import NETWORKS as NETWORK_CHOICES
from app.recipes import PSEUDO_LABELERS as PSEUDO_LABELER_CHOICES
from app.recipes import SELECTIONS as SELECTION_CHOICES
from app.recipes import Pick, Recipe, parse_pick, parse_recipe
from worker.learning.fitting import TrainingSet
from worker.learning.learner import Snapshot
from worker.learning.networks import NETWORKS, Network, NetworkSpec, build_network

# Torchvision's have millions of weights: test_borrowed_networks runs their contract, once each.
BORROWED_NETWORKS = (
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "resnet18",
    "resnet50",
    "squeezenet1_1",
)
QUICK_NETWORKS = tuple(name for name in NETWORKS.names() if name not in BORROWED_NETWORKS)
CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]


def make_spec(name: str = "softmax_regression", classes: int = 3, channels: int = 1, side: int = 8) -> NetworkSpec:
    return NetworkSpec(name, classes, channels, side, parse_pick(NETWORK_CHOICES, name).parameters)


def make_network(name: str = "softmax_regression", seed: int = 0, **sizes: int) -> Network:
    return build_network(make_spec(name, **sizes), torch.Generator().manual_seed(seed)).eval()


def make_blobs(count: int, classes: int = 3, side: int = 8, channels: int = 1, seed: int = 0) -> tuple[Any, Any]:
    """Images of one bright band a class, in noise: labels repeat 0, 1, ..."""
    draws = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % classes
    images = draws.integers(0, 90, (count, side, side, channels), dtype=np.uint8)
    band = side // classes
    for label in range(classes):
        images[labels == label, label * band : (label + 1) * band] += np.uint8(120)
    return images, labels


def make_training_set(count: int, classes: int = 3, side: int = 8, seed: int = 0) -> TrainingSet:
    images, labels = make_blobs(count, classes, side, seed=seed)
    return TrainingSet(torch.from_numpy(images), torch.from_numpy(labels))


def make_recipe(**parts: Any) -> Recipe:
    """A quick recipe; choices that compare posterior samples get a posterior that has some, co-training its pair."""
    quick = {"name": "supervised", "epochs": 3, "least_steps": 1}
    given = {"image_side": 8, "random_share": 0.0, "network": "softmax_regression", "fitting": quick, **parts}
    picks = [(group, parse_pick(group, parts.get(group.name))) for group in (ACQUISITION_CHOICES, SELECTION_CHOICES)]
    if any(group.choice(pick.name).least_samples > 1 for group, pick in picks):
        given = {"posterior": {"name": "laplace", "samples": 8}, **given}
    if parse_pick(PSEUDO_LABELER_CHOICES, parts.get("pseudo_labeler")).name == "co_training":
        given = {"posterior": {"name": "committee", "members": 2}, **given}
    return parse_recipe(given)


def make_fitting(name: str = "supervised", **parameters: Any) -> Pick:
    """A short fitting; what another fitting has and this one has not is left out."""
    plain = {"epochs": 5, "least_steps": 1, "augment": False, "weight_decay": 0.0, "unlabelled_minibatch": 32}
    known = {parameter.name for parameter in FITTING_CHOICES.choice(name).parameters}
    given = {key: value for key, value in {**plain, **parameters}.items() if key in known}
    return make_recipe(fitting={"name": name, **given}).fitting


def make_labeler(name: str, **parameters: Any) -> Pick:
    """A pseudo-labeler that labels what it can from the first round on; what it has not is left out."""
    eager = {"confidence": 0.3, "after": "always", "count": 7, "per_round": 7, "total": 12}
    known = {parameter.name for parameter in PSEUDO_LABELER_CHOICES.choice(name).parameters}
    given = {key: value for key, value in {**eager, **parameters}.items() if key in known}
    return parse_pick(PSEUDO_LABELER_CHOICES, {"name": name, **given})


def make_snapshot(labelled: int = 12, candidates: int = 40, test: int = 15, classes: int = 3) -> Snapshot:
    total = labelled + candidates + test
    images, labels = make_blobs(total, classes)
    rows = np.random.default_rng(1).permutation(total).astype(np.int64)
    known, open_rows, test_rows = np.split(rows, [labelled, labelled + candidates])
    return Snapshot(images, classes, known, labels[known], np.sort(open_rows), test_rows, labels[test_rows])


def run_elsewhere(program: str) -> str:
    """Run a program in another process, from the root of the project; return what it printed."""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
