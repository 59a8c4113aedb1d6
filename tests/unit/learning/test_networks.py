from dataclasses import replace

import pytest
import torch

from app.errors import BadInput, RecipeError
from tests.unit.learning.factories import QUICK_NETWORKS, make_network, make_spec
from worker.learning.errors import ShapeError
from worker.learning.fitting import Start
from worker.learning.networks import NetworkSpec, build_network
from worker.learning.weights import Weights, begin, load_network

ALL = pytest.mark.parametrize("name", QUICK_NETWORKS)


def parameters_of(network):
    return torch.cat([value.flatten().double() for value in network.state_dict().values()])


@ALL
@pytest.mark.parametrize("side", [4, 8, 16, 28, 32, 64])
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 11)])
def test_every_network_takes_every_sensible_size(name, side, channels, classes):
    network = make_network(name, side=side, channels=channels, classes=classes)
    images = torch.rand(3, channels, side, side)
    with torch.inference_mode():
        features, logits = network.trunk(images), network(images)
        again = network.head(features)
    assert logits.shape == (3, classes)
    assert features.ndim == 2 and len(features) == 3
    assert torch.isfinite(logits).all()
    assert torch.equal(again, logits)


@ALL
def test_every_network_learns_from_a_gradient_step(name):
    network = make_network(name).train()
    network(torch.rand(4, 1, 8, 8)).sum().backward()
    assert all(value.grad is not None and torch.isfinite(value.grad).all() for value in network.parameters())


@ALL
def test_every_network_predicts_each_image_alone(name):
    network, images = make_network(name), torch.rand(6, 1, 8, 8)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    with torch.inference_mode():
        torch.testing.assert_close(network(images[order]), network(images)[order])
        torch.testing.assert_close(network(images[:1]), network(images)[:1])


@ALL
def test_first_weights_depend_on_the_generator_alone(name):
    torch.manual_seed(1)
    first = make_network(name, seed=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(parameters_of(first), parameters_of(make_network(name, seed=5)))
    assert not torch.equal(parameters_of(first), parameters_of(make_network(name, seed=6)))
    assert torch.equal(torch.get_rng_state(), state)


@ALL
def test_images_of_another_size_are_refused_naming_both(name):
    with pytest.raises(ShapeError, match=r"expected shape \[N, 1, 8, 8\], got \[2, 3, 8, 8\]"):
        make_network(name)(torch.rand(2, 3, 8, 8))


def make_al_cnn(side, **parameters):
    spec = NetworkSpec("al_cnn", class_count=3, channels=1, side=side, parameters={"dropout": 0.5, **parameters})
    return build_network(spec, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("feature_side", "features"),
    [
        (None, {4: 64, 8: 64, 16: 64, 28: 64, 32: 64, 64: 64}),
        (1, {4: 64, 28: 64, 32: 64, 64: 64}),
        (2, {4: 64, 28: 64, 31: 64, 32: 256, 64: 256}),
        (4, {32: 256, 48: 576, 64: 1024, 100: 1024}),
    ],
)
def test_al_cnn_tells_features_apart_in_as_many_cells_as_asked_for_and_left(feature_side, features):
    asked = {} if feature_side is None else {"feature_side": feature_side}
    for side, width in features.items():
        network = make_al_cnn(side, **asked)
        assert network.trunk(torch.rand(2, 1, side, side)).shape == (2, width)
        assert network(torch.rand(2, 1, side, side)).shape == (2, 3)


@pytest.mark.parametrize(("side", "start"), [(28, Start.WARM), (32, Start.TRUNK)])
def test_al_cnn_with_another_grid_takes_the_trunk_and_all_where_the_grid_makes_no_difference(side, start):
    # Weights of earlier releases, such as point's, say nothing of a grid.
    grid, point = make_al_cnn(side, feature_side=2), make_al_cnn(side)
    for wanted, parent in ((grid.spec, point), (point.spec, grid)):
        network, found = begin(wanted, Weights.of(parent).to_bytes(), torch.Generator().manual_seed(1))
        assert found is start
        assert torch.equal(parameters_of(network.trunk), parameters_of(parent.trunk))
        assert network(torch.rand(2, 1, side, side)).shape == (2, 3)


def test_al_cnn_says_which_sides_it_cannot_see():
    with pytest.raises(RecipeError, match="image_side: 3 pixels are too few for al_cnn; use 4 or more"):
        make_network("al_cnn", side=3)


def test_al_cnn_can_do_without_batch_norm_and_takes_no_weights_of_one_that_has_it():
    spec = replace(make_spec("al_cnn"), parameters={"dropout": 0.5, "batch_norm": False})
    plain = build_network(spec, torch.Generator().manual_seed(0))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in plain.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in make_network("al_cnn").modules())
    for wanted, parent in ((spec, make_network("al_cnn")), (make_spec("al_cnn"), plain)):
        assert begin(wanted, Weights.of(parent).to_bytes(), torch.Generator())[1] is Start.SCRATCH


