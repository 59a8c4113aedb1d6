"""People in real Chromium: their own statistics, an admin's page of members, and an outbox whose owner was removed."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, expect

from app.records import Outcome, Role, User
from app.services import claiming, labeling, members
from app.services.labeling import Answer
from tests.browser.labeling import (
    Open,
    Scene,
    Stage,
    assert_accessible,
    chromium,
    cut_off,
    label,
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

VIEWS = [(1280, "light"), (390, "dark")]  # every width and every scheme; other people's rows make these pages long


def team(scene: Scene) -> tuple[User, User]:
    """Let three people answer every image, mostly alike; return an admin and one of those without a name yet."""
    with scene.database.transaction() as session:
        admin = make_user(session, f"admin {uuid4().hex[:6]}", Role.ADMIN)
        others = [make_user(session, f"{name} {uuid4().hex[:6]}") for name in ("ada", "grace", "a rather long name")]
        members.set_group(session, others[0], "bird experts")
        members.set_access(session, scene.project_id, open_to_all=False, groups=["bird experts"])
        for user in (scene.user, *others[1:]):
            members.add(session, scene.project_id, user.id, admin.id)
        for number, user in enumerate((scene.user, *others[:2])):
            for place, ask in enumerate(claiming.claim(session, scene.project_id, user.id, 20, 600)):
                outcome = Outcome.UNSURE if place == 7 else Outcome.LABEL
                chosen = (
                    scene.class_ids[str((place + (place % 6 == number)) % 10)] if outcome is Outcome.LABEL else None
                )
                given = Answer(uuid4(), scene.project_id, ask.query_id, user.id, outcome, chosen)
                assert labeling.answer(session, given).counted
        members.remove(session, scene.project_id, others[1].id, admin.id)
        newcomer = make_user(session, f"newcomer {uuid4().hex[:6]}")
        session.commit()
    return admin, newcomer


def shown(page: Page, name: str) -> None:
    """Check a page as a whole; keep a picture of it where somebody wants to look."""
    assert_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]  # type: ignore[index]
    folder = os.environ.get("QUERENT_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_pages_of_people_are_accessible_and_fit(
    stage: Stage, web: WebServer, chromium: Browser, width: int, scheme: str
) -> None:
    scene = stage(12, overlap=3)
    admin, _ = team(scene)
    view = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme, "has_touch": width < 500}
    own = web.context(chromium, scene.user, **view).new_page()
    own.goto("/me")
    expect(own.get_by_role("heading", name="Your statistics")).to_be_visible()
    shown(own, f"me-{scheme}-{width}")
    own.goto("/me")
    own.get_by_role("button", name="Deutsch").click()
    expect(own.get_by_role("heading", name="Ihre Statistik")).to_be_visible()
    shown(own, f"me-de-{scheme}-{width}")
    own.goto(scene.path)
    expect(own.get_by_role("link", name="Statistik", exact=True)).to_be_visible()
    expect(own.locator("[data-action=undo]")).to_have_attribute("aria-disabled", "false")
    shown(own, f"label-{scheme}-{width}")
    page = web.context(chromium, admin, **view).new_page()
    for name, path in (("project-people", f"/projects/{scene.project_id}/people"), ("people", "/people")):
        page.goto(path)
        shown(page, f"{name}-{scheme}-{width}")
    page.goto("/projects/new")
    page.get_by_role("radio", name="Only people and groups").check()
    expect(page.get_by_label("People", exact=True)).to_be_visible()
    shown(page, f"new-project-{scheme}-{width}")
    with scene.database.transaction() as session:
        members.remove(session, scene.project_id, scene.user.id)
        session.commit()
    own.goto(scene.path)
    expect(own.get_by_role("heading", level=1)).to_have_text("Kein Mitglied mehr")
    shown(own, f"left-{scheme}-{width}")
    for context in (own.context, page.context):
        context.close()


def test_what_one_labels_is_in_ones_statistics_at_once(stage: Stage, open_page: Open) -> None:
    scene = stage(8)
    page = open_page(scene)
    label(page, "123")
    scene.saved(3)
    page.get_by_role("link", name="Statistics").click()
    row = page.get_by_role("row", name="Labels 3 3 3")
    expect(row).to_be_visible()
    expect(page.get_by_role("table").last).to_contain_text("3 of 1\u202f000")
    expect(page.get_by_role("table").last).to_contain_text("5 images are asked about now")
    page.get_by_role("main").locator(f'a[href="{scene.path}"]').first.click()  # other tests' projects are there too
    see(page)


def test_an_admin_adds_and_removes_a_member_without_a_script(stage: Stage, web: WebServer, chromium: Browser) -> None:
    scene = stage(12, overlap=3)
    admin, newcomer = team(scene)
    context = web.context(chromium, admin, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"/projects/{scene.project_id}")
    page.get_by_role("link", name="People", exact=True).last.click()
    page.get_by_label("Name", exact=True).fill(newcomer.name)
    page.get_by_role("button", name="Add", exact=True).click()
    row = page.get_by_role("row", name=newcomer.name)
    expect(row).to_contain_text("By name")
    row.get_by_role("button", name="Remove").click()
    expect(row).to_contain_text("Removed")
    page.get_by_role("radio", name="Everyone").check()
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.get_by_role("radio", name="Everyone")).to_be_checked()
    expect(page.get_by_role("row", name=newcomer.name)).to_contain_text("Removed")
    page.goto("/people")
    page.get_by_label(f"Group of {newcomer.name}").fill("Bird Experts")
    page.get_by_role("button", name=f"Set the group of {newcomer.name}").click()
    expect(page.get_by_label(f"Group of {newcomer.name}")).to_have_value("bird experts")
    context.close()


def removed(scene: Scene) -> None:
    with telling(scene.web) as database, database.transaction() as session:
        members.remove(session, scene.project_id, scene.user.id)
        session.commit()


def test_whoever_is_removed_while_offline_is_told_and_every_answer_is_kept(stage: Stage, open_page: Open) -> None:
    scene = stage(12)
    page = open_page(scene)
    seen = label(page, "12")
    scene.saved(2)
    reconnect = cut_off(page)
    label(page, "34", seen)
    removed(scene)
    reconnect()
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(page.locator("#notice")).to_contain_text("no longer a member of this project; the answer was kept")
    expect(page.locator("[data-part=stage]")).to_contain_text("You are no longer a member of this project")
    until(lambda: len(scene.annotations(standing=False)) == 4, 30, "both late answers are kept")
    rows = scene.annotations(standing=False)
    assert [(row.class_id, row.counted) for row in rows] == [(scene.class_ids[key], key in "12") for key in "1234"]
    assert scene.leases() == 0


def test_answers_that_waited_through_a_reload_are_kept_for_whoever_was_removed(stage: Stage, open_page: Open) -> None:
    scene = stage(12)
    page = open_page(scene)
    reconnect = cut_off(page)
    label(page, "345")
    page.wait_for_function("localStorage.length === 3")
    removed(scene)
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto("about:blank")
    reconnect()
    page.goto(scene.path)
    expect(page.get_by_role("heading", name="No longer a member")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text(
        "3 answers that waited here were kept, not counted. An admin can look at them."
    )
    assert page.evaluate("localStorage.length") == 0
    assert [(row.class_id, row.counted) for row in scene.annotations(standing=False)] == [
        (scene.class_ids[key], False) for key in "345"
    ]
