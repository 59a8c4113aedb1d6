"""Labels a minute of a scripted person: the grid beside single images, in Chromium, and what Label Studio could give.

The same 500 handwritten digits are asked in one batch, in a real browser on a real server. The person never errs and is
modelled so: a decision takes 400 ms, its key included; every further key takes 200 ms, as of an average skilled typist
(Card, Moran and Newell 1980, the keystroke-level model). Further keys are, in the grid, Enter and the arrows that lead
to an image that is not of the class (the shortest way; the least sure come last); in Label Studio, the submission.

How long one looks at an image of a grid is what the gain hangs on, so there are two figures. In the first, each image
takes the whole decision of 400 ms, the worst case: naming one of ten. In the second it takes 250 ms, one fixation
each, where fixations in visual search last 180 to 275 ms (Rayner 2009, table 1): one only has to see that it is no 4.

What the grid believes comes from a logistic regression on the pixels of a few other digits, about 90% right. Label
Studio is not run here: its figures are the least time that its two keys and its requests take, as measured on two cores
with Postgres (next and submit, p50, one person): 100 + 100 ms at 1,000 tasks, 205 + 100 ms at 100,000.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import numpy as np
from PIL import Image as Picture
from playwright.sync_api import Page, sync_playwright
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sqlalchemy import select

from app import embedded
from app.database import Database, upgrade
from app.records import Annotation, Class, Image, Query, User
from app.settings import Settings, load_settings
from app.storage import Storage
from tests.browser.chromium import ARGUMENTS, CHROMIUM
from tests.browser.grid import see_page
from tests.browser.labeling import DIGITS, SEE, see
from tests.browser.web import WebServer
from tests.factories import classes_of, make_project, make_round, make_user
from tests.waiting import until

IMAGES = 500
LEARNED = 120  # other digits, so that about nine in ten predictions are right
DECISION_SECONDS = 0.4
FIXATION_SECONDS = 0.25
KEY_SECONDS = 0.2
ON_A_PAGE = 24
SEED = 0
LABEL_STUDIO_SECONDS = {"1000": 0.1 + 0.1, "100000": 0.205 + 0.1}
# resolves when the next image has been seen for as long as a decision takes, on the browser's own clock
DECIDE = f"""previous => ({SEE})(previous).then(
  id => new Promise(decided => setTimeout(() => decided(id), {1000 * DECISION_SECONDS})))"""
COLUMNS = """() => { const tops = [...document.querySelectorAll(".tile")].map(tile => tile.offsetTop);
  return tops.filter(top => top === tops[0]).length }"""


@dataclass(frozen=True)
class _Digits:
    """The digits to label, what they are, what the network believes of them and how surely."""

    files: tuple[bytes, ...]
    labels_N: np.ndarray
    predicted_N: np.ndarray
    confidences_N: np.ndarray


@dataclass(frozen=True)
class _Task:
    """A project of its own with all digits asked, and who labels it."""

    project_id: int
    user: User
    truth: dict[int, str]  # by image


def figures() -> dict[str, float]:
    """Return labels a minute, and how long it takes after the last key until everything is saved."""
    digits = _digits()
    with TemporaryDirectory() as folder, embedded.servers(load_settings(home=Path(folder) / "home")) as settings:
        upgrade(str(settings.database_url))
        web = WebServer(settings)
        web.start()
        try:
            found = _measure(settings, web, digits)
        finally:
            web.end()
    found["grid_predictions_right_percent"] = 100 * float((digits.predicted_N == digits.labels_N).mean())
    for tasks, seconds in LABEL_STUDIO_SECONDS.items():
        least = DECISION_SECONDS + KEY_SECONDS + seconds
        found[f"labels_per_minute_label_studio_at_most_{tasks}_tasks"] = 60 / least
    return found


def _measure(settings: Settings, web: WebServer, digits: _Digits) -> dict[str, float]:
    database = Database(str(settings.database_url))
    people: dict[str, Callable[[Page, _Task], None]] = {
        "single": _single,
        "grid": lambda page, task: _grid(page, task, DECISION_SECONDS),
        "grid_one_fixation": lambda page, task: _grid(page, task, FIXATION_SECONDS),
    }
    tasks = {name: _task(database, settings, digits) for name in people}

    def run(name: str) -> dict[str, float]:
        task = tasks[name]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = web.context(browser, task.user, viewport={"width": 1280, "height": 800}).new_page()
            page.goto(f"/projects/{task.project_id}/{'label' if name == 'single' else 'grid'}")
            (see if name == "single" else see_page)(page)
            began = time.perf_counter()
            people[name](page, task)
            ended = time.perf_counter()
            until(lambda: len(_stored(database, task)) == IMAGES, 60, f"{name}: every answer is saved")
            saved = time.perf_counter()
            browser.close()
        if _stored(database, task) != sorted(task.truth.items()):
            raise AssertionError(f"{name}: what was said is not what is stored")
        return {
            f"labels_per_minute_{name}": 60 * IMAGES / (ended - began),
            f"saved_after_last_key_{name}_ms": 1000 * (saved - ended),
        }

    # they mostly wait for their own thinking, so they do it at the same time
    with ThreadPoolExecutor(len(people)) as pool:
        found = {name: value for each in pool.map(run, people) for name, value in each.items()}
    database.close()
    return found


def _single(page: Page, task: _Task) -> None:
    seen = ""
    for _ in range(IMAGES):
        seen = page.evaluate(DECIDE, seen or None)
        page.keyboard.press(task.truth[int(seen)])


def _grid(page: Page, task: _Task, look_seconds: float) -> None:
    seen: list[int] | None = None
    done = 0
    while done < IMAGES:
        seen = see_page(page, seen)
        believed = page.locator("[data-part=classes] option:checked").inner_text().split()[0]
        columns = page.evaluate(COLUMNS)
        _take(page, look_seconds * len(seen))
        at = 0
        for place, image in enumerate(seen):
            if task.truth[image] != believed:
                for key in _way(at, place, columns, len(seen)):
                    _take(page, KEY_SECONDS)
                    page.keyboard.press(key)
                at = place
                page.keyboard.press(task.truth[image])
        _take(page, KEY_SECONDS)
        page.keyboard.press("Enter")
        done += len(seen)


def _way(start: int, goal: int, columns: int, count: int) -> list[str]:
    """Return the fewest keys that lead from one image to another: straight, or from the last one."""
    straight = _steps(start, goal, columns)
    from_end = ["End", *_steps(count - 1, goal, columns)]
    return min(straight, from_end, key=len)


def _steps(start: int, goal: int, columns: int) -> list[str]:
    rows, across = goal // columns - start // columns, goal % columns - start % columns
    down = ["ArrowDown" if rows > 0 else "ArrowUp"] * abs(rows)
    side = ["ArrowRight" if across > 0 else "ArrowLeft"] * abs(across)
    return side + down if rows > 0 and across < 0 else down + side  # never over the end of the last row


def _take(page: Page, seconds: float) -> None:
    page.wait_for_timeout(1000 * seconds)


def _digits() -> _Digits:
    known = load_digits()
    order = np.random.default_rng(SEED).permutation(len(known.target))
    asked, learned = order[:IMAGES], order[IMAGES : IMAGES + LEARNED]
    network = LogisticRegression(max_iter=1000).fit(known.data[learned] / 16, known.target[learned])
    probs_NC = network.predict_proba(known.data[asked] / 16)
    files = []
    for pixels in known.images[asked]:
        buffer = io.BytesIO()
        Picture.fromarray((255 - pixels * 255 / 16).astype(np.uint8)).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return _Digits(
        tuple(files), known.target[asked], network.classes_[probs_NC.argmax(axis=1)], probs_NC.max(axis=1).clip(0, 1)
    )


def _task(database: Database, settings: Settings, digits: _Digits) -> _Task:
    storage = Storage(settings.storage)
    with database.transaction() as session:
        project = make_project(session, IMAGES, DIGITS)
        class_ids = [known.id for known in classes_of(session, project)]
        images: Sequence[Image] = session.scalars(
            select(Image).where(Image.project_id == project.id).order_by(Image.row)
        ).all()
        for image, file, label in zip(images, digits.files, digits.labels_N.tolist(), strict=True):
            image.content_hash, image.true_class_id = storage.put(file), class_ids[label]
        made = make_round(session, project, IMAGES)
        predictions = zip(digits.predicted_N.tolist(), digits.confidences_N.tolist(), strict=True)
        ranked = session.scalars(select(Query).where(Query.round_id == made.id).order_by(Query.rank))
        for query, (predicted, confidence) in zip(ranked, predictions, strict=True):
            query.predicted_class_id, query.confidence = class_ids[predicted], confidence
        user = make_user(session, f"person {uuid4().hex[:8]}")
        truth = {image.id: str(label) for image, label in zip(images, digits.labels_N.tolist(), strict=True)}
        session.commit()
    return _Task(project.id, user, truth)


def _stored(database: Database, task: _Task) -> list[tuple[int, str]]:
    given = select(Annotation.image_id, Class.name).join(Class, Class.id == Annotation.class_id)
    with database.transaction() as session:
        rows = session.execute(given.where(Annotation.project_id == task.project_id))
        return sorted((image_id, name) for image_id, name in rows)
