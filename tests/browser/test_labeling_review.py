"""Back and forward through one's own answers in real Chromium: each can be corrected, and none is lost or doubled."""

from __future__ import annotations

import signal

from playwright.sync_api import Page, expect

from app.records import Outcome, UnusableReason
from app.services.reporting.own_answers import PAGE_SIZE
from tests.browser.labeling import (
    Open,
    Scene,
    Stage,
    assert_accessible,
    chromium,
    cut_off,
    go,
    label,
    open_page,
    see,
    stage,
    web,
)
from tests.browser.web import WebServer
from tests.waiting import until

__all__ = ["chromium", "open_page", "stage", "web"]


def shown(page: Page) -> str:
    """Return what the page says about the answer that is looked at."""
    return page.locator("[data-part=review]").inner_text().replace("\n", " ")


def standing_of(scene: Scene) -> dict[int, int | None]:
    return dict(scene.answers())


def test_going_back_shows_each_answer_and_forward_returns(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    current = see(page, label(page, "123"))
    assert go(page, "ArrowLeft") == scene.image_ids[2]
    assert shown(page).startswith("Your answer: 3 1 answer back")
    expect(page.get_by_role("button", name="3, key 3")).to_have_attribute("aria-current", "true")
    assert go(page, "PageUp") == scene.image_ids[1]
    assert shown(page).startswith("Your answer: 2 2 answers back")
    assert go(page, "ArrowLeft") == scene.image_ids[0]
    page.keyboard.press("ArrowLeft")
    expect(page.locator("[data-part=live]")).to_have_text("This is your first answer here")
    assert see(page) == scene.image_ids[0]
    assert go(page, "ArrowRight") == scene.image_ids[1]
    assert go(page, "Escape") == current
    expect(page.locator("[data-part=review]")).to_be_hidden()
    expect(page.locator("[aria-current]")).to_have_count(0)
    label(page, "4")
    assert scene.saved(4) == scene.expected("1234"), "looking changed nothing"


def test_another_key_corrects_and_goes_on(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    current = see(page, label(page, "123"))
    go(page, "ArrowLeft")
    go(page, "ArrowLeft")
    page.keyboard.press("7")
    assert see(page, scene.image_ids[1]) == scene.image_ids[2], "the next newer answer"
    expect(page.locator("[data-part=live]")).to_have_text("Corrected 2 to 7")
    page.keyboard.press("8")
    assert see(page, scene.image_ids[2]) == current, "then the image to label"
    label(page, "9")
    until(lambda: len(scene.answers()) == 4, 20, "all answers are saved")
    assert standing_of(scene) == dict(scene.expected("1789"))
    every = scene.annotations(standing=False)
    assert len(every) == 6
    by_id = {known.id: known for known in every}
    corrected = [known for known in every if known.corrects_id is not None]
    assert [(by_id[known.corrects_id].class_id, known.class_id) for known in corrected] == [
        (scene.class_ids["2"], scene.class_ids["7"]),
        (scene.class_ids["3"], scene.class_ids["8"]),
    ]
    assert all(by_id[known.corrects_id].revoked_at is not None for known in corrected)
    expect(page.locator("[data-part=progress]")).to_contain_text("4 of 1\u202f000 labels")
    go(page, "ArrowLeft")
    go(page, "ArrowLeft")
    assert shown(page).startswith("Your answer: 8"), "what is shown is the correction"


def test_the_same_key_again_changes_nothing(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    current = see(page, label(page, "12"))
    go(page, "ArrowLeft")
    page.keyboard.press("2")
    assert see(page, scene.image_ids[1]) == current
    expect(page.locator("[data-part=live]")).to_have_text("Still 2")
    assert scene.saved(2) == scene.expected("12")
    assert len(scene.annotations(standing=False)) == 2


def test_a_label_becomes_unusable_and_a_skip_becomes_a_label(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    see(page, label(page, "1s"))
    go(page, "ArrowLeft")
    assert shown(page).startswith("Your answer: Skipped")
    page.keyboard.press("5")
    see(page, scene.image_ids[1])
    go(page, "ArrowLeft")
    go(page, "ArrowLeft")
    page.keyboard.press("x")
    page.keyboard.press("1")
    see(page, scene.image_ids[0])
    go(page, "ArrowLeft")
    assert shown(page).startswith("Your answer: Unusable (Blurred)")
    until(lambda: len(scene.annotations(standing=False)) == 4, 20, "two answers and two corrections")
    assert {(known.image_id, known.outcome, known.reason) for known in scene.annotations()} == {
        (scene.image_ids[0], Outcome.UNUSABLE, UnusableReason.BLURRED),
        (scene.image_ids[1], Outcome.LABEL, None),
    }


def test_answers_of_earlier_sessions_are_read_a_page_at_a_time(stage: Stage, open_page: Open) -> None:
    count = 2 * PAGE_SIZE + 5
    scene = stage(queries=count + 5)
    scene.answered_before(("0123456789" * 5)[:count])
    page = open_page(scene)
    seen = see(page)
    reads: list[str] = []
    page.on(
        "request", lambda request: reads.append(request.url) if request.url.split("?")[0].endswith("/answers") else None
    )
    for back in range(1, count + 1):
        page.keyboard.press("ArrowLeft")
        seen = see(page, seen)
        assert seen == scene.image_ids[count - back]
    assert f"{count} answers back" in shown(page)
    assert len(reads) == 3, "three pages"
    page.keyboard.press("9")
    until(lambda: standing_of(scene)[scene.image_ids[0]] == scene.class_ids["9"], 20, "the first answer is corrected")
    assert len(scene.answers()) == count
    assert go(page, "End") == scene.image_ids[count]
    label(page, "1")
    scene.saved(count + 1)


def test_answers_of_this_page_and_of_earlier_ones_are_one_list(stage: Stage, open_page: Open) -> None:
    scene = stage()
    scene.answered_before("12")
    page = open_page(scene)
    see(page, label(page, "34"))
    for place in (3, 2, 1, 0):
        assert go(page, "ArrowLeft") == scene.image_ids[place]
    page.keyboard.press("ArrowLeft")
    expect(page.locator("[data-part=live]")).to_have_text("This is your first answer here")


def test_a_correction_while_offline_arrives_once_and_in_order(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    current = see(page, label(page, "12"))
    scene.saved(2)
    until(lambda: scene.leases() >= 4, 20, "the next images are held")
    reconnect = cut_off(page, "*/answers", "*/undo", "*/answers?*")
    page.keyboard.press("3")
    see(page, current)
    go(page, "ArrowLeft")
    page.keyboard.press("4")  # corrects one that the server has not heard of
    see(page, current)
    go(page, "ArrowLeft")
    go(page, "ArrowLeft")
    page.keyboard.press("5")  # corrects one that it has
    expect(page.locator("[data-part=outbox]")).to_contain_text("3 answers kept")
    page.reload()
    reconnect()
    until(lambda: len(scene.annotations(standing=False)) == 5, 15, "everything has arrived")
    assert standing_of(scene) == dict(scene.expected("154"))


def test_a_correction_survives_a_killed_server(stage: Stage, open_page: Open, web: WebServer) -> None:
    scene = stage()
    page = open_page(scene)
    see(page, label(page, "12"))
    scene.saved(2)
    web.end(signal.SIGKILL)
    try:
        go(page, "ArrowLeft")
        page.keyboard.press("6")
        expect(page.locator("[data-part=outbox]")).to_contain_text("kept, server not reached")
    finally:
        web.start()
    until(lambda: standing_of(scene) == dict(scene.expected("16")), 40, "the correction has arrived")
    assert len(scene.annotations(standing=False)) == 3


def test_earlier_answers_that_cannot_be_fetched_are_told(stage: Stage, open_page: Open) -> None:
    scene = stage()
    scene.answered_before("12")
    page = open_page(scene)
    current = see(page)
    reconnect = cut_off(page)
    page.keyboard.press("ArrowLeft")
    expect(page.locator("[data-part=live]")).to_have_text("Earlier answers cannot be fetched right now")
    assert see(page) == current
    reconnect()
    assert go(page, "ArrowLeft") == scene.image_ids[1]


def test_undo_takes_back_the_answer_that_is_looked_at(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    current = see(page, label(page, "123"))
    go(page, "ArrowLeft")
    go(page, "ArrowLeft")
    page.keyboard.press("z")
    expect(page.locator("[data-part=review]")).to_be_hidden()
    assert see(page) == scene.image_ids[1], "it is the image to label now"
    page.keyboard.press("9")
    assert see(page, scene.image_ids[1]) == current
    until(lambda: standing_of(scene) == dict(scene.expected("193")), 20, "taken back and answered again")
    assert len(scene.annotations(standing=False)) == 4


def test_undo_after_a_correction_takes_back_the_correction(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    current = see(page, label(page, "12"))
    go(page, "ArrowLeft")
    go(page, "ArrowLeft")
    page.keyboard.press("5")
    see(page, scene.image_ids[0])
    assert go(page, "Escape") == current
    assert go(page, "Control+z") == scene.image_ids[0]
    page.keyboard.press("6")
    see(page, scene.image_ids[0])
    until(lambda: standing_of(scene) == dict(scene.expected("62")), 20, "answered again")
    assert [known.revoked_at is None for known in scene.annotations(standing=False)] == [False, True, False, True]


def test_a_correction_to_a_retired_class_leaves_the_answer_and_says_so(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    see(page, label(page, "12"))
    scene.saved(2)
    scene.retire("7")
    go(page, "ArrowLeft")
    page.keyboard.press("7")
    expect(page.locator("#notice")).to_contain_text("this class is not given any more")
    go(page, "ArrowLeft")
    assert shown(page).startswith("Your answer: 2"), "it still stands"
    assert scene.answers() == scene.expected("12")


def test_the_last_image_of_a_batch_can_be_corrected_too(stage: Stage, open_page: Open) -> None:
    scene = stage(queries=2)
    page = open_page(scene)
    label(page, "12")
    expect(page.locator(".stage")).to_contain_text("The network is learning from the last answers.")
    page.keyboard.press("ArrowLeft")
    assert see(page) == scene.image_ids[1]
    page.keyboard.press("3")
    expect(page.locator(".stage")).to_contain_text("The network is learning from the last answers.")
    until(lambda: standing_of(scene) == dict(scene.expected("13")), 20, "corrected")


def test_looking_back_is_accessible(stage: Stage, open_page: Open) -> None:
    page = open_page(stage())
    see(page, label(page, "12"))
    go(page, "ArrowLeft")
    assert_accessible(page)
    expect(page.locator("[data-part=live]")).to_have_text("Your answer: 2, 1 answer back")
