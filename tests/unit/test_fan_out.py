"""The line that all pages of a project share: what each of them is told, and when it is given up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable

from app.pages.fan_out import FanOut

SECONDS = 10  # within which what must come has come


class Source:
    """Stands where Redis does: what is put in is heard by whoever listens."""

    def __init__(self) -> None:
        self.opened = 0
        self.open = 0
        self._events = asyncio.Queue[str | None]()

    async def listen(self, project_id: int) -> AsyncGenerator[str]:
        assert project_id == 7
        self.opened += 1
        self.open += 1
        try:
            while (text := await self._events.get()) is not None:
                yield text
            raise OSError("cut")
        finally:
            self.open -= 1

    def put(self, kind: str, **data: int) -> None:
        self._events.put_nowait(json.dumps({**data, "kind": kind}))

    def cut(self) -> None:
        self._events.put_nowait(None)


def run(scene: Callable[[Source, FanOut], Awaitable[None]]) -> None:
    async def whole() -> None:
        source = Source()
        await asyncio.wait_for(scene(source, FanOut(source.listen)), SECONDS)

    asyncio.run(whole())


async def told(page: AsyncGenerator[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(await anext(page))
    return found


async def opened(fan_out: FanOut, source: Source) -> AsyncGenerator[str]:
    """Open a page and have it hear one event, so that it stands."""
    page = fan_out.listen(7)
    hearing = asyncio.create_task(anext(page))
    await asyncio.sleep(0)
    source.put("project")
    await hearing
    return page


def test_every_page_is_told_from_when_on_nothing_is_missed() -> None:
    async def scene(source: Source, fan_out: FanOut) -> None:
        first = await opened(fan_out, source)
        source.put("listening")
        assert await told(first) == {"kind": "listening"}
        second = fan_out.listen(7)
        assert await told(second) == {"kind": "listening"}
        source.put("round", number=1)
        assert await told(first) == await told(second) == {"kind": "round", "number": 1}
        source.cut()
        assert [text async for text in first] == [text async for text in second] == []
        third = await opened(fan_out, source)  # nothing is promised before the new line stands
        source.put("listening")
        assert await told(third) == {"kind": "listening"}
        await third.aclose()

    run(scene)


def test_of_many_counts_a_page_is_told_the_first_and_the_last() -> None:
    async def scene(source: Source, fan_out: FanOut) -> None:
        page = await opened(fan_out, source)
        for number in range(100):
            source.put("labels", labels_used=number)
        source.put("progress", done=1)
        assert await told(page) == {"kind": "labels", "labels_used": 0}
        assert await told(page) == {"kind": "labels", "labels_used": 99}
        assert await told(page) == {"kind": "progress", "done": 1}
        await page.aclose()

    run(scene)


def test_what_happens_is_told_at_once_after_what_was_held_back() -> None:
    async def scene(source: Source, fan_out: FanOut) -> None:
        page = await opened(fan_out, source)
        for number in range(3):
            source.put("labels", labels_used=number)
        source.put("round", number=1)
        source.put("round", number=2)
        heard = [await told(page) for _ in range(4)]
        assert [(one["kind"], one.get("labels_used", one.get("number"))) for one in heard] == [
            ("labels", 0),
            ("labels", 2),
            ("round", 1),
            ("round", 2),
        ]
        await page.aclose()

    run(scene)


def test_all_pages_share_one_line_which_ends_with_the_last_of_them() -> None:
    async def scene(source: Source, fan_out: FanOut) -> None:
        first = await opened(fan_out, source)
        second = await opened(fan_out, source)
        assert (await told(first))["kind"] == "project"
        source.put("round", number=5)
        assert await told(first) == await told(second) == {"kind": "round", "number": 5}
        assert (source.opened, source.open) == (1, 1)
        await first.aclose()
        source.put("round", number=6)
        assert (await told(second))["number"] == 6
        await second.aclose()
        while source.open:
            await asyncio.sleep(0)
        third = await opened(fan_out, source)
        assert source.opened == 2
        await third.aclose()

    run(scene)


def test_pages_end_when_nothing_can_be_heard_any_more() -> None:
    async def scene(source: Source, fan_out: FanOut) -> None:
        page = await opened(fan_out, source)
        source.cut()
        assert [text async for text in page] == []
        again = await opened(fan_out, source)  # a browser comes back
        await again.aclose()

    run(scene)


def test_a_page_that_does_not_read_loses_the_oldest_only() -> None:
    async def scene(source: Source, fan_out: FanOut) -> None:
        other = await opened(fan_out, source)
        page = await opened(fan_out, source)
        assert (await told(other))["kind"] == "project"
        for number in range(1500):
            source.put("round", number=number)
            assert (await told(other))["number"] == number
        assert (await told(page))["number"] == 500
        await page.aclose()
        await other.aclose()

    run(scene)
