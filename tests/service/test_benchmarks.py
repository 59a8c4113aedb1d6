"""Benchmarks in the web application: who sees them, what the list says of each folder, how a report is served."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.database import Database
from app.errors import BadInput, NotFound, Unavailable
from app.pages.guards import CONTENT_POLICY
from app.services.reporting.benchmarks import get_benchmark, list_benchmarks, read_report
from app.settings import Settings, load_settings
from tests.service.web import HTMX, JSON, Web
from tests.unit.benchmark.factories import make_experiment, make_line, make_plan, make_results_folder
from worker.benchmark.report import write_report
from worker.benchmark.runner import run

# names that lead out of the folder of results in one reading or another
ESCAPES = (
    "..",
    "../outside",
    "%2e%2e",
    "..%2foutside",
    "%2e%2e%2foutside",
    "....//outside",
    "outside",
    "linked",
    "tiny-quick/../../outside",
    "tiny-quick%00",
    "/etc",
    "%2fetc%2fpasswd",
    "..\\outside",
    ".",
    "TINY-QUICK",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark with its report."""
    folder = make_results_folder(tmp_path_factory.mktemp("made") / "tiny-quick")
    write_report(folder.path)
    return folder.path


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """A folder of results with one benchmark in it, beside one that is not in it but linked from it."""
    folder = tmp_path / "results"
    shutil.copytree(made, folder / "tiny-quick", copy_function=shutil.copyfile)
    (make_results_folder(tmp_path / "outside").path / "report.html").write_text("the secret is plum-tart")
    (folder / "linked").symlink_to(tmp_path / "outside")
    return folder


@pytest.fixture
def web(settings: Settings, database: Database, results: Path) -> Iterator[Web]:
    made = Web(settings.model_copy(update={"results": results}), database)
    yield made
    made.close()


def cells(page: str) -> list[str]:
    """The words of every cell of a table."""
    found = re.findall(r"<td[^>]*>(.*?)</td>", page, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in found]


@pytest.mark.parametrize("path", ["/benchmarks", "/benchmarks/tiny-quick", "/benchmarks/tiny-quick/report"])
def test_only_admins_see_benchmarks(web: Web, path: str) -> None:
    refused = web.annotator().get(path)
    assert refused.status_code == 403 and "for admins" in refused.text
    assert web.client().get(path, headers=JSON).status_code == 401
    assert web.admin().get(path).status_code == 200


def test_the_navigation_leads_there_for_admins_alone(web: Web) -> None:
    assert 'href="/benchmarks"' in web.admin().get("/").text
    assert 'href="/benchmarks"' not in web.annotator().get("/").text


def test_the_list_tells_seeds_best_baseline_and_times(web: Web) -> None:
    page = web.admin().get("/benchmarks").text
    assert "Tiny · quick · 2 arms" in page and 'href="/benchmarks/tiny-quick"' in page
    assert cells(page) == [
        "2 of 2 Done",
        "90.00% margin, 30 labels",
        "85.00% random, 30 labels",
        "just now",
        "just now",
    ]
    assert "hx-trigger" not in page, "nothing goes on, so nothing is asked for again"


def test_a_run_that_goes_on_shows_its_progress_line_by_line(web: Web, results: Path) -> None:
    folder = make_results_folder(results / "more-quick", seeds=1, wanted=3)
    client = web.admin()
    page = client.get("/benchmarks").text
    assert 'hx-get="/benchmarks" hx-trigger="every 5s"' in page
    assert "0 of 3" not in page and "1 of 3 Under way 6 of 18 rounds" in cells(page)
    assert '<progress aria-label="Rounds of more-quick" max="18" value="6">' in page
    folder.add(make_line("random", 1, 10, 0.7), next(iter(folder.round_details())))
    with folder.results.open("a") as lines:
        lines.write('{"experiment": "tiny", "arm": "ran')
    part = client.get("/benchmarks", headers=HTMX).text
    assert "<!doctype" not in part
    assert "1 of 3 Under way 7 of 18 rounds" in cells(part)
    assert "not yet" in cells(part)


