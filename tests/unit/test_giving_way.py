"""A process that gives way, in the eyes of the kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.processes import AUTOGROUP, LOW_PRIORITY

SAY = "import os; from app.processes import AUTOGROUP, give_way; give_way(); print(os.getpriority(os.PRIO_PROCESS, 0))"


def said(code: str, *, session: bool) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, start_new_session=session
    )
    return done.stdout.split()


@pytest.mark.parametrize("session", [True, False])
def test_its_niceness_is_raised(session: bool) -> None:
    assert int(said(SAY, session=session)[0]) >= LOW_PRIORITY


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel divides cores among processes only")
def test_its_session_gives_way_if_it_is_its_own() -> None:
    assert said(f"{SAY}; print(AUTOGROUP.read_text())", session=True)[-1] == str(LOW_PRIORITY)
    before = AUTOGROUP.read_text()
    said(SAY, session=False)
    assert AUTOGROUP.read_text() == before, "others of this session are left as they are"
