"""Alembic's entry: runs migrations on the configured database, with limits that protect a running product."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, pool, text

from app.records import User

LOCK_TIMEOUT = "4s"
STATEMENT_TIMEOUT = "60s"


def run() -> None:
    """Run the migrations; two processes that migrate at once take turns."""
    url = context.config.get_main_option("sqlalchemy.url")
    if url is None:
        raise RuntimeError("migrations are run through app.database.upgrade, which says on which database")
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        # taken before the limits below, so that the second of two starts waits for the first instead of failing
        connection.execute(text("SELECT pg_advisory_lock(hashtext('querent.migrations'))"))
        connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
        connection.commit()
        context.configure(connection=connection, target_metadata=User.metadata, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


run()
