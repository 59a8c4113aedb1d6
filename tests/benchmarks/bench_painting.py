"""From a key press to the next image painted, measured in Chromium by the page itself, beside a bare swap of images.

Preloaded: the next image is decoded already, as it is while people label. Cold: no image but the one on screen is
fetched before the key is pressed, and then all of them at once. The bare swap puts a decoded image in the place of
another in an otherwise empty page, which is the least that a browser needs for a frame.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, Page, sync_playwright

from app import embedded
from app.database import Database, upgrade
from app.settings import Settings, load_settings
from app.storage import Storage
from tests.browser.chromium import ARGUMENTS, CHROMIUM
from tests.browser.labeling import see
from tests.browser.web import WebServer
from tests.factories import make_project, make_round, make_user

PRESSES = 120
COLD_PRESSES = 40
SIDE = 100  # smaller images come along with their queries, and nothing would be fetched
THINKING_MS = 150  # between two presses: faster than people are, and enough for the queue to be refilled
MEASURES = "name => performance.getEntriesByName(name).map(item => item.duration)"
# lets only the first image be fetched before a key is pressed
LATE = """(() => {
  const { get, set } = Object.getOwnPropertyDescriptor(HTMLImageElement.prototype, "src");
  const { decode } = HTMLImageElement.prototype;
  const pressed = new Promise(resolve => addEventListener("keydown", resolve, { capture: true, once: true }));
  const late = new WeakMap();
  let isFirst = true;
  Object.defineProperty(HTMLImageElement.prototype, "src", { get, set(address) {
    if (isFirst) set.call(this, address); else late.set(this, address);
    isFirst = false;
  } });
  HTMLImageElement.prototype.decode = async function () {
    if (late.has(this)) { await pressed; set.call(this, late.get(this)); }
    return decode.call(this);
  };
})()"""
BARE = """async presses => {
  const stage = document.body;
  const durations = [];
  for (let press = 0; press < presses; press += 1) {
    const image = new Image();
    const canvas = new OffscreenCanvas(28, 28);
    canvas.getContext("2d").fillRect(press % 28, 0, 4, 28);
    image.src = URL.createObjectURL(await canvas.convertToBlob());
    await image.decode();
    const began = performance.now();
    stage.replaceChildren(image);
    await new Promise(resolve => requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = resolve;
      channel.port2.postMessage(null);
    }));
    durations.push(performance.now() - began);
  }
  return durations;
}"""


def figures() -> dict[str, float]:
    """Return p50 and p95 in milliseconds."""
    with TemporaryDirectory() as folder, embedded.servers(load_settings(home=Path(folder) / "home")) as settings:
        upgrade(str(settings.database_url))
        web = WebServer(settings)
        web.start()
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
                times = _measure(settings, web, browser)
                browser.close()
        finally:
            web.end()
    found: dict[str, float] = {}
    for name, measured in times.items():
        cuts = statistics.quantiles(measured, n=20)
        found[f"{name}_p50_ms"], found[f"{name}_p95_ms"] = cuts[9], cuts[18]
    return found


def _measure(settings: Settings, web: WebServer, browser: Browser) -> dict[str, list[float]]:
    database = Database(str(settings.database_url))
    with database.transaction() as session:
        user = make_user(session)
        storage = Storage(settings.storage)
        project = make_project(session, PRESSES + COLD_PRESSES + 40, storage=storage, side=SIDE)
        make_round(session, project, queries=PRESSES + COLD_PRESSES + 40)
        path = f"/projects/{project.id}/label"
        session.commit()
    database.close()
    page = web.context(browser, user).new_page()
    page.goto("/sign-in")
    bare = page.evaluate(BARE, PRESSES)
    page.goto(path)
    _press(page, PRESSES)
    preloaded = page.evaluate(MEASURES, "key-to-painted")
    page.add_init_script(LATE)
    cold = [duration for _ in range(COLD_PRESSES) for duration in _press_cold(page, path)]
    return {"paint_bare": bare, "paint_preloaded": preloaded, "paint_cold": cold}


def _press(page: Page, presses: int) -> None:
    seen = see(page)
    for press in range(presses):
        page.wait_for_timeout(THINKING_MS)
        page.keyboard.press(str(press % 3))
        seen = see(page, seen)


def _press_cold(page: Page, path: str) -> list[float]:
    """Press once on a new page."""
    page.goto("about:blank")  # gives the queries back
    page.goto(path)
    seen = see(page)
    page.wait_for_timeout(THINKING_MS)
    page.keyboard.press("1")
    see(page, seen)
    return list(page.evaluate(MEASURES, "key-to-fetched-and-painted"))
