"""From the last answer of a batch to the next batch of the new model, on digits, beside the bare learning step."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from app import embedded
from app.database import Database, upgrade
from app.events import Bus
from app.recipes import parse_recipe
from app.services import projects, snapshots
from app.settings import Settings, load_settings
from tests.factories import make_user
from tests.waiting import until
from tests.worker.conftest import Worker
from tests.worker.test_loop import Watch, label_batch, make_digits
from worker.learning.learner import Snapshot, step
from worker.pictures import as_array, decode

ROUNDS = 9
BATCH = 20
SECONDS = 300


def figures() -> dict[str, float]:
    """Return seconds, medians over the rounds with 20 to 180 labels."""
    with TemporaryDirectory() as folder, embedded.servers(load_settings(home=Path(folder) / "home")) as settings:
        upgrade(str(settings.database_url))
        bus = Bus(str(settings.redis_url))
        database = Database(str(settings.database_url), bus.deliver)
        worker = Worker(settings, settings.home / "worker.log")
        try:
            return _measure(settings, database)
        finally:
            worker.kill()
            database.close()
            bus.close()


def _measure(settings: Settings, database: Database) -> dict[str, float]:
    watch = make_digits(database, budget=400)
    with database.transaction() as session:
        user = make_user(session).id
        session.commit()
    until(lambda: watch.done(0), SECONDS, "the seed set is chosen")
    waited, learned = [], []
    for number in range(1, ROUNDS + 1):
        label_batch(watch, user, BATCH)
        began = time.perf_counter()
        until(lambda number=number: watch.done(number), SECONDS, "the next batch")  # type: ignore[misc]
        waited.append(time.perf_counter() - began)
        learned.append(_bare_step(settings, watch, number))
    return {
        "last_answer_to_next_batch_s": statistics.median(waited),
        "last_answer_to_next_batch_slowest_s": max(waited),
        "bare_step_s": statistics.median(learned),
        "loop_overhead_ratio": statistics.median(waited) / statistics.median(learned),
    }


def _bare_step(settings: Settings, watch: Watch, number: int) -> float:
    """Time the same learning on the same labels in this process, without database, queue or storage."""
    from app.storage import Storage
    from worker.arrays import hashes_by_row, shorter_side_of

    storage = Storage(settings.storage)
    with watch.database.transaction() as session:
        project = projects.get(session, watch.project_id)
        recipe = parse_recipe(project.recipe).for_images(shorter_side_of(session, watch.project_id))
        class_ids = [known.id for known in projects.classes_of(session, watch.project_id)]
        rows = snapshots.read_snapshot(session, project, class_ids)
        hashes = hashes_by_row(session, watch.project_id)
    side = recipe.image_side
    images: Any = np.stack([as_array(decode(storage.get(name)), side, 1) for name in hashes])
    index = {class_id: position for position, class_id in enumerate(class_ids)}
    snapshot = Snapshot(
        images,
        len(class_ids),
        np.array([row for row, _ in rows.labelled]),
        np.array([index[class_id] for _, class_id in rows.labelled]),
        np.array(rows.candidates),
        np.array([row for row, _ in rows.test]),
        np.array([index[class_id] for _, class_id in rows.test]),
    )
    began = time.perf_counter()
    step(recipe, snapshot, count=3 * BATCH + 64, round_number=number)
    return time.perf_counter() - began
