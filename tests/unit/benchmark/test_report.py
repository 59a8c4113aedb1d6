"""Reports from fixed lines: every number in the tables equals one that was worked out by hand."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from app.errors import BadInput, NotFound
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
    folder.begin(make_experiment(published=PUBLISHED, targets=[0.85, 0.95], **changes))
    for (arm, seed), accuracies in CURVES.items():
        for labels, accuracy in zip((10, 20, 30), accuracies, strict=True):
            folder.add(make_line(arm, seed, labels, accuracy), make_detail(arm, seed, labels))
    return folder


def make_detail(arm: str, seed: int, labels: int, **changes: Any) -> RoundDetail:
    recall = {"random": 0.25, "margin": 0.75}[arm] + 0.25 * seed
    usual = {"round": labels // 10}
    return RoundDetail(
        arm=arm, seed=seed, epochs=3, best_epoch=2, steps=9, stopped_by="epochs",
        started_from="scratch", seconds_evaluate=0.1, wrong_labels=0, labels_per_class=[labels - 1 - seed, 1 + seed],
        recalls=[1.0, recall], precisions=[1.0, None], confusion=[[7, 1], [2, labels]], asked_rows=[],
        **{**usual, **changes},
    )  # fmt: skip


def read(path: Path, name: str) -> list[dict[str, str]]:
    with (path / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(row: dict[str, str], *columns: str) -> list[float]:
    return [float(row[column]) for column in columns]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results")
    make_results(path, data={"rare_class": 1})
    write_report(path)
    return path


def test_the_curves_are_means_with_students_interval(reported: Path) -> None:
    rows = {(row["arm"], row["labels"]): row for row in read(reported, "curves")}
    assert len(rows) == 6
    half = T2 * 0.05  # two values a tenth apart: the standard error is 0.05
    assert numbers(rows["random", "10"], "test_accuracy", "low", "high") == pytest.approx(
        [0.55, 0.55 - half, 0.55 + half]
    )
    margin = rows["margin", "20"]
    assert numbers(margin, "test_accuracy", "difference") == pytest.approx([0.87, 0.12])
    assert numbers(margin, "difference_low", "difference_high") == pytest.approx([0.12 - T2 * 0.02, 0.12 + T2 * 0.02])
    assert rows["random", "20"]["difference"] == ""


def test_the_summary_has_ends_areas_and_the_best_and_worst_moment(reported: Path) -> None:
    random, margin = read(reported, "summary")
    assert (random["arm"], random["labels"], random["seeds"], random["area_difference"]) == ("random", "30", "2", "")
    # areas: random 0.75 and 0.73, margin 0.795 and 0.785
    assert numbers(margin, "test_accuracy", "area") == pytest.approx([0.87, 0.79])
    assert numbers(margin, "area_difference", "difference_low", "difference_high") == pytest.approx(
        [0.05, 0.05 - T2 * 0.005, 0.05 + T2 * 0.005]
    )
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
    assert numbers(rows["0.85", "margin"], "efficiency", "low", "high") == pytest.approx([30 / 25, 1.0, 1.5])
    never = rows["0.95", "margin"]
    assert (never["reached"], never["median_labels"], never["least"], never["efficiency"]) == ("0", "", "", "")


def test_published_figures_stand_beside_ours_at_the_nearest_labels(reported: Path) -> None:
    theirs, other = read(reported, "published")
    assert (theirs["series"], theirs["our_arm"], theirs["our_labels"]) == ("theirs", "margin", "20")
    assert numbers(theirs, "published", "ours", "difference") == pytest.approx([0.9, 0.87, -0.03])
    assert (other["metric"], other["published"], other["ours"]) == ("test_nll", "0.4", "")


def test_wall_times_are_means_a_round_and_sums_a_run(reported: Path) -> None:
    for row in read(reported, "times"):
        assert numbers(row, "rounds", "fit", "score", "select", "round", "run") == [6, 2, 0.5, 0.25, 2.75, 8.25]


def test_the_rare_class_has_its_recall_and_its_labels(reported: Path) -> None:
    rows = {(row["arm"], row["labels"]): row for row in read(reported, "rare_class")}
    assert numbers(rows["margin", "30"], "recall", "labels_of_it") == [0.875, 1.5]
    assert numbers(rows["random", "10"], "recall") == [0.375]


def test_confusion_adds_up_the_last_rounds_of_all_seeds(reported: Path) -> None:
    cells = {
        (row["arm"], row["true_class"], row["predicted_class"]): row["images"] for row in read(reported, "confusion")
    }
    assert [cells["margin", true, predicted] for true, predicted in ("00", "01", "10", "11")] == ["14", "2", "4", "60"]


def test_the_report_needs_no_other_file_and_tells_losses_and_wins(reported: Path) -> None:
    text = (reported / "report.html").read_text()
    assert text.count("<svg") >= 5
    for outside in ("http-equiv", "<script", "<link", "<img", 'src="'):
        assert outside not in text
    assert "margin is not told apart from random: +5.00 points [-1.35, +11.35]" in text
    assert "+12.00 at best (at 20 labels), -4.00 at worst (at 30 labels)" in text
    assert "More than one point below random at some budget: margin" in text
    assert "Somebody 1999" in text


def test_every_picture_is_a_png(reported: Path) -> None:
    pictures = sorted(path.stem for path in reported.glob("*.png"))
    assert pictures == ["accuracy", "confusion", "difference", "entropy", "nll", "rare_class"]
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
    assert "No arm is more than one point below random at any budget." in (tmp_path / "report.html").read_text()


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


def test_a_single_seed_has_no_bands_and_still_a_report(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.begin(make_experiment())
    folder.add(make_line("random", 0, 10, 0.8), make_detail("random", 0, 10))
    write_report(tmp_path)
    [row] = read(tmp_path, "curves")
    assert (row["test_accuracy"], row["low"], row["high"]) == ("0.8", "", "")
    assert math.isclose(float(row["test_nll"]), 0.5)
