import numpy as np
import pytest
import torch

from app.errors import BadInput
from tests.unit.learning.factories import CPU, make_blobs, make_network, make_recipe, make_snapshot
from worker.learning.fitting import Start, Stopped
from worker.learning.learner import Stage, step
from worker.learning.posteriors import POSTERIORS, Fitted, read_all
from worker.learning.weights import Weights, begin, load_network, load_networks

COMMITTEE = {"name": "committee", "members": 3}


def run(posterior=COMMITTEE, round_number=1, snapshot=None, **options):
    parts = {name: options.pop(name) for name in ("fitting", "acquisition", "seed") if name in options}
    recipe = make_recipe(posterior=posterior, **parts)
    return step(recipe, snapshot or make_snapshot(), count=5, round_number=round_number, device="cpu", **options)


def states_equal(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_members_start_and_end_apart_and_all_are_stored():
    weights = Weights.from_bytes(run().weights)
    assert len(weights.members) == 3
    for one in range(3):
        assert not any(states_equal(weights.members[one], weights.members[other]) for other in range(one))


def test_the_first_member_is_the_network_that_would_be_fitted_alone():
    alone = run("plugin").weights
    assert states_equal(Weights.from_bytes(run().weights).state, Weights.from_bytes(alone).state)
    assert Weights.of(load_network(alone)).to_bytes() == alone


def test_scores_are_those_of_the_stored_members():
    snapshot, result = make_snapshot(), run(acquisition="bald")
    networks = load_networks(result.weights)
    images = torch.from_numpy(snapshot.images_NHWC[snapshot.candidate_rows]).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        probs = torch.stack([network(images) for network in networks]).double().softmax(-1)

    def entropy(probs):
        return -(probs * probs.log()).sum(-1)

    np.testing.assert_allclose(result.scores, entropy(probs.mean(0)) - entropy(probs).mean(0), atol=1e-5)


def test_each_member_is_one_sample_in_order():
    networks = [make_network("al_cnn", seed=seed) for seed in range(3)]
    fitted = Fitted(networks[0], {"members": 3}, torch.Generator(), others=tuple(networks[1:]))
    images, _ = make_blobs(4)
    reading = read_all(POSTERIORS.get("committee")(fitted), images, np.arange(4), CPU)
    for network, log_probs in zip(networks, reading.log_probs_SNC, strict=True):
        alone = POSTERIORS.get("plugin")(Fitted(network, {}, torch.Generator()))
        torch.testing.assert_close(log_probs, read_all(alone, images, np.arange(4), CPU).log_probs_SNC[0])


def test_other_than_the_wanted_members_are_refused():
    with pytest.raises(ValueError, match="expected 3 members, got 1"):
        POSTERIORS.get("committee")(Fitted(make_network(), {"members": 3}, torch.Generator()))


def test_a_warm_round_goes_on_with_every_member():
    parent = run().weights
    barely = {"name": "supervised", "epochs": 1, "learning_rate": 1e-6, "weight_decay": 0, "start": "warm"}
    child = run(fitting=barely, parent=parent, round_number=2)
    assert child.fit.started_from is Start.WARM
    for before, after in zip(
        Weights.from_bytes(parent).members, Weights.from_bytes(child.weights).members, strict=True
    ):
        assert all((value - after[name]).abs().max() < 1e-4 for name, value in before.items())


def test_a_member_that_the_parent_lacks_begins_anew():
    parent = run("plugin").weights
    spec = load_network(parent).spec
    starts = [begin(spec, parent, torch.Generator().manual_seed(0), member)[1] for member in range(2)]
    assert starts == [Start.WARM, Start.SCRATCH]


def test_a_deadline_is_shared_out():
    result = run(deadline=0.0)
    assert (result.fit.stopped_by, len(result.fit.epochs)) == (Stopped.DEADLINE, 1)
    assert len(load_networks(result.weights)) == 3


def test_progress_counts_the_epochs_of_all_members():
    told = []
    run(progress=told.append)
    fitting = [(one.done, one.total) for one in told if one.stage is Stage.FITTING]
    assert fitting == [(done, 9) for done in range(1, 10)]


def test_stored_members_that_do_not_fit_are_refused():
    weights = Weights.of(make_network("al_cnn"), make_network("softmax_regression"))
    with pytest.raises(BadInput, match="its weights do not fit al_cnn"):
        load_networks(weights.to_bytes())
