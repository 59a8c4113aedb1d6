"""The house rules that no linter knows."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import psutil
import pytest
from alembic import command

from app.database import alembic_config, upgrade
from app.settings import Settings
from tests.conftest import fresh_database

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for room in ("app", "worker") for path in sorted((ROOT / room).rglob("*.py"))]
LEARNING_LIBRARIES = ("torch", "torchvision", "numpy", "sklearn", "scipy")
WEB_MEGABYTES = 150


def test_the_web_application_imports_with_the_learning_libraries_unimportable() -> None:
    hide = "\n".join(f"sys.modules[{name!r}] = None" for name in LEARNING_LIBRARIES)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{hide}\nimport app.main, app.cli, app.starting"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_folder_of_tests_is_run() -> None:
    """They are listed one by one for their order, so a new one could be left out unnoticed."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["testpaths"]
    files = {path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")}
    assert [str(path) for path in sorted(files) if not any(path.is_relative_to(folder) for folder in listed)] == []


def test_the_web_application_stays_small_in_memory() -> None:
    program = "import app.main, sys; print('imported', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"imported\n"
        megabytes = psutil.Process(process.pid).memory_info().rss / 2**20
        process.communicate()
    assert megabytes < WEB_MEGABYTES


def test_the_migrations_make_the_very_tables_of_the_records(servers: Settings) -> None:
    with fresh_database(str(servers.database_url)) as url:
        upgrade(url)
        command.check(alembic_config(url))


def test_the_migrations_can_be_taken_back_and_applied_again(servers: Settings) -> None:
    with fresh_database(str(servers.database_url)) as url:
        upgrade(url)
        command.downgrade(alembic_config(url), "base")
        upgrade(url)
        command.check(alembic_config(url))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_has_one_subject_and_says_which(path: Path) -> None:
    text = path.read_text()
    if not text:
        return
    assert ast.get_docstring(ast.parse(text)), "a module starts with a docstring that says what it owns"
    assert text.count("\n") <= 400, "a second subject is a second file"


def test_only_the_settings_read_the_environment() -> None:
    readers = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if any(word in path.read_text() for word in ("os.environ", "os.getenv", "getenv("))
    ]
    # children inherit their parent's environment; nothing is read from it there
    assert set(readers) <= {"app/settings.py", "app/children.py"}


def test_services_never_commit() -> None:
    for path in sorted((ROOT / "app" / "services").rglob("*.py")):
        assert ".commit(" not in path.read_text(), f"{path.name} commits"
