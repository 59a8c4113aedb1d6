"""Keys of the labeling page in real Chromium: digits, letters, typing a class's name, other keyboards, other keys."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import update

from app.records import Class, Outcome
from app.services import keys
from app.services.keys import LETTERS, Action
from tests.browser.labeling import (
    HEAR,
    Open,
    Scene,
    Stage,
    assert_accessible,
    chromium,
    cut_off,
    label,
    open_page,
    see,
    stage,
    web,
)
from tests.waiting import until

__all__ = ["chromium", "open_page", "stage", "web"]

ANIMALS = ("ant", "cat", "catfish", "dolphin", "écureuil", "sea cat", *(f"animal {number}" for number in range(60)))
FIND = "Find a class"


def class_ids(scene: Scene) -> list[int | None]:
    return [class_id for _, class_id in scene.answers()]


def press(page: Page, key: str, code: str, *, shift: bool = False) -> None:
    """Press a key of another keyboard: what it types, and where it lies."""
    pressed = {"key": key, "code": code, "shiftKey": shift, "bubbles": True}
    page.evaluate("pressed => document.body.dispatchEvent(new KeyboardEvent('keydown', pressed))", pressed)


def test_the_eleventh_class_and_those_after_it_have_letters(stage: Stage, open_page: Open) -> None:
    names = tuple(f"kind {number}" for number in range(30))
    scene = stage(classes=names)
    page = open_page(scene)
    label(page, f"1{LETTERS[0]}0{LETTERS[-1]}")
    scene.saved(4)
    assert class_ids(scene) == [scene.class_ids[names[place]] for place in (0, 10, 9, 29)]
    assert page.get_by_role("button", name=f"kind 10, key {LETTERS[0]}").inner_text().split() == [
        "kind", "10", LETTERS[0].upper(),
    ]  # fmt: skip


def test_a_class_without_a_key_is_found_by_typing_its_name(stage: Stage, open_page: Open) -> None:
    scene = stage(classes=ANIMALS)
    page = open_page(scene)
    first = see(page)
    page.keyboard.type("dol", delay=0)  # the letters that open the dialog are the first of the name
    expect(page.get_by_role("combobox", name=FIND)).to_have_value("dol")
    page.keyboard.press("Enter")
    second = see(page, first)
    page.keyboard.type("cat")
    expect(page.get_by_role("option")).to_have_text(["cat2", "catfish3", "sea cat6"])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    third = see(page, second)
    page.keyboard.press("2")  # those with keys still have them
    see(page, third)
    page.keyboard.type("ecu")  # accents need not be typed
    page.keyboard.press("Enter")
    scene.saved(4)
    assert class_ids(scene) == [scene.class_ids[name] for name in ("dolphin", "catfish", "cat", "écureuil")]


def test_escape_closes_the_list_and_answers_nothing(stage: Stage, open_page: Open) -> None:
    scene = stage(classes=ANIMALS)
    page = open_page(scene)
    seen = see(page)
    page.keyboard.press("/")
    expect(page.get_by_role("combobox", name=FIND)).to_have_value("")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.type("nothing like it")
    expect(page.get_by_role("option")).to_have_count(0)
    expect(page.get_by_role("status").filter(has_text="No class has this in its name")).to_be_visible()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert see(page) == seen
    label(page, "1")
    assert scene.saved(1) == [(seen, scene.class_ids["ant"])]


def test_the_list_is_a_combobox_that_screen_readers_know(stage: Stage, open_page: Open) -> None:
    page = open_page(stage(classes=ANIMALS))
    see(page)
    page.keyboard.press("a")
    field = page.get_by_role("combobox", name=FIND)
    expect(field).to_be_focused()

    def active() -> str:
        return page.locator(f"#{field.get_attribute('aria-activedescendant')}").inner_text()

    shown = page.get_by_role("option").all_inner_texts()
    assert field.get_attribute("aria-expanded") == "true"
    assert page.get_by_role("option", selected=True).count() == 1
    assert active() == shown[0]
    page.keyboard.press("ArrowDown")
    assert active() == shown[1]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert active() == shown[-1], "up from the first is the last"
    assert page.evaluate(
        "() => { const [list, option] = ['[role=listbox]', '[aria-selected=true]'].map(name => "
        "document.querySelector(name).getBoundingClientRect()); return option.bottom <= list.bottom + 1 }"
    ), "the active option is scrolled into view"
    assert_accessible(page)


def test_enter_held_down_on_the_list_labels_one_image(stage: Stage, open_page: Open) -> None:
    scene = stage(classes=ANIMALS)
    page = open_page(scene)
    seen = see(page)
    page.get_by_role("button", name="All 66 classes, key /").click()
    page.keyboard.type("dolphin")
    for _ in range(20):
        page.keyboard.down("Enter")
    see(page, seen)
    for _ in range(20):
        page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    label(page, "2", seen)
    scene.saved(2)
    assert class_ids(scene) == [scene.class_ids["dolphin"], scene.class_ids["cat"]]


def test_letters_move_from_actions_to_typing_where_classes_have_no_keys(stage: Stage, open_page: Open) -> None:
    scene = stage(classes=ANIMALS)
    page = open_page(scene)
    seen = see(page)
    page.keyboard.press("s")
    expect(page.get_by_role("combobox", name=FIND)).to_have_value("s")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press(",")
    see(page, seen)
    until(lambda: [outcome for _, outcome in scene.outcomes()] == [Outcome.SKIP], 20, "the comma skips")


def test_a_class_chosen_last_is_offered_first(stage: Stage, open_page: Open) -> None:
    scene = stage(classes=ANIMALS)
    page = open_page(scene)
    seen = see(page)
    page.keyboard.type("dolphin")
    page.keyboard.press("Enter")
    see(page, seen)
    page.keyboard.press("/")
    expect(page.get_by_role("option").first).to_have_text("dolphin4")
    page.keyboard.press("Enter")
    scene.saved(2)
    assert class_ids(scene) == [scene.class_ids["dolphin"]] * 2


def test_a_class_is_found_by_touch(stage: Stage, open_page: Open) -> None:
    scene = stage(classes=ANIMALS)
    page = open_page(scene, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    see(page)
    page.get_by_role("button", name="All 66 classes").tap()
    page.get_by_role("combobox", name=FIND).fill("sea")
    option = page.get_by_role("option", name="sea cat")
    box = option.bounding_box()
    assert box is not None and box["height"] >= 44
    option.tap()
    scene.saved(1)
    assert class_ids(scene) == [scene.class_ids["sea cat"]]
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_list_works_offline_and_keeps_the_order(stage: Stage, open_page: Open) -> None:
    scene = stage(classes=ANIMALS)
    page = open_page(scene)
    see(page)
    until(lambda: scene.leases() >= 5, 20, "the next images are held")
    reconnect = cut_off(page)
    seen = see(page)
    page.keyboard.type("dolphin")
    page.keyboard.press("Enter")
    label(page, "1", seen)
    reconnect()
    assert scene.saved(2) == [
        (scene.image_ids[0], scene.class_ids["dolphin"]),
        (scene.image_ids[1], scene.class_ids["ant"]),
    ]


@pytest.mark.parametrize(
    ("key", "code", "shift", "name"),
    [
        ("&", "Digit1", False, "1"),  # French: digits need Shift, the key itself is meant
        ("1", "Digit1", True, "1"),
        ("+", "Digit1", False, "1"),  # Czech: the same key types a plus, which elsewhere zooms
        ("é", "Digit2", False, "2"),
        ("End", "Numpad1", False, "1"),  # the number pad without Num Lock
        ("4", "Numpad4", False, "4"),
    ],
)
def test_digits_of_other_keyboards_label(
    stage: Stage, open_page: Open, key: str, code: str, shift: bool, name: str
) -> None:
    scene = stage()
    page = open_page(scene)
    see(page)
    press(page, key, code, shift=shift)
    assert scene.saved(1) == scene.expected(name)


def test_a_sign_that_needs_shift_and_a_digit_key_is_the_sign(stage: Stage, open_page: Open) -> None:
    """On German keyboards the slash is Shift and 7."""
    scene = stage(classes=ANIMALS)
    page = open_page(scene)
    see(page)
    press(page, "/", "Digit7", shift=True)
    expect(page.get_by_role("combobox", name=FIND)).to_be_visible()
    assert scene.annotations() == []


def test_keys_that_an_admin_chose_label_and_act(stage: Stage, open_page: Open) -> None:
    scene = stage(classes=("cat", "dog"))
    with scene.database.transaction() as session:
        chosen = {scene.class_ids["cat"]: "s", scene.class_ids["dog"]: "ä"}
        keys.set_keys(session, scene.project_id, chosen, {Action.SKIP: "j", Action.UNDO: "r"})
        session.commit()
    page = open_page(scene)
    seen = label(page, "s")
    see(page, seen)
    press(page, "ä", "Quote")
    expect(page.get_by_role("button", name="Skip, key j")).to_be_visible()
    label(page, "j", scene.image_ids[1])
    until(lambda: len(scene.annotations()) == 3, 20, "three answers are saved")
    assert scene.answers()[:2] == [
        (scene.image_ids[0], scene.class_ids["cat"]),
        (scene.image_ids[1], scene.class_ids["dog"]),
    ]
    assert scene.annotations()[2].outcome is Outcome.SKIP
    page.keyboard.press("r")
    until(lambda: len(scene.annotations()) == 2, 20, "the skip is taken back")


def test_keys_changed_meanwhile_are_told_and_mean_what_the_page_shows(stage: Stage, open_page: Open) -> None:
    scene = stage(classes=("cat", "dog"))
    page = open_page(scene)
    seen = see(page)
    cat, dog = scene.class_ids["cat"], scene.class_ids["dog"]
    with scene.database.transaction() as session:
        keys.set_keys(session, scene.project_id, {cat: "2", dog: "1"}, {})
        session.commit()
    page.keyboard.press("1")
    assert scene.saved(1) == [(seen, cat)], "what the button said when it was pressed"
    expect(page.locator("[data-part=changed]")).to_be_visible()
    page.get_by_role("link", name="Reload now").click()
    see(page, seen)
    expect(page.locator("[data-part=changed]")).to_be_hidden()
    label(page, "1")
    assert [class_id for _, class_id in scene.saved(2)] == [cat, dog]


def test_a_class_renamed_while_its_key_is_down_is_the_class_that_was_meant(stage: Stage, open_page: Open) -> None:
    scene = stage(classes=("cat", "dog"))
    page = open_page(scene)
    see(page)
    page.evaluate(HEAR)
    page.keyboard.down("2")
    with scene.database.transaction() as session:
        session.execute(update(Class).where(Class.id == scene.class_ids["dog"]).values(name="hound"))
        session.commit()
    page.keyboard.up("2")
    assert scene.saved(1) == [(scene.image_ids[0], scene.class_ids["dog"])]
    assert page.evaluate("heard")[0].startswith("Labelled dog")
    page.reload()
    expect(page.get_by_role("button", name="hound, key 2")).to_be_visible()
