"""One round: snapshot in, learning, results out. Database ids become array rows here and nowhere else.

No transaction is open while the network learns. A round that is cut off anywhere leaves nothing half-written: its row
still says that it runs, the sweep finds it without a holder, and it runs again from a new snapshot.
"""

from __future__ import annotations

import io
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from app.database import Database
from app.errors import QuerentError
from app.recipes import Recipe, parse_recipe
from app.records import TYPICAL, Image, QuerySource, Round
from app.services import projects, rounds, snapshots, weighing
from app.services.ledger import Entries, Proposal
from app.services.locks import lock_project
from app.services.rounds import FittedModel, RankedImage, RoundResult
from app.services.snapshots import SnapshotRows
from app.settings import DeviceChoice, Settings
from app.storage import Storage
from worker.arrays import PoolArrays, channels_of, hashes_by_row, read_table, shorter_side_of, write_table
from worker.exclusive import exclusively
from worker.learning.evaluation import Evaluation
from worker.learning.learner import Progress, Snapshot, StepResult, step
from worker.learning.pseudo_labelers import PseudoLabels
from worker.learning.ranking import Ranking

log = logging.getLogger(__name__)

REPORT_SECONDS = 0.25
SPARE_RANKS = 64  # ranked beyond batch and reserve, for images that are answered while the network learns
NEIGHBOURS = 5  # labelled images that are kept with each query as the ones most like it


@dataclass(frozen=True)
class _Work:
    """A round that has begun, as plain values that outlive the transaction."""

    round_id: int
    attempt: int
    project_id: int
    number: int
    recipe: Recipe
    overlap: int
    rows: SnapshotRows
    hashes: list[str]
    channels: int
    array_path: Path
    parent_id: int | None
    parent_hash: str | None


