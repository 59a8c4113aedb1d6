"""``querent project``, ``import`` and ``user``: what they print, what they leave behind, and what bad input gets."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image as Picture
from redis import Redis
from sqlalchemy import select
from typer.testing import CliRunner, Result

from app.cli import commands
from app.database import Database
from app.errors import BadInput, Conflict, NameTaken, NotFound, QuerentError, RecipeError, Unavailable
from app.records import Import, User
from app.services import accounts
from app.settings import Settings
from app.storage import Storage
from tests.conftest import fresh_database
from tests.factories import make_entries, make_project, make_round
from tests.processes import QUERENT, clean_environment
from worker import imports


@pytest.fixture(scope="module")
def own_servers(servers: Settings) -> Iterator[Settings]:
    """A database of this file's own, since a worker that it starts works on whatever it finds."""
    with fresh_database(str(servers.database_url)) as url, Redis.from_url(str(servers.redis_url)) as redis:
        redis.flushdb()
        yield servers.model_copy(update={"database_url": url})


class Line:
    """The command line of one home."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.environment = {
            "DATABASE_URL": str(settings.database_url),
            "REDIS_URL": str(settings.redis_url),
            "QUERENT_HOME": str(settings.home),
        }

    def __call__(self, *arguments: str | Path) -> Result:
        """Run a command in this process; raises what the command raises."""
        result = CliRunner().invoke(commands, [str(part) for part in arguments], env=self.environment)
        if isinstance(result.exception, QuerentError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result

    def json(self, *arguments: str) -> object:
        """Run a command that prints JSON."""
        return json.loads(self(*arguments, "--json").stdout)

    def import_all(self) -> None:
        """Do the worker's work: run every import that was asked for."""
        database = Database(str(self.settings.database_url))
        with database.transaction() as session:
            import_ids = session.scalars(select(Import.id).order_by(Import.id)).all()
        for import_id in import_ids:
            imports.run(database, Storage(self.settings.storage), import_id, self.settings.home / "data")
        database.close()


@pytest.fixture
def line(own_servers: Settings, tmp_path: Path) -> Line:
    return Line(own_servers.model_copy(update={"home": tmp_path / "home"}))


def make_images(root: Path, classes: int = 2, each: int = 3) -> Path:
    for number in range(classes):
        (root / f"class{number}").mkdir(parents=True)
        for which in range(each):
            Picture.new("L", (4, 4), number * 50 + which).save(root / f"class{number}" / f"{which}.png")
    return root


def show(line: Line, name: str) -> dict[str, object]:
    shown = line.json("project", "show", name)
    assert isinstance(shown, dict)
    return shown


