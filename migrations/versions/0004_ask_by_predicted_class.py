"""ask by predicted class."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# what is open already gets its place too; the previous release leaves both columns empty, which asks one by one
FILL = """
    UPDATE queries
    SET predicted_class_id = (parts -> 'top' -> 0 ->> 0)::integer,
        confidence = least(1.0, (parts -> 'top' -> 0 ->> 1)::double precision)
    WHERE closed_at IS NULL AND source = 'acquisition' AND jsonb_array_length(parts -> 'top') > 0
"""


def upgrade() -> None:
    op.add_column("queries", sa.Column("predicted_class_id", sa.Integer(), nullable=True))
    op.add_column("queries", sa.Column("confidence", sa.Double(), nullable=True))
    op.execute(FILL)
    op.create_check_constraint(
        op.f("ck_queries_prediction_is_whole"), "queries", "(predicted_class_id IS NULL) = (confidence IS NULL)"
    )
    op.create_check_constraint(op.f("ck_queries_confidence_is_a_chance"), "queries", "confidence BETWEEN 0 AND 1")
    op.create_index(
        "ix_queries_predicted",
        "queries",
        ["project_id", "predicted_class_id", "reserve", sa.literal_column("confidence DESC"), "id"],
        unique=False,
        postgresql_where="open_answers > 0 AND predicted_class_id IS NOT NULL",
    )


def downgrade() -> None:
    op.drop_index("ix_queries_predicted", table_name="queries")
    op.drop_constraint(op.f("ck_queries_confidence_is_a_chance"), "queries", type_="check")
    op.drop_constraint(op.f("ck_queries_prediction_is_whole"), "queries", type_="check")
    op.drop_column("queries", "confidence")
    op.drop_column("queries", "predicted_class_id")
