"""The history of asking: rounds, the queries each one asked, and the leases under which people hold them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.records.columns import CreatedAt, Id, Json, Moment, words


class RoundState(StrEnum):
    """How far a round is; requested and running are the open ones, at most one to a project."""

    REQUESTED = "requested"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class RoundReason(StrEnum):
    """Why a round was requested."""

    FIRST_QUERIES = "first queries"
    BATCH_ANSWERED = "batch answered"
    LABELS_CHANGED = "labels changed"
    MORE_TO_ASK = "more to ask"  # more images, a larger budget, or what was given back late
    AUTOMATIC_LABELS = "automatic labels"  # the network goes on from its own when the budget is spent
    ASKED_BY_ADMIN = "asked by admin"


class QuerySource(StrEnum):
    """How an image came to be asked about."""

    SEED = "seed"  # before there was a network
    ACQUISITION = "acquisition"  # by the recipe's strategy
    RANDOM = "random"  # uniformly, as a fair sample
    TEST = "test"  # a test image without a known label
    AUDIT = "audit"  # picked by an admin who looked through the ledger: no fair sample
    REVIEW = "review"  # people disagreed or were unsure, and an admin decides
    GOLD = "gold"  # the answer is known: does the person know it?
    REPEAT = "repeat"  # the person labelled it before: do they say the same again?


TYPICAL = "typical"  # in place of the acquisition's name, with an image chosen as typical of a cluster, not by score
CHECKS = (QuerySource.GOLD, QuerySource.REPEAT)  # about a person, not about an image; their answers count for nothing
_BESIDE_RANKING = "('audit', 'review', 'gold', 'repeat')"


class Round(Base):
    """One turn of the loop: fit, evaluate, score, select.

    ``attempt`` counts the starts of a round that was cut off; the worker's final write requires that it still holds
    the attempt it began with, so a round that was given up cannot finish twice.
    """

    __tablename__ = "rounds"
    __table_args__ = (
        UniqueConstraint("project_id", "number"),
        Index("uq_rounds_one_open", "project_id", unique=True, postgresql_where="state IN ('requested', 'running')"),
        CheckConstraint("state NOT IN ('done', 'failed') OR finished_at IS NOT NULL", name="ended_has_time"),
        CheckConstraint("state <> 'failed' OR error IS NOT NULL", name="failed_has_error"),
    )

    id: Mapped[Id]
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    number: Mapped[int]
    state: Mapped[RoundState] = mapped_column(words(RoundState), default=RoundState.REQUESTED)
    reason: Mapped[RoundReason] = mapped_column(words(RoundReason))
    attempt: Mapped[int] = mapped_column(default=0)
    recipe: Mapped[dict[str, Any] | None] = mapped_column(JSONB)  # as used, copied when the snapshot was read
    labels: Mapped[int | None]  # labelled images in the snapshot
    last_annotation_id: Mapped[int | None]  # the snapshot holds annotations up to this one
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    metrics: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    timings: Mapped[dict[str, Any] | None] = mapped_column(JSONB)  # seconds
    scores_hash: Mapped[str | None] = mapped_column(String(64))  # whole-pool scores, an array in storage
    error: Mapped[str | None]
    requested_at: Mapped[CreatedAt]
    started_at: Mapped[Moment]
    finished_at: Mapped[Moment]


class Query(Base):
    """One image asked about in one round.

    ``open_answers`` is how many people may still take it: claiming lowers it, giving back raises it. Answers given,
    leases held and open answers always add up to ``wanted_answers`` until the query is closed.

    ``predicted_class_id`` puts a query on the page of a class, where people see what the network believes. It is None
    for whatever is to be answered blind: seeds, fair samples, test images, and images of which somebody said that they
    are not of that class. What the network believed stands in ``parts`` for ever.

    ``cluster`` puts it on the page of a group of images that look alike, by the number of the group in its round; None
    for fair samples, for test images, and again for what somebody said not to belong on such a page.

    Reviews and checks are made for one person, who holds or answers them at once: they are superseded from the start,
    so that nobody else can take them, and closed when that person lets them go.
    """

    __tablename__ = "queries"
    __table_args__ = (
        # a check takes the place of the query that it stands beside
        Index("uq_queries_rank", "round_id", "rank", unique=True, postgresql_where="source NOT IN ('gold', 'repeat')"),
        # an admin may ask again about what the ranking asked already
        Index(
            "uq_queries_ranked_once",
            "round_id",
            "image_id",
            unique=True,
            postgresql_where=f"source NOT IN {_BESIDE_RANKING}",
        ),
        Index(
            "uq_queries_one_open",
            "image_id",
            unique=True,
            postgresql_where="closed_at IS NULL AND source NOT IN ('gold', 'repeat')",
        ),
        Index("ix_queries_claimable", "project_id", "reserve", "rank", "id", postgresql_where="open_answers > 0"),
        Index("ix_queries_unanswered", "project_id", "round_id", postgresql_where="closed_at IS NULL"),
        Index(
            "ix_queries_predicted",
            "project_id",
            "predicted_class_id",
            "reserve",
            text("confidence DESC"),
            "id",
            postgresql_where="open_answers > 0 AND predicted_class_id IS NOT NULL",
        ),
        Index(
            "ix_queries_clustered",
            "project_id",
            "cluster",
            "reserve",
            "rank",
            "id",
            postgresql_where="open_answers > 0 AND cluster IS NOT NULL",
        ),
        CheckConstraint("cluster >= 1", name="clusters_count_from_one"),
        CheckConstraint("(predicted_class_id IS NULL) = (confidence IS NULL)", name="prediction_is_whole"),
        CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence_is_a_chance"),
        CheckConstraint("wanted_answers >= 1", name="wants_an_answer"),
        CheckConstraint("open_answers BETWEEN 0 AND wanted_answers", name="open_within_wanted"),
        CheckConstraint(
            "(closed_at IS NULL AND superseded_at IS NULL) OR open_answers = 0", name="closed_takes_nobody"
        ),
        CheckConstraint("propensity > 0 AND propensity <= 1", name="propensity_is_a_chance"),
    )

    id: Mapped[Id]
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    round_id: Mapped[int] = mapped_column(ForeignKey("rounds.id", ondelete="CASCADE"))
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    rank: Mapped[int]
    source: Mapped[QuerySource] = mapped_column(words(QuerySource))
    reserve: Mapped[bool] = mapped_column(default=False)  # beyond the batch: asked only while the worker is busy
    score: Mapped[float | None]  # None where nothing was scored
    parts: Mapped[Json]  # what the score is made of, and the likeliest classes
    predicted_class_id: Mapped[int | None]  # no foreign key: deleting a project would read all queries per class
    confidence: Mapped[float | None]  # the network's, in the predicted class
    cluster: Mapped[int | None]  # of its round's images that look alike, from 1
    propensity: Mapped[float | None]  # chance of being drawn; None for a deterministic choice
    wanted_answers: Mapped[int]
    open_answers: Mapped[int]
    superseded_at: Mapped[Moment]  # a later round asks better; whoever holds it may still answer
    closed_at: Mapped[Moment]  # nobody is asked any more
    created_at: Mapped[CreatedAt]


class Lease(Base):
    """A query held by one person until ``expires_at``, by the database's clock."""

    __tablename__ = "leases"
    __table_args__ = (
        UniqueConstraint("query_id", "user_id"),
        Index("ix_leases_expiry", "expires_at"),
        Index("ix_leases_held", "project_id", "user_id"),
    )

    id: Mapped[Id]
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    query_id: Mapped[int] = mapped_column(ForeignKey("queries.id", ondelete="CASCADE"))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    is_check: Mapped[bool] = mapped_column(server_default=false())  # its answer takes no label of the budget
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[CreatedAt]
