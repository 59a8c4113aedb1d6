"""The pages in real Chromium: light and dark, wide and narrow, accessible, and without a breach of the policy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from app.database import Database
from app.events import Bus, WorkerSeen
from app.records import ProjectState, Role, User
from app.services import projects, rounds
from app.settings import Settings
from app.storage import Storage
from tests.browser.chromium import ARGUMENTS, CHROMIUM
from tests.browser.web import WebServer
from tests.factories import PASSWORD, make_project, make_user
from tests.service.web import LABELER, fill_history
from tests.unit.benchmark.factories import make_line, make_results_folder
from worker.benchmark.records import Folder
from worker.benchmark.report import write_report

WATCH = """document.addEventListener("securitypolicyviolation",
  event => { (window.breaches ??= []).push(event.violatedDirective) })"""
VIEWS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
PAGES = (
    "/",
    "/projects/{id}",
    "/projects/{id}/rounds",
    "/projects/{id}/rounds/1",
    "/projects/{id}/ledger",
    "/projects/{id}/ledger?show=withdrawn",
    "/people",
    "/projects/new",
    "/benchmarks",
    "/benchmarks/tiny-quick",
    "/benchmarks/going-quick",
    "/gone",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def web(servers: Settings, database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    assert database
    started = WebServer(servers.model_copy(update={"home": tmp_path_factory.mktemp("web")}))
    make_benchmarks(started.settings.results_folder)
    started.start()
    yield started
    started.end()


def make_benchmarks(folder: Path) -> None:
    """One benchmark that has ended, with its report, one that goes on and one that cannot be read."""
    write_report(make_results_folder(folder / "tiny-quick", title="A tiny experiment with a title of some length").path)
    make_results_folder(folder / "going-quick", seeds=1, wanted=3)
    (make_results_folder(folder / "broken-quick").path / "experiment.json").write_text("{")


@pytest.fixture(scope="module")
def admin(database: Database) -> User:
    with database.transaction() as session:
        user = make_user(session, f"admin {uuid4().hex[:6]}", Role.ADMIN, PASSWORD)
        session.commit()
    return user


@pytest.fixture
def project_id(web: WebServer, database: Database) -> int:
    with database.transaction() as session:
        project = make_project(session, 60, test_images=10, storage=Storage(web.settings.storage), recipe=LABELER)
        fill_history(session, project, 3)
        session.commit()
        return project.id


def open_page(web: WebServer, browser: Browser, user: User, width: int = 1280, scheme: str = "light") -> Page:
    page = web.context(
        browser, user, viewport={"width": width, "height": 844}, color_scheme=scheme, has_touch=width < 500
    ).new_page()
    page.add_init_script(WATCH)
    return page


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_pages_are_accessible_fit_and_keep_the_policy(
    web: WebServer, browser: Browser, admin: User, project_id: int, width: int, scheme: str
) -> None:
    page = open_page(web, browser, admin, width, scheme)
    for path in PAGES:
        page.goto(path.format(id=project_id))
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate("window.breaches ?? []") == [], path
        found = Axe().run(page)
        assert not found.violations_count, f"{path}: {found.generate_report()}"


def test_signing_in_leads_to_one_obvious_button(web: WebServer, browser: Browser, admin: User, project_id: int) -> None:
    assert project_id
    page = browser.new_page(base_url=web.url)
    page.goto("/")
    page.get_by_label("Name").fill(admin.name)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Projects", level=1)).to_be_visible()
    assert page.locator("main .primary").count() == 1
    expect(page.locator("main .primary")).to_contain_text("Label images")


def test_the_curve_is_drawn_and_says_its_numbers_in_a_table(
    web: WebServer, browser: Browser, admin: User, project_id: int
) -> None:
    page = open_page(web, browser, admin)
    page.goto(f"/projects/{project_id}")
    expect(page.locator("#curve canvas")).to_be_visible()
    page.get_by_text("Table", exact=True).click()
    expect(page.get_by_role("cell", name="25.0–75.0%")).to_have_count(2)
    page.locator("#curve .u-over").hover(position={"x": 30, "y": 60})
    expect(page.locator(".chart-tip")).to_contain_text("labels · 50.0")


def test_a_refresh_leaves_open_what_was_opened_and_the_chart_alone(
    web: WebServer, browser: Browser, admin: User, project_id: int
) -> None:
    page = open_page(web, browser, admin)
    page.goto(f"/projects/{project_id}")
    page.get_by_text("Table", exact=True).click()
    page.evaluate("document.querySelector('#curve canvas').dataset.first = 'yes'")
    with page.expect_response(f"**/projects/{project_id}/live"):
        page.evaluate("htmx.trigger('#live', 'querent:refresh')")
    expect(page.locator("#live.htmx-request")).to_have_count(0)
    expect(page.locator("#curve-table")).to_be_visible()
    expect(page.locator("#curve canvas[data-first]")).to_be_visible()


def test_the_page_follows_a_round_while_it_runs(
    web: WebServer, browser: Browser, admin: User, project_id: int, database: Database
) -> None:
    bus = Bus(str(web.settings.redis_url))
    bus.beat(WorkerSeen("tester", "cpu", "a test", "2", 1, datetime.now(UTC).isoformat()))
    telling = Database(str(web.settings.database_url), bus.deliver)
    page = open_page(web, browser, admin)
    page.goto(f"/projects/{project_id}")
    expect(page.locator("#worker")).to_contain_text("Idle")
    page.get_by_role("button", name="Run a round now").click()
    expect(page.locator("#worker-state")).to_have_text("Round 3 waits")
    with telling.transaction() as session:
        begun = rounds.begin(session, projects.get(session, project_id))
        session.commit()
    assert begun
    expect(page.locator("#worker-state")).to_have_text("Round 3")
    for done in (3, 7):
        with telling.transaction() as session:
            progress = {"stage": "fitting", "done": done, "total": 60, "loss": 0.5, "validation_accuracy": 0.75}
            rounds.report(session, begun.id, begun.attempt, progress)
            session.commit()
        expect(page.locator("#worker")).to_contain_text(f"Epoch {done} of at most 60")
    expect(page.locator("#worker")).to_contain_text("loss 0.500 · validation 75.0")
    with telling.transaction() as session:
        rounds.fail(session, begun.id, begun.attempt, "a cosmic ray")
        session.commit()
    expect(page.locator("#worker")).to_contain_text("a cosmic ray")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#worker-state")).to_have_text("Round 4 waits")
    assert page.evaluate("window.breaches ?? []") == []
    bus.farewell("tester")
    telling.close()
    bus.close()


def test_a_refused_change_is_told_in_a_notice_and_the_page_stays(
    web: WebServer, browser: Browser, admin: User, project_id: int, database: Database
) -> None:
    page = open_page(web, browser, admin)
    page.goto(f"/projects/{project_id}")
    with database.transaction() as session:
        projects.set_state(session, project_id, ProjectState.PAUSED)
        session.commit()
    page.get_by_role("button", name="Run a round now").click()
    expect(page.locator("#notice")).to_contain_text("Start it first")
    expect(page.locator("#controls")).to_contain_text("Oracle: who answers")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator("#notice")).to_be_empty()


def test_pausing_and_switching_the_oracle_change_the_page(
    web: WebServer, browser: Browser, admin: User, project_id: int
) -> None:
    page = open_page(web, browser, admin)
    page.goto(f"/projects/{project_id}")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Start")).to_be_visible()
    page.get_by_role("radio", name="Simulated").check()
    page.get_by_label("Wrong simulated answers").fill("5")
    with page.expect_response(lambda response: response.url.endswith("/oracle")):  # a reload would cut it off
        page.get_by_role("button", name="Set oracle").click()
    page.reload()
    expect(page.get_by_role("radio", name="Simulated")).to_be_checked()
    expect(page.get_by_label("Wrong simulated answers")).to_have_value("5")


def test_an_admin_corrects_an_entry_of_the_ledger_where_it_stands(
    web: WebServer, browser: Browser, admin: User, project_id: int
) -> None:
    page = open_page(web, browser, admin)
    page.goto(f"/projects/{project_id}/ledger")
    cards = page.locator(".query")
    before = cards.count()
    card = page.locator(f"#{cards.first.get_attribute('id')}")
    said = card.locator(".query-answer").inner_text()
    other = "2" if said != "2" else "0"
    card.get_by_text("Correct").click()
    card.get_by_label("What it is").select_option(label=other)
    card.get_by_role("button", name="Save").click()
    expect(card).to_contain_text(f"A person said {other}")
    expect(card.get_by_role("button")).to_have_count(0)
    expect(cards).to_have_count(before)
    page.reload()
    expect(cards).to_have_count(before - 1)
    page.get_by_label("Show").select_option("answered")
    page.get_by_role("button", name="Filter").click()
    expect(cards).to_have_count(1)
    expect(cards).to_contain_text(f"A person said {other}")
    page.goto(f"/projects/{project_id}")
    expect(page.locator("#ledger")).to_contain_text("0 of 1 agreed")
    expect(page.locator("#figures")).to_contain_text("Labels given\n1")
    assert page.evaluate("window.breaches ?? []") == []


def test_a_correction_that_is_refused_leaves_the_card_and_says_why(
    web: WebServer, browser: Browser, admin: User, project_id: int, database: Database
) -> None:
    with database.transaction() as session:
        project = projects.get(session, project_id)
        project.budget = project.labels_used = 1
        session.commit()
    page = open_page(web, browser, admin)
    page.goto(f"/projects/{project_id}/ledger")
    card = page.locator(f"#{page.locator('.query').first.get_attribute('id')}")
    card.get_by_text("Correct").click()
    card.get_by_label("What it is").select_option(index=1)
    card.get_by_role("button", name="Save").click()
    expect(page.locator("#notice")).to_contain_text("Raise the budget")
    card.get_by_label("What it is").select_option("unusable")
    card.get_by_role("button", name="Save").click()
    expect(card).to_contain_text("A person found the image unusable")


def test_the_ledger_is_corrected_without_script(web: WebServer, browser: Browser, admin: User, project_id: int) -> None:
    page = web.context(browser, admin, java_script_enabled=False).new_page()
    page.goto(f"/projects/{project_id}/ledger")
    before = page.locator(".query").count()
    page.locator(".query summary").first.click()
    page.locator(".query select").first.select_option("unsure")
    page.locator(".query").first.get_by_role("button", name="Save").click()
    expect(page.locator(".query")).to_have_count(before - 1)


def test_the_form_works_without_script(web: WebServer, browser: Browser, admin: User) -> None:
    page = web.context(browser, admin, java_script_enabled=False).new_page()
    page.goto("/projects/new")
    page.get_by_label("Name", exact=True).fill(f"made plainly {uuid4().hex[:6]}")
    page.get_by_label("Handwritten digits").check()
    page.get_by_label("Budget", exact=True).fill("0")
    page.get_by_role("button", name="Make project").click()
    expect(page.locator("#budget-error")).to_contain_text("Use a whole number from 1")
    page.get_by_label("Budget", exact=True).fill("50")
    page.get_by_role("button", name="Make project").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("made plainly")
    page.get_by_role("button", name="Pause").or_(page.get_by_role("button", name="Start")).click()
    expect(page.locator("main")).to_contain_text("no images yet")


def test_an_upload_that_is_no_zip_comes_back_with_what_was_typed(web: WebServer, browser: Browser, admin: User) -> None:
    page = open_page(web, browser, admin)
    page.goto("/projects/new")
    page.get_by_label("Name", exact=True).fill("pets")
    file = {"name": "pets.zip", "mimeType": "application/zip", "buffer": b"no zip at all"}
    page.get_by_label("Archive").set_input_files(file)  # type: ignore[arg-type]
    page.get_by_role("button", name="Make project").click()
    expect(page.locator("#archive-error")).to_contain_text("pets.zip is no zip archive")
    expect(page.get_by_label("Name", exact=True)).to_have_value("pets")


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_a_report_is_accessible_and_fits(web: WebServer, browser: Browser, width: int, scheme: str) -> None:
    page = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme).new_page()  # type: ignore[arg-type]
    page.goto((web.settings.results_folder / "tiny-quick" / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page)
    assert not found.violations_count, found.generate_report()


def test_a_report_is_read_in_its_frame_and_alone(web: WebServer, browser: Browser, admin: User) -> None:
    page = open_page(web, browser, admin)
    page.goto("/benchmarks")
    page.get_by_role("link", name="tiny-quick").click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", level=1)).to_have_text("A tiny experiment with a title of some length")
    expect(frame.get_by_role("img", name="Test accuracy over labels")).to_be_visible()
    expect(frame.locator("body")).not_to_have_css("font-family", "Times New Roman")  # its own style is let in
    assert page.evaluate("window.breaches ?? []") == []
    page.get_by_role("link", name="Open the report alone").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("A tiny experiment with a title of some length")


def test_a_report_that_was_tampered_with_runs_sends_and_fetches_nothing(
    web: WebServer, browser: Browser, admin: User
) -> None:
    folder = make_results_folder(web.settings.results_folder / "evil-quick")
    (folder.path / "report.html").write_text(
        """<!doctype html><title>evil</title><h1 id="mark">untouched</h1>
        <script>document.querySelector("#mark").textContent = "scripts run"</script>
        <img src="/images/1" onerror="document.querySelector('#mark').textContent = 'handlers run'">
        <img src="/people?seen-by-a-picture"><link rel="stylesheet" href="/people?seen-by-a-style">
        <iframe src="/people?seen-by-a-frame"></iframe>
        <form action="/people" method="post"><button>Add a person</button></form>"""
    )
    page = open_page(web, browser, admin)
    answered = list[str]()  # Chromium tells of requests that the policy stops, too; those get no answer
    page.on("response", lambda response: answered.append(response.url))
    for path in ("/benchmarks/evil-quick", "/benchmarks/evil-quick/report"):
        page.goto(path)
        inside = page.frame_locator("iframe").first if not path.endswith("report") else page
        expect(inside.locator("#mark")).to_have_text("untouched")
        inside.get_by_role("button", name="Add a person").click()
        expect(inside.locator("#mark")).to_have_text("untouched")
    assert any(url.endswith("/report") for url in answered)
    assert not [url for url in answered if "seen-by" in url or "/images/" in url or url.endswith("/people")]


def test_the_list_follows_a_run_while_it_goes_on(web: WebServer, browser: Browser, admin: User) -> None:
    folder = Folder(web.settings.results_folder / "going-quick")
    page = open_page(web, browser, admin)
    page.goto("/benchmarks")
    row = page.get_by_role("row", name="going-quick")
    expect(row).to_contain_text("6 of 18 rounds")
    folder.add(make_line("random", 1, 10, 0.7), folder.round_details()[0])
    expect(row).to_contain_text("7 of 18 rounds", timeout=15_000)
    assert page.evaluate("window.breaches ?? []") == []
