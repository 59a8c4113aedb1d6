"""ask by cluster."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("queries", sa.Column("cluster", sa.Integer(), nullable=True))  # empty: asked by class, or one by one
    op.create_check_constraint(op.f("ck_queries_clusters_count_from_one"), "queries", "cluster >= 1")
    op.create_index(
        "ix_queries_clustered",
        "queries",
        ["project_id", "cluster", "reserve", "rank", "id"],
        unique=False,
        postgresql_where="open_answers > 0 AND cluster IS NOT NULL",
    )
    op.add_column("annotations", sa.Column("in_cluster", sa.Boolean(), server_default=sa.text("false"), nullable=False))


def downgrade() -> None:
    op.drop_column("annotations", "in_cluster")
    op.drop_index("ix_queries_clustered", table_name="queries")
    op.drop_constraint(op.f("ck_queries_clusters_count_from_one"), "queries", type_="check")
    op.drop_column("queries", "cluster")