def test_ssl_cnn_is_the_published_one_at_28_pixels():
    network = make_network("ssl_cnn", side=28, classes=10)
    shapes = [tuple(value.shape) for value in network.parameters() if value.ndim > 1]
    convolutions = [(32, 1, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3)]
    assert shapes == [*convolutions, (128, 3136), (10, 128)]
    assert network.head[0].p == 0.2


@pytest.mark.parametrize(("side", "remedy"), [(3, "too few for ssl_cnn; use 4 or more"), (129, "use 128 or fewer")])
def test_ssl_cnn_says_which_sides_it_cannot_see(side, remedy):
    with pytest.raises(RecipeError, match=f"image_side: {side} pixels .*{remedy}"):
        make_network("ssl_cnn", side=side)


def test_one_class_and_two_channels_are_refused():
    with pytest.raises(BadInput, match="nothing to tell apart"):
        make_spec(classes=1)
    with pytest.raises(BadInput, match="neither grey nor colour"):
        make_spec(channels=2)


@ALL
def test_weights_describe_themselves_and_predict_the_same_after_a_round_trip(name):
    network, images = make_network(name, classes=5, channels=3), torch.rand(4, 3, 8, 8)
    data = Weights.of(network).to_bytes()
    again = load_network(data)
    assert again.spec == network.spec
    assert not again.training
    with torch.inference_mode():
        assert torch.equal(again(images), network(images))
    assert Weights.of(again).to_bytes() == data


def test_bytes_that_are_no_weights_are_refused():
    whole = Weights.of(make_network()).to_bytes()
    for data in (b"", b"not a model", whole[: len(whole) // 2]):
        with pytest.raises(BadInput, match="model file: it holds no weights of ours"):
            load_network(data)


def test_weights_that_do_not_fit_their_network_are_refused():
    foreign = Weights(make_spec("al_cnn"), Weights.of(make_network("softmax_regression")).state)
    with pytest.raises(BadInput, match="its weights do not fit al_cnn"):
        load_network(foreign.to_bytes())


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    import io

    buffer = io.BytesIO()
    torch.save({"spec": Trap(), "state": {}}, buffer)
    with pytest.raises(BadInput, match="no weights of ours"):
        load_network(buffer.getvalue())
    assert not (tmp_path / "sprung").exists()


@ALL
def test_a_warm_start_begins_from_the_parents_weights(name):
    parent = make_network(name, seed=1)
    network, start = begin(parent.spec, Weights.of(parent).to_bytes(), torch.Generator().manual_seed(2))
    assert start is Start.WARM
    assert torch.equal(parameters_of(network), parameters_of(parent))


def test_a_new_class_keeps_the_trunk_and_renews_the_head():
    parent = make_network("al_cnn", seed=1, classes=3)
    wanted = make_spec("al_cnn", classes=4)
    network, start = begin(wanted, Weights.of(parent).to_bytes(), torch.Generator().manual_seed(2))
    assert start is Start.TRUNK
    assert network.spec.class_count == 4
    assert torch.equal(parameters_of(network.trunk), parameters_of(parent.trunk))
    fresh = build_network(wanted, torch.Generator().manual_seed(2))
    assert torch.equal(parameters_of(network.head), parameters_of(fresh.head))


@pytest.mark.parametrize(
    "wanted", [make_spec("al_cnn"), make_spec(side=9), make_spec(channels=3), make_spec(classes=4)]
)
def test_a_parent_that_shares_nothing_starts_from_scratch(wanted: NetworkSpec):
    parent = Weights.of(make_network("softmax_regression", classes=3)).to_bytes()
    network, start = begin(wanted, parent, torch.Generator().manual_seed(2))
    assert start is Start.SCRATCH
    assert torch.equal(parameters_of(network), parameters_of(build_network(wanted, torch.Generator().manual_seed(2))))
