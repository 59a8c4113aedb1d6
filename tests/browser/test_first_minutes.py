"""A newcomer's first minutes with a live ``querent up``: sign in, label a batch, watch it learn, look at everything.

Screenshots of every page in light and dark, 1280 and 390 px wide, are left in the folder that
``QUERENT_SCREENSHOTS`` names, if it names one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright
from sqlalchemy import create_engine, text

from app.embedded import servers
from app.settings import load_settings
from tests.browser.chromium import ARGUMENTS, CHROMIUM
from tests.browser.labeling import label, see
from tests.processes import Product, running
from tests.waiting import until

PASSWORD = "a password for tests"
LOOKS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 390)]
ROUND_SECONDS = 120_000
UNSENT = "() => Object.keys(localStorage).filter(key => key.startsWith('querent.outbox.')).length"
# a colour that is still fading in has less contrast; what pulses for ever is left out
SETTLED = """() => Promise.all(document.getAnimations()
  .filter(running => running.effect.getComputedTiming().endTime !== Infinity)
  .map(running => running.finished))"""


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """A product with its demo project, as a newcomer starts it."""
    with TemporaryDirectory(prefix="querent-first-") as folder, running(Path(folder) / "home") as started:
        assert started.url
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


class Visitor:
    """A page whose console is listened to: a violation of the content security policy would be heard."""

    def __init__(self, context: BrowserContext) -> None:
        self.complaints: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


def sign_in_link(product: Product) -> str:
    found = until(lambda: re.search(r"http\S+/sign-in/\S+", product.said), 60, "the link is printed")
    return found.group(0)


@pytest.fixture(scope="module")
def admin(product: Product, browser: Browser) -> Iterator[BrowserContext]:
    """A browser in which the admin has chosen a password."""
    context = browser.new_context(base_url=product.url, viewport={"width": 1280, "height": 800})
    visitor = Visitor(context)
    visitor.page.goto(sign_in_link(product))
    visitor.page.get_by_label("Password").fill(PASSWORD)
    visitor.page.get_by_role("button", name="Save and sign in").click()
    expect(visitor.page.get_by_role("link", name="Handwritten digits").first).to_be_visible()
    assert visitor.complaints == []
    visitor.page.close()
    yield context
    context.close()


@pytest.fixture(scope="module")
def demo(admin: BrowserContext) -> str:
    """The demo project's path, once its seed set is chosen."""
    page = admin.new_page()
    page.goto("/")
    page.get_by_role("link", name="Handwritten digits").first.click()
    page.wait_for_url("**/projects/*")
    path = page.url.split("//", 1)[1].split("/", 1)[1]
    expect(page.locator("#side")).to_contain_text(re.compile("0 of 20|20 "), timeout=ROUND_SECONDS)
    page.close()
    return f"/{path}"


def test_a_batch_is_labelled_the_round_runs_and_the_next_batch_comes_from_the_new_model(
    admin: BrowserContext, demo: str, product: Product
) -> None:
    watching, labeling = Visitor(admin), Visitor(admin)
    watching.page.goto(demo)
    expect(watching.page.locator("#curve-table")).to_have_count(0)
    labeling.page.goto(f"{demo}/label")
    last = label(labeling.page, "01234567890123456789")
    rows = watching.page.locator("#curve-table tbody tr")
    expect(rows).to_have_count(1, timeout=ROUND_SECONDS)  # live: nobody reloaded the project's page
    assert int(rows.first.get_attribute("data-labels") or 0) >= 20
    assert watching.page.locator("#curve canvas").count() == 1
    expect(labeling.page.locator("[data-part=progress]")).to_contain_text("round 1", timeout=ROUND_SECONDS)
    label(labeling.page, "01234", last)
    until(lambda: labeling.page.evaluate(UNSENT) == 0, 60, "all answers are delivered")
    labeling.page.goto(demo)
    watching.page.goto(f"{demo}/rounds")
    expect(watching.page.locator("body")).to_contain_text("20")
    for number in (0, 1):
        watching.page.goto(f"{demo}/rounds/{number}")
        expect(watching.page.locator(".query img").first).to_be_visible()
    expect(watching.page.locator(".query-answer:not(.is-open)").first).to_be_visible()
    assert shown_sources(product) >= {"seed", "acquisition"}
    assert watching.complaints == []
    assert labeling.complaints == []
    watching.page.close()
    labeling.page.close()


def shown_sources(product: Product) -> set[str]:
    """Return the sources of the queries that were answered, as the database has them."""

    embedded = load_settings(home=product.home).model_copy(update={"database_url": None, "redis_url": None})
    with servers(embedded) as running_servers:
        engine = create_engine(str(running_servers.database_url))
        with engine.connect() as connection:
            asked = "SELECT DISTINCT source FROM queries JOIN annotations ON annotations.query_id = queries.id"
            found = {str(source) for source in connection.scalars(text(asked))}
        engine.dispose()
    return found


def test_the_simulated_oracle_takes_over_in_the_browser_and_hands_back(admin: BrowserContext, demo: str) -> None:
    visitor = Visitor(admin)
    page = visitor.page
    page.goto(demo)
    points = page.locator("#curve-table tbody tr")
    expect(points.first).to_be_attached()
    before = points.count()
    page.get_by_role("radio", name=re.compile("^Simulated")).check()
    page.locator("#controls").get_by_role("button", name="Set oracle").click()
    until(lambda: points.count() >= before + 2, 180, "two more rounds answered by the simulation")
    page.get_by_role("radio", name=re.compile("^Human")).check()
    page.locator("#controls").get_by_role("button", name="Set oracle").click()
    expect(page.get_by_role("radio", name=re.compile("^Human"))).to_be_checked()
    assert visitor.complaints == []
    page.close()


@pytest.mark.parametrize(("scheme", "width"), LOOKS, ids=str)
def test_every_page_is_whole_and_accessible_in_every_look(
    admin: BrowserContext, browser: Browser, demo: str, product: Product, scheme: str, width: int
) -> None:
    context = browser.new_context(
        base_url=product.url,
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
        has_touch=width < 600,
        storage_state=admin.storage_state(),
    )
    visitor = Visitor(context)
    pages = {
        "projects": "/",
        "new-project": "/projects/new",
        "project": demo,
        "labeling": f"{demo}/label",
        "rounds": f"{demo}/rounds",
        "round": f"{demo}/rounds/1",
        "people": "/people",
    }
    for name, path in pages.items():
        visitor.page.goto(path)
        visitor.page.wait_for_load_state("load")
        if name == "labeling":
            see(visitor.page)
        save(visitor.page, f"{name}-{scheme}-{width}")
        overflow = visitor.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, f"{name} is {overflow} px too wide at {width} px"
        visitor.page.evaluate(SETTLED)
        found = Axe().run(visitor.page)
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
    assert visitor.complaints == []
    context.close()


@pytest.mark.parametrize(("scheme", "width"), LOOKS, ids=str)
def test_the_way_in_is_whole_and_accessible(browser: Browser, product: Product, scheme: str, width: int) -> None:
    context = browser.new_context(
        base_url=product.url,
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    page.goto("/sign-in")
    save(page, f"sign-in-{scheme}-{width}")
    assert Axe().run(page).violations_count == 0
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("body")).to_contain_text("do not fit together")
    context.close()


def save(page: Page, name: str) -> None:
    folder = os.environ.get("QUERENT_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
