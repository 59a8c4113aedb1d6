"""Review and quality in real Chromium: one key decides, accessible, light and dark, wide and narrow."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from app.database import Database
from app.records import Annotation, Image, LabelRule, Project, Role, User
from app.services import gold, projects
from app.storage import Storage
from tests.browser.labeling import DIGITS, assert_accessible, chromium, label, see, web
from tests.browser.web import WebServer
from tests.factories import make_project, make_round, make_user
from tests.service.answers import make_answered
from tests.waiting import until

__all__ = ["chromium", "web"]

VIEWS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


@dataclass(frozen=True)
class Scene:
    database: Database
    project_id: int
    admin: User

    def labels(self) -> list[str | None]:
        with self.database.transaction() as session:
            of_project = select(Image).where(Image.project_id == self.project_id).order_by(Image.row)
            return [None if image.label_rule is None else image.label_rule for image in session.scalars(of_project)]


@pytest.fixture
def scene(web: WebServer, database: Database) -> Scene:
    with database.transaction() as session:
        people = [make_user(session).id for _ in range(2)]
        storage = Storage(web.settings.storage)
        words = {people[0]: "01234?5555", people[1]: "0123456789"}
        project = make_answered(session, words, classes=DIGITS, storage=storage)
        admin = make_user(session, role=Role.ADMIN)
        session.commit()
    return Scene(database, project.id, admin)


def open_page(web: WebServer, browser: Browser, scene: Scene, path: str, **options: object) -> Page:
    page = web.context(browser, scene.admin, **options).new_page()  # type: ignore[arg-type]
    page.goto(f"/projects/{scene.project_id}/{path}")
    if path == "review" and options.get("java_script_enabled", True):
        page.wait_for_selector("#review form[data-htmx-powered]")  # before, a key sends the form as without a script
    return page


def test_one_key_decides_and_the_next_image_is_there(web: WebServer, chromium: Browser, scene: Scene) -> None:
    page = open_page(web, chromium, scene, "review")
    image = page.locator(".review-picture img")
    waiting = page.locator(".review p.faint").first
    expect(waiting).to_contain_text("5 waiting")
    first = image.get_attribute("src")
    page.keyboard.press("7")
    expect(page.locator("#review-said")).to_have_text("Decided: 7. 4 left.")
    second = image.get_attribute("src")
    assert second != first
    page.keyboard.press("s")  # later
    expect(image).not_to_have_attribute("src", second or "")
    expect(waiting).to_contain_text("4 waiting")
    page.keyboard.press("z")
    expect(page.locator("#review-said")).to_have_text("Taken back. 5 left.")
    expect(image).to_have_attribute("src", first or "")
    page.keyboard.press("8")
    expect(page.locator("#review-said")).to_have_text("Decided: 8. 4 left.")
    page.keyboard.press("x")
    expect(page.locator("#review-said")).to_have_text("Decided: unusable. 3 left.")
    assert scene.labels().count(LabelRule.REVIEW) == 1
    page.context.close()


def test_a_key_held_down_or_pressed_twice_decides_about_one_image(
    web: WebServer, chromium: Browser, scene: Scene
) -> None:
    page = open_page(web, chromium, scene, "review")
    expect(page.locator(".review")).to_be_visible()
    page.evaluate("""() => { for (let times = 0; times < 5; times += 1) document.body.dispatchEvent(
      new KeyboardEvent("keydown", { key: "3", code: "Digit3", bubbles: true, repeat: times > 2 })) }""")
    expect(page.locator("#review-said")).to_have_text("Decided: 3. 4 left.")
    assert scene.labels().count(LabelRule.REVIEW) == 1
    page.context.close()


def test_after_the_last_one_the_page_says_so_and_nothing_breaks(
    web: WebServer, chromium: Browser, scene: Scene
) -> None:
    page = open_page(web, chromium, scene, "review")
    for left in (4, 3, 2, 1):
        page.keyboard.press("1")
        expect(page.locator("#review-said")).to_have_text(f"Decided: 1. {left} left.")
    page.keyboard.press("1")
    expect(page.locator("#review-said")).to_have_text("Decided: 1. Nothing waits any more.")
    expect(page.get_by_role("heading", name="Nothing waits for a review")).to_be_visible()
    page.keyboard.press("1")
    page.keyboard.press("z")
    expect(page.locator("#review-said")).to_have_text("Taken back. 1 left.")
    page.context.close()


def test_reviewing_works_without_a_script(web: WebServer, chromium: Browser, scene: Scene) -> None:
    page = open_page(web, chromium, scene, "review", java_script_enabled=False)
    page.get_by_role("button", name="4", exact=True).click()
    expect(page.locator(".review p.faint").first).to_contain_text("4 waiting")
    assert scene.labels().count(LabelRule.REVIEW) == 1
    page.context.close()


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_the_pages_are_accessible_and_fit(
    web: WebServer, chromium: Browser, scene: Scene, width: int, scheme: str
) -> None:
    options = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme, "has_touch": width < 500}
    for path in ("review", "quality"):
        page = open_page(web, chromium, scene, path, **options)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert_accessible(page)
        page.context.close()


def test_a_person_is_told_the_known_answer_without_being_held_up(
    web: WebServer, chromium: Browser, database: Database
) -> None:
    with database.transaction() as session:
        user, storage = make_user(session), Storage(web.settings.storage)
        project = make_project(session, 30, DIGITS, storage=storage)
        gold.mark_named(session, project.id, [f"image-{row}.png" for row in range(20, 30)])
        projects.set_checks(session, project.id, gold_share=0.5, gold_feedback=True, repeat_share=0.0)
        make_round(session, project, queries=20)
        session.commit()
    page = web.context(chromium, user).new_page()
    page.goto(f"/projects/{project.id}/label")
    known = page.locator("[data-part=known]")
    seen: int | None = None
    for _ in range(12):  # every image truly is its row's last digit, so that most of these are wrong
        seen = label(page, "3", seen)
    expect(known).to_be_visible()
    expect(known).to_contain_text("Known image: ")
    see(page, seen)  # nothing has the focus or a dialog, and the next image is there
    assert_accessible(page)
    until(lambda: len(checks_of(database, project.id)) > 0, 20, "an answer to a gold image is kept")
    with database.transaction() as session:
        assert session.get_one(Project, project.id).labels_used < 12
    page.context.close()


def checks_of(database: Database, project_id: int) -> list[Annotation]:
    with database.transaction() as session:
        of_project = select(Annotation).where(Annotation.project_id == project_id, Annotation.is_check)
        return list(session.scalars(of_project))
