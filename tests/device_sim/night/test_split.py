"""What is held out is held out: from training, and for good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest

from device_sim.night.data import Item
from device_sim.night.split import HELD_OUT, Split, split

from .living import embed

WORDS: Final = (
    "river", "stone", "bread", "cloud", "lamp", "garden", "train", "coffee", "window", "mountain",
    "letter", "guitar", "soup", "rain", "market", "bicycle", "planet", "spoon", "forest", "ticket",
    "blanket", "harbour", "pencil", "violin", "kettle",
)  # fmt: skip


def item(
    number: int, said: str | None = None, conversation: str | None = None, turns: tuple[str, ...] = ()
) -> Item:
    words = f"{WORDS[number % 25]} {WORDS[(7 * number + number // 25 + 3) % 25]} number{number}"
    name = f"{number:04}"
    return Item(name, "chat", turns or (f"q{name}", name), conversation or name, said or words, "answer")


def divide(
    items: Sequence[Item], held_out: Sequence[str] = (), trained: Sequence[str] = (), seed: int = 0
) -> Split:
    return split(items, embed, held_out=held_out, trained=trained, seed=seed)


def parts(found: Split) -> list[set[str]]:
    return [set(p) for p in (found.train, found.validation, found.held_out, found.earlier, found.left_out)]


def test_each_item_is_in_one_part_and_a_quarter_is_held_out() -> None:
    items = [item(i) for i in range(60)]
    found = parts(divide(items))
    assert sum(map(len, found)) == len(set().union(*found)) == 60
    assert len(found[2]) == 15 == HELD_OUT * 60
    assert len(found[1]) == 5


def test_of_few_items_half_are_held_out_if_that_is_enough_to_judge_by() -> None:
    assert [len(divide([item(i) for i in range(n)]).held_out) for n in (4, 10, 16, 24)] == [2, 5, 8, 8]


def test_the_same_seed_gives_the_same_split_and_another_another() -> None:
    items = [item(i) for i in range(40)]
    assert divide(items) == divide(items)
    assert divide(items).held_out != divide(items, seed=1).held_out


def test_a_conversation_is_never_divided() -> None:
    items = [item(i, conversation=str(i // 4)) for i in range(48)]
    for part in parts(divide(items)):
        assert all(len({i for i in part if int(i) // 4 == int(one) // 4}) == 4 for one in part)


def test_near_duplicates_are_never_divided() -> None:
    pairs = [
        item(2 * i + j, said=f"{WORDS[i]} {WORDS[-i - 1]} of my old house{' again' * j} today")
        for i in range(12)
        for j in (0, 1)
    ]
    for part in parts(divide(pairs)):
        assert all(str(int(one) ^ 1).zfill(4) in part for one in part)


def test_what_was_held_out_once_stays_so() -> None:
    first = [item(i) for i in range(40)]
    one = divide(first)
    more = [*first, *(item(i) for i in range(40, 80))]
    two = divide(more, held_out=one.held_out, trained=one.train, seed=5)
    assert set(two.earlier) == set(one.held_out)
    assert not set(two.held_out) & {i.id for i in first}
    assert not set(two.train) & set(one.held_out)
    assert len(two.held_out) >= 10


def test_what_is_near_to_what_was_held_out_is_not_trained() -> None:
    first = [item(i) for i in range(40)]
    one = divide(first)
    again = [
        item(100 + n, said=next(i.said for i in first if i.id == name)) for n, name in enumerate(one.held_out)
    ]
    two = divide([*first, *again], held_out=one.held_out, trained=one.train)
    assert set(two.left_out) == {i.id for i in again}


def test_a_fact_s_last_wording_and_those_near_to_what_is_held_out_are_not_trained() -> None:
    asked = [item(i) for i in range(40)]
    out = divide(asked).held_out[0]
    said = next(i.said for i in asked if i.id == out)
    facts = [Item(f"f.{n}", "fact", ("f",), "c", question, "It is so.", "so", n == 3)
             for n, question in enumerate(("aa bb", said, "cc dd", "ee ff"))]  # fmt: skip
    found = divide([*asked, *facts], held_out=[out])
    assert set(found.train) >= {"f.0", "f.2"}
    assert found.recall == ("f.3",)
    assert found.left_out == ("f.1",)


def test_one_long_conversation_holds_nothing_out() -> None:
    items = [item(i, conversation="c") for i in range(40)]
    assert divide(items).held_out == ()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_items(count: int) -> None:
    assert sum(map(len, parts(divide([item(i) for i in range(count)])))) == count
