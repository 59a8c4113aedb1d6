"""The lines of a benchmark sorted into learning curves by arm and seed, and arms held against the baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from worker.benchmark.experiment import Experiment
from worker.benchmark.records import RoundDetail, RoundLine
from worker.benchmark.statistics import Interval, paired_difference

Curve = dict[int, RoundLine]  # labels -> the round of one run that had them


@dataclass(frozen=True)
class Results:
    """What an experiment has found so far: curves by arm and seed.

    Of rounds with as many labels a curve holds the last; ``lines`` are all of them.
    """

    experiment: Experiment
    curves: dict[str, dict[int, Curve]]
    details: tuple[RoundDetail, ...] = ()
    lines: tuple[RoundLine, ...] = ()

    @classmethod
    def of(cls, experiment: Experiment, lines: Iterable[RoundLine], details: Iterable[RoundDetail] = ()) -> Results:
        """Sort lines by arm, in the experiment's order, and seed; arms without lines are left out."""
        curves: dict[str, dict[int, Curve]] = {arm.name: {} for arm in experiment.arms}
        known = tuple(sorted((line for line in lines if line.arm in curves), key=lambda line: line.key))
        for line in known:
            curves[line.arm].setdefault(line.seed, {})[line.labels] = line
        found = {arm: seeds for arm, seeds in curves.items() if seeds}
        return cls(experiment, found, tuple(detail for detail in details if detail.arm in found), known)

    def labels(self, arm: str) -> list[int]:
        """Return every number of labels at which an arm was measured."""
        return sorted({labels for curve in self.curves[arm].values() for labels in curve})

    def at(self, arm: str, labels: int, figure: Callable[[RoundLine], float]) -> list[float]:
        """Return a figure of all seeds that were measured with so many labels."""
        return [figure(curve[labels]) for curve in self.curves[arm].values() if labels in curve]

    def compared(self) -> list[str]:
        """Return the arms that are held against the baseline: those on the same budget."""
        has_budget = {arm.name for arm in self.experiment.arms if arm.labels == "budget"}
        baseline = self.experiment.baseline
        return [arm for arm in self.curves if arm in has_budget and arm != baseline and baseline in self.curves]

    def differences(self, arm: str, other: str | None = None) -> dict[int, Interval]:
        """Return by labels how far an arm's accuracy is above another's, over the seeds that both have.

        The other is the baseline unless one is named.
        """
        ours, theirs = self.curves[arm], self.curves[self.experiment.baseline if other is None else other]
        found = {}
        for labels in self.labels(arm):
            seeds = [seed for seed in ours if labels in ours[seed] and labels in theirs.get(seed, {})]
            if seeds:
                sides = ([side[seed][labels].test_accuracy for seed in seeds] for side in (ours, theirs))
                found[labels] = paired_difference(*sides)
        return found
