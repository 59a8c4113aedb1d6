"""The lines of a benchmark sorted into learning curves by arm and seed, and arms held against the baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from worker.benchmark.experiment import Experiment
from worker.benchmark.records import RoundDetail, RoundLine
from worker.benchmark.statistics import Interval, mean_interval, paired_difference
from worker.learning.curves import Curve, area_under_curve

Run = dict[int, RoundLine]  # labels -> the last round that had them


@dataclass(frozen=True)
class Results:
    """What an experiment has found so far: the rounds of every run, by arm, seed and labels.

    Of rounds with as many labels a curve holds the last; ``lines`` are all of them.
    """

    experiment: Experiment
    curves: dict[str, dict[int, Run]]
    details: tuple[RoundDetail, ...] = ()
    lines: tuple[RoundLine, ...] = ()

    @classmethod
    def of(cls, experiment: Experiment, lines: Iterable[RoundLine], details: Iterable[RoundDetail] = ()) -> Results:
        """Sort lines by arm, in the experiment's order, and seed; arms without lines are left out."""
        curves: dict[str, dict[int, Run]] = {arm.name: {} for arm in experiment.arms}
        known = tuple(sorted((line for line in lines if line.arm in curves), key=lambda line: line.key))
        for line in known:
            curves[line.arm].setdefault(line.seed, {})[line.labels] = line
        found = {arm: seeds for arm, seeds in curves.items() if seeds}
        return cls(experiment, found, tuple(detail for detail in details if detail.arm in found), known)

    def labels(self, arm: str) -> list[int]:
        """Return every number of labels at which an arm was measured."""
        return sorted({labels for run in self.curves[arm].values() for labels in run})

    def at(self, arm: str, labels: int, figure: Callable[[RoundLine], float]) -> list[float]:
        """Return a figure of all seeds that were measured with so many labels."""
        return [figure(run[labels]) for run in self.curves[arm].values() if labels in run]

    def mean_at(self, arm: str, labels: int, figure: Callable[[RoundLine], float]) -> float:
        """Return the mean of a figure over the seeds that were measured with so many labels."""
        return mean_interval(self.at(arm, labels, figure)).value

    def details_at(self, arm: str, labels: int) -> list[RoundDetail]:
        """Return the details of all seeds that were measured with so many labels, as far as they were kept."""
        rounds = [run[labels].key for run in self.curves[arm].values() if labels in run]
        return [self._detail_of[key] for key in rounds if key in self._detail_of]

    def last_details(self, arm: str) -> list[RoundDetail]:
        """Return the details of an arm's last round, of all seeds that came so far."""
        return self.details_at(arm, self.labels(arm)[-1])

    def accuracy_curves(self, arm: str) -> dict[int, Curve]:
        """Return an arm's test accuracy over labels, by seed."""
        return {seed: _curve(run) for seed, run in self.curves[arm].items()}

    def on_budget(self) -> list[str]:
        """Return the arms that have a learning curve: those that do not begin with all labels."""
        return [arm for arm in self.curves if self.experiment.arm(arm).labels == "budget"]

    def compared(self) -> list[str]:
        """Return the arms that are held against the baseline: those on the same budget that learn alike."""
        baseline, arms = (
            self.experiment.baseline,
            [arm for arm in self.on_budget() if self.experiment.arm(arm).compared],
        )
        return [arm for arm in arms if arm != baseline and baseline in self.curves]

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

    def area_difference(self, arm: str) -> Interval | None:
        """Return how far an arm's mean accuracy over the budget is above the baseline's, paired by seed.

        Each pair is measured over the labels that both of its runs cover; None without a seed in common.
        """
        ours, theirs = self.accuracy_curves(arm), self.accuracy_curves(self.experiment.baseline)
        pairs = [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
        shared = [(*pair, *_range_of_both(*pair)) for pair in pairs]
        areas = [
            (area_under_curve(one, first, last), area_under_curve(other, first, last))
            for one, other, first, last in shared
            if first <= last
        ]
        return paired_difference([one for one, _ in areas], [other for _, other in areas]) if areas else None

    @cached_property
    def _detail_of(self) -> dict[tuple[str, int, int], RoundDetail]:
        return {detail.key: detail for detail in self.details}


def _curve(run: Run) -> Curve:
    labels = sorted(run)
    return Curve(np.array(labels), np.array([run[count].test_accuracy for count in labels]))


def _range_of_both(one: Curve, other: Curve) -> tuple[float, float]:
    return max(one.labels_R[0], other.labels_R[0]), min(one.labels_R[-1], other.labels_R[-1])
