"""A closer look in real Chromium: zoom, brightness, touch, reasons, the card "Why this image?" and the help."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Route, expect
from sqlalchemy import select, update

from app.records import Image, Model, Outcome, Project, Query, ReasonsShown, UnusableReason
from tests.browser.labeling import (
    HEAR,
    Open,
    Scene,
    Stage,
    assert_accessible,
    chromium,
    cut_off,
    go,
    label,
    open_page,
    see,
    somebody_else_answers_the_first,
    stage,
    web,
)
from tests.waiting import until

__all__ = ["chromium", "open_page", "stage", "web"]

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
BOX = """() => { const { x, y, width, height } = document.querySelector(".picture").getBoundingClientRect();
  return { x, y, width, height } }"""
FILTER = "getComputedStyle(document.querySelector('.picture')).filter"
# presses a key as soon as another image has been seen for a moment
PRESS_ON_CHANGE = """() => new MutationObserver((_changes, observer) => {
  if (!document.querySelector(".stage .picture")) return;
  observer.disconnect();
  const one = new KeyboardEvent("keydown", { key: "1", code: "Digit1", bubbles: true });
  requestAnimationFrame(() => setTimeout(() => document.body.dispatchEvent(one), 60));
}).observe(document.querySelector(".stage"), { childList: true })"""
FILES = """() => performance.getEntriesByType("resource").filter(({ name }) => name.includes("/images/")).length"""


def box(page: Page) -> dict[str, float]:
    """Return where the image is, once it rests."""
    return page.evaluate(BOX)


# ---- zoom ----


def test_plus_zooms_arrows_move_and_the_next_image_starts_whole(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    seen = see(page)
    whole = box(page)
    page.keyboard.press("+")
    page.keyboard.press("+")
    larger = box(page)
    assert larger["width"] == pytest.approx(whole["width"] * 1.96, rel=0.01)
    assert page.evaluate("getComputedStyle(document.querySelector('.picture')).imageRendering") == "pixelated"
    page.keyboard.press("ArrowRight")
    assert box(page)["x"] == pytest.approx(larger["x"] - 64), "the arrow moves, it does not look at answers"
    page.keyboard.press("-")
    page.keyboard.press("_")
    assert box(page) == pytest.approx(whole)
    page.keyboard.press("+")
    label(page, "1")
    second = see(page, seen)
    assert box(page) == pytest.approx(whole)
    page.keyboard.press("ArrowLeft")
    assert see(page, second) == seen, "not zoomed, the arrow looks at answers"
    assert scene.saved(1) == scene.expected("1")


def test_zero_shows_the_whole_image_where_no_class_has_it(stage: Stage, open_page: Open) -> None:
    page = open_page(stage(classes=("cat", "dog")))
    see(page)
    whole = box(page)
    page.keyboard.press("+")
    page.keyboard.press("0")
    assert box(page) == pytest.approx(whole)
    page.keyboard.press("+")
    page.keyboard.press("Escape")
    assert box(page) == pytest.approx(whole)


def test_the_wheel_zooms_where_the_pointer_is_and_dragging_moves(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    see(page)
    whole = box(page)
    x, y = whole["x"] + whole["width"] * 0.25, whole["y"] + whole["height"] * 0.75
    page.mouse.move(x, y)
    page.mouse.wheel(0, -600)
    page.wait_for_function("document.querySelector('.stage').classList.contains('is-zoomed')")
    zoomed = box(page)
    assert (x - zoomed["x"]) / zoomed["width"] == pytest.approx(0.25, abs=0.01)
    assert (y - zoomed["y"]) / zoomed["height"] == pytest.approx(0.75, abs=0.01)
    page.mouse.down()
    page.mouse.move(x + 50, y - 30, steps=4)
    page.mouse.up()
    moved = box(page)
    assert (moved["x"] - zoomed["x"], moved["y"] - zoomed["y"]) == pytest.approx((50, -30))
    page.mouse.down()
    page.mouse.move(x + 5000, y, steps=4)
    page.mouse.up()
    middle = whole["x"] + whole["width"] / 2
    assert box(page)["x"] == pytest.approx(middle), "never away from the stage's centre"
    label(page, "3")
    assert scene.saved(1) == scene.expected("3"), "one key labels, zoomed or not"


def test_zooming_fetches_nothing_and_waits_for_nothing(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    see(page)
    until(lambda: scene.leases() >= 5, 20, "the next images are held")
    page.wait_for_load_state("networkidle")
    before = page.evaluate(FILES)
    page.keyboard.press("+")
    page.keyboard.press("Shift+ArrowUp")
    assert page.evaluate(FILES) == before


# ---- light ----


def test_brightness_and_contrast_by_keys_stay_for_the_project_in_this_browser(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    seen = see(page)
    assert page.evaluate(FILTER) == "none", "a filter that changes nothing would cost time"
    for key in ("Shift+ArrowUp", "Shift+ArrowUp", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    assert page.evaluate(FILTER) == "brightness(1.2) contrast(0.9)"
    expect(page.locator("[data-part=live]")).to_have_text("Brightness 120%, contrast 90%")
    label(page, "1")
    see(page, seen)
    assert page.evaluate(FILTER) == "brightness(1.2) contrast(0.9)", "also for the next image"
    page.reload()
    see(page)
    assert page.evaluate(FILTER) == "brightness(1.2) contrast(0.9)", "and after a reload"
    other = open_page(stage())
    see(other)
    assert other.evaluate(FILTER) == "none", "another project has its own"
    page.keyboard.press("b")
    page.get_by_role("button", name="Reset", exact=True).click()
    assert page.evaluate(FILTER) == "none"
    assert page.evaluate("Object.keys(localStorage).filter(key => key.includes('light'))") == []
    assert scene.saved(1) == scene.expected("1")


def test_the_sliders_are_two_and_labels_stay_one_key(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    seen = see(page)
    page.keyboard.press("b")
    brightness = page.get_by_role("slider", name="Brightness")
    expect(brightness).to_be_focused()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(FILTER) == "brightness(1.1) contrast(1)", "an arrow moves the slider"
    assert see(page) == seen
    assert_accessible(page)
    page.keyboard.press("4")
    see(page, seen)
    page.keyboard.press("Escape")
    expect(page.get_by_role("slider")).to_have_count(0)
    assert scene.saved(1) == scene.expected("4")


# ---- touch ----


def swipe(page: Page, fraction: float) -> None:
    """Draw a finger over the image, by a fraction of the width, to the right if positive."""
    where = box(page)
    x, y = where["x"] + where["width"] / 2, where["y"] + where["height"] / 2
    fingers = page.context.new_cdp_session(page)
    fingers.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 6):
        point = {"x": x + 390 * fraction * step / 5, "y": y + step}
        fingers.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    fingers.detach()


def test_a_swipe_to_the_right_goes_back_and_to_the_left_forward(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene, **PHONE)
    seen = see(page)
    page.get_by_role("button", name="2, key 2").tap()
    current = see(page, seen)
    swipe(page, 0.4)
    assert see(page, current) == seen
    expect(page.locator("[data-part=review]")).to_contain_text("Your answer: 2")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_role("button", name="5, key 5").tap()
    assert see(page, seen) == current
    swipe(page, 0.4)
    see(page, current)
    swipe(page, -0.4)
    see(page, seen)
    swipe(page, 0.05)
    assert see(page) == current, "a tap that trembles is no swipe"
    until(lambda: scene.answers() == scene.expected("5"), 20, "corrected by touch")


def test_two_fingers_zoom(stage: Stage, open_page: Open) -> None:
    page = open_page(stage(), **PHONE)
    seen = see(page)
    whole = box(page)
    x, y = whole["x"] + whole["width"] / 2, whole["y"] + whole["height"] / 2
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, apart: float) -> None:
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}] if apart else []
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 40)
    for apart in (60, 80, 100, 120):
        touch("touchMove", apart)
    touch("touchEnd", 0)
    assert box(page)["width"] == pytest.approx(whole["width"] * 3, rel=0.05)
    assert see(page) == seen, "no swipe"


# ---- unusable ----


def test_unusable_asks_for_a_reason_on_keys(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    seen = None
    for key in "12345":
        seen = see(page, seen)
        page.keyboard.press("x")
        expect(page.get_by_role("dialog", name="Why is this image unusable?")).to_be_visible()
        page.keyboard.press(key)
    expect(page.get_by_role("dialog")).to_have_count(0)
    until(lambda: len(scene.annotations()) == 5, 20, "five answers are saved")
    assert [(known.outcome, known.reason) for known in scene.annotations()] == [
        (Outcome.UNUSABLE, reason) for reason in UnusableReason
    ]


def test_escape_takes_the_question_for_a_reason_back(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    seen = see(page)
    page.keyboard.press("x")
    assert_accessible(page)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("1")
    see(page, seen)
    assert scene.saved(1) == scene.expected("1"), "the key means its class again"


def test_a_reason_held_down_answers_one_image(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    seen = see(page)
    for _ in range(5):
        page.keyboard.down("x")
    for _ in range(20):
        page.keyboard.down("2")
    see(page, seen)
    for _ in range(20):
        page.keyboard.down("2")
    page.keyboard.up("2")
    page.keyboard.up("x")
    page.keyboard.press("7")
    until(lambda: len(scene.annotations()) == 2, 20, "two answers are saved")
    assert scene.outcomes() == [(scene.image_ids[0], Outcome.UNUSABLE), (scene.image_ids[1], Outcome.LABEL)]


def test_an_image_that_passes_on_closes_the_question_and_a_quick_key_is_told(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene, before=lambda page: page.route("**/label", renew_soon))
    seen = see(page)
    until(lambda: scene.leases() >= 5, 20, "the next images are held")
    page.keyboard.press("x")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.evaluate(HEAR)
    page.evaluate(PRESS_ON_CHANGE)
    somebody_else_answers_the_first(scene)
    see(page, seen)
    expect(page.get_by_role("dialog")).to_have_count(0)
    said = until(lambda: page.evaluate("heard"), 20, "the press is answered")
    assert said[-1].startswith("Too quick"), "it was meant for the image before"
    page.wait_for_timeout(600)
    page.keyboard.press("2")
    until(lambda: scene.expected("2", start=1)[0] in scene.answers(), 20, "the next answer is saved")
    mine = [known for known in scene.annotations(standing=False) if known.user_id == scene.user.id]
    assert len(mine) == 1, "the press that was too quick is no answer"


def renew_soon(route: Route) -> None:
    """Let the page believe that leases are short, so that it asks soon whether it still has them."""
    page = route.fetch()
    route.fulfill(response=page, body=page.text().replace('data-lease-seconds="120"', 'data-lease-seconds="24"'))


# ---- why this image ----


def explain(scene: Scene, *, shown: ReasonsShown = ReasonsShown.WHEN_ALONE) -> None:
    """Let the ranking have been made by a network, with reasons for its first query."""
    with scene.database.transaction() as session:
        session.execute(update(Project).where(Project.id == scene.project_id).values(reasons_shown=shown))
        query = session.scalars(
            select(Query).where(Query.project_id == scene.project_id, Query.image_id == scene.image_ids[0])
        ).one()
        near = session.scalars(select(Image.id).where(Image.project_id == scene.project_id).order_by(Image.id.desc()))
        classes = scene.class_ids
        query.parts = {
            "acquisition": "bald",
            "entropy": 1.25,
            "expected_entropy": 0.5,
            "top": [[classes["3"], 0.4123], [classes["8"], 0.3]],
            "neighbours": [[image_id, classes[name], 0.9] for image_id, name in zip(near, "3338", strict=False)],
        }
        query.propensity = 0.25
        metrics = {"test_accuracy": 0.871, "test_accuracy_low": 0.85, "test_accuracy_high": 0.889}
        model = Model(
            project_id=scene.project_id, round_id=query.round_id, weights_hash="0" * 64,
            network={"name": "al_cnn"}, classes=list(classes.values()), metrics=metrics,
        )  # fmt: skip
        session.add(model)
        session.commit()


def test_one_key_says_why_an_image_is_asked(stage: Stage, open_page: Open) -> None:
    scene = stage()
    explain(scene)
    page = open_page(scene)
    seen = see(page)
    page.keyboard.press("w")
    card = page.get_by_role("region", name="Why this image?")
    expect(card).to_contain_text("The strategy chose it: BALD.")
    said = " ".join(card.inner_text().split())
    for words in ("3 41%", "8 30%", "90% alike", "round 0, rank 1", "Score 1", "Entropy (nats) 1.25", "25.00%"):
        assert words in said, words
    assert "al_cnn, fitted on 0 labels" in said or "AL-CNN" in said or "fitted on 0 labels" in said
    assert "87.1% (85.0% to 88.9%)" in said
    expect(card.get_by_role("img", name="An image labelled 3")).to_have_count(3)
    assert_accessible(page)
    page.keyboard.press("3")
    second = see(page, seen)
    expect(card).to_have_count(0)
    page.keyboard.press("w")
    expect(card).to_contain_text("The strategy chose it: Entropy.")
    page.keyboard.press("w")
    expect(card).to_have_count(0)
    page.keyboard.press("4")
    third = see(page, second)
    page.keyboard.press("5")
    see(page, third)
    assert scene.saved(3) == scene.expected("345")
    # the second card told nothing of what a network believes, the third was never opened
    assert [known.saw_prediction for known in scene.annotations()] == [True, False, False]


def test_the_card_of_an_answered_image_stays(stage: Stage, open_page: Open) -> None:
    scene = stage()
    explain(scene)
    page = open_page(scene)
    see(page, label(page, "1"))
    go(page, "ArrowLeft")
    page.keyboard.press("w")
    expect(page.get_by_role("region", name="Why this image?")).to_contain_text("BALD")
    page.keyboard.press("3")
    until(lambda: scene.answers() == scene.expected("3"), 20, "corrected")
    assert [known.saw_prediction for known in scene.annotations(standing=False)] == [False, True]


@pytest.mark.parametrize(
    ("shown", "overlap", "is_there"),
    [
        (ReasonsShown.WHEN_ALONE, 2, False),
        (ReasonsShown.NEVER, 1, False),
        (ReasonsShown.ALWAYS, 2, True),
    ],
)
def test_the_card_is_there_only_where_answers_need_not_be_blind(
    stage: Stage, open_page: Open, shown: ReasonsShown, overlap: int, is_there: bool
) -> None:
    scene = stage(overlap=overlap)
    explain(scene, shown=shown)
    page = open_page(scene)
    see(page)
    page.keyboard.press("w")
    expect(page.get_by_role("region", name="Why this image?")).to_have_count(int(is_there))
    expect(page.get_by_role("button", name="Why?")).to_have_count(int(is_there))


def test_a_card_that_cannot_be_fetched_is_told_and_nothing_else_stops(stage: Stage, open_page: Open) -> None:
    scene = stage()
    explain(scene)
    page = open_page(scene)
    see(page)
    cut_off(page, "*/why")
    page.keyboard.press("w")
    expect(page.locator("#notice")).to_contain_text("Why this image? The server cannot be reached.")
    label(page, "1")
    scene.saved(1)
    assert not scene.annotations()[0].saw_prediction


def test_the_card_fits_a_phone_and_leaves_the_answers_free(stage: Stage, open_page: Open) -> None:
    scene = stage()
    explain(scene)
    page = open_page(scene, **PHONE)
    see(page)
    page.get_by_role("button", name="Why?").tap()
    card = page.get_by_role("region", name="Why this image?")
    expect(card).to_be_visible()
    where, answers = card.bounding_box(), page.locator(".answers").bounding_box()
    assert where is not None and answers is not None and where["y"] + where["height"] <= answers["y"] + 1
    page.get_by_role("button", name="3, key 3").tap()
    scene.saved(1)
    assert scene.annotations()[0].saw_prediction


# ---- help, languages, contrast ----


def test_help_lists_every_key_and_keeps_the_focus(stage: Stage, open_page: Open) -> None:
    scene = stage()
    page = open_page(scene)
    seen = see(page)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys of this page")
    expect(dialog).to_be_visible()
    listed = set(dialog.locator("kbd").all_inner_texts())
    shown = page.evaluate("[...document.querySelectorAll('#labeling [data-key]')].map(button => button.dataset.key)")
    assert {key.upper() for key in shown} <= {key.upper() for key in listed}
    assert_accessible(page)
    inside = "() => { const { activeElement: at } = document; return at === document.body || !!at.closest('dialog') }"
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate(inside)
    page.keyboard.press("3")
    assert see(page) == seen, "keys behind it do nothing"
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    label(page, "1")
    assert scene.saved(1) == scene.expected("1")


def test_the_page_speaks_the_browsers_language(stage: Stage, open_page: Open) -> None:
    scene = stage()
    explain(scene)
    page = open_page(scene, locale="de-DE", viewport={"width": 390, "height": 844})
    seen = see(page)
    assert page.evaluate("document.documentElement.lang") == "de"
    expect(page.get_by_role("button", name="Auslassen, Taste s")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.keyboard.press("w")
    expect(page.get_by_role("region", name="Warum dieses Bild?")).to_contain_text("41 %")
    page.keyboard.press("1")
    see(page, seen)
    expect(page.locator("[data-part=live]")).to_have_text("Mit 1 beschriftet, nächstes Bild")
    expect(page.locator("[data-part=progress]")).to_contain_text("1 von 1\u202f000 Beschriftungen")
    page.keyboard.press("?")
    assert_accessible(page)
    page.keyboard.press("Escape")
    page.goto("/")
    page.get_by_role("button", name="Switch the language to English").click()
    page.goto(scene.path)
    expect(page.get_by_role("button", name="Skip, key s")).to_be_visible()


@pytest.mark.parametrize("look", [{"contrast": "more"}, {"forced_colors": "active"}])
def test_the_page_holds_in_high_contrast(stage: Stage, open_page: Open, look: dict[str, str]) -> None:
    scene = stage()
    page = open_page(scene, **look)
    see(page, label(page, "1"))
    go(page, "ArrowLeft")
    outlined = "getComputedStyle(document.activeElement).outlineStyle"
    for _ in range(2):  # past the link that skips to the content
        page.keyboard.press("Tab")
    assert page.evaluate(outlined) != "none", "the focus is seen"
    assert_accessible(page)


def test_less_motion_moves_nothing(stage: Stage, open_page: Open) -> None:
    page = open_page(stage(), reduced_motion="reduce")
    see(page, label(page, "1"))
    assert page.evaluate("document.getAnimations().length") == 0
