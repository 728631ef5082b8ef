"""Documents on disk: strict in, the same bytes out."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personality_common.errors import DataError
from pretrain.lm.chat import Document, Turn
from pretrain.lm.data.documents import document_line, parse_document, read_documents, restored, said

CALL = Document(
    "tools/1", "tools", "tools/1", None,
    (
        Turn("tools", '{"name":"get_weather"}', False),
        Turn("user", "Wie ist es in Zürich?", False),
        Turn("call", '{"arguments":{"city":"Zürich","day":"today"},"name":"get_weather"}', True),
    ),
    "value",
)  # fmt: skip


def test_a_line_is_the_document() -> None:
    line = document_line(CALL)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert "Zürich".encode() in line
    assert parse_document(json.loads(line), "x:1") == CALL == restored(json.loads(line))
    assert list(json.loads(line)) == ["id", "source", "group", "perspective", "turns", "held_out"]


def test_what_is_told_beforehand_is_not_said() -> None:
    assert said(CALL).split() == [
        "Wie", "ist", "es", "in", "Zürich?", "arguments", "city", "Zürich", "day", "today", "name",
        "get_weather",
    ]  # fmt: skip


def test_a_later_version_may_have_more_keys() -> None:
    value = json.loads(document_line(CALL))
    value["language"] = value["turns"][0]["language"] = "en"
    del value["held_out"]
    assert parse_document(value, "x:1") == dataclasses.replace(CALL, held_out=None)


def edited(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda value: value.update(changes)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v.pop("group"), "it must have 'group'"),
        (edited(id=""), "id must not be empty"),
        (edited(id=3), "id must be a string, is 3"),
        (edited(perspective=["newton"]), "perspective must be 'newton' or .*, is"),
        (edited(turns="abc"), "turns must be a list, is 'abc'"),
        (edited(turns={}), "turns must be a list, is"),
        (edited(turns=[["user", "a", True]]), r"turns\[0\] must be an object, is"),
        (lambda v: v["turns"][1].update(role=["user"]), r"turns\[1\].role must be .*, is \['user'\]"),
        (lambda v: v["turns"][1].update(text=None), r"turns\[1\].text must be a string, is None"),
        (lambda v: v["turns"][1].update(loss=None), r"turns\[1\].loss must be true or false, is None"),
        (edited(turns=[]), "a turn must bear loss, none does"),
        (edited(perspective="aristotle"), "perspective must be 'newton' or .*, is 'aristotle'"),
        (edited(held_out="yes"), "held_out must be 'value' or 'phrasing', is 'yes'"),
        (lambda v: v["turns"][1].update(role="human"), r"turns\[1\].role must be .*, is 'human'"),
        (lambda v: v["turns"][1].update(text=""), r"turns\[1\].text must not be empty"),
        (lambda v: v["turns"][1].update(text="\ud800"), r"turns\[1\].text must be Unicode"),
        (lambda v: v["turns"][1].update(loss=1), r"turns\[1\].loss must be true or false, is 1"),
        (lambda v: v["turns"][2].update(loss=False), "a turn must bear loss"),
        (lambda v: v["turns"][0].update(role="text"), "a turn of a text must be alone, is beside 2"),
        (
            lambda v: (v.update(perspective="newton"), v["turns"].pop(1)),
            "a perspective must have a user's turn",
        ),
    ],
)
def test_a_malformed_document_is_refused(
    edit: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    value = json.loads(document_line(CALL))
    edit(value)
    path = tmp_path / "train-00000.jsonl"
    path.write_bytes(document_line(CALL) + json.dumps(value).encode() + b"\n")
    with pytest.raises(DataError, match=message) as caught:
        list(read_documents(path))
    assert str(caught.value).startswith(f"{path}:2: ")


def test_a_line_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train-00000.jsonl"
    path.write_bytes(b'{"id": \n')
    with pytest.raises(DataError, match="jsonl:1: not JSON"):
        list(read_documents(path))
