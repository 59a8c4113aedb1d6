"""The labeling page in real Chromium: every accepted press is one annotation, whatever happens on the way."""

from __future__ import annotations

import json
import signal
import statistics
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis
from playwright.sync_api import APIResponse, Dialog, Page, Route, expect
from sqlalchemy import exists, func, select, update

from app.database import Database
from app.outbox import EventKind, announce
from app.records import Class, Image, Outcome, ProjectState, Query, QuerySource, UnusableReason
from app.services import projects, rounds
from app.services.locks import lock_project
from app.services.rounds import RankedImage, RoundResult
from tests.browser.labeling import (
    DIGITS,
    HEAR,
    Open,
    Scene,
    Stage,
    assert_accessible,
    chromium,
    cut_off,
    is_heard,
    label,
    move_clock,
    open_page,
    see,
    somebody_else_answers_the_first,
    stage,
    telling,
    web,
)
from tests.browser.web import WebServer
from tests.factories import PASSWORD, make_user
from tests.waiting import until

__all__ = ["chromium", "open_page", "stage", "web"]


def test_a_whole_batch_is_labelled_with_the_keyboard(stage: Stage, open_page: Open) -> None:
    scene = stage(queries=20)
    page = open_page(scene)
    keys = "01234567890123456789"
    label(page, keys)
    assert scene.saved(20) == scene.expected(keys)
    assert all(known.seconds_taken is not None and known.seconds_taken >= 0 for known in scene.annotations())
    expect(page.locator("[data-part=progress]")).to_have_text(
        "20 of 20 in this batch · 20 of 1\u202f000 labels · round 0"
    )
    expect(page.locator(".stage")).to_contain_text("The network is learning from the last answers.")


