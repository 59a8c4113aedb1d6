import pytest
import torch

from app import recipes
from app.errors import RecipeError
from tests.unit.learning.factories import run_elsewhere
from worker.learning.acquisitions import ACQUISITIONS
from worker.learning.fitting import FITTINGS
from worker.learning.networks import NETWORKS
from worker.learning.posteriors import POSTERIORS
from worker.learning.pseudo_labelers import PSEUDO_LABELERS
from worker.learning.registry import Registry
from worker.learning.selections import SELECTIONS

ALL = (NETWORKS, POSTERIORS, ACQUISITIONS, SELECTIONS, FITTINGS, PSEUDO_LABELERS)
REGISTRIES = {registry.group: registry for registry in ALL}


@pytest.mark.parametrize("group", recipes.GROUPS, ids=lambda group: group.name)
def test_every_group_of_the_catalogue_is_implemented_name_by_name(group):
    assert REGISTRIES[group.name].names() == tuple(sorted(choice.name for choice in group.choices))


def test_a_name_is_registered_once():
    registry = Registry[int]("network")
    registry.add("one", 1)
    with pytest.raises(ValueError, match="'one' is registered twice"):
        registry.add("one", 2)
    assert registry.get("one") == 1


def test_an_unknown_name_is_told_the_known_ones():
    registry = Registry[int]("network")
    registry.add("b", 1)
    registry.add("a", 2)
    with pytest.raises(RecipeError, match="there is no network called 'c'; use one of: a, b"):
        registry.get("c")


def test_torchvision_imports_through_its_door_with_or_without_its_operators():
    from worker.learning.vision import import_torchvision

    network = import_torchvision().models.squeezenet1_1(weights=None, num_classes=4).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 4)


def test_oracle_and_evaluation_work_where_torch_cannot_be_imported():
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from worker.learning import curves, evaluation, oracle\n"
        "answers = oracle.SimulatedOracle(np.array([2, 0, 1]), 3).answer(np.array([1, 2]))\n"
        "print(answers.tolist(), evaluation.wilson_interval(1, 1)[1])"
    )
    assert run_elsewhere(program) == "[0, 1] 1.0"