def test_a_command_brings_its_own_worker_and_lists_broken_files_on_stderr(line: Line, tmp_path: Path) -> None:
    root = make_images(tmp_path / "in")
    (root / "class1" / "torn.png").write_bytes(b"\x89PNG")
    done = subprocess.run(
        [QUERENT, "project", "create", "with worker", "--from", root, "--test", "0"],
        capture_output=True,
        text=True,
        timeout=100,
        env=clean_environment(**line.environment),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Images imported: 6." in done.stdout
    assert "querent: files not imported: 1\n  class1/torn.png: " in done.stderr
    found = show(line, "with worker")
    assert (found["pool_images"], found["test_images"], found["state"]) == (6, 0, "running")
    assert not line_has_worker(line)


def line_has_worker(line: Line) -> bool:
    with Redis.from_url(str(line.settings.redis_url)) as redis:
        return bool(list(redis.scan_iter("querent:worker:*")))


def test_what_is_given_becomes_the_project(line: Line) -> None:
    line(
        *("project", "create", "given", "--from", "digits", "--pool", "30", "--test", "20", "--seed-set", "5"),
        *("--batch", "7", "--budget", "60", "--acquisition", "margin", "--set", "fitting.epochs=30", "--seed", "4"),
        *("--classes", "0, 1,other", "--overlap", "2", "--description", "A try.", "--no-wait"),
    )
    line.import_all()
    found = show(line, "given")
    expected = {"budget": 60, "overlap": 2, "pool_images": 30, "test_images": 20, "description": "A try."}
    assert expected.items() <= found.items()
    classes = found["classes"]
    assert isinstance(classes, list)
    assert [known["name"] for known in classes][:3] == ["0", "1", "other"]
    assert len(classes) == 11
    text = line("project", "show", "given").stdout
    assert "Margin" in text
    assert "epochs 30" in text


def test_what_models_labelled_is_told_with_the_project(line: Line) -> None:
    line("project", "list")  # makes the tables
    database = Database(str(line.settings.database_url))
    with database.transaction() as session:
        project = make_project(session, recipe={"pseudo_labeler": "threshold"})
        make_entries(session, project, make_round(session, project, queries=0), {0: 0, 1: 1})
        session.commit()
    database.close()
    found = show(line, project.name)
    expected = {"standing": 2, "drawn": 0, "precision": None, "picked": 0, "threshold": None}
    assert isinstance(found["ledger"], dict)
    assert expected.items() <= found["ledger"].items()
    assert "2 labels of models stand" in line("project", "show", project.name).stdout


def test_an_archive_is_imported_like_a_folder(line: Line, tmp_path: Path) -> None:
    root = make_images(tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for place in sorted(root.rglob("*.png")):
            archive.write(place, place.relative_to(tmp_path))
    line("project", "create", "zipped", "--from", tmp_path / "in.zip", "--test", "0", "--no-wait")
    line.import_all()
    assert show(line, "zipped")["pool_images"] == 6


def test_more_images_join_a_project_and_known_ones_do_not(line: Line, tmp_path: Path) -> None:
    first = make_images(tmp_path / "first")
    line("project", "create", "grows", "--from", first, "--test", "0", "--no-wait")
    line("import", "grows", "--from", make_images(tmp_path / "second", each=5), "--test", "0", "--no-wait")
    line.import_all()
    found = show(line, "grows")
    assert found["pool_images"] == 10
    brought = found["import"]
    assert isinstance(brought, dict)
    assert (brought["imported"], brought["duplicates"]) == (4, 6)


def test_a_project_is_paused_started_and_deleted(line: Line, tmp_path: Path) -> None:
    line("project", "create", "short", "--from", make_images(tmp_path / "in"), "--no-wait")
    line.import_all()
    line("project", "pause", "short")
    assert show(line, "short")["state"] == "paused"
    line("project", "start", "short")
    assert show(line, "short")["state"] == "running"
    with pytest.raises(BadInput, match="--yes"):
        line("project", "delete", "short")
    assert "short" in line("project", "list").stdout
    line("project", "delete", "short", "--yes")
    assert "short" not in line("project", "list").stdout


def test_projects_are_listed_for_programs(line: Line) -> None:
    line("project", "create", "listed", "--from", "digits", "--no-wait")
    listed = line.json("project", "list")
    assert isinstance(listed, list)
    assert {"name": "listed", "state": "paused", "images": 0, "importing": True}.items() <= listed[0].items()


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        (["--from", "/nowhere"], BadInput, "'/nowhere'"),
        (["--from", "/nowhere", "--data", "/data"], BadInput, "no published set"),
        (["--from", "digits", "--acquisition", "hunch"], RecipeError, "acquisition: .*'hunch'.*entropy"),
        (["--from", "digits", "--network", "brain"], RecipeError, "network: .*'brain'.*al_cnn"),
        (["--from", "digits", "--set", "fitting.epochs=0"], RecipeError, "fitting.epochs: '0' is out of bounds"),
        (["--from", "digits", "--set", "zeal"], RecipeError, "--set zeal: it is no assignment"),
        (["--from", "digits", "--budget", "0"], BadInput, "budget: 0 is out of bounds"),
        (["--from", "digits", "--overlap", "0"], BadInput, "overlap: 0 is out of bounds"),
        (["--from", "digits", "--classes", "a,b,a"], BadInput, "'a'.* named twice"),
    ],
    ids=lambda part: " ".join(part[2:] or part) if isinstance(part, list) else "",
)
def test_bad_input_is_told_and_makes_nothing(
    line: Line, arguments: list[str], error: type[QuerentError], told: str
) -> None:
    with pytest.raises(error, match=told):
        line("project", "create", "never made", *arguments, "--no-wait")
    with pytest.raises(NotFound):
        line("project", "show", "never made")