class RoundRunner:
    """Runs the open round of a project, if there is one and nobody else runs it."""

    def __init__(self, database: Database, storage: Storage, settings: Settings) -> None:
        self._database = database
        self._storage = storage
        self._settings = settings
        self._arrays = PoolArrays(settings.cache / "arrays", storage)

    def run(self, project_id: int) -> None:
        """Run the project's open round to its end; return at once if there is none or it is being run."""
        with exclusively(self._database.engine, lock_name(project_id)) as held:
            if held:
                self._weigh(project_id)
            work = self._begin(project_id) if held else None
            if work is None:
                return
            try:
                result = self._learn(work)
            except OperationalError:
                raise  # Postgres went away: the round is still open, and the sweep has it run again
            except QuerentError as error:
                self._fail(work, str(error))
            except Exception as error:
                self._fail(work, f"{type(error).__name__}: {error}")
                raise
            else:
                self._finish(work, result)

    def _weigh(self, project_id: int) -> None:
        """Make the labels of images with several answers anew before they are read."""
        with self._database.transaction() as session:
            if not rounds.is_open(session, project_id):
                return
            weighable = weighing.read(session, project_id)
        for part in weighing.batches(weighing.weigh(weighable)):
            with self._database.transaction() as session:
                weighing.apply(session, project_id, part)
                session.commit()

    def _begin(self, project_id: int) -> _Work | None:
        with self._database.transaction() as session:
            begun = rounds.begin(session, lock_project(session, project_id))
            session.commit()  # also if there is none: a round that was cut off too often has just been ended
        work = None if begun is None else self._read(project_id, begun)
        if work is None:
            return None
        with self._database.transaction() as session:
            lock_project(session, project_id)
            is_ours = rounds.keep_snapshot(session, work.round_id, work.attempt, work.rows)
            session.commit()
        return work if is_ours else None

    def _read(self, project_id: int, begun: Round) -> _Work:
        """Read everything as it is at one moment, without a lock: with a million images people would wait seconds."""
        with self._database.unchanging() as session:
            project = projects.get(session, project_id)
            recipe = parse_recipe(project.recipe)
            if not recipe.image_side:  # else the median of a million images would be read for nothing
                recipe = recipe.for_images(shorter_side_of(session, project_id))
            class_ids = [known.id for known in projects.classes_of(session, project_id)]
            channels = channels_of(session, project_id)
            parent = rounds.latest_model(session, project_id)
            return _Work(
                round_id=begun.id,
                attempt=begun.attempt,
                project_id=project_id,
                number=begun.number,
                recipe=recipe,
                overlap=project.overlap,
                rows=snapshots.read_snapshot(session, project, class_ids, with_ledger=recipe.labels_by_itself),
                hashes=hashes_by_row(session, project_id),
                channels=channels,
                array_path=self._arrays.path(project, recipe.image_side, channels),
                parent_id=None if parent is None else parent.id,
                parent_hash=None if parent is None else parent.weights_hash,
            )

    def _learn(self, work: _Work) -> RoundResult:
        reporter = _Reporter(self._database, work)
        started = time.monotonic()
        images_NHWC = self._arrays.extend(
            work.array_path, work.recipe.image_side, work.channels, work.hashes, reporter.decoded
        )
        seconds_decode = time.monotonic() - started
        parent = self._storage.get(work.parent_hash) if work.parent_hash else None
        batch_size = work.recipe.batch_size if work.rows.labelled else work.recipe.seed_set
        device = self._settings.device
        is_frozen = work.recipe.fitting.parameters.get("trunk") == "frozen"
        features = read_table(work.array_path) if is_frozen else None
        result = step(
            work.recipe,
            _snapshot(images_NHWC, work.rows),
            count=3 * batch_size + SPARE_RANKS,
            round_number=work.number,
            parent=parent,
            features=features,
            progress=reporter.learned,
            deadline=time.monotonic() + self._settings.fit_seconds,
            device=None if device is DeviceChoice.AUTO else device.value,
            neighbours=NEIGHBOURS,
            with_clusters=True,
        )
        if result.features is not None:
            write_table(work.array_path, result.features)
        return self._result(work, result, batch_size, seconds_decode)

    def _result(self, work: _Work, result: StepResult, batch_size: int, seconds_decode: float) -> RoundResult:
        model = None
        if result.weights is not None:
            model = FittedModel(
                weights_hash=self._storage.put(result.weights),
                network={**work.recipe.network.as_json(), "channels": work.channels, "side": work.recipe.image_side},
                classes=work.rows.class_ids,
                parent_id=work.parent_id,
            )
        return RoundResult(
            ranking=self._ranked_images(work, result.ranking),
            batch_size=batch_size,
            timings={
                "seconds_decode": seconds_decode,
                "seconds_fit": result.seconds_fit,
                "seconds_evaluate": result.seconds_evaluate,
                "seconds_score": result.seconds_score,
                "seconds_select": result.seconds_select,
            },
            metrics=_metrics(result),
            model=model,
            scores_hash=self._storage.put(_score_file(work.rows.candidates, result.scores)),
            proposal=_proposal(work, result.pseudo),
            pseudo_report={"learned_from": len(work.rows.pseudo), **result.pseudo_report},
        )

    def _ranked_images(self, work: _Work, ranking: Ranking) -> list[RankedImage]:
        wanted = [int(row) for row in ranking.rows] + work.rows.unlabelled_test
        if ranking.neighbours is not None:
            wanted += np.unique(ranking.neighbours.rows).tolist()
        class_of = dict(work.rows.labelled)
        with self._database.transaction() as session:
            of_rows = select(Image.row, Image.id).where(Image.project_id == work.project_id, Image.row.in_(wanted))
            id_of = dict(session.execute(of_rows).all())
        ranked = [
            RankedImage(
                image_id=id_of[int(row)],
                source=_source(work, ranking, rank),
                score=float(ranking.scores[rank]),
                propensity=None if ranking.propensities is None else float(ranking.propensities[rank]),
                parts=_parts(ranking, rank, work.rows.class_ids) | _neighbours(ranking, rank, id_of, class_of),
                **_prediction(ranking, rank, work.rows.class_ids),
                cluster=None if ranking.clusters is None else int(ranking.clusters[rank]) or None,
            )
            for rank, row in enumerate(ranking.rows)
        ]
        return ranked + [RankedImage(id_of[row], QuerySource.TEST) for row in work.rows.unlabelled_test]

    def _finish(self, work: _Work, result: RoundResult) -> None:
        with self._database.transaction() as session:
            if not rounds.finish(session, work.round_id, work.attempt, result):
                log.warning("round %s was taken over by another attempt; this result is dropped", work.round_id)
            session.commit()

    def _fail(self, work: _Work, reason: str) -> None:
        with self._database.transaction() as session:
            rounds.fail(session, work.round_id, work.attempt, reason)
            session.commit()


class _Reporter:
    """Keeps and publishes progress, a few times a second at most."""

    def __init__(self, database: Database, work: _Work) -> None:
        self._database = database
        self._work = work
        self._stage = ""
        self._next = 0.0

    def decoded(self, done: int, total: int) -> None:
        """Report images decoded into the array."""
        self._report({"stage": "decoding", "done": done, "total": total})

    def learned(self, progress: Progress) -> None:
        """Report what the learner does."""
        self._report({**asdict(progress), "stage": progress.stage.value})

    def _report(self, progress: dict[str, Any]) -> None:
        now = time.monotonic()
        if progress["stage"] == self._stage and now < self._next:
            return
        self._stage, self._next = progress["stage"], now + REPORT_SECONDS
        with self._database.transaction() as session:
            rounds.report(session, self._work.round_id, self._work.attempt, progress)
            session.commit()


def lock_name(project_id: int) -> str:
    """Return the name of the lock that is held while a project's round runs."""
    return f"round {project_id}"