def test_a_run_that_was_left_is_not_said_to_go_on(results: Path) -> None:
    folder = make_results_folder(results / "left-quick", seeds=1)
    long_ago = (datetime.now(UTC) - timedelta(hours=2)).timestamp()
    for path in folder.path.iterdir():
        os.utime(path, (long_ago, long_ago))
    found = get_benchmark(results, "left-quick")
    assert (found.is_done, found.is_under_way) == (False, False)
    assert [one.name for one in list_benchmarks(results).found] == ["tiny-quick", "left-quick"]


def test_rounds_since_the_report_are_told(web: Web, results: Path) -> None:
    later = datetime.now(UTC).timestamp() + 60
    os.utime(results / "tiny-quick" / "results.jsonl", (later, later))
    assert "Rounds have ended since this report was written" in web.admin().get("/benchmarks/tiny-quick").text


def test_what_the_worker_writes_is_what_is_read_here(tmp_path: Path) -> None:
    experiment = make_experiment(arms=[{"name": "random", "recipe": {"acquisition": "random"}}, {"name": "margin"},
                                       {"name": "all", "labels": "all"}])  # fmt: skip
    run(make_plan(tmp_path / "tiny-quick", experiment), lambda _progress: None)
    found = get_benchmark(tmp_path, "tiny-quick")
    assert (found.seeds_done, found.seeds_wanted, found.arms) == (2, 2, 3)
    assert (found.rounds_done, found.rounds_wanted) == (2 * (4 + 4 + 1),) * 2
    assert found.is_done and found.best is not None and found.baseline is not None
    assert (found.best.arm, found.best.labels, found.best.seeds) == ("margin", 26, 2)
    lines = [json.loads(line) for line in (tmp_path / "tiny-quick" / "results.jsonl").read_text().splitlines()]
    ends = [line["test_accuracy"] for line in lines if line["arm"] == "random" and line["labels"] == 26]
    assert found.baseline.accuracy == pytest.approx(sum(ends) / 2)


def test_an_arm_that_is_not_compared_is_never_the_best(results: Path) -> None:
    arms = [{"name": "random", "recipe": {"acquisition": "random"}}, {"name": "margin", "compared": False}]
    make_results_folder(results / "other-quick", arms=arms)
    found = get_benchmark(results, "other-quick")
    assert found.best is None and found.baseline is not None


def test_results_of_an_earlier_release_have_rounds_and_no_wanted_seeds(web: Web, results: Path) -> None:
    (results / "tiny-quick" / "wanted.json").unlink()
    assert cells(web.admin().get("/benchmarks").text)[0] == "12 rounds"
    assert get_benchmark(results, "tiny-quick").is_done is False


def test_a_report_is_served_so_that_it_can_do_nothing(web: Web, results: Path) -> None:
    response = web.admin().get("/benchmarks/tiny-quick/report")
    assert response.content == (results / "tiny-quick" / "report.html").read_bytes()
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"].split("; ")
    assert policy[:2] == ["sandbox", "default-src 'none'"]
    assert set(policy) == {"sandbox", "default-src 'none'", "style-src 'unsafe-inline'", "img-src data:",
                           "form-action 'none'", "base-uri 'none'", "frame-ancestors 'self'"}  # fmt: skip
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "SAMEORIGIN"


def test_its_page_frames_it_and_allows_nothing_else(web: Web) -> None:
    response = web.admin().get("/benchmarks/tiny-quick")
    assert response.headers["content-security-policy"] == f"{CONTENT_POLICY}; frame-src 'self'"
    [frame] = re.findall(r"<iframe[^>]*>", response.text)
    assert 'src="/benchmarks/tiny-quick/report"' in frame and frame.endswith(" sandbox>")


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("ending", ["", "/report"])
def test_no_name_leads_out_of_the_folder(web: Web, results: Path, name: str, ending: str) -> None:
    response = web.admin().get(f"/benchmarks/{name}{ending}")
    assert response.status_code < 500 and "plum-tart" not in response.text
    with pytest.raises(NotFound, match="none of this name"):
        read_report(results, name)
    with pytest.raises(NotFound, match="none of this name"):
        get_benchmark(results, name)