def test_a_name_is_given_once(line: Line) -> None:
    line("project", "create", "once", "--from", "digits", "--no-wait")
    with pytest.raises(NameTaken, match="'once'"):
        line("project", "create", "once", "--from", "digits", "--no-wait")


def test_a_project_without_images_does_not_start(line: Line) -> None:
    line("project", "create", "bare", "--from", "digits", "--no-wait")
    with pytest.raises(Conflict, match="it has no images yet"):
        line("project", "start", "bare")


def test_a_source_that_fails_tells_why_in_one_line(line: Line, tmp_path: Path) -> None:
    from app.cli.importing import follow_import

    (tmp_path / "empty").mkdir()
    line("project", "create", "empty", "--from", tmp_path / "empty", "--no-wait")
    line.import_all()
    database = Database(str(line.settings.database_url))
    with database.transaction() as session:
        found = session.scalars(select(Import).order_by(Import.id.desc()).limit(1)).one()
    with pytest.raises(BadInput) as told:
        follow_import(database, found.id)
    database.close()
    assert str(told.value) == found.error
    assert "holds no images" in told.value.reason


def test_a_worker_that_cannot_start_is_told_with_its_log(line: Line) -> None:
    from app.children import Child
    from app.cli.working import WorkerAtHand
    from app.events import Bus
    from tests.waiting import until

    bus = Bus(str(line.settings.redis_url))
    hand = WorkerAtHand(line.settings.model_copy(update={"database_url": None}), bus)

    def fails() -> bool:
        try:
            hand.look()
        except Unavailable as error:
            return isinstance(hand.own, Child) and str(hand.own.log_path) in error.remedy
        return False

    until(fails, 60, "the worker's end is told")
    hand.stop()
    bus.close()


def test_a_person_is_made_with_a_link_that_signs_them_in_once(line: Line) -> None:
    token = line("user", "create", "Ada", "--role", "admin").stdout.partition("/sign-in/")[2].split()[0]
    database = Database(str(line.settings.database_url))
    with database.transaction() as session:
        user = accounts.user_of_link(session, token)
        assert (user.name, user.role.value) == ("ada", "admin")
    second = line("user", "link", "Ada").stdout.partition("/sign-in/")[2].split()[0]
    with database.transaction() as session:
        accounts.redeem_link(session, second, "correct horse")
        session.commit()
        assert session.scalars(select(User.name)).all().count("ada") == 1
    database.close()
    ada = {"name": "ada", "role": "admin", "group": None, "state": "signs in"}
    assert ada in line.json("user", "list")  # type: ignore[operator]


def test_people_are_put_into_groups_and_listed_by_them(line: Line) -> None:
    line("user", "create", "lin", "--group", "Bird  Experts")
    line("user", "create", "mo")
    assert "mo is in the group 'bird experts'." in line("user", "group", "Mo", "bird experts").stdout
    listed = line("user", "list", "--group", "BIRD experts").stdout
    assert [row.split()[0] for row in listed.splitlines()] == ["lin", "mo"] and "bird experts" in listed
    assert "mo is in no group." in line("user", "group", "mo").stdout
    told = line.json("user", "list", "--group", "bird experts")
    assert [person["name"] for person in told] == ["lin"]  # type: ignore[attr-defined]
    assert "nobody in the group 'owls'" in line("user", "list", "--group", "owls").stdout
    with pytest.raises(NotFound, match="use one of"):
        line("user", "group", "nobody", "owls")


def test_nobody_is_made_by_a_wrong_role_or_a_taken_name(line: Line) -> None:
    with pytest.raises(BadInput, match="role 'king'"):
        line("user", "create", "arthur", "--role", "king")
    line("user", "create", "grace")
    with pytest.raises(NameTaken):
        line("user", "create", "Grace")
    with pytest.raises(NotFound, match="'nobody'"):
        line("user", "link", "nobody")


def test_help_answers_without_loading_the_database(tmp_path: Path) -> None:
    seen = subprocess.run(
        [QUERENT, "project", "create", "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "DATABASE_URL": "nonsense"},
        check=True,
    )
    assert "--acquisition" in seen.stdout
