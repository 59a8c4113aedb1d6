"""Whatever happens while people label in real Chromium: answers given = annotations stored, each once, right class."""

from __future__ import annotations

import signal

from playwright.sync_api import Dialog, Page, expect
from sqlalchemy import func, select

from app.records import Outcome, ProjectState, Query
from app.services import projects
from tests.browser.labeling import (
    HEAR,
    Open,
    Scene,
    Stage,
    chromium,
    go,
    label,
    move_clock,
    open_page,
    see,
    stage,
    telling,
    web,
)
from tests.browser.web import WebServer
from tests.factories import make_user
from tests.waiting import until

__all__ = ["chromium", "open_page", "stage", "web"]

OFFLINE_SECONDS = 30


def nothing_is_lost(scene: Scene, given: list[tuple[int, int | None]]) -> None:
    """Check that what was given is what is stored, each once, and that all of it counts."""
    until(lambda: len(scene.annotations(standing=False)) >= len(given), 60, f"{len(given)} answers have arrived")
    assert scene.answers() == given
    assert len(scene.annotations(standing=False)) == len(given)


def label_and_note(scene: Scene, page: Page, keys: str, seen: int | None = None) -> list[tuple[int, int | None]]:
    """Press one key for every next image; return what was said about which image."""
    given: list[tuple[int, int | None]] = []
    for key in keys:
        seen = see(page, seen)
        page.keyboard.press(key)
        given.append((seen, scene.class_ids[key]))
    return given


def hurry(page: Page) -> None:
    """Let the browser's time run ten times as fast as ours."""
    for _ in range(10):
        page.clock.run_for(OFFLINE_SECONDS * 100)


def test_thirty_seconds_offline_in_the_middle_of_fifty_answers_lose_nothing(stage: Stage, open_page: Open) -> None:
    scene = stage(queries=60)
    page = open_page(scene, before=move_clock)
    keys = "0123456789" * 5
    given = label_and_note(scene, page, keys[:20])
    scene.saved(20)
    until(lambda: scene.leases() >= 3, 20, "the next images are held")
    page.context.set_offline(True)
    began = page.evaluate("performance.now()")
    given += label_and_note(scene, page, keys[20:22], given[-1][0])  # what is decoded already needs no connection
    hurry(page)
    assert page.evaluate("performance.now()") - began >= OFFLINE_SECONDS * 1000
    expect(page.locator("[data-part=outbox]")).to_have_text("2 answers kept, no connection")
    page.context.set_offline(False)
    page.clock.run_for(15_000)
    page.clock.resume()
    given += label_and_note(scene, page, keys[22:], given[-1][0])
    nothing_is_lost(scene, given)
    assert len({image for image, _ in given}) == 50
    expect(page.locator("[data-part=outbox]")).to_be_hidden()


def test_a_server_killed_and_started_again_in_the_middle_of_a_burst_loses_nothing(
    stage: Stage, open_page: Open, web: WebServer
) -> None:
    scene = stage(queries=40)
    page = open_page(scene)
    given = label_and_note(scene, page, "01234")
    web.end(signal.SIGKILL)  # answers are on their way, replies are lost
    web.start()
    given += label_and_note(scene, page, "56789", given[-1][0])
    web.end(signal.SIGKILL)
    web.start()
    given += label_and_note(scene, page, "0123456789", given[-1][0])
    nothing_is_lost(scene, given)
    assert len({image for image, _ in given}) == 20


def test_two_people_side_by_side_answer_everything_once(stage: Stage, open_page: Open) -> None:
    scene = stage(queries=24)
    with scene.database.transaction() as session:
        somebody = make_user(session)
        session.commit()
    pages = (open_page(scene), open_page(scene, user=somebody))
    seen: list[int | None] = [None, None]
    given: list[tuple[int, int, int | None]] = []
    people = (scene.user.id, somebody.id)
    for turn in range(16):
        who = turn % 2
        image = seen[who] = see(pages[who], seen[who])
        key = str(turn % 10)
        pages[who].keyboard.press(key)
        given.append((image, people[who], scene.class_ids[key]))
    until(lambda: len(scene.annotations(standing=False)) >= 16, 60, "sixteen answers have arrived")
    stored = [(known.image_id, known.user_id, known.class_id) for known in scene.annotations()]
    assert sorted(stored) == sorted(given)
    assert len({image for image, _, _ in stored}) == 16, "nobody got what another had"


def test_two_people_with_overlap_both_answer_every_image_and_neither_sees_the_other(
    stage: Stage, open_page: Open
) -> None:
    scene = stage(queries=3, overlap=2)
    with scene.database.transaction() as session:
        somebody = make_user(session)
        session.commit()
    pages = (open_page(scene), open_page(scene, user=somebody))
    given = [
        (image, user.id, class_id)
        for page, user, keys in ((pages[0], scene.user, "123"), (pages[1], somebody, "456"))
        for image, class_id in label_and_note(scene, page, keys)
    ]
    until(lambda: len(scene.annotations()) == 6, 60, "six answers have arrived")
    stored = [(known.image_id, known.user_id, known.class_id) for known in scene.annotations()]
    assert sorted(stored) == sorted(given)
    assert sorted(image for image, _, _ in stored) == sorted(scene.image_ids * 2)


