import json
import os
from functools import cache

import pytest
import torch

from tests.unit.learning.factories import QUICK_NETWORKS, make_recipe, make_snapshot, run_elsewhere
from tests.unit.learning.fingerprints import find_all, one_round
from worker.learning.acquisitions import ACQUISITIONS
from worker.learning.devices import at_most_cores, cores_for, global_seed, seeded, stable_seed
from worker.learning.fitting import FITTINGS
from worker.learning.learner import step
from worker.learning.posteriors import POSTERIORS
from worker.learning.pseudo_labelers import PSEUDO_LABELERS
from worker.learning.selections import SELECTIONS

EVERYTHING = [
    *(f"network {name}" for name in QUICK_NETWORKS),
    *(f"batch network {name}" for name in QUICK_NETWORKS),
    *(f"batch fitting {name}" for name in FITTINGS.names()),
    *(f"batch posterior {name}" for name in POSTERIORS.names()),
    *(f"batch acquisition {name}" for name in ACQUISITIONS.names()),
    *(f"batch selection {name}" for name in SELECTIONS.names()),
    *(f"batch pseudo_labeler {name}" for name in PSEUDO_LABELERS.names()),
    "batch cold start",
    "batch cold start by clusters",
    "batch with a uniform share",
    "oracle",
]


@cache
def found_here():
    return find_all()


@cache
def found_elsewhere():
    return json.loads(
        run_elsewhere("import runpy; runpy.run_module('tests.unit.learning.fingerprints', run_name='__main__')")
    )


@pytest.mark.parametrize("what", EVERYTHING)
def test_the_same_seed_gives_the_same_in_another_process(what):
    assert found_elsewhere()[what] == found_here()[what]


def test_a_round_leaves_the_global_generators_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = one_round()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert one_round() == first


def test_another_seed_and_another_round_give_another_batch():
    snapshot = make_snapshot()
    batches = {
        tuple(
            step(
                make_recipe(acquisition="random", seed=seed), snapshot, count=6, round_number=number
            ).ranking.rows.tolist()
        )
        for seed in (0, 1)
        for number in (1, 2)
    }
    assert len(batches) == 4


def test_another_seed_and_another_round_fit_the_same_parent_otherwise():
    fitting = {"name": "supervised", "start": "warm", "epochs": 1}
    parent = step(make_recipe(), make_snapshot(), count=1, round_number=0, device="cpu").weights
    fitted = {
        step(recipe, make_snapshot(), count=1, round_number=number, parent=parent, device="cpu").weights
        for recipe in (make_recipe(fitting=fitting, seed=0), make_recipe(fitting=fitting, seed=1))
        for number in (1, 2)
    }
    assert len(fitted) == 4


def test_seeds_are_spread_and_the_same_on_every_machine():
    assert stable_seed(0, 1, "fitting") == 0x6DCA9F43D496F975
    assert len({stable_seed(seed, number, stage) for seed in range(9) for number in range(9) for stage in "ab"}) == 162
    assert seeded(1, "a").initial_seed() == stable_seed(1, "a") < 2**63


def test_a_global_seed_is_put_back_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="inside"), global_seed(seeded(1), torch.device("cpu")):
        torch.rand(3)
        raise ValueError("inside")
    assert torch.equal(torch.get_rng_state(), before)


def test_cores_are_put_back_and_depend_on_the_size_alone():
    before = torch.get_num_threads()
    with cores_for(pixels=9, worthwhile=10):
        assert torch.get_num_threads() == 1
    with cores_for(pixels=10, worthwhile=10):
        assert torch.get_num_threads() == len(os.sched_getaffinity(0))
    assert torch.get_num_threads() == before


def test_a_limit_of_cores_holds_inside_and_is_taken_back():
    before = torch.get_num_threads()
    with at_most_cores(1), cores_for(pixels=10, worthwhile=10):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with cores_for(pixels=10, worthwhile=10):
        assert torch.get_num_threads() == len(os.sched_getaffinity(0))
