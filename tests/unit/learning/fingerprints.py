"""One line of text for everything that a seed decides; run as a module it prints them all as JSON.

The tests compare what this process finds with what another one finds.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from app.errors import RecipeError
from tests.unit.learning.factories import QUICK_NETWORKS, make_labeler, make_network, make_recipe, make_snapshot
from worker.learning.acquisitions import ACQUISITIONS
from worker.learning.fitting import FITTINGS
from worker.learning.learner import step
from worker.learning.oracle import simulated_answers
from worker.learning.posteriors import POSTERIORS
from worker.learning.pseudo_labelers import PSEUDO_LABELERS
from worker.learning.selections import SELECTIONS
from worker.learning.weights import Weights


def fingerprint_networks() -> dict[str, str]:
    return {f"network {name}": digest(Weights.of(make_network(name)).to_bytes()) for name in QUICK_NETWORKS}


def fingerprint_batches() -> dict[str, str]:
    """One whole round for every choice of every group, and a cold start."""
    rounds: list[tuple[str, Any]] = [("network", name) for name in QUICK_NETWORKS]
    rounds += [("posterior", name) for name in POSTERIORS.names()]
    rounds += [("acquisition", name) for name in ACQUISITIONS.names()]
    rounds += [("selection", name) for name in SELECTIONS.names()]
    rounds += [("pseudo_labeler", make_labeler(name).as_json()) for name in PSEUDO_LABELERS.names()]
    fittings = {name: {"name": name, "epochs": 2, "least_steps": 1} for name in FITTINGS.names()}
    found = {f"batch fitting {name}": one_round(fitting=fitting) for name, fitting in fittings.items()}
    found |= {f"batch {group} {_name(choice)}": one_round(**{group: choice}) for group, choice in rounds}
    return {
        **found,
        "batch cold start": one_round(labelled=0),
        "batch cold start by clusters": one_round(labelled=0, cold_start="clusters"),
        "batch with a uniform share": one_round(random_share=0.5),
    }


def _name(choice: Any) -> str:
    return str(choice["name"]) if isinstance(choice, dict) else str(choice)


def one_round(labelled: int = 12, **parts: Any) -> str:
    recipe = make_recipe(**{"network": "al_cnn", **parts}, seed=11)
    try:
        result = step(recipe, make_snapshot(labelled=labelled), count=6, round_number=2, device="cpu")
    except RecipeError as refused:
        return str(refused)
    pseudo = "" if result.pseudo is None else f" {result.pseudo.rows.tolist()} {result.pseudo.labels.tolist()}"
    return f"{result.ranking.rows.tolist()} {digest(result.weights or b'')} {digest(result.scores.tobytes())}{pseudo}"


def fingerprint_oracle() -> dict[str, str]:
    truths = np.arange(40) % 3
    return {"oracle": str(simulated_answers(5, np.arange(40), truths, 3, 0.5).tolist())}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def find_all() -> dict[str, str]:
    return {**fingerprint_networks(), **fingerprint_batches(), **fingerprint_oracle()}


if __name__ == "__main__":
    print(json.dumps(find_all()))
