"""let people be members of projects, by name, by group or all of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("group_name", sa.String(length=80), nullable=True))
    op.add_column("projects", sa.Column("open_to_all", sa.Boolean(), server_default="true", nullable=False))
    op.add_column(
        "projects",
        sa.Column("member_groups", postgresql.ARRAY(sa.String(length=80)), server_default="{}", nullable=False),
    )
    op.create_table(
        "memberships",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "standing",
            sa.Enum(
                "member", "removed", "former", name="standing", native_enum=False, create_constraint=True, length=20
            ),
            nullable=False,
        ),
        sa.Column("set_by", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_memberships_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_memberships_user_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["set_by"], ["users.id"], name=op.f("fk_memberships_set_by"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_memberships")),
        sa.UniqueConstraint("project_id", "user_id", name=op.f("uq_memberships_project_id_user_id")),
    )
    op.create_index("ix_memberships_user", "memberships", ["user_id"], unique=False)
    # whoever could label a project so far keeps it, also when its switch is turned off later
    op.execute(
        "INSERT INTO memberships (project_id, user_id, standing) "
        "SELECT projects.id, users.id, 'member' FROM projects CROSS JOIN users WHERE users.role <> 'oracle'"
    )


def downgrade() -> None:
    op.drop_index("ix_memberships_user", table_name="memberships")
    op.drop_table("memberships")
    op.drop_column("projects", "member_groups")
    op.drop_column("projects", "open_to_all")
    op.drop_column("users", "group_name")
