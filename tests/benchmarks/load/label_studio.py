"""The same people at Label Studio: next and submit through its API, as its page asks for them.

Its page holds one task and asks for the next one after each answer, so a person is idle whenever that takes longer than
the rest of their second. It says no server times; all here are the client's, and so is what they are compared with.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np

from tests.benchmarks.load.filling import CLASSES
from tests.browser.web import free_port
from tests.waiting import until

START_SECONDS = 300
REQUEST_SECONDS = 60
TASKS_AT_ONCE = 5_000
FILL_SECONDS = 300  # for so many
PASSWORD = "correct horse"
ADMIN = "admin@example.com"
DATABASE_VARIABLES = ("DJANGO_DB", "POSTGRE_")  # its own; without them it takes a SQLite file
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
CHOICES = "".join(f'<Choice value="{name}"/>' for name in CLASSES)
CONFIG = f'<View><Image name="image" value="$image"/><Choices name="choice" toName="image">{CHOICES}</Choices></View>'


@dataclass
class Seen:
    """What all people met together; times in milliseconds."""

    next: list[float] = field(default_factory=list)
    submit: list[float] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)  # tasks
    errors: int = 0
    idle: int = 0


def measure(program: Path, people: int, seconds: int, images: int) -> dict[str, float]:
    """Return the figures of Label Studio, started anew for this with one project of as many tasks.

    Args:
        program: the ``label-studio`` command of its installation.
        people: they sign up and label together.
        seconds: for how long.
        images: tasks; nobody fetches the images themselves.
    """
    with _server(program) as address:
        project = _fill(address, images)
        clients = [_client(address, f"person{number}@example.com", "signup") for number in range(people)]
        cookies = [dict(client.cookies) for client in clients]
        for client in clients:
            client.close()
        seen = Seen()
        began = time.monotonic()
        asyncio.run(_label_together(address, project, cookies, seconds, seen))
        taken = time.monotonic() - began
    twice = sum(count - 1 for count in Counter(seen.answered).values())
    return {
        **{f"label_studio_next_p{percent}_ms": _quantile(seen.next, percent) for percent in (50, 95)},
        **{f"label_studio_submit_p{percent}_ms": _quantile(seen.submit, percent) for percent in (50, 95)},
        "label_studio_answers_per_second": round(len(seen.answered) / taken, 2),
        "label_studio_errors": seen.errors,
        "label_studio_duplicates": twice,
        "label_studio_idle": seen.idle,
    }


def ratios(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    """Return how many times longer Label Studio takes, and how many times fewer answers it takes."""
    pairs = (("next", "next"), ("answer", "submit"))
    times = {
        f"{what}_p{percent}_ratio": theirs[f"label_studio_{name}_p{percent}_ms"] / ours[f"{what}_client_p{percent}_ms"]
        for what, name in pairs
        for percent in (50, 95)
    }
    rate = ours["answers_per_second"] / max(theirs["label_studio_answers_per_second"], 1e-9)
    return {name: round(value, 2) for name, value in {**times, "answers_per_second_ratio": rate}.items()}


@contextmanager
def _server(program: Path) -> Iterator[str]:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with TemporaryDirectory(prefix="label-studio-") as folder, (Path(folder) / "log").open("wb") as log:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "LABEL_STUDIO_BASE_DATA_DIR": folder,
            "COLLECT_ANALYTICS": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            **{name: value for name, value in os.environ.items() if name.startswith(DATABASE_VARIABLES)},
        }
        command = [program, "start", "--no-browser", "--port", str(port), "--username", ADMIN, "--password", PASSWORD]
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            until(lambda: process.poll() is None and _answers(address), START_SECONDS, "Label Studio starts")
            yield address
        finally:
            process.kill()
            process.wait()


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/user/login/", timeout=30).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _client(address: str, email: str, way: str) -> httpx.Client:
    """Sign somebody in, or up."""
    client = httpx.Client(base_url=address, timeout=FILL_SECONDS)
    form = client.get(f"/user/{way}/").raise_for_status()
    [token] = TOKEN.findall(form.text)[:1]
    given = {"csrfmiddlewaretoken": token, "email": email, "password": PASSWORD, "allow_newsletters": "false"}
    done = client.post(f"/user/{way}/", data=given, headers={"Referer": address})
    assert done.status_code == httpx.codes.FOUND, f"{email} cannot {way}: {done.status_code}"
    return client


def _fill(address: str, images: int) -> int:
    with closing(_client(address, ADMIN, "login")) as admin:
        headers = {"X-CSRFToken": admin.cookies["csrftoken"], "Referer": address}
        made = admin.post("/api/projects/", json={"title": "load", "label_config": CONFIG}, headers=headers)
        project: int = made.raise_for_status().json()["id"]
        for first in range(0, images, TASKS_AT_ONCE):
            rows = range(first, min(images, first + TASKS_AT_ONCE))
            tasks = [{"image": f"/data/{row}.png"} for row in rows]
            admin.post(f"/api/projects/{project}/import", json=tasks, headers=headers).raise_for_status()
    return project


async def _label_together(address: str, project: int, cookies: list[dict[str, str]], seconds: int, seen: Seen) -> None:
    begins_at = asyncio.get_running_loop().time() + 1.0
    await asyncio.gather(
        *(
            _label(address, project, own, begins_at + number / len(cookies), seconds, seen)
            for number, own in enumerate(cookies)
        )
    )


async def _label(
    address: str, project: int, cookies: dict[str, str], begins_at: float, seconds: int, seen: Seen
) -> None:
    """Answer once a second, or as soon as the next task is there."""
    loop = asyncio.get_running_loop()
    headers = {"X-CSRFToken": cookies["csrftoken"], "Referer": address}
    async with httpx.AsyncClient(base_url=address, cookies=cookies, headers=headers, timeout=REQUEST_SECONDS) as client:
        due = begins_at
        while loop.time() < begins_at + seconds:
            task = await _timed(seen, seen.next, client.get(f"/api/projects/{project}/next"))
            if task is None:
                continue
            if loop.time() > due + 1:
                seen.idle += int(loop.time() - due)  # presses that had nothing to answer
            due = max(due + 1, loop.time())
            await asyncio.sleep(max(0.0, due - loop.time()))
            chosen = {"choices": [CLASSES[task["id"] % len(CLASSES)]]}
            result = [{"from_name": "choice", "to_name": "image", "type": "choices", "value": chosen}]
            given = {"result": result, "lead_time": 1.0}
            if await _timed(seen, seen.submit, client.post(f"/api/tasks/{task['id']}/annotations/", json=given)):
                seen.answered.append(task["id"])


async def _timed(seen: Seen, times: list[float], request: Awaitable[httpx.Response]) -> dict[str, int] | None:
    began = time.perf_counter()
    try:
        reply = (await request).raise_for_status()
    except httpx.HTTPError:
        seen.errors += 1
        return None
    times.append(1000 * (time.perf_counter() - began))
    found: dict[str, int] = reply.json()
    return found


def _quantile(times: list[float], percent: float) -> float:
    return round(float(np.percentile(times, percent)), 2) if times else float("nan")