def test_the_next_image_is_shown_without_waiting_for_the_server(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    on_the_way: list[Route] = []

    def hold(route: Route) -> None:
        on_the_way.append(route)

    first = see(page)
    until(lambda: scene.leases() >= 5, 20, "the next images are held")
    page.route("**/answers", hold)
    page.keyboard.press("1")
    assert see(page, first) == scene.image_ids[1]
    assert scene.answers() == []
    until(lambda: see(page) and on_the_way, 20, "the answer is on its way")
    on_the_way[0].continue_()
    scene.saved(1)


def test_a_key_held_down_labels_one_image(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    seen = see(page)
    for _ in range(20):
        page.keyboard.down("3")  # from the second on, the browser marks them as repeats
    see(page, seen)
    for _ in range(20):
        page.keyboard.down("3")
    page.keyboard.up("3")
    label(page, "4", seen)
    assert scene.saved(2) == scene.expected("34")


def test_enter_held_down_on_a_focused_class_labels_one_image(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    seen = see(page)
    page.get_by_role("button", name="5, key 5").focus()
    for _ in range(20):
        page.keyboard.down("Enter")
    see(page, seen)
    for _ in range(20):
        page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    label(page, "4", seen)
    assert scene.saved(2) == scene.expected("54")


def test_a_second_press_before_the_next_image_is_painted_is_told_not_counted(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    seen = see(page)
    page.evaluate(HEAR)
    page.evaluate(
        """() => { for (let press = 0; press < 2; press += 1) {
          document.dispatchEvent(new KeyboardEvent("keydown", { key: "3", code: "Digit3", bubbles: true }));
        } }"""
    )
    label(page, "4", seen)
    assert scene.saved(2) == scene.expected("34")
    heard = page.evaluate("heard")
    assert [text.split(",")[0].split(":")[0] for text in heard] == ["Labelled 3", "Too quick", "Labelled 4"]


def test_thirty_keys_typed_without_a_pause_are_each_saved_or_told(stage: Stage, open_page: Open) -> None:
    scene = stage(queries=40)
    page = open_page(scene)
    see(page)
    page.evaluate(HEAR)
    keys = "314159265358979323846264338327"
    page.keyboard.type(keys, delay=30)
    heard = until(lambda: [*page.evaluate("heard")][29:] and page.evaluate("heard"), 20, "every press was answered")
    accepted = "".join(key for key, text in zip(keys, heard, strict=True) if text.startswith(f"Labelled {key}"))
    refused = sum(text.startswith(("Too quick", "There is no image")) for text in heard)
    assert len(accepted) + refused == 30
    assert accepted, "the first image was on screen"
    assert scene.saved(len(accepted)) == scene.expected(accepted)
    label(page, "0" * 3)
    assert len(scene.saved(len(accepted) + 3)) == len(accepted) + 3


def test_labels_as_fast_as_images_are_painted_are_all_saved_in_order(
    stage: Stage, open_page: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = stage(queries=40)
    page = open_page(scene)
    keys = "0123456789" * 4
    label(page, keys)
    assert scene.saved(40) == scene.expected(keys)
    with capsys.disabled():
        for name in ("key-to-painted", "key-to-fetched-and-painted"):
            durations = page.evaluate("name => performance.getEntriesByName(name).map(item => item.duration)", name)
            cuts = statistics.quantiles([*durations, *durations] or [0, 0], n=20)
            sys.stdout.write(f"\n{name}: {len(durations)} presses, p50 {cuts[9]:.0f} ms, p95 {cuts[18]:.0f} ms")


def test_labeling_goes_on_while_offline_and_nothing_is_lost(stage: Stage, open_page: Open) -> None:
    scene = stage(queries=20)
    page = open_page(scene)
    seen = label(page, "01234")
    scene.saved(5)
    until(lambda: scene.leases() >= 5, 20, "the next images are held")
    page.context.set_offline(True)
    seen = label(page, "567", seen)
    expect(page.locator("[data-part=outbox]")).to_have_text("3 answers kept, no connection")
    assert len(scene.answers()) == 5
    page.context.set_offline(False)
    label(page, "890123456789", seen)
    assert scene.saved(20) == scene.expected("01234567890123456789")
    expect(page.locator("[data-part=outbox]")).to_be_hidden()


def test_a_reload_with_a_full_outbox_delivers_it(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    see(page)
    until(lambda: scene.leases() >= 5, 20, "the next images are held")
    reconnect = cut_off(page)
    label(page, "1234")
    expect(page.locator("[data-part=outbox]")).to_contain_text("4 answers kept")
    warned: list[str] = []

    def leave(dialog: Dialog) -> None:
        warned.append(dialog.type)
        dialog.accept()

    page.on("dialog", leave)
    page.reload()
    assert warned == ["beforeunload"]
    expect(page.locator("[data-part=outbox]")).to_contain_text("4 answers kept")
    reconnect()
    assert scene.saved(4) == scene.expected("1234")
    label(page, "5")
    assert [class_id for _, class_id in scene.saved(5)] == [scene.class_ids[key] for key in "12345"]
    until(lambda: page.evaluate("localStorage.length") == 0, 20, "the outbox is empty")


def test_undo_shows_the_image_again_and_the_second_answer_counts(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    seen = label(page, "12")
    third = see(page, seen)
    page.keyboard.press("Control+z")
    assert see(page, third) == scene.image_ids[1]
    page.keyboard.press("7")
    assert see(page, scene.image_ids[1]) == third
    page.keyboard.press("Backspace")
    see(page, third)
    page.get_by_role("button", name="Undo").click()
    assert see(page, scene.image_ids[1]) == scene.image_ids[0]
    label(page, "890")
    assert scene.saved(3) == scene.expected("890")
    assert [known.revoked_at is None for known in scene.annotations(standing=False)] == [
        False, False, False, True, True, True,
    ]  # fmt: skip


def test_undo_of_an_answer_that_is_still_on_its_way_keeps_the_order(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    see(page)
    until(lambda: scene.leases() >= 5, 20, "the next images are held")
    reconnect = cut_off(page)
    second = see(page, label(page, "1"))
    page.keyboard.press("z")
    assert see(page, second) == scene.image_ids[0], "shown before the server has heard of it"
    page.keyboard.press("2")
    see(page, scene.image_ids[0])
    assert scene.annotations(standing=False) == []
    reconnect()
    until(lambda: scene.answers() == scene.expected("2"), 20, "answer, undo and answer have arrived in this order")
    first, again = scene.annotations(standing=False)
    assert (first.class_id, first.revoked_at is None) == (scene.class_ids["1"], False)
    assert again.image_id == first.image_id


def test_undo_reaches_back_behind_a_reload(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    label(page, "12")
    scene.saved(2)
    page.reload()
    third = see(page)
    page.get_by_role("button", name="Undo").click()
    assert see(page, third) == scene.image_ids[1]
    label(page, "9")
    assert scene.saved(2) == scene.expected("19")


def test_skip_unsure_and_unusable_are_three_answers(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    seen = label(page, "su")
    see(page, seen)
    page.keyboard.press("x")
    page.keyboard.press("3")
    label(page, "1", scene.image_ids[2])
    until(lambda: len(scene.annotations()) == 4, 20, "four answers are saved")
    assert [(known.outcome, known.reason) for known in scene.annotations()] == [
        (Outcome.SKIP, None),
        (Outcome.UNSURE, None),
        (Outcome.UNUSABLE, UnusableReason.SEVERAL_CLASSES),
        (Outcome.LABEL, None),
    ]
    expect(page.locator("[data-part=progress]")).to_contain_text("1 of 1\u202f000 labels")


def test_class_keys_win_over_the_keys_of_other_answers(stage: Stage, open_page: Open) -> None:
    scene = stage(classes=tuple("rsuxz"))
    page = open_page(scene)
    keys = page.evaluate("[...document.querySelectorAll('#labeling [data-key]')].map(button => button.dataset.key)")
    assert len(keys) == len(set(keys))
    label(page, "sz")
    assert scene.saved(2) == scene.expected("sz")
    label(page, "k")
    until(lambda: len(scene.annotations()) == 3, 20, "three answers are saved")
    assert scene.annotations()[2].outcome is Outcome.SKIP


def test_two_pages_of_one_person_never_show_the_same_query(stage: Stage, open_page: Open) -> None:
    scene = stage(queries=40)
    page = open_page(scene)
    other = page.context.new_page()
    other.goto(scene.path)
    shown: list[int] = []
    seen: dict[Page, int | None] = {page: None, other: None}
    for turn in range(20):
        here = (page, other)[turn % 2]
        here.bring_to_front()
        image_id = seen[here] = see(here, seen[here])
        shown.append(image_id)
        here.keyboard.press("1")
    assert len(set(shown)) == 20
    assert sorted(image for image, _ in scene.saved(20)) == sorted(shown)


def test_a_killed_server_loses_no_answer(stage: Stage, open_page: Open, web: WebServer) -> None:
    scene = stage(queries=20)
    page = open_page(scene)
    seen = label(page, "0123")
    scene.saved(4)
    until(lambda: scene.leases() >= 3, 20, "the next images are held")
    web.end(signal.SIGKILL)
    try:
        seen = label(page, "45", seen)
        expect(page.locator("[data-part=outbox]")).to_contain_text("kept, server not reached")
    finally:
        web.start()
    label(page, "67890123456789", seen)
    assert scene.saved(20) == scene.expected("01234567890123456789")
    assert len(scene.annotations(standing=False)) == 20


def test_a_reply_that_got_lost_is_no_second_annotation(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    see(page)

    def deliver_and_break(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/answers", deliver_and_break, times=1)
    page.route("**/undo", deliver_and_break, times=1)
    seen = label(page, "12")
    until(lambda: see(page) and len(scene.answers()) == 2, 20, "both answers are saved")
    third = see(page, seen)
    page.keyboard.press("Backspace")
    see(page, third)
    page.keyboard.press("3")
    until(lambda: see(page) and scene.answers() == scene.expected("13"), 20, "the undo took back one answer, not two")
    assert len(scene.annotations(standing=False)) == 3
    expect(page.locator("#notice .notice")).to_have_count(0)


def test_a_lost_lease_is_told_and_the_page_goes_on(stage: Stage, open_page: Open) -> None:
    scene = stage(queries=6)
    page = open_page(scene)
    seen = see(page)
    until(lambda: scene.leases() >= 5, 20, "the next images are held")
    somebody_else_answers_the_first(scene)
    page.keyboard.press("1")
    expect(page.locator("#notice")).to_contain_text("its image has passed to somebody else")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator("#notice .notice")).to_have_count(0)
    label(page, "2", seen)
    until(lambda: scene.expected("2", start=1)[0] in scene.answers(), 20, "the next answer is saved")
    late = [known for known in scene.annotations(standing=False) if not known.counted]
    assert [(known.image_id, known.user_id) for known in late] == [(scene.image_ids[0], scene.user.id)]


def test_a_class_retired_meanwhile_is_told_and_the_page_goes_on(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    seen = see(page)
    with scene.database.transaction() as session:
        session.execute(update(Class).where(Class.id == scene.class_ids["1"]).values(retired_at=func.now()))
        session.commit()
    page.keyboard.press("1")
    expect(page.locator("#notice")).to_contain_text("this class is not given any more")
    expect(page.locator("[data-part=changed]")).to_be_visible()
    seen = label(page, "2", seen)
    assert see(page, seen) == scene.image_ids[0], "its image comes again"
    page.keyboard.press("3")
    assert scene.saved(2) == [*scene.expected("2", start=1), *scene.expected("3")]
    late = [known for known in scene.annotations(standing=False) if not known.counted]
    assert [known.class_id for known in late] == [scene.class_ids["1"]], "what was said is kept"


def test_answers_of_a_signed_out_person_are_kept_until_they_sign_in_again(stage: Stage, open_page: Open) -> None:
    scene = stage(password=PASSWORD)
    page = open_page(scene)
    see(page)
    until(lambda: scene.leases() >= 5, 20, "the next images are held")
    page.context.clear_cookies()
    label(page, "123")
    expect(page.locator("[data-part=signed-out]")).to_contain_text("You are signed out. Your 3 answers are kept.")
    page.get_by_role("link", name="Sign in again").click()
    page.locator("input[name=name]").fill(scene.user.name)
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("input[name=password]").press("Enter")
    page.wait_for_url(f"**{scene.path}")
    assert scene.saved(3) == scene.expected("123")


def test_signing_in_again_in_another_tab_needs_no_reload(stage: Stage, open_page: Open, web: WebServer) -> None:
    scene = stage()
    page = open_page(scene)
    see(page)
    web.sign_in(page.context, scene.user)  # a new session: the page's form token is not its own
    label(page, "123")
    assert scene.saved(3) == scene.expected("123")


def test_answers_are_never_sent_in_the_name_of_somebody_else(stage: Stage, open_page: Open, web: WebServer) -> None:
    scene = stage()
    page = open_page(scene)
    see(page)
    with scene.database.transaction() as session:
        somebody = make_user(session)
        session.commit()
    web.sign_in(page.context, somebody)
    label(page, "1")
    expect(page.locator("[data-part=stale-page]")).to_contain_text("Your answer is kept.")
    assert scene.annotations(standing=False) == []
    web.sign_in(page.context, scene.user)
    page.reload()
    assert scene.saved(1) == scene.expected("1")


def test_leaving_gives_the_held_queries_back(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    label(page, "1")
    scene.saved(1)
    until(lambda: scene.leases() >= 5, 20, "the next images are held")
    page.goto("about:blank")
    until(lambda: scene.leases() == 0, 20, "nothing is held any more")


def test_closing_the_tab_gives_the_held_queries_back(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    see(page)
    until(lambda: scene.leases() >= 5, 20, "the next images are held")
    page.close(run_before_unload=True)
    until(lambda: scene.leases() == 0, 20, "nothing is held any more")


def test_signing_out_in_another_tab_gives_the_held_queries_back(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    see(page)
    until(lambda: scene.leases() >= 5, 20, "the next images are held")
    other = page.context.new_page()
    other.goto("/")
    other.get_by_role("button", name="Sign out").click()
    expect(other.get_by_role("button", name="Sign in")).to_be_visible()
    assert scene.leases() == 0


def test_a_tab_that_slept_longer_than_its_leases_claims_again(stage: Stage, open_page: Open) -> None:
    scene = stage(queries=8)
    page = open_page(scene, before=move_clock)
    seen = see(page)
    until(lambda: scene.leases() >= 5, 20, "the next images are held")
    somebody_else_answers_the_first(scene)
    page.clock.fast_forward("05:00")
    assert see(page, seen) == scene.image_ids[1]
    page.clock.run_for(1_000)  # it came by itself: what is pressed at once would have been meant for the one before
    label(page, "2")
    until(lambda: scene.expected("2", start=1)[0] in scene.answers(), 20, "the answer counts")
    assert all(known.counted for known in scene.annotations(standing=False))


def test_leases_are_renewed_while_the_person_is_there(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene, before=move_clock)
    see(page)
    with page.expect_request("**/renew") as renewed:
        for _ in range(6):
            page.clock.run_for(8_000)
    assert len(json.loads(renewed.value.post_data or "")["query_ids"]) >= 5


def test_an_empty_page_says_why_and_goes_on_by_itself(stage: Stage, open_page: Open, web: WebServer) -> None:
    scene = stage(state=ProjectState.PAUSED)
    page = open_page(scene)
    expect(page.locator(".stage")).to_contain_text("The project is paused.")
    assert page.get_by_role("button", name="1, key 1").get_attribute("aria-disabled") == "true"
    with telling(web) as told, told.transaction() as session:
        projects.set_state(session, scene.project_id, ProjectState.RUNNING)
        session.commit()
    label(page, "1")
    assert scene.saved(1) == scene.expected("1")


def test_what_was_not_told_is_asked_for_as_soon_as_events_are_heard_again(
    stage: Stage, open_page: Open, web: WebServer
) -> None:
    scene = stage(state=ProjectState.PAUSED)
    page = open_page(scene, before=move_clock)
    expect(page.locator(".stage")).to_contain_text("The project is paused.")
    until(lambda: is_heard(web, scene), 20, "the page hears the project's events")
    page.clock.pause_at(datetime.now(UTC) + timedelta(seconds=5))  # so that no timer asks
    with scene.database.transaction() as session:  # which tells nobody
        projects.set_state(session, scene.project_id, ProjectState.RUNNING)
        session.commit()
    with redis.Redis.from_url(str(web.settings.redis_url)) as line:
        assert line.client_kill_filter(_type="pubsub")
    expect(page.locator(".stage")).not_to_contain_text("The project is paused.")
    page.clock.resume()
    label(page, "1")
    assert scene.saved(1) == scene.expected("1")


def test_the_page_says_what_the_worker_does(stage: Stage, open_page: Open, web: WebServer) -> None:
    scene = stage()
    page = open_page(scene)
    see(page)
    worker = page.locator("[data-part=worker]")
    said: list[tuple[EventKind, dict[str, Any], str]] = [
        (EventKind.ROUND, {"state": "running"}, "learning from the labels"),
        (EventKind.PROGRESS, {"stage": "fitting", "done": 12, "total": 60}, "fitting, epoch 12 of 60"),
        (
            EventKind.PROGRESS,
            {"stage": "scoring", "done": 1000, "total": 1377},
            "scoring, 1\u202f000 of 1\u202f377 images",
        ),
        (EventKind.ROUND, {"state": "done"}, "new queries are ready"),
    ]
    until(lambda: is_heard(web, scene), 20, "the page hears the project's events")
    with telling(web) as told:
        for kind, data, text in said:
            with told.transaction() as session:
                announce(session, scene.project_id, kind, number=1, **data)
                session.commit()
            expect(worker).to_have_text(text)


def test_reserve_queries_are_marked(stage: Stage, open_page: Open) -> None:
    scene = stage(queries=1, reserve=5)
    page = open_page(scene)
    see(page)
    expect(page.locator("[data-part=progress]")).not_to_contain_text("ahead of the next batch")
    label(page, "1")
    expect(page.locator("[data-part=progress]")).to_contain_text("1 of 1 in this batch")
    expect(page.locator("[data-part=progress]")).to_contain_text("ahead of the next batch")


def is_due(web: WebServer, scene: Scene) -> bool:
    with telling(web) as told, told.transaction() as session:
        return rounds.is_open(session, scene.project_id)


def end_the_round(web: WebServer, scene: Scene) -> list[int]:
    """End the project's round with a ranking of its unasked images, and tell open pages; return the ranking."""
    until(lambda: is_due(web, scene), 20, "the last answer of the batch has arrived")
    with telling(web) as told, told.transaction() as session:
        begun = rounds.begin(session, lock_project(session, scene.project_id))
        assert begun is not None
        unasked = ~exists().where(Query.image_id == Image.id)
        unasked_images = select(Image.id).where(Image.project_id == scene.project_id, unasked).order_by(Image.row)
        ranking = list(session.scalars(unasked_images))
        measured = {"test_accuracy": 0.941, "test_accuracy_low": 0.93, "test_accuracy_high": 0.95}
        ranked = [RankedImage(image_id, QuerySource.ACQUISITION) for image_id in ranking]
        assert rounds.finish(session, begun.id, begun.attempt, RoundResult(ranked, 5, {}, measured))
        session.commit()
    return ranking


def old_queries_are_closed(database: Database, scene: Scene) -> bool:
    newest = select(func.max(Query.round_id)).where(Query.project_id == scene.project_id).scalar_subquery()
    left = select(func.count()).where(
        Query.project_id == scene.project_id, Query.round_id != newest, Query.closed_at.is_(None)
    )
    with database.transaction() as session:
        return session.scalar(left) == 0


def test_the_new_models_queries_come_as_soon_as_its_round_is_done(
    stage: Stage, open_page: Open, web: WebServer, database: Database
) -> None:
    scene = stage(queries=1, reserve=6, spare=20)
    page = open_page(scene)
    seen = label(page, "1")
    on_screen = see(page, seen)
    until(lambda: scene.leases() >= 3, 20, "reserve queries are held ahead")
    ranking = end_the_round(web, scene)
    expect(page.locator("[data-part=worker]")).to_contain_text("94.1%")
    expect(page.locator("[data-part=progress]")).to_contain_text("round 1")
    assert see(page) == on_screen, "what is on screen stays"
    assert label(page, "23", None) == ranking[0]
    until(lambda: old_queries_are_closed(database, scene), 20, "old queries are closed")


def test_old_queries_that_arrive_after_the_round_is_done_are_given_back(
    stage: Stage, open_page: Open, web: WebServer, database: Database
) -> None:
    scene = stage(queries=1, reserve=6, spare=20)
    page = open_page(scene)
    see(page)
    late: list[tuple[Route, APIResponse]] = []

    def hold_back(route: Route) -> None:
        reply = route.fetch()
        if reply.json()["queries"] and not late:
            late.append((route, reply))
        else:
            route.fulfill(response=reply)

    page.route("**/claim", hold_back)
    seen = label(page, "1")
    on_screen = see(page, seen)
    until(lambda: (page.wait_for_timeout(20), late)[1], 20, "more reserve queries are on their way")
    ranking = end_the_round(web, scene)
    expect(page.locator("[data-part=worker]")).to_contain_text("94.1%")
    [(route, reply)] = late
    route.fulfill(response=reply)
    assert label(page, "23", None) == ranking[0], on_screen
    until(lambda: (page.wait_for_timeout(20), old_queries_are_closed(database, scene))[1], 20, "old ones are closed")


def test_an_image_that_cannot_be_fetched_does_not_block_the_page(stage: Stage, open_page: Open) -> None:
    scene = stage(side=100)  # smaller ones come along with their queries
    page = open_page(scene)
    see(page)
    until(lambda: scene.leases() >= 5, 20, "the next images are held")
    cut_off(page, f"*/images/{scene.image_ids[7]}*")
    seen = label(page, "1234567")
    expect(page.locator(".stage")).to_contain_text("This image cannot be shown")
    page.keyboard.press("x")
    page.keyboard.press("4")
    assert see(page, seen) == scene.image_ids[8]
    page.keyboard.press("8")
    until(lambda: len(scene.annotations()) == 9, 20, "all answers are saved")
    assert [known.outcome for known in scene.annotations()][6:] == [Outcome.LABEL, Outcome.UNUSABLE, Outcome.LABEL]


def test_small_pictures_stay_crisp(stage: Stage, open_page: Open) -> None:
    page = open_page(stage())
    see(page)
    picture = page.locator(".stage .picture")
    assert picture.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"
    box = picture.bounding_box()
    assert box is not None
    assert box["height"] > 400
    assert abs(box["height"] - box["width"]) < 1


@pytest.mark.parametrize(
    "classes", [DIGITS, ("aeroplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse")]
)
def test_a_phone_labels_by_touch(stage: Stage, open_page: Open, classes: tuple[str, ...]) -> None:
    scene = stage(classes=classes)
    page = open_page(scene, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    seen = None
    for name in classes[:3]:
        seen = see(page, seen)
        page.get_by_role("button", name=f"{name}, key").tap()
    assert [class_id for _, class_id in scene.saved(3)] == [scene.class_ids[name] for name in classes[:3]]
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for button in page.locator(".answers button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["width"] >= 44
        assert box["height"] >= 44
        assert box["y"] + box["height"] <= 844


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_accessible(stage: Stage, open_page: Open, scheme: str, width: int) -> None:
    scene = stage()
    size = {"width": width, "height": 844}
    page = open_page(scene, viewport=size, color_scheme=scheme, reduced_motion="reduce")
    seen = see(page)
    assert_accessible(page)
    until(lambda: scene.leases() >= 5, 20, "the next images are held")
    somebody_else_answers_the_first(scene)
    page.keyboard.press("1")
    page.context.clear_cookies()
    see(page, seen)
    page.keyboard.press("2")
    expect(page.locator("[data-part=signed-out]")).to_be_visible()
    expect(page.locator("#notice .notice")).to_be_visible()
    assert_accessible(page)


def test_what_happened_is_said(stage: Stage, open_page: Open) -> None:
    page = open_page(stage(classes=("cat", "dog")))
    see(page)
    page.keyboard.press("2")
    live = page.locator("[data-part=live]")
    expect(live).to_have_text("Labelled dog, next image")
    assert live.get_attribute("aria-live") == "polite"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("claim", {"count": 0}, 422),
        ("claim", {"count": 5, "more": 1}, 422),
        ("answers", {"client_id": "no uuid", "query_id": 1, "outcome": "label"}, 422),
        ("answers", {"client_id": str(uuid4()), "query_id": 2**63, "outcome": "label", "class_id": 1}, 422),
        ("answers", {"client_id": str(uuid4()), "query_id": 1, "outcome": "maybe"}, 422),
        ("answers", {"client_id": str(uuid4()), "query_id": 1, "outcome": "skip", "seconds_taken": -1}, 422),
        ("answers", {"client_id": str(uuid4()), "query_id": 2**40, "outcome": "skip"}, 404),
        ("undo", {}, 409),
        ("undo", {"client_id": str(uuid4())}, 409),
    ],
)
def test_bad_requests_get_a_clear_message(
    stage: Stage, web: WebServer, path: str, body: dict[str, object], status: int
) -> None:
    scene = stage(queries=1)
    with web.client(scene.user) as client:
        answer = client.post(f"/projects/{scene.project_id}/{path}", json=body)
    assert answer.status_code == status
    assert {"error", "subject", "reason", "remedy", "message"} <= answer.json().keys()
    assert scene.annotations(standing=False) == []


def test_a_request_without_the_pages_token_is_refused(stage: Stage, web: WebServer) -> None:
    scene = stage(queries=1)
    with web.client(scene.user) as client:
        answer = client.post(f"/projects/{scene.project_id}/claim", json={"count": 1}, headers={"X-Form-Token": "no"})
    assert (answer.status_code, answer.json()["error"]) == (403, "foreign_form")


def test_the_script_needs_no_secure_context(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    page.add_init_script("delete Crypto.prototype.randomUUID")
    page.reload()
    label(page, "12")
    scene.saved(2)
    assert {known.client_id.version for known in scene.annotations()} == {4}