def test_a_report_that_is_a_link_is_not_followed(web: Web, results: Path) -> None:
    report = results / "tiny-quick" / "report.html"
    report.unlink()
    report.symlink_to(results.parent / "outside" / "report.html")
    response = web.admin().get("/benchmarks/tiny-quick/report")
    assert response.status_code == 404 and "plum-tart" not in response.text


def test_without_a_report_the_page_says_when_it_comes(web: Web, results: Path) -> None:
    (results / "tiny-quick" / "report.html").unlink()
    client = web.admin()
    page = client.get("/benchmarks/tiny-quick").text
    assert "No report yet" in page and "querent benchmark report tiny-quick" in page and "<iframe" not in page
    refused = client.get("/benchmarks/tiny-quick/report", headers=JSON)
    assert (refused.status_code, refused.json()["reason"]) == (404, "it is written when the benchmark ends")


def test_an_empty_list_says_what_to_do(settings: Settings, database: Database) -> None:
    empty = Web(settings, database)
    page = empty.admin().get("/benchmarks").text
    assert "querent benchmark run digits-quick" in page and str(settings.home / "results") in page
    empty.close()


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("experiment.json", "{", "experiment.json is damaged"),
        ("experiment.json", '{"name": "tiny"}', "experiment.json is damaged"),
        ("experiment.json", "[1]", "experiment.json is damaged"),
        ("wanted.json", '{"seeds": "many"}', "wanted.json is damaged"),
        ("results.jsonl", '{"arm": "random"}\n', "line 1 of results.jsonl is damaged"),
        ("results.jsonl", "[]\n", "line 1 of results.jsonl is damaged"),
        ("results.jsonl", "\x00\x01\n", "line 1 of results.jsonl is damaged"),
    ],
)
def test_a_damaged_folder_is_named_with_its_reason_and_the_others_are_shown(
    web: Web, results: Path, file: str, content: str, told: str
) -> None:
    broken = make_results_folder(results / "broken-quick")
    (broken.path / file).write_text(content)
    client = web.admin()
    page = client.get("/benchmarks").text
    assert "<strong>broken-quick</strong> cannot be shown" in page and told in page
    assert 'href="/benchmarks/tiny-quick"' in page
    alone = client.get("/benchmarks/broken-quick")
    assert alone.status_code == 400 and told in alone.text


def test_a_file_that_cannot_be_read_is_told(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = make_results_folder(results / "broken-quick")
    broken.results.unlink()
    broken.results.mkdir()
    [damaged] = list_benchmarks(results).damaged
    assert "results.jsonl cannot be read" in damaged.reason and "web process" in damaged.remedy
    with pytest.raises(Unavailable):
        get_benchmark(results, "broken-quick")
    monkeypatch.setattr("app.services.reporting.benchmarks.LARGEST_BYTES", 10)
    with pytest.raises(BadInput, match="too large"):
        read_report(results, "tiny-quick")


def test_what_is_no_benchmark_is_left_out(results: Path) -> None:
    (results / "notes.txt").write_text("hello")
    (results / "empty").mkdir()
    listed = list_benchmarks(results)
    assert [one.name for one in listed.found] == ["tiny-quick"] and not listed.damaged
    assert list_benchmarks(results / "notes.txt").found == ()


def test_names_and_words_are_text_and_not_markup(web: Web, results: Path) -> None:
    make_results_folder(results / 'a"><b>&', title="<script>alert(1)</script>")
    client = web.admin()
    page = client.get("/benchmarks").text
    assert "<script>alert" not in page and "<b>&" not in page
    [link] = re.findall(r'href="(/benchmarks/a[^"]*)"', page)
    assert client.get(link).status_code == 200


def test_a_long_list_is_cut_and_says_so(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.services.reporting.benchmarks.MOST_SHOWN", 2)
    for name in ("b-quick", "c-quick"):
        make_results_folder(results / name)
    listed = list_benchmarks(results)
    assert (len(listed.found), listed.more) == (2, 1)
    assert get_benchmark(results, "tiny-quick").name == "tiny-quick"


def test_results_lie_in_the_home_unless_a_folder_is_set(tmp_path: Path) -> None:
    assert load_settings(home=tmp_path).results_folder == tmp_path / "results"
    assert load_settings(home=tmp_path, results=tmp_path / "other").results_folder == tmp_path / "other"
