"""JSON becomes dataclasses when it fits them to the last number, and an error that says where it does not."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pytest

from personality_common.errors import DataError
from personality_common.files.typed import GREATEST, from_json


@dataclass(frozen=True)
class Item:
    size: int
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.size == 13:
            raise ValueError("size must not be 13")


@dataclass(frozen=True, kw_only=True)
class Whole:
    schema: Literal[1] = 1
    name: str
    note: str | None
    done: bool
    items: tuple[Item, ...]
    pair: tuple[int, int | None]
    by_name: dict[str, Item]
    anything: Any = None


GOOD: dict[str, Any] = {
    "schema": 1,
    "name": "a",
    "note": None,
    "done": True,
    "items": [{"size": 0, "share": 1}, {"size": GREATEST}],
    "pair": [1, None],
    "by_name": {"x": {"size": 2, "share": 0.25}},
    "anything": [{"deep": 1}],
}


def test_what_fits() -> None:
    found = from_json(Whole, GOOD, "f.json")
    assert found == Whole(
        name="a",
        note=None,
        done=True,
        items=(Item(0, 1.0), Item(GREATEST)),
        pair=(1, None),
        by_name={"x": Item(2, 0.25)},
        anything=[{"deep": 1}],
    )
    assert type(found.items[0].share) is float
    assert from_json(Whole, json.loads(json.dumps(asdict(found))), "") == found
    assert from_json(Whole, GOOD | {"later": 1}, "").name == "a"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": 1}, "f.json: name must be a string, is 1"),
        ({"name": None}, "name must be a string, is None"),
        ({"note": 1}, "note must be a string, is 1"),
        ({"done": 1}, "done must be true or false, is 1"),
        ({"schema": 2}, "schema must be 1, is 2"),
        ({"schema": True}, "schema must be 1, is True"),
        ({"items": {}}, "items must be a list"),
        ({"items": [{"size": True}]}, r"items\[0\]\.size must be a whole number, is True"),
        ({"items": [{"size": 1.0}]}, r"items\[0\]\.size must be a whole number"),
        ({"items": [{"size": 1}, {"size": -1}]}, r"items\[1\]\.size must be 0 to"),
        ({"items": [{"size": GREATEST + 1}]}, r"items\[0\]\.size must be 0 to"),
        ({"items": [{"share": 1}]}, r"items\[0\] must have 'size'"),
        ({"items": [{"size": 1, "share": float("inf")}]}, r"share must be finite"),
        ({"items": [{"size": 1, "share": float("nan")}]}, r"share must be finite"),
        ({"items": [{"size": 1, "share": 10**400}]}, r"share must be finite"),
        ({"items": [{"size": 1, "share": "1"}]}, r"share must be a number"),
        ({"items": [{"size": 13}]}, r"items\[0\]: size must not be 13"),
        ({"items": [[]]}, r"items\[0\] must be an object, is \[\]"),
        ({"pair": [1]}, "pair must be a list of 2"),
        ({"pair": [1, 2, 3]}, "pair must be a list of 2"),
        ({"pair": [None, None]}, r"pair\[0\] must be a whole number"),
        ({"by_name": {"x\ny": {}}}, r"by_name\['x\\ny'\] must have 'size'"),
        ({"by_name": []}, "by_name must be an object"),
    ],
)
def test_what_does_not(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        from_json(Whole, GOOD | change, "f.json")
    assert "\n" not in str(error.value)


def test_missing_and_of_another_kind() -> None:
    with pytest.raises(DataError, match=r"f\.json: it must have 'name'"):
        from_json(Whole, {}, "f.json")
    with pytest.raises(DataError, match=r"f\.json: it must be an object, is \[\]"):
        from_json(Whole, [], "f.json")


def test_messages_are_bounded() -> None:
    deep: Any = "x" * 1_000_000
    for _ in range(50):
        deep = [deep] * 9
    with pytest.raises(DataError) as error:
        from_json(Whole, GOOD | {"name": deep}, "f.json")
    assert len(str(error.value)) < 500
