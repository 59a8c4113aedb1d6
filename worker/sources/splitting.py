"""Which images of a source are held out for measuring accuracy, and which are taken into the pool; by seed alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.errors import BadInput
from app.records import Split
from app.services.importing import Source
from worker.sources.base import Entry, Found

TEST_SHARE = 0.2
MOST_TEST_IMAGES = 1000  # of a source without a test set of its own; +-3 % at worst, and labels are dear


def split_at_random(
    entries: Sequence[Entry], source: Source, default: int | None = None, test_seed: int | None = None
) -> list[Found]:
    """Hold out test images of every class in proportion and keep the order of the rest.

    Args:
        entries: all images; those without a class count as one class.
        source: ``test`` images are held out, at most ``pool`` of the others are kept, both drawn by ``seed``.
        default: test images when ``source.test`` is None; None for a fifth (at most 1,000) of the images whose class
            is known, and none when no class is.
        test_seed: draws the test images instead of ``source.seed``.
    Raises:
        BadInput: more test images are wanted than the source can spare.
    """
    if default is None:
        labelled = sum(entry.class_name is not None for entry in entries)
        default = min(MOST_TEST_IMAGES, round(TEST_SHARE * labelled))
    test = default if source.test is None else source.test
    spare = len(entries) if source.pool == 0 else len(entries) - 1
    if entries and test > spare:
        raise BadInput(
            f"{test} test images", f"the source has {len(entries)} images, and the pool needs some", "hold out fewer"
        )
    generator = np.random.default_rng([source.seed if test_seed is None else test_seed, 0])
    held_out = draw_by_class([entry.class_name for entry in entries], test, generator)
    rest = [index for index in range(len(entries)) if index not in held_out]
    kept = draw(rest, source.pool, np.random.default_rng([source.seed, 1]))
    return _found(entries, kept, held_out)


def split_as_published(train: Sequence[Entry], test: Sequence[Entry], source: Source) -> list[Found]:
    """Take the pool from a set's training images and the test images from its test images, each limited by seed.

    Raises:
        BadInput: more test images are wanted than the set has.
    """
    if source.test is not None and source.test > len(test):
        raise BadInput(f"{source.test} test images", f"the set has {len(test)}", "use at most that many")
    wanted = len(test) if source.test is None else source.test
    held_out = draw_by_class([entry.class_name for entry in test], wanted, np.random.default_rng([source.seed, 0]))
    kept = draw(range(len(train)), source.pool, np.random.default_rng([source.seed, 1]))
    offset = len(train)
    return _found([*train, *test], kept, {offset + index for index in held_out})


def draw(indices: Sequence[int], most: int | None, generator: np.random.Generator) -> set[int]:
    """Draw ``most`` of the indices uniformly; all when ``most`` is None or there are no more."""
    if most is None or most >= len(indices):
        return set(indices)
    return {indices[place] for place in generator.permutation(len(indices))[:most].tolist()}


def draw_by_class(labels: Sequence[str | None], count: int, generator: np.random.Generator) -> set[int]:
    """Draw ``count`` places of ``labels``, of each class as many as its share of all (largest remainders)."""
    members: dict[str | None, list[int]] = {}
    for place, label in enumerate(labels):
        members.setdefault(label, []).append(place)
    exact = [count * len(places) / max(1, len(labels)) for places in members.values()]
    quotas = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda which: (quotas[which] - exact[which], which))
    for which in by_remainder[: count - sum(quotas)]:
        quotas[which] += 1
    drawn: set[int] = set()
    for places, quota in zip(members.values(), quotas, strict=True):
        drawn |= draw(places, quota, generator)
    return drawn


def _found(entries: Sequence[Entry], pool: set[int], test: set[int]) -> list[Found]:
    return [
        Found(entry.name, entry.class_name, Split.TEST if index in test else Split.POOL, entry.read)
        for index, entry in enumerate(entries)
        if index in pool or index in test
    ]
