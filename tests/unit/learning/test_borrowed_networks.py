"""The contract of torchvision's networks: as that of the others, but at the smallest side and once each."""

import urllib.error

import pytest
import torch

from app.errors import RecipeError
from tests.unit.learning.factories import BORROWED_NETWORKS, make_network, make_spec
from worker.learning.fitting import Start
from worker.learning.fitting.calibration import scale_logits
from worker.learning.networks import NetworkSpec, build_network
from worker.learning.networks.borrowed import HALF, IMAGENET_MEAN, Input
from worker.learning.vision import import_torchvision
from worker.learning.weights import Weights, begin, load_network

# Name: smallest side, features.
SIZES = {
    "densenet121": (29, 1024),
    "efficientnet_b0": (8, 1280),
    "googlenet": (15, 1024),
    "inception_v3": (75, 2048),
    "resnet18": (8, 512),
    "resnet50": (8, 2048),
    "squeezenet1_1": (17, 512),
}
ALL = pytest.mark.parametrize("name", BORROWED_NETWORKS)


def make_pretrained(name, side, channels=3, classes=3):
    return NetworkSpec(name, classes, channels, side, {"weights": "imagenet"})


def test_every_borrowed_network_has_its_sizes_here():
    assert set(SIZES) == set(BORROWED_NETWORKS)


@ALL
def test_a_network_splits_learns_and_survives_being_stored(name):
    side, width = SIZES[name]
    network = make_network(name, side=side, channels=1, classes=11)
    images = torch.rand(2, 1, side, side)
    with torch.inference_mode():
        features, logits = network.trunk(images), network(images)
        assert features.shape == (2, width)
        assert torch.equal(network.head(features), logits) and logits.shape == (2, 11)
        assert torch.isfinite(logits).all()
    again = load_network(Weights.of(network).to_bytes())
    with torch.inference_mode():
        assert torch.equal(again(images), logits)
    network.train()
    network(images).sum().backward()
    gradients = [value.grad for value in network.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    scale_logits(again, 0.25)
    with torch.inference_mode():
        torch.testing.assert_close(again(images), logits / 4, atol=1e-5, rtol=1e-4)


@ALL
def test_an_image_is_judged_alike_alone_and_among_others(name):
    side, _ = SIZES[name]
    network = make_network(name, side=side, channels=1, classes=11).double()  # in float32 kernels differ by minibatch
    images = torch.rand(2, 1, side, side, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(network(images[1:]), network(images)[1:], atol=1e-9, rtol=1e-9)


@ALL
def test_a_side_too_small_names_the_smallest(name):
    least = SIZES[name][0]
    with pytest.raises(RecipeError, match=f"{least - 1} pixels are too few for {name}; use {least} or more"):
        make_network(name, side=least - 1)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_colour_is_taken_and_first_weights_follow_the_generator(name):
    side, _ = SIZES[name]
    first, same = (make_network(name, 5, side=side, channels=3, classes=2) for _ in range(2))
    images = torch.rand(1, 3, side, side)
    with torch.inference_mode():
        assert first(images).shape == (1, 2)
        assert torch.equal(first(images), same(images))


def test_another_generator_gives_other_first_weights():
    first, other = (make_network("squeezenet1_1", seed, side=17) for seed in (5, 6))
    assert not torch.equal(first.head[-1].weight, other.head[-1].weight)


@pytest.mark.parametrize(("side", "stride"), [(64, 1), (65, 2)])
def test_the_residual_networks_keep_the_resolution_of_small_images(side, stride):
    body = make_network("resnet18", side=side).trunk[1]
    assert body.conv1.stride == (stride, stride)
    assert isinstance(body.maxpool, torch.nn.Identity) == (stride == 1)


def test_published_weights_keep_the_stem_they_were_learned_with():
    body = build_network(make_pretrained("resnet18", 32), torch.Generator()).trunk[1]
    assert body.conv1.kernel_size == (7, 7)


def test_a_grey_image_is_three_equal_channels_shifted_and_scaled():
    image = torch.rand(2, 1, 3, 3)
    shown = Input(IMAGENET_MEAN, (0.5, 0.25, 1.0))(image)
    for channel, spread in enumerate((0.5, 0.25, 1.0)):
        torch.testing.assert_close(shown[:, channel], (image[:, 0] - IMAGENET_MEAN[channel]) / spread)


def test_the_inception_networks_see_what_torchvision_would_make_of_normalised_pixels():
    vision = import_torchvision().models.GoogLeNet(5, aux_logits=False, transform_input=True, init_weights=False)
    image = torch.rand(2, 3, 4, 4)
    spread = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    normalised = (image - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / spread
    torch.testing.assert_close(Input(HALF, HALF)(image), vision._transform_input(normalised))


@pytest.fixture
def downloads(tmp_path):
    """An empty folder of downloads."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    yield tmp_path / "checkpoints"
    torch.hub.set_dir(before)


@pytest.mark.parametrize(
    ("name", "file", "options"),
    [
        ("resnet18", "resnet18-f37072fd.pth", {}),
        ("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", {}),
        ("googlenet", "googlenet-1378be20.pth", {"aux_logits": True, "init_weights": True}),
    ],
)
def test_a_file_in_the_folder_of_downloads_is_loaded_into_the_trunk(downloads, name, file, options):
    published = import_torchvision().models.get_model(name, weights=None, **options).eval()
    torch.save(published.state_dict(), downloads / file)
    spec = make_pretrained(name, 32)
    state = torch.get_rng_state()
    network, start = begin(spec, None, torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert start is Start.PRETRAINED
    loaded = network.trunk[1].state_dict()
    assert loaded.keys() <= published.state_dict().keys()
    assert all(torch.equal(value, published.state_dict()[key]) for key, value in loaded.items())
    fresh = build_network(spec, torch.Generator().manual_seed(1))
    assert torch.equal(network.head[-1].weight, last_weight(fresh))


def last_weight(network):
    return list(network.head.parameters())[-2]


def test_a_parent_takes_the_place_of_published_weights(downloads):
    spec = make_pretrained("squeezenet1_1", 32)
    parent = build_network(spec, torch.Generator().manual_seed(1))
    _, start = begin(spec, Weights.of(parent).to_bytes(), torch.Generator())
    assert start is Start.WARM  # with nothing in the folder of downloads


def test_a_parent_from_new_weights_is_none_for_published_ones(downloads):
    parent = build_network(make_spec("resnet18", side=8), torch.Generator())
    file = downloads / "resnet18-f37072fd.pth"
    torch.save(import_torchvision().models.resnet18().state_dict(), file)
    _, start = begin(make_pretrained("resnet18", 8, channels=1), Weights.of(parent).to_bytes(), torch.Generator())
    assert start is Start.PRETRAINED


def test_without_a_network_the_error_says_which_file_goes_where(downloads, monkeypatch):
    def fail(*_args, **_options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(RecipeError) as told:
        begin(make_pretrained("resnet18", 32), None, torch.Generator())
    assert told.value.subject == "network.weights"
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in told.value.remedy
    assert str(downloads / "resnet18-f37072fd.pth") in told.value.remedy


@pytest.mark.parametrize("content", ["rubbish", "another network"])
def test_a_file_that_is_not_the_published_one_is_told(downloads, content):
    file = downloads / "resnet18-f37072fd.pth"
    if content == "rubbish":
        file.write_bytes(b"rubbish")
    else:
        torch.save(import_torchvision().models.squeezenet1_1().state_dict(), file)
    with pytest.raises(RecipeError, match=r"network\.weights: the file is not resnet18 as published"):
        begin(make_pretrained("resnet18", 32), None, torch.Generator())
