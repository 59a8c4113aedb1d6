"""measure quality while labeling."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SOURCES = ("seed", "acquisition", "random", "test", "audit")
LABEL_RULES = ("majority", "annotator model", "review")


def upgrade() -> None:
    _set_sources((*SOURCES, "review", "gold", "repeat"))
    op.drop_constraint("uq_queries_round_id_rank", "queries", type_="unique")
    op.create_index(
        "uq_queries_rank",
        "queries",
        ["round_id", "rank"],
        unique=True,
        postgresql_where="source NOT IN ('gold', 'repeat')",
    )
    _set_ranked_once("source NOT IN ('audit', 'review', 'gold', 'repeat')")
    _set_one_open("closed_at IS NULL AND source NOT IN ('gold', 'repeat')")
    op.add_column("leases", _flag("is_check"))

    op.add_column("annotations", _flag("is_check"))
    op.create_check_constraint("check_never_counts", "annotations", "NOT (is_check AND counted)")
    op.create_index(
        "uq_annotations_one_check",
        "annotations",
        ["query_id", "user_id"],
        unique=True,
        postgresql_where="revoked_at IS NULL AND is_check",
    )
    op.create_index(
        "ix_annotations_checks", "annotations", ["project_id", "user_id", "id"], postgresql_where="is_check"
    )

    op.add_column("images", sa.Column("label_rule", _words("labelrule", LABEL_RULES), nullable=True))
    op.add_column("images", sa.Column("label_certainty", sa.Double(), nullable=True))
    reasons = ("unsure", "no majority", "uncertain")
    op.add_column("images", sa.Column("review_reason", _words("reviewreason", reasons), nullable=True))
    op.add_column("images", sa.Column("gold_class_id", sa.Integer(), nullable=True))
    op.create_foreign_key(
        op.f("fk_images_project_id_gold_class_id"),
        "images",
        "classes",
        ["project_id", "gold_class_id"],
        ["project_id", "id"],
    )
    op.create_check_constraint("certainty_is_a_chance", "images", "label_certainty BETWEEN 0 AND 1")
    op.create_index("ix_images_review", "images", ["project_id", "row"], postgresql_where="review_reason IS NOT NULL")
    op.create_index("ix_images_gold", "images", ["project_id", "row"], postgresql_where="gold_class_id IS NOT NULL")
    op.execute(
        "UPDATE images SET review_reason = 'unsure' FROM annotations WHERE annotations.image_id = images.id"
        " AND annotations.outcome = 'unsure' AND annotations.revoked_at IS NULL AND annotations.counted"
    )
    op.create_table(
        "label_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("from_class_id", sa.Integer(), nullable=False),
        sa.Column("to_class_id", sa.Integer(), nullable=True),
        sa.Column("rule", _words("labelrule", LABEL_RULES), nullable=True),
        sa.Column("certainty", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "from_class_id IS DISTINCT FROM to_class_id", name=op.f("ck_label_changes_something_changed")
        ),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_label_changes_image_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_label_changes_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "from_class_id"],
            ["classes.project_id", "classes.id"],
            name=op.f("fk_label_changes_project_id_from_class_id"),
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "to_class_id"],
            ["classes.project_id", "classes.id"],
            name=op.f("fk_label_changes_project_id_to_class_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label_changes")),
    )
    op.create_index("ix_label_changes_image", "label_changes", ["image_id", "id"])
    op.create_index("ix_label_changes_project", "label_changes", ["project_id", "id"])

    rule = sa.Column("label_rule", _words("labelrule", LABEL_RULES), server_default="majority", nullable=False)
    op.add_column("projects", rule)
    op.add_column("projects", sa.Column("review_below", sa.Double(), server_default="0.8", nullable=False))
    op.add_column("projects", sa.Column("gold_share", sa.Double(), server_default="0", nullable=False))
    op.add_column("projects", _flag("gold_feedback"))
    op.add_column("projects", sa.Column("repeat_share", sa.Double(), server_default="0", nullable=False))
    op.create_check_constraint("gold_share_is_at_most_half", "projects", "gold_share BETWEEN 0 AND 0.5")
    op.create_check_constraint("repeat_share_is_at_most_half", "projects", "repeat_share BETWEEN 0 AND 0.5")
    op.create_check_constraint("review_below_is_a_chance", "projects", "review_below BETWEEN 0 AND 1")


def downgrade() -> None:
    for name in ("repeat_share", "gold_feedback", "gold_share", "review_below", "label_rule"):
        op.drop_column("projects", name)
    op.drop_table("label_changes")
    for name in ("gold_class_id", "review_reason", "label_certainty", "label_rule"):
        op.drop_column("images", name)
    # the release before knows no answer that is free of the budget, and no query beside these
    op.execute("DELETE FROM queries WHERE source IN ('review', 'gold', 'repeat')")
    op.drop_index("ix_annotations_checks", "annotations")
    op.drop_index("uq_annotations_one_check", "annotations")
    op.drop_constraint("ck_annotations_check_never_counts", "annotations")
    op.drop_column("annotations", "is_check")
    op.drop_column("leases", "is_check")
    _set_one_open("closed_at IS NULL")
    _set_ranked_once("source <> 'audit'")
    op.drop_index("uq_queries_rank", "queries")
    op.create_unique_constraint(op.f("uq_queries_round_id_rank"), "queries", ["round_id", "rank"])
    _set_sources(SOURCES)


def _set_sources(sources: tuple[str, ...]) -> None:
    op.drop_constraint("querysource", "queries", type_="check")
    listed = ", ".join(f"'{source}'" for source in sources)
    op.create_check_constraint("querysource", "queries", f"source IN ({listed})")


def _set_ranked_once(where: str) -> None:
    op.drop_index("uq_queries_ranked_once", "queries")
    op.create_index("uq_queries_ranked_once", "queries", ["round_id", "image_id"], unique=True, postgresql_where=where)


def _set_one_open(where: str) -> None:
    op.drop_index("uq_queries_one_open", "queries")
    op.create_index("uq_queries_one_open", "queries", ["image_id"], unique=True, postgresql_where=where)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False)


def _words(name: str, values: tuple[str, ...]) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=20)
