"""Reports from fixed lines: every number in the tables equals one that was worked out by hand."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from app.errors import BadInput, NotFound
from tests.unit.benchmark import factories
from tests.unit.benchmark.factories import make_experiment, make_line
from worker.benchmark.records import Folder, RoundDetail
from worker.benchmark.report import write_report

T2 = 12.706204736  # the 97.5% point of t with one degree of freedom
PUBLISHED = [
    {"series": "theirs", "source": "Somebody 1999", "arm": "margin", "labels": [18], "values": [0.9]},
    {"series": "other", "source": "Somebody 1999", "labels": [5], "values": [0.4], "metric": "test_nll"},
]
# accuracies at 10, 20 and 30 labels, by arm and seed
CURVES = {
    ("random", 0): (0.50, 0.80, 0.90),
    ("random", 1): (0.60, 0.70, 0.92),
    ("margin", 0): (0.50, 0.90, 0.88),
    ("margin", 1): (0.60, 0.84, 0.86),
}


def make_results(path: Path, **changes: Any) -> Folder:
    folder = Folder(path)
    path.mkdir(exist_ok=True)
    folder.begin(make_experiment(**{"published": PUBLISHED, "targets": [0.85, 0.95], **changes}))
    for (arm, seed), accuracies in CURVES.items():
        for labels, accuracy in zip((10, 20, 30), accuracies, strict=True):
            folder.add(make_line(arm, seed, labels, accuracy), make_detail(arm, seed, labels))
    return folder


def make_detail(arm: str, seed: int, labels: int, **changes: Any) -> RoundDetail:
    recall = {"random": 0.25, "margin": 0.75}[arm] + 0.25 * seed
    return factories.make_detail(
        arm, seed, labels,
        labels_per_class=[labels - 1 - seed, 1 + seed], recalls=[1.0, recall], confusion=[[7, 1], [2, labels]],
        brier=0.25 + 0.25 * seed, roc_aucs=[0.5, None],
        **changes,
    )  # fmt: skip


def read(path: Path, name: str) -> list[dict[str, str]]:
    with (path / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def told_in(text: str) -> dict[str, str]:
    """What the first screen says, by its headings."""
    return dict(re.findall(r"<div><dt[^>]*>(.*?)</dt><dd>(.*?)</dd></div>", text))


def numbers(row: dict[str, str], *columns: str) -> list[float]:
    return [float(row[column]) for column in columns]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results")
    make_results(path, data={"rare_class": 1})
    write_report(path)
    return path


def test_the_curves_are_means_with_students_interval_within_what_shares_can_be(reported: Path) -> None:
    rows = {(row["arm"], row["labels"]): row for row in read(reported, "curves")}
    assert len(rows) == 6
    half = T2 * 0.05  # two values a tenth apart: the standard error is 0.05
    assert 0.55 - half < 0 and 0.55 + half > 1
    assert numbers(rows["random", "10"], "test_accuracy", "low", "high") == pytest.approx([0.55, 0, 1])
    margin = rows["margin", "20"]
    assert numbers(margin, "test_accuracy", "difference") == pytest.approx([0.87, 0.12])
    assert numbers(margin, "difference_low", "difference_high") == pytest.approx([0.12 - T2 * 0.02, 0.12 + T2 * 0.02])
    assert rows["random", "20"]["difference"] == ""


def test_the_summary_has_the_ends(reported: Path) -> None:
    random, margin = read(reported, "summary")
    assert (random["arm"], random["labels"], random["seeds"]) == ("random", "30", "2")
    assert numbers(margin, "test_accuracy", "test_nll", "ece") == pytest.approx([0.87, 0.5, 0.1])
    assert numbers(margin, "brier", "roc_auc") == pytest.approx([0.375, 0.75])


def test_areas_stand_beside_the_best_and_worst_moment(reported: Path) -> None:
    random, margin = read(reported, "areas")
    assert random["difference"] == ""
    # areas: random 0.75 and 0.73, margin 0.795 and 0.785
    assert numbers(random, "area", "low", "high") == pytest.approx([0.74, 0.74 - T2 * 0.01, 0.74 + T2 * 0.01])
    assert numbers(margin, "area", "difference") == pytest.approx([0.79, 0.05])
    assert numbers(margin, "difference_low", "difference_high") == pytest.approx([0.05 - T2 * 0.005, 0.05 + T2 * 0.005])
    assert numbers(margin, "best_difference", "best_at_labels") == pytest.approx([0.12, 20])
    assert numbers(margin, "worst_difference", "worst_at_labels") == pytest.approx([-0.04, 30])


def test_a_loss_of_more_than_a_point_is_in_the_guard(reported: Path) -> None:
    [row] = read(reported, "guard")
    assert (row["arm"], row["labels"]) == ("margin", "30")
    assert numbers(row, "test_accuracy", "baseline_accuracy", "difference") == pytest.approx([0.87, 0.91, -0.04])


def test_labels_to_targets_are_medians_with_the_efficiency(reported: Path) -> None:
    rows = {(row["target"], row["arm"]): row for row in read(reported, "targets")}
    # random reaches 85% at 30 and 30, margin at 20 and 30
    assert numbers(rows["0.85", "random"], "reached", "seeds", "median_labels") == [2, 2, 30]
    assert numbers(rows["0.85", "margin"], "median_labels", "least", "most") == [25, 20, 30]
    # mean curves, between rounds: random passes 85% at 20 + 10 * 0.10 / 0.16 labels, margin at 10 + 10 * 0.30 / 0.32
    assert numbers(rows["0.85", "margin"], "efficiency") == pytest.approx([26.25 / 19.375])
    assert rows["0.85", "margin"]["is_least"] == "no"
    # of the three resamples, seed 1 twice is the least, 26.8 over 25, and both seeds once the most
    assert numbers(rows["0.85", "margin"], "low", "high") == pytest.approx([(20 + 15 / 2.2) / 25, 26.25 / 19.375])
    never = rows["0.95", "margin"]
    assert (never["reached"], never["median_labels"], never["least"], never["efficiency"]) == ("0", "", "", "")


def test_published_figures_stand_beside_ours_at_the_nearest_labels(reported: Path) -> None:
    theirs, other = read(reported, "published")
    assert (theirs["series"], theirs["our_arm"], theirs["our_labels"]) == ("theirs", "margin", "20")
    assert numbers(theirs, "published", "ours", "difference") == pytest.approx([0.9, 0.87, -0.03])
    assert (other["metric"], other["published"], other["ours"]) == ("test_nll", "0.4", "")


def test_calibration_stands_at_published_budgets_beside_the_published_figures(tmp_path: Path) -> None:
    published = [{**PUBLISHED[1], "arm": "margin", "labels": [22]}, {**PUBLISHED[0], "metric": "mean_entropy"}]
    folder = make_results(tmp_path, published=published, budget={"labels": 50})
    for labels in (40, 50):
        folder.add(make_line("margin", 0, labels, 0.9), make_detail("margin", 0, labels))
    write_report(tmp_path)
    rows = {(row["arm"], row["labels"]): row for row in read(tmp_path, "calibration")}
    assert [labels for arm, labels in rows if arm == "random"] == ["10", "20", "30"]
    assert [labels for arm, labels in rows if arm == "margin"] == ["10", "20", "30", "50"]
    row = rows["margin", "20"]
    assert numbers(row, "test_nll", "published_nll", "ece", "brier") == pytest.approx([0.5, 0.4, 0.1, 0.375])
    assert numbers(row, "mean_entropy", "published_entropy") == pytest.approx([0.3, 0.9])
    assert rows["random", "20"]["published_nll"] == rows["margin", "30"]["published_nll"] == ""


def test_wall_times_are_means_a_round_and_sums_a_run(reported: Path) -> None:
    for row in read(reported, "times"):
        assert numbers(row, "rounds", "fit", "evaluate", "score", "select") == pytest.approx([6, 2, 0.1, 0.5, 0.25])
        assert numbers(row, "round", "run") == pytest.approx([2.85, 8.55])


def test_the_rare_class_has_its_recall_and_its_labels(reported: Path) -> None:
    rows = {(row["arm"], row["labels"]): row for row in read(reported, "rare_class")}
    assert numbers(rows["margin", "30"], "recall", "labels_of_it") == [0.875, 1.5]
    assert numbers(rows["random", "10"], "recall") == [0.375]
    assert numbers(rows["margin", "20"], "difference", "difference_low", "difference_high") == [0.5, 0.5, 0.5]
    assert rows["random", "20"]["difference"] == ""


def test_classes_have_recall_precision_and_roc_area_after_the_last_round(reported: Path) -> None:
    rows = {(row["arm"], row["class"]): row for row in read(reported, "per_class")}
    assert numbers(rows["margin", "0"], "recall", "precision", "roc_auc") == [1.0, 1.0, 0.5]
    assert numbers(rows["margin", "1"], "recall") == [0.875]
    assert (rows["margin", "1"]["precision"], rows["margin", "1"]["roc_auc"]) == ("", "")


def test_confusion_adds_up_the_last_rounds_of_all_seeds(reported: Path) -> None:
    rows = {(row["arm"], row["true_class"]): row for row in read(reported, "confusion")}
    assert numbers(rows["margin", "0"], "as_0", "as_1") == [14, 2]
    assert numbers(rows["margin", "1"], "as_0", "as_1") == [4, 60]


def test_the_report_needs_no_other_file_and_tells_losses_and_wins(reported: Path) -> None:
    text = (reported / "report.html").read_text()
    assert text.count("<svg") >= 5
    for outside in ("http-equiv", "<script", "<link", "<img", 'src="', "@import", "url(http"):
        assert outside not in text
    assert re.findall(r'href="(?!#|data:)[^"]*', text) == []
    first = text[: text.index("<section>")]
    assert told_in(first) == {
        "Better than random": "none",
        "Not told apart from random": "margin +5.00 [−1.35, +11.35] points on average over the budget",
        "More than one point below random at any budget": "margin, at 1 of 3 budgets, −4.00 points at 30 labels",
        "Recall of the rare class 1 against random": "margin +50.00 [+50.00, +50.00], better (points, on average over "
        "the budget)",
        "Seeds with results": "random 2; margin 2",
    }
    assert "Somebody 1999" in text


def test_every_picture_is_a_png(reported: Path) -> None:
    pictures = sorted(path.stem for path in reported.glob("*.png"))
    assert pictures == [
        "accuracy", "confusion-margin", "confusion-random", "difference", "ece", "entropy", "nll", "rare_class",
        "times",
    ]  # fmt: skip
    assert all((reported / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in pictures)


def test_the_same_lines_give_the_same_report(reported: Path) -> None:
    before = (reported / "report.html").read_bytes()
    write_report(reported)
    assert (reported / "report.html").read_bytes() == before


def test_nothing_is_below_random_when_nothing_is(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.begin(make_experiment())
    for arm, accuracy in (("random", 0.8), ("margin", 0.795)):
        folder.add(make_line(arm, 0, 10, accuracy), make_detail(arm, 0, 10))
    write_report(tmp_path)
    assert read(tmp_path, "guard") == []
    told = told_in((tmp_path / "report.html").read_text())
    assert told["More than one point below random at any budget"] == "no arm"


def test_words_of_an_experiment_are_text_and_not_markup(tmp_path: Path) -> None:
    make_results(tmp_path, title="<script>alert(1)</script>")
    assert "<script" not in write_report(tmp_path).read_text()


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no results of a benchmark"):
        write_report(tmp_path)
    Folder(tmp_path).begin(make_experiment())
    with pytest.raises(NotFound, match="no round"):
        write_report(tmp_path)


def test_a_damaged_line_is_told_with_its_number_and_a_half_one_is_left_out(tmp_path: Path) -> None:
    folder = make_results(tmp_path)
    with folder.results.open("a") as results:
        results.write('{"arm": "ran')
    assert len(folder.lines()) == 12
    folder.results.write_text('{"arm": "random"}\n')
    with pytest.raises(BadInput, match=r"line 1: it has no experiment, seed"):
        folder.lines()
    folder.results.write_text(json.dumps({"arm": 1}) + "}\n")
    with pytest.raises(BadInput, match="line 1: it is no JSON"):
        folder.lines()


def test_details_of_an_earlier_release_are_read_and_what_they_lack_is_left_out(tmp_path: Path) -> None:
    folder = make_results(tmp_path)
    tables = [json.loads(line) for line in folder.details.read_text().splitlines()]
    for table in tables:
        del table["brier"], table["roc_auc"], table["roc_aucs"]
    folder.details.write_text("".join(json.dumps(table | {"of_a_later_one": 1}) + "\n" for table in tables))
    write_report(tmp_path)
    assert {(row["brier"], row["roc_auc"]) for row in read(tmp_path, "summary")} == {("", "")}
    del tables[3]["recalls"]
    folder.details.write_text("".join(json.dumps(table) + "\n" for table in tables))
    with pytest.raises(BadInput, match=r"details.jsonl, line 4: it has no recalls"):
        write_report(tmp_path)


def test_what_stands_between_backticks_in_a_note_is_code_and_never_markup(tmp_path: Path) -> None:
    make_results(tmp_path, notes=["the arm `a<b` & more"])
    assert "the arm <code>a&lt;b</code> &amp; more" in write_report(tmp_path).read_text()


def test_a_single_seed_has_no_bands_and_still_a_report(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.begin(make_experiment())
    folder.add(make_line("random", 0, 10, 0.8), make_detail("random", 0, 10))
    write_report(tmp_path)
    [row] = read(tmp_path, "curves")
    assert (row["test_accuracy"], row["low"], row["high"]) == ("0.8", "", "")
    assert math.isclose(float(row["test_nll"]), 0.5)
