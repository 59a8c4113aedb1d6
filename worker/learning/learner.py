"""The one loop step: fit, evaluate, score, select. The worker's rounds and the benchmark both run this.

A snapshot of arrays goes in and a result of arrays comes out; files, database ids and people are the caller's. All
randomness derives from the recipe's seed, the round's number and the stage, so another process gets the same batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from app.errors import RecipeError
from app.recipes import Pick, Recipe
from worker.learning.acquisitions import ACQUISITIONS
from worker.learning.co_training import OnPairEpoch, PairEpoch, Pupil, co_train, halve
from worker.learning.devices import pick_device, seeded
from worker.learning.errors import ShapeError
from worker.learning.evaluation import Evaluation, evaluate
from worker.learning.features import FeatureTable, OverFeatures, read_features
from worker.learning.fitting import FITTINGS, EpochReport, FitReport, Start, TrainingSet
from worker.learning.fitting.splitting import split
from worker.learning.networks import Network, NetworkSpec
from worker.learning.pool import ImageRows, take
from worker.learning.posteriors import POSTERIORS, Fitted, Posterior, members_wanted, read_chunks
from worker.learning.pseudo_labelers import PSEUDO_LABELERS, PseudoLabels
from worker.learning.pseudo_labelling import count_changes, hold_out, judge, label_pool
from worker.learning.ranking import Known, Ranking, rank_by_scores, rank_cold
from worker.learning.scoring import PoolScores, score_rows
from worker.learning.selections import SELECTIONS
from worker.learning.snapshot import Progress, Report, Snapshot, Stage, StepResult
from worker.learning.stopwatch import Stopwatch
from worker.learning.weights import Weights, begin

__all__ = ["Progress", "Report", "Snapshot", "Stage", "StepResult", "step"]


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
    neighbours: int = 0,
    with_clusters: bool = False,
    on_pair: OnPairEpoch = lambda _epoch: None,
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
        neighbours: how many of the nearest labelled images to name for each ranked row.
        with_clusters: whether to cluster the ranked rows by what they look like.
        on_pair: called with the pair before and after each epoch of co-training, to look at it.
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
    clusters = snapshot.class_count if with_clusters else 0
    this = _Round(recipe, snapshot, round_number, device, progress, snapshot.images_NHWC)
    watch = Stopwatch()
    if not len(snapshot.labelled_rows):
        ranking, scores = this.draw(count, clusters)
        pseudo, report = this.label_nothing()
        seconds = watch.lap()
        return StepResult(
            None, None, None, ranking, scores, 0.0, 0.0, 0.0, seconds, pseudo=pseudo, pseudo_report=report
        )
    networks, starts = this.begin(parent)
    learning, table = networks, None
    if recipe.fitting.parameters.get("trunk") == "frozen":
        this, table = this.freeze(networks, starts[0], features)
        learning = tuple(OverFeatures(network) for network in networks)
    fit, taken = this.fit(learning, starts, deadline, on_pair)
    weights, seconds_fit = Weights.of(*networks).to_bytes(), watch.lap()
    posterior = this.posterior(learning)
    evaluation, seconds_evaluate = this.evaluate(posterior), watch.lap()
    pool, seconds_score = this.score(posterior), watch.lap()
    ranking = this.rank(posterior, pool, count, neighbours, clusters)
    pseudo, report = this.label_pool(posterior, pool, ranking) if taken is None else this.keep(taken, ranking)
    return StepResult(
        weights=weights,
        fit=fit,
        evaluation=evaluation,
        ranking=ranking,
        scores=pool.scores_N.to(torch.float32).numpy(),
        seconds_fit=seconds_fit,
        seconds_evaluate=seconds_evaluate,
        seconds_score=seconds_score,
        seconds_select=watch.lap(),
        features=table,
        pseudo=pseudo,
        pseudo_report=report,
        mean_pool_entropy=pool.mean_entropy,
    )


@dataclass(frozen=True)
class Taken:
    """What a pair taught in its last epoch of co-training, and all epochs as plain JSON values."""

    labels: PseudoLabels
    epochs: tuple[Mapping[str, Any], ...]


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
        judged_rows = (snapshot.test_rows, snapshot.validation_rows)
        unseen_rows = np.setdiff1d(snapshot.pseudo.rows, snapshot.candidate_rows, assume_unique=True)
        rows = np.concatenate([snapshot.labelled_rows, snapshot.candidate_rows, *judged_rows, unseen_rows])
        report, images_NHWC = self._report_images(Stage.READING), snapshot.images_NHWC
        inputs, table = read_features(network.eval(), images_NHWC, rows, self.device, known=known, progress=report)
        fitting = Pick(pick.name, {**pick.parameters, "augment": False})
        return replace(self, inputs=inputs, recipe=replace(self.recipe, fitting=fitting)), table

    def fit(
        self, networks: tuple[Network, ...], starts: tuple[Start, ...], deadline: float | None, on_pair: OnPairEpoch
    ) -> tuple[FitReport, Taken | None]:
        """Fit every network, each within its part of the time, and let a pair teach each other.

        Returns:
            the report of the first network; and what the pair taught, None if the recipe has none.
        """
        lessons, reports = self.lessons(len(networks)), list[FitReport]()
        is_pair = PSEUDO_LABELERS.get(self.recipe.pseudo_labeler.name).teaches_pair
        parts = len(networks) + is_pair
        for member, (network, start) in enumerate(zip(networks, starts, strict=True)):
            POSTERIORS.get(self.recipe.posterior.name).check(network, self.recipe.posterior.parameters)
            now = time.monotonic()
            own_deadline = None if deadline is None else now + (deadline - now) / (parts - member)
            report = self._fit_member(member, network, lessons[member], own_deadline)
            reports.append(replace(report, started_from=start))
        return reports[0], self.co_train(networks, lessons, deadline, on_pair) if is_pair else None

    def _fit_member(self, member: int, network: Network, data: TrainingSet, deadline: float | None) -> FitReport:
        pick = self.recipe.fitting
        epochs = pick.integer("epochs")

        def on_epoch(epoch: EpochReport) -> None:
            done, accuracy = member * epochs + epoch.epoch, epoch.validation_accuracy
            self.progress(Progress(Stage.FITTING, done, self._epochs, epoch.loss, accuracy))

        fit, generator = FITTINGS.get(pick.name), self._seeded_member("fitting", member)
        return fit(
            network,
            data,
            pick,
            generator,
            device=self.device,
            deadline=deadline,
            on_epoch=on_epoch,
            validation=self.validation,
        )

    def co_train(
        self, networks: tuple[Network, ...], lessons: tuple[TrainingSet, ...], deadline: float | None, tell: OnPairEpoch
    ) -> Taken:
        """Let a pair that was fitted teach each other; what fitting kept aside stays aside."""
        pick, fitting = self.recipe.pseudo_labeler, self.recipe.fitting
        along, told = list[TrainingSet](), list[Mapping[str, Any]]()
        for member, data in enumerate(lessons):
            shown, _ = split(data, fitting.number("validation_share"), self._seeded_member("fitting", member))
            along.append(data.at(shown.to(self.device)))
        pupils = [
            Pupil(network, data, self._seeded_member("co-training", member))
            for member, (network, data) in enumerate(zip(networks, along, strict=True))
        ]

        def on_epoch(epoch: PairEpoch) -> None:
            told.append(epoch.as_json())
            tell(epoch)
            if epoch.epoch:
                done = self._epochs - pick.integer("epochs") + epoch.epoch
                self.progress(Progress(Stage.FITTING, done, self._epochs, epoch.loss))

        first, second = pupils
        last = co_train(
            (first, second),
            self.inputs,
            self.snapshot.candidate_rows,
            pick,
            fitting,
            device=self.device,
            deadline=deadline,
            on_epoch=on_epoch,
        )
        return Taken(last.taken[0].joined(last.taken[1]), tuple(told))

    @property
    def _epochs(self) -> int:
        """Return how many epochs all networks take at most."""
        pick = self.recipe.pseudo_labeler
        own = members_wanted(self.recipe.posterior.parameters) * self.recipe.fitting.integer("epochs")
        return own + (pick.integer("epochs") if PSEUDO_LABELERS.get(pick.name).teaches_pair else 0)

    @cached_property
    def is_held_out(self) -> np.ndarray:
        """Say which labelled images no network is shown, so that its pseudo-labels can be judged by them."""
        snapshot = self.snapshot
        return hold_out(self.recipe, snapshot.labelled_rows, snapshot.is_drawn_N, len(snapshot.images_NHWC))

    def labelled(self) -> TrainingSet:
        """Return what people labelled and networks may see; held-out images are to them like any of the pool."""
        snapshot, is_shown = self.snapshot, ~self.is_held_out
        labels_N = torch.from_numpy(snapshot.labels[is_shown]).to(self.device)
        open_rows = np.concatenate([snapshot.candidate_rows, snapshot.labelled_rows[~is_shown]])
        pool = ImageRows(self.inputs, open_rows, self.device)
        images_NHWC = take(self.inputs, snapshot.labelled_rows[is_shown], self.device)
        return TrainingSet(images_NHWC, labels_N, unlabelled=pool)

    def taught(self) -> TrainingSet:
        """Return what networks are fitted to: the labels of people, and those of earlier models."""
        pseudo, weight = self.snapshot.pseudo, float(self.recipe.pseudo_labeler.parameters.get("weight", 0.0))
        if not len(pseudo) or not weight:
            return self.labelled()
        labels_N = torch.from_numpy(pseudo.labels).to(self.device)
        return self.labelled().joined(TrainingSet(take(self.inputs, pseudo.rows, self.device), labels_N), weight)

    @cached_property
    def validation(self) -> TrainingSet | None:
        """Return the images that fits look at and are never shown; None where labels are kept aside for it, if any."""
        rows = self.snapshot.validation_rows
        if not len(rows):
            return None
        labels_N = torch.from_numpy(self.snapshot.validation_labels).to(self.device)
        return TrainingSet(take(self.inputs, rows, self.device), labels_N)

    def lessons(self, members: int) -> tuple[TrainingSet, ...]:
        """Return what each network is fitted to: all to the same or, for co-training, each to labels of its own."""
        if not PSEUDO_LABELERS.get(self.recipe.pseudo_labeler.name).teaches_pair:
            return (self.taught(),) * members
        data = self.labelled()
        if len(data) < members:
            raise RecipeError("pseudo_labeler", "co_training divides the labels, and there is but one", "label more")
        # Labels are dealt out alike in all rounds; as they become more, an image may still change sides.
        halves = halve(data.labels_N.cpu(), seeded(self.recipe.seed, "halves"))
        return tuple(data.at(half.to(self.device)) for half in halves)

    def posterior(self, networks: tuple[Network, ...]) -> Posterior:
        """Make the posterior; only labels of people say how far they pin the weights down."""
        pick, data = self.recipe.posterior, self.labelled()
        # Fittings split first of all, so the same generator and share keep the same labels aside.
        _, kept_aside = split(data, self.recipe.fitting.number("validation_share"), self._seeded("fitting"))
        validation = self.validation or data.at(kept_aside.to(self.device))
        generator, is_joint = self._seeded("posterior"), SELECTIONS.get(self.recipe.selection.name).needs_samples
        fitted = Fitted(networks[0], pick.parameters, generator, data, validation, networks[1:], is_joint)
        return POSTERIORS.get(pick.name)(fitted)

    def evaluate(self, posterior: Posterior) -> Evaluation | None:
        rows = self.snapshot.test_rows
        if not len(rows):
            return None
        report = self._report_images(Stage.EVALUATING)
        chunks = read_chunks(posterior, self.inputs, rows, self.device, report)
        log_probs_NC = torch.cat([reading.mean_log_probs_NC.cpu() for _, reading in chunks])
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
            keep_guesses=PSEUDO_LABELERS.get(self.recipe.pseudo_labeler.name).reads_pool,
            progress=self._report_images(Stage.SCORING),
        )

    def rank(self, posterior: Posterior, pool: PoolScores, count: int, neighbours: int, clusters: int) -> Ranking:
        ranking = rank_by_scores(
            self.recipe,
            self.inputs,
            self.snapshot.candidate_rows,
            Known(posterior, self.device, pool, self.snapshot.labelled_rows, self.snapshot.class_count),
            count=count,
            round_number=self.number,
            neighbours=neighbours,
            clusters=clusters,
        )
        self.progress(Progress(Stage.SELECTING, len(ranking.rows), len(ranking.rows)))
        return ranking

    def label_pool(
        self, posterior: Posterior, pool: PoolScores, ranking: Ranking
    ) -> tuple[PseudoLabels | None, Mapping[str, Any]]:
        """Let the pseudo-labeler decide, now that it is known who is asked about what."""
        snapshot, recipe, is_held_out = self.snapshot, self.recipe, self.is_held_out
        if not PSEUDO_LABELERS.get(recipe.pseudo_labeler.name).reads_pool:
            return None, {}
        rows, labels = snapshot.labelled_rows[is_held_out], snapshot.labels[is_held_out]
        return label_pool(
            recipe,
            snapshot.candidate_rows,
            pool,
            judge(posterior, self.inputs, rows, labels, self.device),
            standing=snapshot.pseudo,
            asked=ranking.rows[: 0 if snapshot.is_spent else recipe.batch_size],
            is_spent=snapshot.is_spent,
            knows_draws=snapshot.is_drawn_N is not None,
        )

    def keep(self, taken: Taken, ranking: Ranking) -> tuple[PseudoLabels, Mapping[str, Any]]:
        """Return what a pair taught last, but for what people are asked about; nothing of earlier rounds stands."""
        pick, snapshot = self.recipe.pseudo_labeler, self.snapshot
        asked = ranking.rows[: 0 if snapshot.is_spent else self.recipe.batch_size]
        pseudo = taken.labels.at(~np.isin(taken.labels.rows, asked))
        counts = count_changes(snapshot.pseudo, pseudo)
        return pseudo, {"rule": pick.name, **pick.parameters, "pair": list(taken.epochs), **counts}

    def label_nothing(self) -> tuple[PseudoLabels | None, Mapping[str, Any]]:
        """Without a network there is nobody to label, nor to stand for what earlier ones said."""
        if not PSEUDO_LABELERS.get(self.recipe.pseudo_labeler.name).gives_labels:
            return None, {}
        nothing, pick = PseudoLabels.none(), self.recipe.pseudo_labeler
        counts = count_changes(self.snapshot.pseudo, nothing)
        return nothing, {"rule": pick.name, "reason": "there is no network yet", **counts}

    def draw(self, count: int, clusters: int) -> tuple[Ranking, np.ndarray]:
        images_NHWC, candidates = self.snapshot.images_NHWC, self.snapshot.candidate_rows
        ranking, scores = rank_cold(
            self.recipe, images_NHWC, candidates, count=count, round_number=self.number, clusters=clusters
        )
        self.progress(Progress(Stage.SELECTING, len(ranking.rows), len(ranking.rows)))
        return ranking, scores

    def _seeded(self, stage: str) -> torch.Generator:
        return seeded(self.recipe.seed, self.number, stage)

    def _seeded_member(self, stage: str, member: int) -> torch.Generator:
        """Seed a member's stage; the first member is the network that would be fitted alone."""
        return seeded(self.recipe.seed, self.number, stage, member) if member else self._seeded(stage)

    def _report_images(self, stage: Stage) -> Callable[[int, int], None]:
        return lambda done, total: self.progress(Progress(stage, done, total))
