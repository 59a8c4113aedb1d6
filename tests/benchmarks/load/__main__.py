"""``make bench-load``: many people label while a round trains; the last line is one JSON object of the figures.

Server times are what the server says in ``Server-Timing``; client times, beside them, include the load generator, which
shares the machine's cores with everything else.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.load import label_studio
from tests.benchmarks.load.scene import Load, growth, measure


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table and, last, the figures as JSON."""
    given = _parse(arguments)
    load = Load(given.people, given.seconds, given.side)
    print(f"{os.cpu_count()} cores; load before: {os.getloadavg()[0]:.1f}")
    began = time.monotonic()
    figures = measure(load, given.images)
    _show(f"{given.people} people, {given.images:,} images", figures)
    if given.more_images:
        grown = measure(load, given.more_images)
        _show(f"{given.people} people, {given.more_images:,} images", grown)
        figures |= {f"more_images_{name}": value for name, value in grown.items()}
        figures["next_growth"] = growth(figures, grown)
    if given.label_studio:
        theirs = label_studio.measure(given.label_studio, given.people, given.seconds, given.images)
        theirs |= label_studio.ratios(figures, theirs)
        _show(f"Label Studio: {given.people} people, {given.images:,} images", theirs)
        figures |= theirs
    print(f"\n{time.monotonic() - began:.0f} s in all")
    print(json.dumps(figures))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-load", description=__doc__)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=180, help="one answer a second and person")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--more-images", type=int, default=1_000_000, help="measured after; 0 leaves it out")
    parser.add_argument("--side", type=int, default=28, help="pixels of the images; from 65 on pages fetch each")
    parser.add_argument(
        "--label-studio", type=Path, metavar="PROGRAM", help="its `label-studio` command, to be measured beside"
    )
    return parser.parse_args(arguments)


def _show(title: str, figures: dict[str, float]) -> None:
    print(f"\n{title}")
    for name, value in figures.items():
        print(f"  {name:<28} {value:>12,.3f}")


if __name__ == "__main__":
    main()
