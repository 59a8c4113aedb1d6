"""Options that every command shares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of everything that Querent keeps; default: QUERENT_HOME, else ~/.querent."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
