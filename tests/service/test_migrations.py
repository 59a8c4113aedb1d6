"""Migrations of a database that has rows: what they make of them."""

from __future__ import annotations

import json

from alembic import command
from sqlalchemy import Connection, create_engine, text

from app.database import alembic_config
from app.settings import Settings
from tests.conftest import fresh_database


def test_open_queries_of_the_release_before_get_their_place_in_the_grid(servers: Settings) -> None:
    with fresh_database(str(servers.database_url)) as url:
        command.upgrade(alembic_config(url), "0001")
        engine = create_engine(url)
        with engine.begin() as connection:
            class_id = _project_with_a_class(connection)
            believed = {"acquisition": "entropy", "top": [[class_id, 0.75], [class_id + 1, 0.25]]}
            _query(connection, 1, "acquisition", believed)
            _query(connection, 2, "acquisition", {"acquisition": "entropy", "top": [[class_id, 1.0000001]]})
            _query(connection, 3, "acquisition", {"acquisition": "random"})
            _query(connection, 4, "random", believed)
            _query(connection, 5, "acquisition", believed, closed=True)
        command.upgrade(alembic_config(url), "head")
        with engine.connect() as connection:
            found = connection.execute(text("SELECT predicted_class_id, confidence FROM queries ORDER BY rank")).all()
        engine.dispose()
    assert found == [(class_id, 0.75), (class_id, 1.0), (None, None), (None, None), (None, None)]


def _project_with_a_class(connection: Connection) -> int:
    project = connection.scalar(
        text(
            "INSERT INTO projects (name, description, state, oracle, oracle_noise, recipe, budget, overlap,"
            " labels_used, image_count, classes_version, action_keys, reasons_shown)"
            " VALUES ('p', '', 'running', 'human', 0, '{}', 9, 1, 0, 5, 1, '{}', 'when alone') RETURNING id"
        )
    )
    connection.execute(
        text(
            "INSERT INTO rounds (project_id, number, state, reason, attempt, finished_at)"
            " VALUES (:project, 0, 'done', 'first queries', 1, now())"
        ),
        {"project": project},
    )
    made = text("INSERT INTO classes (project_id, name, position) VALUES (:project, 'a', 0) RETURNING id")
    return int(connection.scalar(made, {"project": project}) or 0)


def _query(connection: Connection, rank: int, source: str, parts: object, *, closed: bool = False) -> None:
    image = text(
        "INSERT INTO images (project_id, row, content_hash, name, width, height, grey, split, has_human_label)"
        " SELECT id, :rank, lpad(CAST(:rank AS text), 64, '0'), 'x', 8, 8, true, 'pool', false FROM projects"
        " RETURNING id"
    )
    query = text(
        "INSERT INTO queries (project_id, round_id, image_id, rank, source, reserve, parts, wanted_answers,"
        " open_answers, closed_at) SELECT project_id, id, :image, :rank, :source, false, CAST(:parts AS jsonb), 1,"
        " :open, CASE WHEN :open = 0 THEN now() END FROM rounds"
    )
    image_id = connection.scalar(image, {"rank": rank})
    values = {"image": image_id, "rank": rank, "source": source, "parts": json.dumps(parts), "open": 0 if closed else 1}
    connection.execute(query, values)
