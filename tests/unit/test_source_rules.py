"""The pure rules of sources: places within a source, the order of names, shares of classes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sources.layout import natural_key, parts_of
from worker.sources.splitting import draw_by_class


@pytest.mark.parametrize("path", ["a/../../b/1.png", "/a/1.png", "a\\b\\1.png", "./1.png"])
def test_parts_of_a_path_stay_within_the_source(path: str) -> None:
    parts = parts_of(path)
    assert parts is not None
    assert not {"..", ".", "/", ""} & set(parts)


def test_numbers_within_names_are_ordered_as_numbers() -> None:
    names = ["b2", "b10", "a", "10", "9", "b", "09"]
    assert [key for (key,) in sorted(((name,) for name in names), key=natural_key)] == [
        "09", "9", "10", "a", "b", "b2", "b10",
    ]  # fmt: skip


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=60), st.data())
def test_each_class_is_held_out_by_its_share(labels: list[str | None], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(labels)))
    drawn = draw_by_class(labels, count, np.random.default_rng(0))
    assert len(drawn) == count
    for label, size in Counter(labels).items():
        share = count * size / len(labels)
        assert int(share) <= sum(labels[place] == label for place in drawn) <= int(share) + 1
