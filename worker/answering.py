"""The simulated oracle as an annotator: it takes queries and answers them through the same service as people."""

from __future__ import annotations

from uuid import uuid4

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database import Database
from app.records import Image, OracleKind, Outcome, Project, ProjectState
from app.services import accounts, claiming, labeling, projects
from app.services.claiming import Ask
from app.services.labeling import Answer
from worker.learning.oracle import simulated_answers

CHUNK = 50  # answers to a transaction: claim and answers are committed together, so nothing stays leased
LEASE_SECONDS = 60.0


def answer_batch(database: Database, project_id: int) -> int:
    """Answer what is asked, until nothing is or the oracle is no longer simulated; return the number of answers."""
    answered = 0
    while True:
        with database.transaction() as session:
            project = projects.get(session, project_id)
            if project.oracle is not OracleKind.SIMULATED or project.state is not ProjectState.RUNNING:
                return answered
            user_id = accounts.oracle_user(session).id
            asks = claiming.claim(session, project_id, user_id, CHUNK, LEASE_SECONDS, reserves=False, orphans_after=0.0)
            if not asks:
                return answered
            for given in _answers(session, project, user_id, asks):
                labeling.answer(session, given)
            session.commit()
            answered += len(asks)


def _answers(session: Session, project: Project, user_id: int, asks: list[Ask]) -> list[Answer]:
    """Answer from the hidden truth, with the project's share of mistakes; without truth the oracle is unsure."""
    class_ids = [known.id for known in projects.classes_of(session, project.id)]
    index_of = {class_id: index for index, class_id in enumerate(class_ids)}
    images = select(Image.id, Image.row, Image.true_class_id).where(Image.id.in_([ask.image_id for ask in asks]))
    known = {
        image_id: (row, index_of[true_class_id])
        for image_id, row, true_class_id in session.execute(images)
        if true_class_id in index_of
    }
    rows = np.array([row for row, _ in known.values()], np.int64)
    truths = np.array([index for _, index in known.values()], np.int64)
    seed = int(project.recipe["seed"])
    said = simulated_answers(seed, rows, truths, len(class_ids), project.oracle_noise)
    answer_of = dict(zip(known, said, strict=True))
    return [
        Answer(
            client_id=uuid4(),
            project_id=project.id,
            query_id=ask.query_id,
            user_id=user_id,
            outcome=Outcome.LABEL if ask.image_id in answer_of else Outcome.UNSURE,
            class_id=class_ids[int(answer_of[ask.image_id])] if ask.image_id in answer_of else None,
        )
        for ask in asks
    ]
