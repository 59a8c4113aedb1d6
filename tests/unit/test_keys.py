"""Keys of the labeling page: digits first, letters next, never two alike."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.services.keys import DIGITS, FIXED, LETTERS, Action, action_keys, assign_keys, letters_type

NAMES = st.lists(st.text("abcxyz019 äß-", min_size=1, max_size=3), max_size=50, unique=True)


def classes(count: int) -> list[str]:
    return [f"kind {number}" for number in range(count)]


def test_up_to_ten_classes_get_digits() -> None:
    assert assign_keys(classes(10)) == list("1234567890")


def test_the_next_classes_get_letters_that_no_action_has() -> None:
    keys = assign_keys(classes(30))
    assert keys[10:] == list(LETTERS)
    assert not set(LETTERS) & {key for key in action_keys({}, []).values() if key}
    assert not letters_type(keys)


def test_beyond_that_letters_are_left_for_typing() -> None:
    keys = assign_keys(classes(31))
    assert keys == [*DIGITS, *[None] * 21]
    assert letters_type(keys)
    actions = action_keys({}, keys)
    assert all(key is not None and not key.isalnum() for key in actions.values())


def test_a_class_called_like_a_digit_or_a_letter_gets_it_and_actions_make_room() -> None:
    assert assign_keys(["cat", "7", "s", "S", "1"]) == ["2", "7", "s", "3", "1"]
    assert assign_keys([*"abcdefghijklmnopqrstuvwxyz"]) == [*"abcdefghijklmnopqrstuvwxyz"]
    actions = action_keys({}, [*"sz"])
    assert (actions[Action.UNDO], actions[Action.SKIP], actions[Action.UNSURE]) == (";", "k", "u")


def test_more_classes_later_keep_the_keys_there_are() -> None:
    assert assign_keys(["new"], taken=list(DIGITS)) == ["a"]
    assert assign_keys(classes(25), taken=[*DIGITS, "a"])[:3] == ["c", "d", "e"], "letters are keys here already"


def test_what_an_admin_chose_for_an_action_holds_unless_a_class_has_it() -> None:
    assert action_keys({"skip": "z"}, [])[Action.SKIP] == "z"
    assert action_keys({"skip": "z"}, [])[Action.UNDO] == ";", "the default makes room"
    assert action_keys({"skip": "z"}, ["z"])[Action.SKIP] == "s"


@given(NAMES, st.dictionaries(st.sampled_from([*Action]), st.sampled_from("abz,;1"), max_size=6))
def test_no_key_is_ever_given_twice(names: list[str], chosen: dict[str, str]) -> None:
    keys = assign_keys(names)
    assert len(keys) == len(names)
    given_keys = [key for key in keys if key is not None]
    every = given_keys + [key for key in action_keys(chosen, keys).values() if key is not None]
    assert len(every) == len(set(every))
    assert not set(every) & set(FIXED)
    first = assign_keys(names[:5])
    later = assign_keys(names[5:], [key for key in first if key])
    both = [key for key in first + later if key is not None]
    assert len(both) == len(set(both))