def test_a_crashed_tab_loses_no_answer(stage: Stage, open_page: Open) -> None:
    """The tab is gone with a full outbox; the next one of the same browser delivers it."""
    scene = stage()
    page = open_page(scene)
    see(page)
    until(lambda: scene.leases() >= 5, 20, "the next images are held")
    page.context.set_offline(True)
    label(page, "123")
    expect(page.locator("[data-part=outbox]")).to_contain_text("3 answers kept")
    page.close(run_before_unload=False)
    page.context.set_offline(False)
    again = page.context.new_page()
    again.goto(scene.path)
    nothing_is_lost(scene, scene.expected("123"))
    label(again, "4")
    assert len(scene.saved(4)) == 4


def test_a_mixed_session_stores_exactly_what_was_said(stage: Stage, open_page: Open) -> None:
    """Labels, a skip, an unusable one, corrections, undo, a reload and a double press, in one go."""
    scene = stage(queries=20)
    page = open_page(scene)
    page.on("dialog", lambda dialog: dialog.accept())
    seen = label(page, "12s4")
    see(page, seen)
    page.keyboard.press("x")
    page.keyboard.press("1")
    current = see(page, scene.image_ids[4])
    assert go(page, "ArrowLeft") == scene.image_ids[4]
    assert go(page, "ArrowLeft") == scene.image_ids[3]
    page.keyboard.press("5")
    see(page, scene.image_ids[3])
    assert go(page, "Escape") == current
    page.keyboard.press("6")
    see(page, current)
    page.evaluate(HEAR)
    page.evaluate(
        """() => { for (let press = 0; press < 2; press += 1) {
          document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "7", code: "Digit7", bubbles: true }));
        } }"""
    )
    until(lambda: len(page.evaluate("heard")) == 2, 20, "both presses are answered")
    assert page.evaluate("heard[1]").startswith("Too quick")
    page.reload()
    see(page)
    assert go(page, "ArrowLeft") == scene.image_ids[6]
    page.keyboard.press("z")
    page.keyboard.press("9")
    see(page, scene.image_ids[6])
    expected = {
        scene.image_ids[0]: (Outcome.LABEL, scene.class_ids["1"]),
        scene.image_ids[1]: (Outcome.LABEL, scene.class_ids["2"]),
        scene.image_ids[2]: (Outcome.SKIP, None),
        scene.image_ids[3]: (Outcome.LABEL, scene.class_ids["5"]),
        scene.image_ids[4]: (Outcome.UNUSABLE, None),
        scene.image_ids[5]: (Outcome.LABEL, scene.class_ids["6"]),
        scene.image_ids[6]: (Outcome.LABEL, scene.class_ids["9"]),
    }

    def stored() -> dict[int, tuple[Outcome, int | None]]:
        return {known.image_id: (known.outcome, known.class_id) for known in scene.annotations()}

    until(lambda: stored() == expected, 60, "what was said is what is stored")
    assert len(scene.annotations()) == 7, "each once"
    assert len(scene.annotations(standing=False)) == 9, "one corrected, one taken back"
    with scene.database.transaction() as session:
        open_queries = session.scalar(
            select(func.count()).where(Query.project_id == scene.project_id, Query.closed_at.is_(None))
        )
    assert open_queries == 20 - 6, "only the skipped image and the unanswered ones are still asked"


def test_leaving_with_answers_on_their_way_is_warned_of_and_without_is_not(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    warned: list[str] = []

    def leave(dialog: Dialog) -> None:
        warned.append(dialog.type)
        dialog.accept()

    page.on("dialog", leave)
    label(page, "1")
    scene.saved(1)
    expect(page.locator("[data-part=outbox]")).to_be_hidden()
    until(lambda: page.evaluate("Object.keys(localStorage).length") == 0, 20, "the outbox is empty")
    page.goto("about:blank")
    assert warned == []


def test_a_project_paused_meanwhile_takes_what_was_held_and_goes_on_later(
    stage: Stage, open_page: Open, web: WebServer
) -> None:
    scene = stage(queries=20)
    page = open_page(scene)
    given = label_and_note(scene, page, "12")
    scene.saved(2)
    held = scene.leases()
    assert held > 2
    with telling(web) as told, told.transaction() as session:
        projects.set_state(session, scene.project_id, ProjectState.PAUSED)
        session.commit()
    given += label_and_note(scene, page, "3" * held, given[-1][0])
    expect(page.locator(".stage")).to_contain_text("The project is paused.")
    nothing_is_lost(scene, given)
    with telling(web) as told, told.transaction() as session:
        projects.set_state(session, scene.project_id, ProjectState.RUNNING)
        session.commit()
    given += label_and_note(scene, page, "4", given[-1][0])
    nothing_is_lost(scene, given)


def test_a_budget_lowered_meanwhile_is_told_and_the_answer_is_kept(stage: Stage, open_page: Open) -> None:
    scene = stage(queries=6)
    page = open_page(scene)
    given = label_and_note(scene, page, "1")
    scene.saved(1)
    until(lambda: scene.leases() >= 3, 20, "the next images are held")
    with scene.database.transaction() as session:
        projects.set_budget(session, scene.project_id, 1)
        session.commit()
    see(page, given[0][0])
    page.keyboard.press("2")
    expect(page.locator("#notice")).to_contain_text("all labels of the budget are given")
    expect(page.locator(".stage")).to_contain_text("The budget is spent: all 1 labels are given.")
    assert scene.answers() == given
    late = [known for known in scene.annotations(standing=False) if not known.counted]
    assert [known.class_id for known in late] == [scene.class_ids["2"]], "what was said is kept"
