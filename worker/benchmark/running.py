"""One run: an arm with a seed, from its seed set to its budget, over ``worker.learning.learner.step``.

Everything that a run draws depends on its seed alone, so arms of one seed share pool, test images, seed set and the
oracle's mistakes, and a run that was cut off goes on to the same results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from app.recipes import Recipe
from worker.benchmark.datasets import Dataset, Division, divide, draw_seed_set, is_fair_draw
from worker.benchmark.experiment import Experiment
from worker.benchmark.pairs import PairWatch
from worker.benchmark.pictures import LastRound, keep_pictures
from worker.benchmark.records import Folder, RoundDetail, RoundLine, RunKey, RunState
from worker.learning.devices import stable_seed
from worker.learning.learner import Progress, Snapshot, Stage, StepResult, step
from worker.learning.oracle import SimulatedOracle
from worker.learning.pool import Rows
from worker.learning.pseudo_labelers import PseudoLabels


@dataclass(frozen=True)
class RunProgress:
    """How far a run is: within a stage of its round, or, with an accuracy, at the end of the round."""

    key: RunKey
    round: int
    labels: int
    stage: Stage | None = None
    done: int = 0
    total: int = 0
    test_accuracy: float | None = None
    is_done: bool = False


Report = Callable[[RunProgress], None]


def run_arm(
    experiment: Experiment, key: RunKey, dataset: Dataset, folder: Folder, *, device: str | None, report: Report
) -> None:
    """Run an arm with a seed from where it is to its end, adding a line to the folder after each round.

    Raises:
        BadInput: the dataset has too few images for the experiment.
        RecipeError: a choice of the arm's recipe that cannot work on these images.
    """
    division = divide(dataset, experiment, key.seed)

    def end(weights: bytes, labelled_rows: Rows) -> None:
        last = LastRound(key, division.pool_rows, labelled_rows, weights)
        keep_pictures(folder, experiment.pictures, dataset, last, device)

    this = _Run(experiment, key, dataset, division, device, report, end)
    known = {line.key for line in folder.lines()}
    state = folder.state(key) or this.begin()
    while not state.is_done:
        state, line, detail = this.round(state)
        if line.key not in known:
            folder.add(line, detail)
        folder.save(key, state)
        ended = RunProgress(key, line.round, line.labels, test_accuracy=line.test_accuracy, is_done=state.is_done)
        report(ended)


def rounds_expected(experiment: Experiment, arm: str) -> int:
    """Return how many rounds a run of an arm takes."""
    budget, own = experiment.budget, experiment.arm(arm)
    if own.labels == "all":
        return 1
    asking = 1 + -(-(budget.labels - experiment.seed_set.count) // budget.batch)
    return asking + (budget.extra_rounds if experiment.labels_by_itself(own) else 0)


@dataclass(frozen=True)
class _Run:
    """What all rounds of one run share."""

    experiment: Experiment
    key: RunKey
    dataset: Dataset
    division: Division
    device: str | None
    report: Report
    end: Callable[[bytes, Rows], None]  # told the weights of the last round and the rows that are labelled

    def begin(self) -> RunState:
        """Label the seed set, or the whole pool for an arm that has all labels."""
        pool_rows, seed_set = self.division.pool_rows, self.experiment.seed_set
        if self._has_all_labels:
            rows, is_drawn = pool_rows, np.ones(len(pool_rows), np.bool_)
        elif seed_set.draw == "cold_start":
            nothing = RunState(0, pool_rows[:0], pool_rows[:0], np.empty(0, np.bool_), None, is_done=False)
            chosen = step(
                self._recipe(1), self._snapshot(nothing, 0), count=seed_set.count, round_number=0, device=self.device
            ).ranking
            rows, is_drawn = chosen.rows[: seed_set.count], chosen.is_random[: seed_set.count]
        else:
            rows = draw_seed_set(self.dataset, pool_rows, self.experiment, self.key.seed)
            is_drawn = np.full(len(rows), is_fair_draw(self.dataset, pool_rows, self.experiment))
        return RunState(0, rows, self._oracle().answer(rows), is_drawn, None, is_done=False)

    def round(self, state: RunState) -> tuple[RunState, RoundLine, RoundDetail]:
        """Fit, evaluate, choose and have answered; return the next state and what was found."""
        number, labels, budget = state.round + 1, len(state.rows), self.experiment.budget

        def on_progress(progress: Progress) -> None:
            self.report(RunProgress(self.key, number, labels, progress.stage, progress.done, progress.total))

        recipe, pair = self._recipe(number), PairWatch(self.dataset, self.division)
        wanted = 0 if self._has_all_labels else max(0, min(budget.batch, budget.labels - labels))
        result = step(
            recipe,
            self._snapshot(state, number),
            count=max(1, wanted),  # the last round asks nothing, but is scored like the others
            round_number=number,
            parent=state.parent,
            progress=on_progress,
            device=self.device,
            on_pair=pair.see,
        )
        asked = result.ranking.rows[:wanted]
        is_done = not len(asked) and number >= rounds_expected(self.experiment, self.key.arm)
        if is_done and result.weights is not None:
            self.end(result.weights, state.rows)
        stands = result.pseudo or PseudoLabels.none()
        after = RunState(
            round=number,
            rows=np.concatenate([state.rows, asked]),
            answers=np.concatenate([state.answers, self._oracle().answer(asked)]),
            is_drawn=np.concatenate([state.is_drawn, result.ranking.is_random[:wanted]]),
            parent=result.weights if self._goes_on and not is_done else None,
            is_done=is_done,
            pseudo=stands.at(~np.isin(stands.rows, asked)),  # an answer wins
        )
        return after, self._line(number, state, result), self._detail(number, state, result, asked, pair)

    @property
    def _has_all_labels(self) -> bool:
        return self.experiment.arm(self.key.arm).labels == "all"

    @property
    def _goes_on(self) -> bool:
        return self._recipe(2).fitting.text("start") == "warm"

    def _recipe(self, number: int) -> Recipe:
        arm = self.experiment.arm(self.key.arm)
        return self.experiment.recipe_of(arm, self.key.seed, first=number == 1)

    def _oracle(self) -> SimulatedOracle:
        noise = self.experiment.oracle.noise
        return SimulatedOracle(self.dataset.labels_N, self.dataset.class_count, noise, self.key.seed)

    def _snapshot(self, state: RunState, number: int) -> Snapshot:
        candidates = np.setdiff1d(self.division.pool_rows, state.rows, assume_unique=True)
        most = self.experiment.candidates_of(self.key.arm)
        if most is not None and most < len(candidates):
            generator = np.random.default_rng(stable_seed(self.key.seed, number, "candidates"))
            candidates = np.sort(generator.choice(candidates, most, replace=False))
        test_rows = self.division.test_rows
        watched_rows = test_rows if self.experiment.splits.validation == "test" else test_rows[:0]
        return Snapshot(
            images_NHWC=self.dataset.images_NHWC,
            class_count=self.dataset.class_count,
            labelled_rows=state.rows,
            labels=state.answers,
            candidate_rows=candidates,
            test_rows=test_rows,
            test_labels=self.dataset.labels_N[test_rows],
            pseudo=state.pseudo,
            is_drawn_N=state.is_drawn,
            is_spent=self._has_all_labels or len(state.rows) >= self.experiment.budget.labels,
            validation_rows=watched_rows,
            validation_labels=self.dataset.labels_N[watched_rows],
        )

    def _line(self, number: int, state: RunState, result: StepResult) -> RoundLine:
        found = result.evaluation
        if found is None:
            raise ValueError("a benchmark's round has test images and labels")
        return RoundLine(
            experiment=self.experiment.name,
            arm=self.key.arm,
            seed=self.key.seed,
            round=number,
            labels=len(state.rows),
            pseudo_labels=len(state.pseudo),
            test_accuracy=found.accuracy,
            test_nll=found.nll,
            ece=found.ece,
            mean_entropy=found.mean_entropy,
            seconds_fit=result.seconds_fit,
            seconds_score=result.seconds_score,
            seconds_select=result.seconds_select,
            mean_pool_entropy=result.mean_pool_entropy,
        )

    def _detail(self, number: int, state: RunState, result: StepResult, asked: Rows, pair: PairWatch) -> RoundDetail:
        found, fit = result.evaluation, result.fit
        if found is None or fit is None:
            raise ValueError("a benchmark's round has test images and labels")
        per_class = np.bincount(state.answers, minlength=self.dataset.class_count)
        return RoundDetail(
            arm=self.key.arm,
            seed=self.key.seed,
            round=number,
            epochs=len(fit.epochs),
            best_epoch=fit.best_epoch,
            steps=fit.steps,
            stopped_by=fit.stopped_by.value,
            started_from=fit.started_from.value,
            seconds_evaluate=result.seconds_evaluate,
            wrong_labels=int((state.answers != self.dataset.labels_N[state.rows]).sum()),
            labels_per_class=per_class.tolist(),
            recalls=list(found.recalls),
            precisions=list(found.precisions),
            confusion=[list(row) for row in found.confusion],
            asked_rows=asked.tolist(),
            brier=found.brier,
            roc_auc=found.roc_auc,
            roc_aucs=list(found.roc_aucs),
            pseudo_labels=len(state.pseudo),
            pseudo_right=int((state.pseudo.labels == self.dataset.labels_N[state.pseudo.rows]).sum()),
            pseudo_report={name: value for name, value in result.pseudo_report.items() if name != "pair"},
            mean_pool_entropy=result.mean_pool_entropy,
            pair=pair.epochs,
        )
