"""The one loop step: fit, evaluate, score, select. The worker's rounds and the benchmark both run this.

A snapshot of arrays goes in and a result of arrays comes out; files, database ids and people are the caller's. All
randomness derives from the recipe's seed, the round's number and the stage, so another process gets the same batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
import torch

from app.errors import RecipeError
from app.recipes import Pick, Recipe
from worker.learning.acquisitions import ACQUISITIONS, Sight, mean_log_probs
from worker.learning.acquisitions.random import random_scores
from worker.learning.devices import pick_device, seeded
from worker.learning.errors import ShapeError
from worker.learning.evaluation import Evaluation, evaluate
from worker.learning.features import FeatureTable, OverFeatures, read_features
from worker.learning.fitting import FITTINGS, EpochReport, FitReport, Start, TrainingSet
from worker.learning.networks import Network, NetworkSpec
from worker.learning.pool import ImageRows, Images, Rows, check_images, check_rows, take
from worker.learning.posteriors import POSTERIORS, Fitted, Posterior, read_chunks
from worker.learning.scoring import PoolScores, explain_rows, score_rows
from worker.learning.selections import SELECTIONS, Scored
from worker.learning.selections.top_k import top_k
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
    """

    images_NHWC: Images
    class_count: int
    labelled_rows: Rows
    labels: Rows
    candidate_rows: Rows
    test_rows: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    test_labels: Rows = field(default_factory=lambda: np.empty(0, np.int64))

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
class Ranking:
    """The K rows to ask about, best first, and why.

    ``propensities`` [K] is the probability that a row was drawn at its rank, given those ranked before it; None when
    nothing was drawn. ``top_classes`` and ``top_probs`` [K, 2], the likeliest class first, are None on a cold start.
    ``parts`` are the acquisition's named numbers [K].
    """

    rows: Rows
    scores: np.ndarray
    acquisition: str
    propensities: np.ndarray | None
    top_classes: np.ndarray | None
    top_probs: np.ndarray | None
    parts: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class StepResult:
    """What a round found.

    ``weights``, ``fit`` and ``evaluation`` are None on a cold start; ``evaluation`` also without test rows. ``scores``
    [N] float32 belong to the snapshot's ``candidate_rows``, one each. ``features`` is what a frozen trunk has read so
    far, for the next round; None with a trained one.
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

    Without labels there is nothing to fit, and the ranking is drawn uniformly (a cold start).

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
    network, start = this.begin(parent)
    learning, table = network, None
    if recipe.fitting.parameters.get("trunk") == "frozen":
        this, table = this.freeze(network, start, features)
        learning = OverFeatures(network)
    fit = this.fit(learning, start, deadline)
    weights, seconds_fit = Weights.of(network).to_bytes(), watch.lap()
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

    def begin(self, parent: bytes | None) -> tuple[Network, Start]:
        _, side, _, channels = self.snapshot.images_NHWC.shape
        chosen = self.recipe.network
        spec = NetworkSpec(chosen.name, self.snapshot.class_count, channels, side, chosen.parameters)
        is_warm = self.recipe.fitting.text("start") == "warm"
        network, start = begin(spec, parent if is_warm else None, self._seeded("network"))
        return network.to(self.device), start

    def freeze(self, network: Network, start: Start, known: FeatureTable | None) -> tuple[_Round, FeatureTable]:
        """Put features in the place of images; changing what is no image any more makes no sense, so that is off."""
        if start is Start.SCRATCH and list(network.trunk.parameters()):
            remedy = "use network.weights = imagenet, or start = warm after a round with trunk = trained"
            raise RecipeError("fitting.trunk", "new weights have no features worth keeping", remedy)
        snapshot, pick = self.snapshot, self.recipe.fitting
        rows = np.concatenate([snapshot.labelled_rows, snapshot.candidate_rows, snapshot.test_rows])
        report, images_NHWC = self._report_images(Stage.READING), snapshot.images_NHWC
        inputs, table = read_features(network.eval(), images_NHWC, rows, self.device, known=known, progress=report)
        fitting = Pick(pick.name, {**pick.parameters, "augment": False})
        return replace(self, inputs=inputs, recipe=replace(self.recipe, fitting=fitting)), table

    def fit(self, network: Network, start: Start, deadline: float | None) -> FitReport:
        pick = self.recipe.fitting
        labels_N = torch.from_numpy(self.snapshot.labels).to(self.device)
        pool = ImageRows(self.inputs, self.snapshot.candidate_rows, self.device)
        data = TrainingSet(take(self.inputs, self.snapshot.labelled_rows, self.device), labels_N, unlabelled=pool)

        def on_epoch(epoch: EpochReport) -> None:
            accuracy = epoch.validation_accuracy
            self.progress(Progress(Stage.FITTING, epoch.epoch, pick.integer("epochs"), epoch.loss, accuracy))

        fit, generator = FITTINGS.get(pick.name), self._seeded("fitting")
        report = fit(network, data, pick, generator, device=self.device, deadline=deadline, on_epoch=on_epoch)
        return replace(report, started_from=start)

    def posterior(self, network: Network) -> Posterior:
        pick = self.recipe.posterior
        return POSTERIORS.get(pick.name)(Fitted(network, pick.parameters, self._seeded("posterior")))

    def evaluate(self, posterior: Posterior) -> Evaluation | None:
        rows = self.snapshot.test_rows
        if not len(rows):
            return None
        report = self._report_images(Stage.EVALUATING)
        chunks = read_chunks(posterior, self.inputs, rows, self.device, report)
        log_probs_NC = torch.cat([mean_log_probs(reading.log_probs_SNC).cpu() for _, reading in chunks])
        return evaluate(log_probs_NC.numpy(), self.snapshot.test_labels)

    def score(self, posterior: Posterior) -> PoolScores:
        pick = self.recipe.acquisition
        return score_rows(
            ACQUISITIONS.get(pick.name),
            pick.parameters,
            posterior,
            self.inputs,
            self.snapshot.candidate_rows,
            generator=self._seeded("scoring"),
            device=self.device,
            keep_features=SELECTIONS.get(self.recipe.selection.name).needs_features,
            progress=self._report_images(Stage.SCORING),
        )

    def rank(self, posterior: Posterior, pool: PoolScores, count: int) -> Ranking:
        name, pick = self.recipe.acquisition.name, self.recipe.selection
        acquisition, selection, total = ACQUISITIONS.get(name), SELECTIONS.get(pick.name), len(pool.scores_N)
        # The snapshot leaves pending rows out of its candidates.
        nothing_pending = torch.zeros(total, dtype=torch.bool)
        positions = selection.select(
            Scored(pool.scores_N, nothing_pending, count, self._seeded("selecting"), pick.parameters, pool.features_ND)
        )
        rows = self.snapshot.candidate_rows[positions.numpy()]
        reasons = explain_rows(acquisition, posterior, self.inputs, rows, device=self.device)
        is_draw = acquisition.sight is Sight.NOTHING and selection.follows_scores
        self.progress(Progress(Stage.SELECTING, len(rows), len(rows)))
        return Ranking(
            rows=rows,
            scores=pool.scores_N[positions].to(torch.float32).numpy(),
            acquisition=name,
            propensities=_draw_propensities(len(rows), total) if is_draw else None,
            top_classes=reasons.top_classes_K2.numpy(),
            top_probs=reasons.top_probs_K2.numpy(),
            parts={name: values_K.numpy() for name, values_K in reasons.parts.items()},
        )

    def draw(self, count: int) -> tuple[Ranking, np.ndarray]:
        """Rank uniformly at random, as long as there is no network to ask."""
        total = len(self.snapshot.candidate_rows)
        scores_N = random_scores(total, self._seeded("scoring"))
        positions = top_k(scores_N, torch.zeros(total, dtype=torch.bool), count).numpy()
        rows, scores = self.snapshot.candidate_rows[positions], scores_N.to(torch.float32).numpy()
        self.progress(Progress(Stage.SELECTING, len(rows), len(rows)))
        propensities = _draw_propensities(len(rows), total)
        return Ranking(rows, scores[positions], "random", propensities, None, None, {}), scores

    def _seeded(self, stage: str) -> torch.Generator:
        return seeded(self.recipe.seed, self.number, stage)

    def _report_images(self, stage: Stage) -> Callable[[int, int], None]:
        return lambda done, total: self.progress(Progress(stage, done, total))


def _draw_propensities(count: int, total: int) -> np.ndarray:
    """Probabilities of a uniform draw without replacement: 1/N, 1/(N - 1), ..."""
    propensities: np.ndarray = 1.0 / (total - np.arange(count, dtype=np.float64))
    return propensities