def _snapshot(images_NHWC: np.ndarray, rows: SnapshotRows) -> Snapshot:
    index_of = {class_id: index for index, class_id in enumerate(rows.class_ids)}
    return Snapshot(
        images_NHWC=images_NHWC,
        class_count=len(rows.class_ids),
        labelled_rows=_int64(row for row, _ in rows.labelled),
        labels=_int64(index_of[class_id] for _, class_id in rows.labelled),
        candidate_rows=_int64(rows.candidates),
        test_rows=_int64(row for row, _ in rows.test),
        test_labels=_int64(index_of[class_id] for _, class_id in rows.test),
        pseudo=PseudoLabels(
            _int64(rows.pseudo.rows),
            _int64(index_of[class_id] for class_id in rows.pseudo.class_ids),
            np.asarray(rows.pseudo.confidences, np.float32),
        ),
        is_drawn_N=np.array([row in rows.drawn for row, _ in rows.labelled], bool),
        is_spent=rows.is_spent,
    )


def _proposal(work: _Work, pseudo: PseudoLabels | None) -> Proposal:
    """Return what shall stand in the ledger: nothing after a round without a network."""
    if not work.recipe.labels_by_itself:
        return Proposal()
    said = PseudoLabels.none() if pseudo is None else pseudo
    class_ids = [work.rows.class_ids[index] for index in said.labels.tolist()]
    confidences = np.clip(said.confidences, 0.0, 1.0)  # rounding may leave a sum of chances just above 1
    entries = Entries(said.rows.tolist(), class_ids, confidences.tolist())
    return Proposal(work.recipe.pseudo_labeler.name, entries)


def _int64(values: Any) -> np.ndarray:
    return np.fromiter(values, np.int64)


def _source(work: _Work, ranking: Ranking, rank: int) -> QuerySource:
    if not work.rows.labelled:
        return QuerySource.SEED
    return QuerySource.RANDOM if ranking.is_random[rank] else QuerySource.ACQUISITION


def _chosen_by(ranking: Ranking, rank: int) -> str:
    """Return what chose a row: a uniform draw, being typical of a cluster, an acquisition or a selection."""
    if ranking.is_random[rank]:
        return "random"
    return TYPICAL if ranking.is_typical[rank] else ranking.chosen_by


def _parts(ranking: Ranking, rank: int, class_ids: list[int]) -> dict[str, Any]:
    """Return what is kept about one query for ever: why it was asked, and the two likeliest classes."""
    parts: dict[str, Any] = {"acquisition": _chosen_by(ranking, rank)}
    parts |= {name: float(values[rank]) for name, values in ranking.parts.items()}
    if ranking.top_classes is not None and ranking.top_probs is not None:
        top = zip(ranking.top_classes[rank], ranking.top_probs[rank], strict=True)
        parts["top"] = [[class_ids[int(index)], round(float(chance), 6)] for index, chance in top]
    return parts


def _prediction(ranking: Ranking, rank: int, class_ids: list[int]) -> dict[str, Any]:
    """Return the likeliest class of what the strategy chose; a fair sample is answered without having seen it."""
    if ranking.top_classes is None or ranking.top_probs is None or ranking.is_random[rank]:
        return {}
    chance = min(1.0, float(ranking.top_probs[rank, 0]))  # rounding may leave it just above 1
    return {"predicted_class_id": class_ids[int(ranking.top_classes[rank, 0])], "confidence": chance}


def _neighbours(ranking: Ranking, rank: int, id_of: dict[int, int], class_of: dict[int, int]) -> dict[str, Any]:
    """Return the labelled images most like one that is asked about: their ids, their classes then, their similarity."""
    near = ranking.neighbours
    if near is None:
        return {}
    pairs = zip(near.rows[rank].tolist(), near.similarities[rank].tolist(), strict=True)
    return {"neighbours": [[id_of[row], class_of[row], round(similarity, 4)] for row, similarity in pairs]}


def _metrics(result: StepResult) -> dict[str, Any] | None:
    if result.fit is None:
        return None
    fitted = {
        "epochs": len(result.fit.epochs),
        "best_epoch": result.fit.best_epoch,
        "stopped_by": result.fit.stopped_by.value,
        "validation_accuracy": result.fit.validation_accuracy,
        "mean_pool_entropy": result.mean_pool_entropy,
    }
    return fitted | ({} if result.evaluation is None else _tested(result.evaluation))


def _tested(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "test_images": evaluation.count,
        "test_accuracy": evaluation.accuracy,
        "test_accuracy_low": evaluation.accuracy_low,
        "test_accuracy_high": evaluation.accuracy_high,
        "test_nll": evaluation.nll,
        "test_ece": evaluation.ece,
        "test_brier": evaluation.brier,
        "test_macro_f1": evaluation.macro_f1,
        "test_roc_auc": evaluation.roc_auc,
        "mean_entropy": evaluation.mean_entropy,
        "per_class_accuracy": list(evaluation.recalls),
        "per_class_precision": list(evaluation.precisions),
        "per_class_f1": list(evaluation.f1s),
        "per_class_roc_auc": list(evaluation.roc_aucs),
        "confusion": [list(row) for row in evaluation.confusion],
    }


def _score_file(rows: list[int], scores: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, rows=np.asarray(rows, np.int64), scores=scores.astype(np.float32))
    return buffer.getvalue()
