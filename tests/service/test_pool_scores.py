"""The scores of a whole pool as the web process reads them: sorted, thinned out, or told as damaged."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.database import Database
from app.errors import BadInput, NotFound
from app.services.reporting.pool_scores import POINTS, latest_pool_scores, read_scores
from app.settings import Settings
from app.storage import Storage
from tests.factories import make_project, make_round
from worker.rounds import _score_file


@given(st.lists(st.floats(-1e6, 1e6, width=32), max_size=50))
def test_what_the_worker_wrote_is_read_without_numpy(scores: list[float]) -> None:
    data = _score_file(list(range(len(scores))), np.array(scores, np.float32))
    assert read_scores(data).tolist() == scores


@pytest.mark.parametrize("count", [0, 1, 2, POINTS, 1234])
def test_the_latest_round_is_shown_from_the_highest_score_to_the_lowest(
    settings: Settings, database: Database, count: int
) -> None:
    storage = Storage(settings.storage)
    scores = np.random.default_rng(count).normal(size=count).astype(np.float32)
    with database.transaction() as session:
        project = make_project(session, 60)
        assert latest_pool_scores(session, storage, project.id) is None
        make_round(session, project).scores_hash = storage.put(_score_file([0], np.zeros(1, np.float32)))
        make_round(session, project, first_row=30).scores_hash = storage.put(_score_file(list(range(count)), scores))
        session.flush()
        found = latest_pool_scores(session, storage, project.id)
    assert found is not None
    assert (found.number, found.acquisition, found.images) == (1, "margin", count)
    ordered = np.sort(scores)[::-1]
    assert len(found.ranks) == min(count, POINTS) == len(found.scores)
    assert [ordered[rank - 1] for rank in found.ranks] == list(found.scores)
    if count:
        assert (found.ranks[0], found.ranks[-1]) == (1, count)


def test_a_damaged_or_missing_file_is_told(settings: Settings, database: Database) -> None:
    storage = Storage(settings.storage)
    with database.transaction() as session:
        project = make_project(session, 60)
        made = make_round(session, project)
        made.scores_hash = storage.put(b"no archive")
        session.flush()
        with pytest.raises(BadInput, match="their file is damaged; run another round"):
            latest_pool_scores(session, storage, project.id)
        made.scores_hash = "0" * 64
        session.flush()
        with pytest.raises(NotFound):
            latest_pool_scores(session, storage, project.id)


@pytest.mark.parametrize(
    "arrays",
    [
        {"rows": np.zeros(3, np.float32)},
        {"scores": np.zeros(3)},
        {"scores": np.zeros((3, 1), np.float32)},
        {"scores": np.array([{"evil": 1}], object)},
    ],
)
def test_other_arrays_are_refused(arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with pytest.raises(BadInput, match="damaged"):
        read_scores(buffer.getvalue())
