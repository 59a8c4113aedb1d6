"""The grid in real Chromium, every key and state: answers given = annotations stored, each once, of the right class."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Route, expect
from sqlalchemy import func, or_, select, update

from app.database import Database
from app.records import (
    Class,
    Image,
    Lease,
    Outcome,
    Project,
    ProjectState,
    Query,
    ReasonsShown,
    UnusableReason,
)
from app.services.keys import Action, set_keys
from app.services.queue import awaits_review
from tests.browser.grid import (
    GridScene,
    GridStage,
    confirm,
    grid_stage,
    look,
    move_to,
    open_grid,
    see_page,
)
from tests.browser.labeling import DIGITS, HEAR, Open, assert_accessible, chromium, cut_off, move_clock, open_page, web
from tests.waiting import until

__all__ = ["chromium", "grid_stage", "open_grid", "open_page", "web"]

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def stored(scene: GridScene, count: int) -> dict[int, int | None]:
    scene.saved(count)
    return scene.stored()


def summary(page: Page) -> str:
    return page.locator("[data-part=summary]").inner_text()


def button(page: Page) -> str:
    return page.locator("[data-part=confirm-text]").inner_text()


def selected(page: Page) -> list[int]:
    marked = "tiles => tiles.map((tile, place) => tile.getAttribute('aria-selected') === 'true' ? place : -1)"
    return [place for place in page.locator(".tile").evaluate_all(marked) if place >= 0]


def free(scene: GridScene) -> int:
    """Count the queries that still want an answer and that nobody holds."""
    with scene.database.transaction() as session:
        wanted = select(func.count()).where(Query.project_id == scene.project_id, Query.open_answers > 0)
        return session.scalar(wanted) or 0


def test_a_project_is_labelled_with_one_key_a_page(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=40)
    page = open_page(scene)
    first = look(page)
    assert first == scene.of_class("0")
    expect(page.locator("[data-part=question]")).to_have_text("Which of these are not 0?")
    assert button(page) == "Confirm 20 as 0"
    page.keyboard.press("Enter")
    second = look(page, first)
    assert second == scene.of_class("1")
    page.keyboard.press("Enter")
    zero, one = scene.class_ids["0"], scene.class_ids["1"]
    assert stored(scene, 40) == dict.fromkeys(first, zero) | dict.fromkeys(second, one)
    expect(page.locator(".stage")).to_contain_text("The network is learning from the last answers.")
    assert_accessible(page)


def test_every_answer_is_kept_as_given_with_the_prediction_shown_and_has_its_share_of_the_time(
    grid_stage: GridStage, open_page: Open
) -> None:
    scene = grid_stage(queries=20)
    page = open_page(scene)
    seen = see_page(page)
    page.wait_for_timeout(2000)
    page.keyboard.press("Enter")
    scene.saved(10)
    given = [known for known in scene.annotations() if known.image_id in seen]
    assert all(known.saw_prediction for known in given)
    assert len({known.client_id for known in given}) == len({known.seconds_taken for known in given}) * 10
    whole = sum(known.seconds_taken or 0 for known in given)
    assert whole + 0.005 >= 2.0  # each share is rounded to a millisecond


def test_images_that_are_not_of_the_class_go_back_or_get_their_own(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=60, classes=DIGITS[:3], wrong=[0, 3, 6])
    page = open_page(scene)
    seen = look(page)
    assert seen == scene.of_class("1"), "most are believed to be 1: 20 that are, 3 that are not"
    assert scene.rows(seen[-3:]) == [6, 3, 0]
    page.keyboard.press("End")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("0")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("2")
    assert selected(page) == [20, 21, 22]
    assert (button(page), summary(page)) == ("Confirm 20 as 1", "2 of other classes · 1 asked one by one")
    page.keyboard.press("Enter")
    ids = scene.class_ids
    assert stored(scene, 22) == dict.fromkeys(seen[:20], ids["1"]) | {seen[20]: ids["2"], seen[21]: ids["0"]}
    until(lambda: seen[22] not in scene.of_class("1"), 20, "the other one went back")
    assert see_page(page, seen) == scene.of_class("2")
    page.goto(f"/projects/{scene.project_id}/label")
    page.wait_for_selector(".stage .picture")
    address = page.locator(".picture").get_attribute("data-address")
    assert address == f"/images/{seen[22]}", "it is asked one by one, and was the first of the ranking"


def test_an_image_is_skipped_left_to_a_reviewer_or_found_unusable_by_the_keys_of_the_labeling_page(
    grid_stage: GridStage, open_page: Open
) -> None:
    scene = grid_stage(queries=20)
    page = open_page(scene)
    seen = look(page)
    page.evaluate(HEAR)
    for key in ("s", "ArrowRight", "u", "ArrowRight", "x", "3", "ArrowRight", "Space"):
        page.keyboard.press(key)
    assert selected(page) == [0, 1, 2, 3]
    signs = page.locator(".tile-sign").all_inner_texts()
    assert signs[:5] == ["Skipped", "Unsure", "Unusable (Several classes in it)", "✕", ""]
    assert (
        page.get_by_role("option", name="Image 3 of 10: Unusable (Several classes in it)", selected=True).count() == 1
    )
    assert (button(page), summary(page)) == (
        "Confirm 6 as 0", "1 skipped · 1 unsure · 1 unusable · 1 asked one by one",
    )  # fmt: skip
    assert page.evaluate("heard") == [
        "Image 1: Skipped", "Image 2: Unsure", "Image 3: Unusable (Several classes in it)", "Image 4 is not 0",
    ]  # fmt: skip
    assert_accessible(page)
    page.wait_for_timeout(1000)
    page.keyboard.press("Enter")
    scene.saved(9)
    given = {known.image_id: known for known in scene.annotations()}
    assert [given[image].outcome for image in seen[:3]] == [Outcome.SKIP, Outcome.UNSURE, Outcome.UNUSABLE]
    assert [given[image].reason for image in seen[:3]] == [None, None, UnusableReason.SEVERAL_CLASSES]
    assert [given[image].class_id for image in seen[:3]] == [None] * 3
    assert {image: known.class_id for image, known in given.items() if known.outcome is Outcome.LABEL} == dict.fromkeys(
        seen[4:], scene.class_ids["0"]
    )
    assert all(known.saw_prediction for known in given.values())
    assert len({known.client_id for known in given.values()}) == 9
    assert len({known.seconds_taken for known in given.values()}) == 1, "each has its share of the page's time"
    with scene.database.transaction() as session:
        found = select(Query.image_id, Query.closed_at, Query.open_answers).where(Query.image_id.in_(seen[:3]))
        now = {image: (closed is not None, wanted) for image, closed, wanted in session.execute(found)}
    assert [now[image] for image in seen[:3]] == [(False, 1), (True, 0), (True, 0)], "somebody else gets the first"


def test_skip_unsure_and_unusable_have_buttons_and_the_keys_that_an_admin_chose(
    grid_stage: GridStage, open_page: Open
) -> None:
    scene = grid_stage(queries=20)
    with scene.database.transaction() as session:
        chosen = {Action.SKIP: "j", Action.UNSURE: "k", Action.UNUSABLE: "l"}
        set_keys(session, scene.project_id, {}, chosen)
        session.commit()
    page = open_page(scene)
    look(page)
    for key in ("s", "u", "x"):
        page.keyboard.press(key)
    assert selected(page) == []
    page.get_by_role("button", name="Skip, key j").click()
    assert page.locator(".tile-sign").first.inner_text() == "Skipped"
    page.get_by_role("button", name="Unsure, key k").click()
    assert page.locator(".tile-sign").first.inner_text() == "Unsure"
    page.get_by_role("button", name="Unusable, key l").click()
    expect(page.get_by_role("dialog", name="Why is this image unusable?")).to_be_visible()
    assert_accessible(page)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert page.locator(".tile-sign").first.inner_text() == "Unsure", "without a reason nothing has changed"
    page.locator(".tile").first.focus()
    page.keyboard.press("l")
    page.get_by_role("button", name="Blurred").click()
    assert page.locator(".tile-sign").first.inner_text() == "Unusable (Blurred)"
    page.keyboard.press("?")
    for line in ("J Skip", "K Unsure", "L Unusable"):
        expect(page.locator(".help-list > div", has_text=line.split()[1])).to_have_text(line)
    page.keyboard.press("Escape")
    page.keyboard.press("Space")
    assert selected(page) == [], "one press forgets it, as it forgets a class"


def test_undo_takes_back_what_was_skipped_unsure_and_unusable_as_well(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=20)
    page = open_page(scene)
    seen = look(page)
    for key in ("s", "ArrowRight", "u", "ArrowRight", "x", "1"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    scene.saved(10)
    later = see_page(page, seen)
    page.keyboard.press("z")
    assert look(page, later) == seen
    until(lambda: scene.outcomes() == [], 20, "all of them are revoked")
    assert page.locator(".tile-sign").all_inner_texts()[:4] == ["Skipped", "Unsure", "Unusable (Blurred)", ""]
    with scene.database.transaction() as session:
        marked = select(func.count()).where(Image.id.in_(seen), or_(Image.unusable_at.is_not(None), awaits_review()))
        assert session.scalar(marked) == 0, "the images are as they were"
    page.keyboard.press("Home")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    scene.saved(10)
    expected = [Outcome.LABEL, Outcome.UNSURE, Outcome.UNUSABLE] + [Outcome.LABEL] * 7
    given = dict(scene.outcomes())
    assert [given[image] for image in seen] == expected
    assert scene.stored()[seen[0]] == scene.class_ids["1"]


def test_what_is_marked_can_be_unmarked_by_key_click_and_class(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=20)
    page = open_page(scene)
    look(page)
    page.keyboard.press("Space")
    page.locator(".tile").nth(3).click()
    page.locator(".tile").nth(4).click()
    assert selected(page) == [0, 3, 4]
    page.keyboard.press("Space")
    assert selected(page) == [0, 3]
    page.locator(".tile").nth(3).click()
    move_to(page, 2)
    page.keyboard.press("1")
    assert selected(page) == [0, 2]
    page.keyboard.press("0")
    assert selected(page) == [0], "it is of the class after all"
    page.keyboard.press("Home")
    page.keyboard.press("1")
    page.keyboard.press("Space")
    assert selected(page) == [], "and one press forgets a class of its own"
    page.keyboard.press("Enter")
    assert set(stored(scene, 10).values()) == {scene.class_ids["0"]}


def test_a_page_of_which_nothing_is_of_the_class(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=8)
    page = open_page(scene)
    seen = look(page)
    for _ in seen:
        page.keyboard.press("Space")
        page.keyboard.press("ArrowRight")
    assert button(page) == "None is 0"
    page.keyboard.press("Enter")
    second = confirm(page, seen)
    assert stored(scene, 4) == dict.fromkeys(second, scene.class_ids["1"])
    expect(page.locator(".stage")).to_contain_text("The images that are left are asked one by one.")
    page.get_by_role("link", name="Label one by one").last.click()
    page.wait_for_selector(".stage .picture")


def test_arrows_move_within_rows_and_columns_and_one_image_has_the_tab_stop(
    grid_stage: GridStage, open_page: Open
) -> None:
    scene = grid_stage(queries=40)
    page = open_page(scene, viewport={"width": 600, "height": 700})
    look(page)
    columns = page.evaluate("() => { const tops = [...document.querySelectorAll('.tile')].map(tile => tile.offsetTop);"
                            " return tops.filter(top => top === tops[0]).length }")  # fmt: skip
    at = "Number(document.activeElement.dataset.place)"
    where = []
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowUp", "ArrowLeft", "End", "ArrowDown", "Home"):
        page.keyboard.press(key)
        where.append(page.evaluate(at))
    assert where == [1, 1 + columns, columns, 0, 0, 0, 19, 19, 0]
    assert page.locator(".tile[tabindex='0']").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.action") == "undo", "Tab leaves the board"


def test_enter_and_space_on_a_button_press_that_button(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=20)
    page = open_page(scene)
    seen = look(page)
    page.locator("[data-action=help]").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Enter")  # on the button that closes it
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="1, key 1").focus()
    page.keyboard.press("Space")
    assert selected(page) == [0]
    assert scene.answers() == []
    page.locator("[data-action=confirm]").focus()
    page.keyboard.press("Enter")
    assert stored(scene, 10)[seen[0]] == scene.class_ids["1"]


def test_enter_held_down_confirms_one_page_and_a_second_press_too_soon_is_told(
    grid_stage: GridStage, open_page: Open
) -> None:
    scene = grid_stage(queries=40)
    page = open_page(scene)
    first = look(page)
    for _ in range(20):
        page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    see_page(page, first)
    page.evaluate(HEAR)
    page.keyboard.press("Enter")
    until(lambda: page.evaluate("heard"), 20, "the press is answered")
    assert page.evaluate("heard[0]").startswith("Too quick")
    assert set(stored(scene, 20)) == set(first)


def test_a_page_longer_than_the_screen_is_scrolled_through_before_it_counts(
    grid_stage: GridStage, open_page: Open
) -> None:
    scene = grid_stage(queries=48)
    page = open_page(scene, viewport={"width": 500, "height": 560})
    seen = look(page)
    presses = 0
    while button(page).startswith("Scroll on"):
        assert scene.answers() == []
        before = button(page)
        page.keyboard.press("Enter")
        until(lambda before=before: button(page) != before, 20, "more has come on screen")
        presses += 1
    assert presses >= 1
    page.wait_for_timeout(600)
    page.keyboard.press("Enter")
    assert set(stored(scene, 24)) == set(seen)


def test_undo_takes_a_whole_page_back_with_its_marks(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=60, classes=DIGITS[:3])
    page = open_page(scene)
    seen = look(page)
    move_to(page, 2)
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    scene.saved(19)
    later = see_page(page, seen)
    page.keyboard.press("Control+z")
    again = [image for place, image in enumerate(seen) if place != 2]
    assert look(page, later) == again, "what went back is asked one by one"
    assert selected(page) == [2]
    until(lambda: scene.answers() == [], 20, "all of the page's answers are taken back")
    page.keyboard.press("End")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    ids = scene.class_ids
    expected = dict.fromkeys(again, ids["0"]) | {seen[3]: ids["2"], seen[-1]: ids["1"]}
    until(lambda: scene.stored() == expected, 40, "what was said last is what is stored")
    assert len(scene.annotations(standing=False)) == 38
    assert look(page, again) == later, "the page that was shown meanwhile comes again"
    page.keyboard.press("Enter")
    until(lambda: len(scene.stored()) == 39, 40, "the next page is answered as well")


def test_undo_goes_back_as_far_as_pages_were_confirmed_and_survives_a_reload(
    grid_stage: GridStage, open_page: Open
) -> None:
    scene = grid_stage(queries=40)
    page = open_page(scene)
    first = confirm(page)
    second = confirm(page, first)
    scene.saved(40)
    until(lambda: page.evaluate("Object.keys(localStorage).filter(key => key.includes('outbox')).length") == 0, 20, "-")
    page.reload()
    page.keyboard.press("z")
    assert see_page(page) == second
    page.keyboard.press("z")
    assert look(page, second) == first
    until(lambda: scene.answers() == [], 20, "both pages are taken back")
    page.evaluate(HEAR)
    page.keyboard.press("z")
    assert page.evaluate("heard[0]").startswith("There is no page to take back")
    confirm(page)
    confirm(page, first)
    assert set(stored(scene, 40)) == {*first, *second}


def test_offline_in_the_middle_of_pages_and_back_loses_nothing(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=60, classes=DIGITS[:3])
    page = open_page(scene)
    first = look(page)
    until(lambda: scene.leases() >= 40, 20, "the next page is held")
    page.context.set_offline(True)
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    second = look(page, first)
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    expect(page.locator("[data-part=outbox]")).to_contain_text("no connection")
    expect(page.locator(".stage")).to_contain_text("The server cannot be reached.")
    assert scene.answers() == []
    page.context.set_offline(False)
    third = confirm(page, second)
    ids = scene.class_ids
    expected = dict.fromkeys(first, ids["0"]) | dict.fromkeys(second[1:], ids["1"]) | dict.fromkeys(third, ids["2"])
    assert stored(scene, 59) == expected | {first[0]: ids["2"]}
    assert len(scene.annotations(standing=False)) == 59
    until(lambda: second[0] not in scene.of_class("1"), 20, "what went back went back as well")


def test_a_reload_with_a_full_outbox_sends_everything_once(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=40)
    page = open_page(scene)
    page.on("dialog", lambda dialog: dialog.accept())
    first = look(page)
    reconnect = cut_off(page)
    page.keyboard.press("Enter")
    second = see_page(page, first)
    page.reload()
    reconnect()
    assert stored(scene, 20) == dict.fromkeys(first, scene.class_ids["0"])
    assert len(scene.annotations(standing=False)) == 20
    assert confirm(page) == second, "what was held comes again"
    assert len(stored(scene, 40)) == 40


def test_the_single_page_sends_what_the_grid_has_left(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=40)
    page = open_page(scene)
    first = look(page)
    page.keyboard.press("Space")
    reconnect = cut_off(page, "*/answers", "*/answers/batch", "*/put-back")
    page.keyboard.press("Enter")
    see_page(page, first)
    page.locator(".tools").get_by_role("link", name="One by one").click()
    page.wait_for_selector(".stage .picture")
    reconnect()
    assert stored(scene, 19) == dict.fromkeys(first[1:], scene.class_ids["0"])
    until(lambda: first[0] not in scene.of_class("0"), 20, "and gives back what is not of the class")


def test_leaving_gives_everything_back(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=40)
    page = open_page(scene)
    see_page(page)
    until(lambda: scene.leases() == 40, 20, "both pages are held")
    page.get_by_role("link", name="One by one").click()
    page.wait_for_selector(".stage .picture")
    until(lambda: scene.leases() <= 6 and free(scene) >= 34, 20, "the pages are given back")


def test_a_lease_that_was_lost_takes_its_image_off_the_page(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=20)
    page = open_page(scene, before=move_clock)
    seen = see_page(page)
    until(lambda: scene.leases() == 20, 20, "both pages are held")
    page.wait_for_load_state("networkidle")  # and the browser knows of both
    with scene.database.transaction() as session:
        lost = select(Query.id).where(Query.project_id == scene.project_id, Query.image_id == seen[4])
        session.execute(Lease.__table__.delete().where(Lease.query_id.in_(lost)))  # type: ignore[attr-defined]
        session.commit()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    expect(page.get_by_role("dialog")).to_be_visible()
    for _ in range(6):
        page.clock.run_for(10_000)
    page.clock.resume()
    expect(page.get_by_role("dialog")).to_be_hidden()  # it was opened for an image that may have moved
    left = look(page, seen)
    assert left == [image for image in seen if image != seen[4]]
    assert selected(page) == [1], "the rest is as it was"
    page.keyboard.press("Enter")
    assert set(stored(scene, 8)) == {*left} - {seen[1]}


def test_answers_that_come_too_late_are_kept_and_told_in_one_notice(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=20)
    page = open_page(scene)
    seen = look(page)
    with scene.database.transaction() as session:
        closed = update(Query).where(Query.project_id == scene.project_id, Query.image_id.in_(seen[:3]))
        session.execute(closed.values(open_answers=0, closed_at=func.now()))
        session.commit()
    page.keyboard.press("Enter")
    assert set(stored(scene, 7)) == set(seen[3:])
    notice = page.locator("#notice .notice")
    expect(notice).to_have_count(1)
    expect(notice).to_contain_text("3 answers of the grid: its image has passed to somebody else")
    assert len(scene.annotations(standing=False)) == 10
    page.keyboard.press("z")
    assert set(see_page(page, scene.of_class("1"))) == set(seen[3:]), "only what counts can be taken back"


def test_a_class_that_was_retired_meanwhile_is_told_and_its_images_are_asked_one_by_one(
    grid_stage: GridStage, open_page: Open
) -> None:
    scene = grid_stage(queries=20, classes=DIGITS[:3])
    page = open_page(scene)
    seen = look(page)
    with scene.database.transaction() as session:
        session.execute(update(Class).where(Class.id == scene.class_ids["0"]).values(retired_at=func.now()))
        session.commit()
    page.keyboard.press("Enter")
    expect(page.locator("[data-part=changed]")).to_be_visible()
    until(lambda: len(scene.annotations(standing=False)) == len(seen), 20, "all of them were kept")
    assert scene.answers() == [], "and none counted"
    second = see_page(page, seen)
    assert second == scene.of_class("1")


def test_page_and_image_size_are_the_persons_own_and_remembered(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=60)
    page = open_page(scene)
    first = look(page)
    page.keyboard.press("Space")
    page.locator("[data-part=count]").select_option("6")
    smaller = see_page(page, first)
    assert smaller == first[:6]
    assert selected(page) == [0], "what was marked stays marked"
    until(lambda: scene.leases() == 12, 20, "the rest went back")
    page.locator("[data-part=side]").select_option("216")
    assert page.locator(".tile").first.bounding_box()["width"] == 216  # type: ignore[index]
    page.reload()
    assert len(see_page(page)) == 6
    assert page.locator(".tile").first.bounding_box()["width"] == 216  # type: ignore[index]
    assert page.locator(".tile img").first.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"


def test_a_class_can_be_chosen_and_stays_chosen(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=90, classes=DIGITS[:3])
    page = open_page(scene)
    first = see_page(page)
    until(lambda: scene.leases() == 30, 20, "the next page is held")
    page.locator("[data-part=classes]").select_option(str(scene.class_ids["2"]))
    chosen = look(page, first)
    assert chosen == scene.of_class("2")[:24]
    expect(page.locator("[data-part=classes] option:checked")).to_have_text("2 (30)")
    page.keyboard.press("Enter")
    rest = look(page, chosen)
    assert rest == scene.of_class("2")[24:]
    page.keyboard.press("Enter")
    assert stored(scene, 30) == dict.fromkeys(chosen + rest, scene.class_ids["2"])


def test_an_image_that_cannot_be_shown_is_asked_one_by_one(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=12)
    broken = scene.of_class("0")[2]
    with scene.database.transaction() as session:
        session.execute(update(Image).where(Image.id == broken).values(content_hash="f" * 64))
        session.commit()
    page = open_page(scene)
    page.wait_for_selector(".tile.is-broken")
    page.wait_for_selector(".stage[aria-busy=false]")
    assert selected(page) == [2]
    page.wait_for_timeout(600)
    page.locator(".tile").nth(2).click()
    assert selected(page) == [2]
    page.keyboard.press("1")
    assert page.locator(".tile-sign").nth(2).inner_text() == "✕", "nobody can say what it is"
    page.keyboard.press("Enter")
    assert len(stored(scene, 5)) == 5 and broken not in scene.stored()


def test_an_image_that_cannot_be_shown_may_be_called_unusable(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=12)
    broken = scene.of_class("0")[2]
    with scene.database.transaction() as session:
        session.execute(update(Image).where(Image.id == broken).values(content_hash="f" * 64))
        session.commit()
    page = open_page(scene)
    page.wait_for_selector(".tile.is-broken")
    page.wait_for_selector(".stage[aria-busy=false]")
    page.wait_for_timeout(600)
    move_to(page, 2)
    page.keyboard.press("s")
    page.keyboard.press("Space")
    assert page.locator(".tile-sign").nth(2).inner_text() == "✕", "it is still of no class"
    page.keyboard.press("x")
    page.keyboard.press("4")
    page.keyboard.press("Enter")
    scene.saved(6)
    [unusable] = [known for known in scene.annotations() if known.image_id == broken]
    assert (unusable.outcome, unusable.reason) == (Outcome.UNUSABLE, UnusableReason.BROKEN)


def test_touch_at_390_pixels(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=40, classes=DIGITS, wrong=[0])
    page = open_page(scene, **PHONE)
    seen = look(page)
    assert seen == scene.of_class("1")
    page.locator(".tile").nth(4).tap()
    page.get_by_role("button", name="0, key 0").tap()
    page.locator(".tile").nth(3).tap()
    assert selected(page) == [3, 4]
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    small = "buttons => buttons.filter(button => button.getClientRects().length && button.offsetHeight < 44).length"
    assert page.locator("button, select, .tools a").evaluate_all(small) == 0
    assert_accessible(page)
    page.locator("[data-action=confirm]").tap()
    ids = scene.class_ids
    assert stored(scene, 4) == dict.fromkeys(seen[:3], ids["1"]) | {seen[4]: ids["0"]}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_grid_is_accessible(grid_stage: GridStage, open_page: Open, scheme: str) -> None:
    page = open_page(grid_stage(queries=40), color_scheme=scheme)
    look(page)
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("1")
    assert_accessible(page)
    listbox = page.get_by_role("listbox", name="Images believed to be 0. Select those that are not.")
    assert listbox.get_attribute("aria-multiselectable") == "true"
    assert page.get_by_role("option", name="Image 2 of 20: 1", selected=True).count() == 1
    page.keyboard.press("?")
    assert_accessible(page)
    page.keyboard.press("Escape")


def test_a_class_beyond_the_keyboard_is_found_by_its_name(grid_stage: GridStage, open_page: Open) -> None:
    names = tuple(f"kind {number:03}" for number in range(120))
    scene = grid_stage(queries=240, classes=names)
    page = open_page(scene)
    seen = look(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.type("/kind 077")
    page.keyboard.press("Enter")
    assert selected(page) == [1]
    assert page.locator(".tile-sign").nth(1).inner_text() == "kind 077"
    page.keyboard.press("Enter")
    assert stored(scene, 2)[seen[1]] == scene.class_ids["kind 077"]


def question(page: Page) -> str:
    return page.locator("[data-part=question]").inner_text()


def test_before_the_first_network_a_page_of_images_that_look_alike_is_named_with_a_key_and_confirmed(
    grid_stage: GridStage, open_page: Open
) -> None:
    scene = grid_stage(queries=24, clusters=2, predicts=False)
    page = open_page(scene)
    seen = look(page)
    assert seen == scene.of_cluster(1)
    assert (question(page), button(page)) == ("Which class are these?", "Say their class first")
    expect(page.locator("[data-part=classes] option:checked")).to_have_text("Group 1 (12)")
    expect(page.locator("[data-action=name]")).to_be_hidden()
    assert_accessible(page)
    page.evaluate(HEAR)
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("1")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("0")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("s")
    assert page.evaluate("heard") == [
        "Say first which class these are.", "Image 2 is not of this group",
        "The page is of 1: select the images that are not", "Image 3 is 0 instead", "Image 4: Skipped",
    ]  # fmt: skip
    assert selected(page) == [1, 2, 3]
    assert (question(page), button(page)) == ("Which of these are not 1?", "Confirm 9 as 1")
    assert summary(page) == "1 of another class · 1 skipped · 1 asked one by one"
    assert_accessible(page)
    page.evaluate("heard.length = 0")
    page.keyboard.press("Enter")
    second = look(page, seen)
    assert second == scene.of_cluster(2) and question(page) == "Which class are these?"
    assert page.evaluate("heard.at(-1)").endswith("images that look alike, say first which class they are")
    scene.saved(11)
    ids = scene.class_ids
    of_one = [image for place, image in enumerate(seen) if place not in (1, 2, 3)]
    assert scene.stored() == dict.fromkeys(of_one, ids["1"]) | {seen[2]: ids["0"], seen[3]: None}
    assert all(known.in_cluster and not known.saw_prediction for known in scene.annotations()), "there was no guess"
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    assert stored(scene, 23) == scene.stored() | dict.fromkeys(second, ids["0"])
    until(lambda: seen[1] not in scene.of_cluster(1), 20, "what does not belong is asked one by one")


def test_a_group_comes_with_what_the_network_believes_of_most_of_it_and_may_be_named_anew(
    grid_stage: GridStage, open_page: Open
) -> None:
    scene = grid_stage(queries=60, classes=DIGITS[:3], clusters=3, wrong=[0])
    page = open_page(scene)
    first = look(page)
    assert question(page) == "Which of these are not 1?", "pages of classes come first"
    page.locator("[data-part=classes]").select_option("cluster-3")
    seen = look(page, first)
    assert seen == scene.of_cluster(3)
    assert question(page) == "Probably 2: which are not?"
    page.keyboard.press("Home")
    page.keyboard.press("1")
    assert selected(page) == [0], "a class is known, so the key is for the image with the frame"
    page.keyboard.press("Escape")
    assert (question(page), button(page)) == ("Which class are these?", "Say their class first")
    expect(page.locator("[data-action=confirm]")).to_have_attribute("aria-disabled", "true")
    page.get_by_role("button", name="Still 2").click()
    assert question(page) == "Probably 2: which are not?", "pressed twice, nothing has changed"
    page.get_by_role("button", name="Another class").click()
    page.get_by_role("button", name="1, key 1").click()
    assert (question(page), selected(page)) == ("Which of these are not 1?", [])
    page.locator(".tile").first.focus()
    page.keyboard.press("Enter")
    assert stored(scene, 20) == dict.fromkeys(seen, scene.class_ids["1"])
    assert all(known.in_cluster and known.saw_prediction for known in scene.annotations()), "the guess was shown"
    later = look(page, seen)
    assert later == scene.of_cluster(1), "the next group, since the person chose groups"
    page.keyboard.press("z")
    assert look(page, later) == seen
    assert question(page) == "Which of these are not 1?"
    until(lambda: scene.answers() == [], 20, "all of them are taken back")
    page.keyboard.press("Enter")
    assert stored(scene, 20) == dict.fromkeys(seen, scene.class_ids["1"])
    assert all(known.in_cluster for known in scene.annotations())


def test_answers_of_a_page_of_a_class_are_in_no_group(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=20, clusters=2)
    page = open_page(scene)
    confirm(page)
    scene.saved(10)
    assert all(known.saw_prediction and not known.in_cluster for known in scene.annotations())
    expect(page.locator("[data-action=name]")).to_be_hidden()


def test_a_group_of_which_nothing_belongs_needs_no_class(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=4, clusters=2, predicts=False)
    page = open_page(scene)
    seen = look(page)
    page.keyboard.press("Space")
    page.keyboard.press("End")
    page.keyboard.press("u")
    assert (button(page), summary(page)) == ("None is of this group", "1 unsure · 1 asked one by one")
    page.keyboard.press("Enter")
    scene.saved(1)
    assert scene.outcomes() == [(seen[1], Outcome.UNSURE)]


def test_a_group_at_390_pixels_by_touch(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=24, classes=DIGITS, clusters=3)
    page = open_page(scene, **PHONE)
    first = look(page)
    page.locator("[data-part=classes]").select_option("cluster-2")
    seen = look(page, first)
    page.get_by_role("button", name="Another class").tap()
    page.get_by_role("button", name="7, key 7").tap()
    page.locator(".tile").nth(1).tap()
    assert question(page) == "Which of these are not 7?"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    small = "buttons => buttons.filter(button => button.getClientRects().length && button.offsetHeight < 44).length"
    assert page.locator("button, select, .tools a").evaluate_all(small) == 0
    assert_accessible(page)
    page.locator("[data-action=confirm]").tap()
    assert stored(scene, 7) == dict.fromkeys(seen[:1] + seen[2:], scene.class_ids["7"])


def test_the_page_speaks_german(grid_stage: GridStage, open_page: Open) -> None:
    page = open_page(grid_stage(queries=20), locale="de-DE")
    look(page)
    expect(page.locator("[data-part=question]")).to_have_text("Welche davon sind nicht 0?")
    assert button(page) == "10 als 0 bestätigen"


def test_before_the_first_network_the_page_points_to_the_single_one(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=5, predicts=False)
    page = open_page(scene)
    expect(page.locator(".stage")).to_contain_text("There is no network yet")
    assert_accessible(page)
    page.get_by_role("link", name="Label one by one").last.click()
    page.wait_for_selector(".stage .picture")


def test_where_people_answer_blind_there_is_no_grid_unless_an_admin_allows_it(
    grid_stage: GridStage, open_page: Open, database: Database
) -> None:
    scene = grid_stage(queries=20, overlap=2)
    page = open_page(scene)
    expect(page.get_by_role("heading", name="There is no grid here")).to_be_visible()
    assert_accessible(page)
    page.goto(f"/projects/{scene.project_id}/label")
    page.wait_for_selector(".stage .picture")
    assert page.get_by_role("link", name="Grid").count() == 0
    with database.transaction() as session:
        allowed = update(Project).where(Project.id == scene.project_id)
        session.execute(allowed.values(reasons_shown=ReasonsShown.ALWAYS))
        session.commit()
    page.reload()
    page.get_by_role("link", name="Grid").click()
    shown = confirm(page)  # all of the class but what the single page has not given back yet
    assert set(stored(scene, len(shown))) == set(shown)


def test_a_paused_project_says_so_and_goes_on_by_itself(grid_stage: GridStage, open_page: Open) -> None:
    scene = grid_stage(queries=20, state=ProjectState.PAUSED)
    page = open_page(scene)
    expect(page.locator(".stage")).to_contain_text("The project is paused.")
    with scene.database.transaction() as session:
        running = update(Project).where(Project.id == scene.project_id)
        session.execute(running.values(state=ProjectState.RUNNING))
        session.commit()
    assert len(see_page(page)) == 10


def test_two_people_side_by_side_answer_everything_once(grid_stage: GridStage, open_grid: Open) -> None:
    scene = grid_stage(queries=96)
    pages = (open_grid(scene), open_grid(scene, somebody=True))
    for page in pages:
        page.locator("[data-part=count]").select_option("12")
    given: list[int] = []
    for page in pages * 4:
        given += confirm(page)
        scene.saved(len(given))
        page.wait_for_timeout(300)
    assert len(given) == len(set(given)) == 96
    assert set(scene.stored()) == set(given)


def test_a_server_that_knows_no_pages_of_answers_gets_them_one_by_one(grid_stage: GridStage, open_page: Open) -> None:
    """As while a new release is rolled out beside the one before."""
    scene = grid_stage(queries=20)
    page = open_page(scene)
    page.route("**/answers/batch", lambda route: route.fulfill(status=404, json={"error": "not_found"}))
    seen = look(page)
    page.keyboard.press("Enter")
    # the handler of the route runs only while the browser is talked to
    until(lambda: (page.wait_for_timeout(20), len(scene.answers()) == 10)[1], 40, "the page is saved")
    assert scene.stored() == dict.fromkeys(seen, scene.class_ids["0"])
    assert page.locator("#notice .notice").count() == 0


def test_a_reply_that_is_lost_after_the_answers_were_saved_saves_nothing_twice(
    grid_stage: GridStage, open_page: Open
) -> None:
    scene = grid_stage(queries=20)
    page = open_page(scene)
    lost: list[int] = []

    def lose(route: Route) -> None:
        if not lost:
            lost.append(route.fetch().status)
            route.abort()
        else:
            route.continue_()

    page.route("**/answers/batch", lose)
    seen = look(page)
    page.keyboard.press("Enter")
    # asking the page comes first: the handler of the route runs only while the browser is talked to
    hidden = page.locator("[data-part=outbox]").is_hidden
    until(lambda: hidden() and lost and len(scene.annotations(standing=False)) == 10, 40, "the outbox is empty")
    assert lost == [200]
    assert stored(scene, 10) == dict.fromkeys(seen, scene.class_ids["0"])
    assert len(scene.annotations(standing=False)) == 10
