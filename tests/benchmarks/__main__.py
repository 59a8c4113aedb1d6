"""``make bench``: every figure beside its baseline from the same run; the last line is one JSON object of them all."""

from __future__ import annotations

import json
import os
import platform

import torch

from tests.benchmarks import (
    bench_labeling,
    bench_labels_per_minute,
    bench_learning,
    bench_ledger,
    bench_loop,
    bench_painting,
    bench_pool,
    bench_posteriors,
    bench_selections,
    bench_web,
)


def main() -> None:
    """Run all benchmarks, print a table and, last, every figure by name."""
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    )
    figures: dict[str, float] = {}
    for name, measure in (
        ("web process", bench_web.figures),
        ("labeling, one person", bench_labeling.figures),
        ("from key to paint, in Chromium", bench_painting.figures),
        ("labels a minute, a scripted person", bench_labels_per_minute.figures),
        ("the ledger", bench_ledger.figures),
        ("the loop on digits", bench_loop.figures),
        ("learning", bench_learning.figures),
        ("whole pools", bench_pool.figures),
        ("posteriors and acquisitions", bench_posteriors.figures),
        ("choosing a batch", bench_selections.figures),
    ):
        found = measure()
        print(f"\n{name}")
        for figure, value in found.items():
            print(f"  {figure:<44} {value:>12.3f}")
        figures |= found
    print()
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
