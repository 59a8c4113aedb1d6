"""People who label over HTTP as the labeling page does, all of them in one asyncio process.

Each claims up to ``AHEAD`` queries when fewer than ``REFILL_BELOW`` are held, fetches their images, presses a key once
a second whether or not there is something to answer, and sends answers one after the other from an outbox; leases are
renewed, and the project's events are listened to. The figures are those of ``static/labeling/queue.js`` and
``leases.js``, which a test compares.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

AHEAD = 6
REFILL_BELOW = 3
FIRST_WAIT_SECONDS = 1.0
RENEWED_AFTER = 0.3  # of a lease
TOKEN = re.compile(r'<meta name="form-token" content="([0-9a-f]{64})">')
DURATION = re.compile(r"dur=([0-9.]+)")


@dataclass
class Seen:
    """What all people met together; times in milliseconds."""

    server: dict[str, list[float]] = field(default_factory=dict)
    client: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    answered: dict[str, int] = field(default_factory=dict)  # client ids of accepted answers, with their query
    handed_out: dict[int, set[int]] = field(default_factory=dict)  # people by query, but for those who gave it back
    presses: int = 0
    idle: int = 0
    heard: int = 0
    seconds: float = 0.0  # from the first press to the last confirmed answer

    def note(self, what: str, began: float, response: httpx.Response) -> None:
        """Keep how long a request took, here and, as the server says itself, there."""
        self.client.setdefault(what, []).append(1000 * (time.perf_counter() - began))
        told = DURATION.search(response.headers.get("server-timing", ""))
        if told:
            self.server.setdefault(what, []).append(float(told.group(1)))
        if response.is_error:
            self.errors.append(f"{what}: {response.status_code} {response.text[:200]}")


class Person:
    """One signed-in person on one labeling page."""

    def __init__(self, number: int, client: httpx.AsyncClient, project_id: int, class_ids: list[int], seen: Seen):
        self._number = number
        self._client = client
        self._path = f"/projects/{project_id}"
        self._class_ids = class_ids
        self._seen = seen
        self._held: deque[dict[str, Any]] = deque()
        self._outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._lease_seconds = 120.0
        self._asking: asyncio.Task[None] | None = None
        self._not_before = 0.0

    async def open_page(self) -> None:
        """Load the labeling page, which names the form token, and claim the first queries."""
        began = time.perf_counter()
        page = await self._client.get(f"{self._path}/label", headers={"Accept": "text/html"})
        self._seen.note("page", began, page)
        found = TOKEN.search(page.text)
        if found is None:
            raise RuntimeError(f"the labeling page names no form token: {page.text[:500]}")
        self._client.headers["X-Form-Token"] = found.group(1)
        await self._claim()

    async def label(self, begins_at: float, seconds: float) -> None:
        """Press a key every second until ``seconds`` are over, then wait until every answer is confirmed."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, begins_at - loop.time()))
        beside = [asyncio.create_task(act) for act in (self._send(), self._renew(), self._listen())]
        for press in range(round(seconds)):
            await asyncio.sleep(max(0.0, begins_at + press - loop.time()))
            self._press()
        await self._outbox.join()
        for act in beside:
            act.cancel()
        if self._asking is not None:
            await self._asking
        await asyncio.gather(*beside, return_exceptions=True)
        await self._leave()

    def _press(self) -> None:
        self._seen.presses += 1
        if self._held:
            query = self._held.popleft()
            self._outbox.put_nowait(
                {
                    "client_id": str(uuid4()),
                    "query_id": query["query_id"],
                    "outcome": "label",
                    "class_id": self._class_ids[query["query_id"] % len(self._class_ids)],
                    "reason": None,
                    "seconds_taken": 1.0,
                    "saw_prediction": False,
                    "corrects": None,
                }
            )
        else:
            self._seen.idle += 1
        self._refill()

    def _refill(self) -> None:
        # the image on screen has been taken out of what the page holds ahead
        ahead = len(self._held) - 1
        is_due = asyncio.get_running_loop().time() >= self._not_before
        if ahead < REFILL_BELOW and is_due and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._claim())

    async def _claim(self) -> None:
        wanted = AHEAD - max(0, len(self._held) - 1)
        reply = await self._post("claim", "next", {"count": wanted})
        if reply is None:
            return
        for query in reply["queries"]:
            self._seen.handed_out.setdefault(query["query_id"], set()).add(self._number)
        self._lease_seconds = reply["lease_seconds"]
        if len(reply["queries"]) < wanted:
            self._not_before = asyncio.get_running_loop().time() + FIRST_WAIT_SECONDS
        for query in reply["queries"]:
            if query["picture"] is None:  # small ones come along
                began = time.perf_counter()
                image = await self._client.get(query["image_url"])
                self._seen.note("image", began, image)
            self._held.append(query)

    async def _send(self) -> None:
        while True:
            answer = await self._outbox.get()
            reply = await self._post("answers", "answer", answer)
            if reply is not None:
                self._seen.answered[answer["client_id"]] = answer["query_id"]
            self._outbox.task_done()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEWED_AFTER * self._lease_seconds)
            await self._post("renew", "renew", {"query_ids": [query["query_id"] for query in self._held]})

    async def _listen(self) -> None:
        """Count the project's events, by hand: parsing them would take a tenth of a core from the product."""
        address, cookies = self._client.base_url, self._client.cookies
        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            asked = f"GET {self._path}/events HTTP/1.1\r\nHost: {address.host}\r\nCookie: {cookie}\r\n\r\n"
            writer.write(asked.encode())
            async for line in reader:
                self._seen.heard += line.startswith(b"data:") and b'"listening"' not in line
        finally:
            writer.close()

    async def _leave(self) -> None:
        query_ids = [query["query_id"] for query in self._held]
        await self._post("release", "release", {"query_ids": query_ids})
        for query_id in query_ids:  # others may take them from now on
            self._seen.handed_out[query_id].discard(self._number)

    async def _post(self, path: str, what: str, body: dict[str, Any]) -> Any:
        began = time.perf_counter()
        try:
            response = await self._client.post(f"{self._path}/{path}", json=body)
        except httpx.HTTPError as error:
            self._seen.errors.append(f"{what}: {type(error).__name__} {error}")
            return None
        self._seen.note(what, began, response)
        return None if response.is_error else response.json()


async def label_together(people: list[Person], seconds: float, seen: Seen) -> None:
    """Let all label at the same time, beginning one after another.

    Their presses are spread evenly over each second. They begin within ``AHEAD`` seconds: people who began in the same
    one would ask for more in the same one ever after.
    """
    for person in people:
        await person.open_page()
    begins_at = asyncio.get_running_loop().time() + 1.0
    await asyncio.gather(
        *(
            person.label(begins_at + number / len(people) + number % AHEAD, seconds)
            for number, person in enumerate(people)
        )
    )
    seen.seconds = asyncio.get_running_loop().time() - begins_at
