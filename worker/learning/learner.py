"""The one loop step: fit, evaluate, score, select. The worker's rounds and the benchmark both run this.

A snapshot of arrays goes in and a result of arrays comes out; files, database ids and people are the caller's. All
randomness derives from the recipe's seed, the round's number and the stage, so another process gets the same batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
import torch

from app.errors import RecipeError
from app.recipes import Pick, Recipe
from worker.learning.acquisitions import ACQUISITIONS, mean_log_probs
from worker.learning.devices import pick_device, seeded
from worker.learning.errors import ShapeError
from worker.learning.evaluation import Evaluation, evaluate
from worker.learning.features import FeatureTable, OverFeatures, read_features
from worker.learning.fitting import FITTINGS, EpochReport, FitReport, Start, TrainingSet
from worker.learning.fitting.splitting import stratified_split
from worker.learning.networks import Network, NetworkSpec
from worker.learning.pool import ImageRows, Images, Rows, check_images, check_rows, take
from worker.learning.posteriors import POSTERIORS, Fitted, Posterior, members_wanted, read_chunks
from worker.learning.pseudo_labelers import PseudoLabels
from worker.learning.ranking import Known, Ranking, rank_by_scores, rank_cold
from worker.learning.scoring import PoolScores, score_rows
from worker.learning.selections import SELECTIONS
from worker.learning.weights import Weights, begin


class Stage(StrEnum):
    """What a step is doing."""

    READING = "reading"  # features of a frozen trunk
    FITTING = "fitting"
    EVALUATING = "evaluating"
    SCORING = "scoring"
    SELECTING = "selecting"


@dataclass(frozen=True)
class Progress:
    """How far a stage is: epoch ``done`` of ``total`` with its losses while fitting, images otherwise."""

    stage: Stage
    done: int
    total: int
    loss: float | None = None
    validation_accuracy: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """What a round learns from.

    ``images_NHWC`` holds all images of the project as uint8 at the recipe's ``image_side``, in memory or memory-mapped;
    everything else is int64 rows of it, and classes from 0 to ``class_count`` - 1. ``candidate_rows`` may be asked
    about: unlabelled, not pending, usable, of the pool split. The test rows may be none.

    ``pseudo`` are the labels that earlier models gave and that still stand; their rows are not labelled and may be
    candidates. ``is_drawn_N`` says which labelled rows were drawn uniformly (seed set and random queries), a fair sample
    of the pool; None when nobody knows. ``is_spent`` says that no human labels are left in the budget.
    """

    images_NHWC: Images
    class_count: int
    labelled_rows: Rows
    labels: Rows
    candidate_rows: Rows
    test_rows: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    test_labels: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    pseudo: PseudoLabels = field(default_factory=PseudoLabels.none)
    is_drawn_N: np.ndarray | None = None
    is_spent: bool = False

    def __post_init__(self) -> None:
        check_images(self.images_NHWC)
        for name in ("labelled", "candidate", "test"):
            check_rows(f"{name}_rows", getattr(self, f"{name}_rows"), len(self.images_NHWC))
        for name, rows, labels in (
            ("labels", self.labelled_rows, self.labels),
            ("test_labels", self.test_rows, self.test_labels),
        ):
            if labels.shape != rows.shape:
                raise ShapeError(name, rows.shape, labels.shape)
            check_rows(name, labels, self.class_count)


@dataclass(frozen=True)
class StepResult:
    """What a round found.

    ``weights``, ``fit`` and ``evaluation`` are None on a cold start; ``evaluation`` also without test rows. Of a
    committee, ``weights`` hold all members and ``fit`` reports the first. ``scores`` [N] float32 belong to the
    snapshot's ``candidate_rows``, one each. ``features`` is what a frozen trunk has read so far, for the next round;
    None with a trained one. ``pseudo`` are all labels of models that stand from now on, in place of the snapshot's;
    None when the recipe has no pseudo-labeler. ``pseudo_report`` says in plain JSON values how they were chosen, such
    as the ``threshold``, or the ``reason`` why there are none.
    """

    weights: bytes | None
    fit: FitReport | None
    evaluation: Evaluation | None
    ranking: Ranking
    scores: np.ndarray
    seconds_fit: float
    seconds_evaluate: float
    seconds_score: float
    seconds_select: float
    features: FeatureTable | None = None
    pseudo: PseudoLabels | None = None
    pseudo_report: Mapping[str, Any] = field(default_factory=dict)


Report = Callable[[Progress], None]


def step(
    recipe: Recipe,
    snapshot: Snapshot,
    *,
    count: int,
    round_number: int,
    parent: bytes | None = None,
    features: FeatureTable | None = None,
    progress: Report = lambda _progress: None,
    deadline: float | None = None,
    device: torch.device | str | None = None,
) -> StepResult:
    """Run one round on a snapshot.

    Without labels there is nothing to fit, and the ranking is that of the recipe's cold start.

    Args:
        recipe: how to learn and ask.
        snapshot: what is known; left as it is.
        count: K, the rows to rank: the batch and its reserve. With fewer candidates, all of them.
        round_number: which round of the project; the same number draws the same.
        parent: the previous round's weights, used if the recipe starts warm.
        features: what the previous round returned, used if the trunk is frozen and still the same.
        progress: called after each epoch and each chunk, in this thread.
        deadline: ``time.monotonic()`` seconds after which fitting stops with the best weights so far.
        device: where to compute; by default CUDA if there is one, else the CPU.
    Raises:
        RecipeError: a choice that cannot work on these images, or a loss that stopped being finite.
        BadInput: fewer than two classes, or a parent that is not a model file.
        ShapeError: images of another side than the recipe's.
        NotFiniteError: a score that is NaN or infinite.
    """
    device = pick_device(device)
    _, side, _, channels = snapshot.images_NHWC.shape
    if side != recipe.image_side:
        wanted = ("N", recipe.image_side, recipe.image_side, channels)
        raise ShapeError("images_NHWC", wanted, snapshot.images_NHWC.shape)
    this = _Round(recipe, snapshot, round_number, device, progress, snapshot.images_NHWC)
    watch = _Stopwatch()
    if not len(snapshot.labelled_rows):
        ranking, scores = this.draw(count)
        return StepResult(None, None, None, ranking, scores, 0.0, 0.0, 0.0, watch.lap())
    networks, starts = this.begin(parent)
    learning, table = networks, None
    if recipe.fitting.parameters.get("trunk") == "frozen":
        this, table = this.freeze(networks, starts[0], features)
        learning = tuple(OverFeatures(network) for network in networks)
    fit = this.fit(learning, starts, deadline)
    weights, seconds_fit = Weights.of(*networks).to_bytes(), watch.lap()
    posterior = this.posterior(learning)
    evaluation, seconds_evaluate = this.evaluate(posterior), watch.lap()
    pool, seconds_score = this.score(posterior), watch.lap()
    ranking, scores = this.rank(posterior, pool, count), pool.scores_N.to(torch.float32).numpy()
    return StepResult(
        weights, fit, evaluation, ranking, scores, seconds_fit, seconds_evaluate, seconds_score, watch.lap(), table
    )


class _Stopwatch:
    """Seconds since it was last looked at."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def lap(self) -> float:
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        return seconds


