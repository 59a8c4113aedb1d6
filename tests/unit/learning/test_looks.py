"""Looks against their definitions: components of a decomposition, edges of a loop over pixels."""

import numpy as np
import pytest
import torch

from tests.unit.learning.factories import make_blobs
from worker.learning.looks import edge_features, looks, plain_features, principal_components


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_components_are_those_of_the_decomposition(count):
    scales = torch.tensor([9.0, 5.0, 3.0, 2.0, 1.0, 0.5, 0.2, 0.1])
    turn = torch.linalg.qr(torch.randn(8, 8, generator=seeded(1))).Q
    points = 4 + (torch.randn(200, 8, generator=seeded(2)) * scales) @ turn
    found = principal_components(points, count, seeded(3)).double()
    left, values, _ = np.linalg.svd((points - points.mean(0)).double().numpy(), full_matrices=False)
    expected = torch.from_numpy(left[:, :count] * values[:count])
    signs = torch.sign((found * expected).sum(0))
    torch.testing.assert_close(found * signs, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("points", "axes", "width"), [(5, 90, 5), (90, 5, 5), (1, 4, 1), (0, 4, 0), (90, 90, 40)])
def test_there_are_no_more_components_than_points_and_axes(points, axes, width):
    found = principal_components(torch.randn(points, axes, generator=seeded()), 40, seeded())
    assert found.shape == (points, width)


def test_many_components_keep_the_gaps_between_images():
    images, _ = make_blobs(120, side=16)
    features = plain_features(images, np.arange(120))
    found = principal_components(features, 119, seeded())
    torch.testing.assert_close(torch.cdist(found, found), torch.cdist(features, features), atol=0.01, rtol=0.01)


def test_plain_features_are_pixels_without_their_mean_whatever_the_size():
    images, _ = make_blobs(6, side=8, channels=3)
    rows = np.array([4, 1])
    pixels = images[rows].transpose(0, 3, 1, 2).reshape(2, -1) / 255
    np.testing.assert_allclose(plain_features(images, rows), pixels - pixels.mean(1, keepdims=True), atol=1e-6)
    large = np.repeat(np.repeat(make_blobs(3, side=32)[0], 4, axis=1), 4, axis=2)
    np.testing.assert_allclose(
        plain_features(large, np.arange(3)), plain_features(make_blobs(3, side=32)[0], np.arange(3)), atol=1e-6
    )


def edges_by_loops(image_HW: np.ndarray, cells: int) -> np.ndarray:
    """Shares of edge strength by cell and direction, pixel by pixel in float64."""
    side, framed = len(image_HW), np.pad(image_HW.astype(np.float64) / 255, 1, mode="edge")
    shares = np.zeros((8, cells, cells))
    for row in range(side):
        for column in range(side):
            near = framed[row : row + 3, column : column + 3]
            weights = np.array([1.0, 2.0, 1.0])
            across, down = weights @ (near[:, 2] - near[:, 0]), weights @ (near[2] - near[0])
            turn = np.arctan2(down, across) / (2 * np.pi) * 8 % 8
            lower, share = int(turn) % 8, turn % 1
            cell = row * cells // side, column * cells // side
            shares[(lower, *cell)] += np.hypot(across, down) * (1 - share)
            shares[((lower + 1) % 8, *cell)] += np.hypot(across, down) * share
    roots = np.sqrt(shares.ravel())
    return roots / np.linalg.norm(roots)


@pytest.mark.parametrize(("side", "cells"), [(8, 4), (16, 4), (28, 7)])
def test_edges_are_those_of_a_loop_over_pixels(side, cells):
    images = np.random.default_rng(side).integers(0, 256, (5, side, side, 1), np.uint8)
    found = edge_features(images, np.array([3, 1]))
    np.testing.assert_allclose(found[0], edges_by_loops(images[3, :, :, 0], cells), atol=1e-4)
    np.testing.assert_allclose(found[1], edges_by_loops(images[1, :, :, 0], cells), atol=1e-4)  # roots of rounding


def test_edges_do_not_tell_light_from_dark_and_flat_images_have_none():
    image = np.random.default_rng(0).integers(0, 100, (1, 32, 32, 3), np.uint8)
    images = np.concatenate([image, image * 2, image + 50, np.full_like(image, 7)])
    found = edge_features(images, np.arange(4))
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)
    np.testing.assert_allclose(found[2], found[0], atol=1e-5)
    assert not found[3].any()
    np.testing.assert_allclose(found[:3].norm(dim=1), 1, atol=1e-6)


def test_looks_tell_shapes_apart_and_shades_too():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 30, (30, 16, 16, 1), np.uint8)
    images[:10, 4:12, 7:9] = 220  # a bar
    images[10:20, 7:9, 4:12] = 220  # the same bar, turned
    images[20:, 4:12, 7:9] = 110  # the bar, darker
    points_ND = looks(images, np.arange(30), seeded())
    assert points_ND.shape == (30, 20)
    gaps_NN = torch.cdist(points_ND, points_ND)
    kinds = np.repeat([0, 1, 2], 10)
    within = max(float(gaps_NN[kinds == kind][:, kinds == kind].max()) for kind in range(2))
    assert within < float(gaps_NN[:10, 10:20].min())


def test_looks_of_no_images_are_none():
    assert looks(np.zeros((3, 8, 8, 1), np.uint8), np.empty(0, np.int64), seeded()).shape[0] == 0
