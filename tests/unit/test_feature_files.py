"""Features kept beside a project's pixels: a cache that may be missing, broken or of another trunk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from worker.arrays import read_table, write_table
from worker.learning.features import FeatureTable


def make_table(count: int) -> FeatureTable:
    draws = np.random.default_rng(count)
    contents = draws.integers(0, 256, (count, 16), dtype=np.uint8)
    return FeatureTable(f"trunk {count}", contents, draws.random((count, 3), np.float32))


def test_features_are_found_beside_the_pixels_and_the_last_written_count(tmp_path: Path) -> None:
    pixels = tmp_path / "16x16x1.u8"
    assert read_table(pixels) is None
    for count in (4, 2):
        write_table(pixels, make_table(count))
    found = read_table(pixels)
    assert found is not None
    assert found.trunk == "trunk 2"
    np.testing.assert_array_equal(found.features_MD, make_table(2).features_MD)
    assert not pixels.exists()


def test_a_broken_file_of_features_is_as_good_as_none(tmp_path: Path) -> None:
    pixels = tmp_path / "16x16x1.u8"
    write_table(pixels, make_table(4))
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:90])
    assert read_table(pixels) is None