@dataclass(frozen=True)
class _Round:
    """The stages of one step, and what they all work on; ``inputs`` are the images, or their features."""

    recipe: Recipe
    snapshot: Snapshot
    number: int
    device: torch.device
    progress: Report
    inputs: np.ndarray

    def begin(self, parent: bytes | None) -> tuple[tuple[Network, ...], tuple[Start, ...]]:
        """Build as many networks as the posterior is made from, and say whose weights each has."""
        _, side, _, channels = self.snapshot.images_NHWC.shape
        chosen, is_warm = self.recipe.network, self.recipe.fitting.text("start") == "warm"
        spec = NetworkSpec(chosen.name, self.snapshot.class_count, channels, side, chosen.parameters)
        begun = [
            begin(spec, parent if is_warm else None, self._seeded_member("network", member), member)
            for member in range(members_wanted(self.recipe.posterior.parameters))
        ]
        return tuple(network.to(self.device) for network, _ in begun), tuple(start for _, start in begun)

    def freeze(
        self, networks: tuple[Network, ...], start: Start, known: FeatureTable | None
    ) -> tuple[_Round, FeatureTable]:
        """Put features in the place of images; changing what is no image any more makes no sense, so that is off."""
        network, *others = networks
        if others:
            remedy = "choose another posterior, or trunk = trained"
            raise RecipeError("fitting.trunk", "a committee's members have trunks of their own to train", remedy)
        if start is Start.SCRATCH and list(network.trunk.parameters()):
            remedy = "use network.weights = imagenet, or start = warm after a round with trunk = trained"
            raise RecipeError("fitting.trunk", "new weights have no features worth keeping", remedy)
        snapshot, pick = self.snapshot, self.recipe.fitting
        rows = np.concatenate([snapshot.labelled_rows, snapshot.candidate_rows, snapshot.test_rows])
        report, images_NHWC = self._report_images(Stage.READING), snapshot.images_NHWC
        inputs, table = read_features(network.eval(), images_NHWC, rows, self.device, known=known, progress=report)
        fitting = Pick(pick.name, {**pick.parameters, "augment": False})
        return replace(self, inputs=inputs, recipe=replace(self.recipe, fitting=fitting)), table

    def fit(self, networks: tuple[Network, ...], starts: tuple[Start, ...], deadline: float | None) -> FitReport:
        """Fit every network, each within its part of the time; return the report of the first."""
        data, reports = self.labelled(), list[FitReport]()
        for member, (network, start) in enumerate(zip(networks, starts, strict=True)):
            POSTERIORS.get(self.recipe.posterior.name).check(network, self.recipe.posterior.parameters)
            now = time.monotonic()
            own_deadline = None if deadline is None else now + (deadline - now) / (len(networks) - member)
            report = self._fit_member(member, len(networks), network, data, own_deadline)
            reports.append(replace(report, started_from=start))
        return reports[0]

    def _fit_member(
        self, member: int, total: int, network: Network, data: TrainingSet, deadline: float | None
    ) -> FitReport:
        pick = self.recipe.fitting
        epochs = pick.integer("epochs")

        def on_epoch(epoch: EpochReport) -> None:
            done, accuracy = member * epochs + epoch.epoch, epoch.validation_accuracy
            self.progress(Progress(Stage.FITTING, done, total * epochs, epoch.loss, accuracy))

        fit, generator = FITTINGS.get(pick.name), self._seeded_member("fitting", member)
        return fit(network, data, pick, generator, device=self.device, deadline=deadline, on_epoch=on_epoch)

    def labelled(self) -> TrainingSet:
        labels_N = torch.from_numpy(self.snapshot.labels).to(self.device)
        pool = ImageRows(self.inputs, self.snapshot.candidate_rows, self.device)
        return TrainingSet(take(self.inputs, self.snapshot.labelled_rows, self.device), labels_N, unlabelled=pool)

    def posterior(self, networks: tuple[Network, ...]) -> Posterior:
        pick, data = self.recipe.posterior, self.labelled()
        # Fittings split first of all, so the same generator and share keep the same labels aside.
        share = self.recipe.fitting.number("validation_share")
        _, kept_aside = stratified_split(data.labels_N.cpu(), share, self._seeded("fitting"))
        validation = data.at(kept_aside.to(self.device))
        first, *others = networks
        fitted = Fitted(first, pick.parameters, self._seeded("posterior"), data, validation, tuple(others))
        return POSTERIORS.get(pick.name)(fitted)

    def evaluate(self, posterior: Posterior) -> Evaluation | None:
        rows = self.snapshot.test_rows
        if not len(rows):
            return None
        report = self._report_images(Stage.EVALUATING)
        chunks = read_chunks(posterior, self.inputs, rows, self.device, report)
        log_probs_NC = torch.cat([mean_log_probs(reading.log_probs_SNC).cpu() for _, reading in chunks])
        return evaluate(log_probs_NC.numpy(), self.snapshot.test_labels)

    def score(self, posterior: Posterior) -> PoolScores:
        pick, selection = self.recipe.acquisition, SELECTIONS.get(self.recipe.selection.name)
        return score_rows(
            ACQUISITIONS.get(pick.name),
            pick.parameters,
            posterior,
            self.inputs,
            self.snapshot.candidate_rows,
            generator=self._seeded("scoring"),
            device=self.device,
            keep_features=selection.needs_features,
            keep_log_probs=selection.needs_log_probs,
            progress=self._report_images(Stage.SCORING),
        )

    def rank(self, posterior: Posterior, pool: PoolScores, count: int) -> Ranking:
        known, candidates = (
            Known(posterior, self.device, pool, self.snapshot.labelled_rows),
            self.snapshot.candidate_rows,
        )
        ranking = rank_by_scores(self.recipe, self.inputs, candidates, known, count=count, round_number=self.number)
        self.progress(Progress(Stage.SELECTING, len(ranking.rows), len(ranking.rows)))
        return ranking

    def draw(self, count: int) -> tuple[Ranking, np.ndarray]:
        images_NHWC, candidates = self.snapshot.images_NHWC, self.snapshot.candidate_rows
        ranking, scores = rank_cold(self.recipe, images_NHWC, candidates, count=count, round_number=self.number)
        self.progress(Progress(Stage.SELECTING, len(ranking.rows), len(ranking.rows)))
        return ranking, scores

    def _seeded(self, stage: str) -> torch.Generator:
        return seeded(self.recipe.seed, self.number, stage)

    def _seeded_member(self, stage: str, member: int) -> torch.Generator:
        """Seed a member's stage; the first member is the network that would be fitted alone."""
        return seeded(self.recipe.seed, self.number, stage, member) if member else self._seeded(stage)

    def _report_images(self, stage: Stage) -> Callable[[int, int], None]:
        return lambda done, total: self.progress(Progress(stage, done, total))
