"""The Dockerfile and the compose files as data: what each service is told, read as Docker and Compose read it.

Only the forms that these files use are understood; anything else is an error, so that no test passes over it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?P<kind>:[-?])(?P<text>[^}]*)\})")
GIVEN = {"QUERENT_SECRET_KEY": "a key for tests " * 2, "POSTGRES_PASSWORD": "a-password"}


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its continuation lines joined."""

    name: str
    value: str


@cache
def targets() -> dict[str, list[Instruction]]:
    """Return the instructions of each stage of the Dockerfile, after those of the stage that it is built from."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    found: dict[str, list[Instruction]] = {}
    stage: list[Instruction] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        name, value = line.split(maxsplit=1)
        if name == "FROM":
            source, _as, title = value.split()
            stage = found[title] = [*found.get(source, []), Instruction(name, source)]
        else:
            stage.append(Instruction(name, " ".join(value.split())))
    return found


def last(target: str, name: str) -> str:
    """Return the value of a target's last instruction of this name, which is the one that counts."""
    return [it.value for it in targets()[target] if it.name == name][-1]


def image_environment(target: str) -> dict[str, str]:
    """Return what the target's ENV instructions set."""
    words = [word for it in targets()[target] if it.name == "ENV" for word in shlex.split(it.value)]
    return dict(word.split("=", 1) for word in words)


def image_healthcheck(target: str) -> list[str]:
    """Return the command of the target's HEALTHCHECK."""
    return list(json.loads(last(target, "HEALTHCHECK").partition(" CMD ")[2]))


def interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    """Put variables in place of ``${NAME:-default}`` and ``${NAME:?message}``, and ``$`` in place of ``$$``.

    Raises:
        LookupError: a variable that must be set is not.
        ValueError: a dollar sign that is neither, which Compose would read in its own way.
    """
    if isinstance(value, dict):
        return {key: interpolate(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [interpolate(inner, variables) for inner in value]
    if not isinstance(value, str):
        return value
    if "$" in VARIABLE.sub("", value):
        raise ValueError(value)
    return VARIABLE.sub(lambda found: _value_of(found, variables), value)


def _value_of(found: re.Match[str], variables: Mapping[str, str]) -> str:
    if found["name"] is None:
        return "$"
    if variables.get(found["name"]):
        return variables[found["name"]]
    if found["kind"] == ":?":
        raise LookupError(f"{found['name']}: {found['text']}")
    return found["text"]


def compose(name: str = "docker-compose.yml", variables: Mapping[str, str] = GIVEN) -> dict[str, Any]:
    """Return a compose file with these variables in their places."""
    read = yaml.safe_load((ROOT / name).read_text())
    return {key: interpolate(value, variables) for key, value in read.items()}


@dataclass(frozen=True)
class Service:
    """What a service runs, with what its image brings; no healthcheck means that it has none, not an unknown one."""

    name: str
    target: str | None
    command: list[str]
    healthcheck: list[str]
    environment: dict[str, str]
    depends_on: dict[str, str]
    stop_seconds: int


def service(name: str, variables: Mapping[str, str] = GIVEN) -> Service:
    """Return what a service of the compose file runs."""
    told = compose(variables=variables)["services"][name]
    target = told["build"]["target"] if "build" in told else None
    command = told.get("command") or (json.loads(last(target, "CMD")) if target else [])
    kind, *check = told["healthcheck"].get("test", ["NONE"])
    match kind:
        case "CMD":
            healthcheck = check
        case "CMD-SHELL":
            healthcheck = ["sh", "-c", *check]
        case "NONE" if told["healthcheck"] == {"disable": True}:
            healthcheck = []
        case _:
            raise ValueError(told["healthcheck"])
    return Service(
        name,
        target,
        list(command),
        healthcheck,
        {**(image_environment(target) if target else {}), **told.get("environment", {})},
        {other: how["condition"] for other, how in told.get("depends_on", {}).items()},
        int(told.get("stop_grace_period", "10s").removesuffix("s")),
    )


def services() -> dict[str, Service]:
    """Return every service of the compose file."""
    return {name: service(name) for name in compose()["services"]}


def needed(requirements: list[str], python: Mapping[str, str] | None = None) -> set[str]:
    """Return the name of every distribution that pip would install, by what those that are here require.

    Args:
        python: values of environment markers that differ from those of this Python.
    """
    done: set[tuple[str, frozenset[str]]] = set()
    waiting = [(Requirement(text), frozenset[str]()) for text in requirements]
    while waiting:
        requirement, extras = waiting.pop()
        chosen = [{**(python or {}), "extra": extra} for extra in extras or {""}]
        if requirement.marker is None or any(requirement.marker.evaluate(values) for values in chosen):
            found = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            if found not in done:
                done.add(found)
                waiting += [(Requirement(text), found[1]) for text in distribution(found[0]).requires or []]
    return {name for name, _ in done}
