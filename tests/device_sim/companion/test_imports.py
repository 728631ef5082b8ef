"""`pt memory import`: the forms of other tools, the filter, and importing again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hash_encoder import HashEncoder
from json_results import followed

from device_sim.companion.config import ImportConfig
from device_sim.companion.events import Event, Redacted, Turn
from device_sim.companion.log import EventLog, read_events
from device_sim.companion.memory import cli
from device_sim.companion.memory.imports.formats import Conversation, Said, read_conversations
from device_sim.companion.memory.imports.importing import Imported, import_file
from device_sim.companion.memory.memory import Memory
from device_sim.companion.store import hold_store
from personality_common.errors import DataError
from personality_common.terminal.progress import Silent


def node(name: str, parent: str | None, role: str, text: str, **more: Any) -> dict[str, Any]:
    message = {
        "author": {"role": role},
        "content": {"content_type": "text", "parts": [text]},
        "create_time": 1_700_000_000.25,
        "metadata": {"model_slug": "gpt-4o"},
        "recipient": "all",
    }
    return {"id": name, "parent": parent, "message": message | more}


# As OpenAI's export has it: a root without a message, a system prompt, a first answer that was made anew, a
# call of a tool and what it gave, thoughts.
OPENAI = [
    {
        "title": "Cats",
        "conversation_id": "c-1",
        "current_node": "g",
        "mapping": {
            "root": {"id": "root", "parent": None, "message": None},
            "a": node("a", "root", "system", "Be kind."),
            "b": node("b", "a", "user", "My cat is called Zyx."),
            "c": node("c", "b", "assistant", "The first try."),
            "d": node("d", "b", "assistant", "search('cats')", recipient="browser"),
            "e": node("e", "d", "tool", "Cats are animals."),
            "f": node("f", "e", "assistant", "", content={"content_type": "thoughts", "thoughts": []}),
            "g": node("g", "f", "assistant", "A fine name."),
        },
    }
]
OPEN_WEBUI = [
    {
        "id": "w-1",
        "chat": {
            "messages": [{"role": "user", "content": "not of the branch"}],
            "history": {
                "currentId": "2",
                "messages": {
                    "1": {"parentId": None, "role": "user", "content": "Hello", "timestamp": 1_700_000_000},
                    "2": {"parentId": "1", "role": "assistant", "content": "Hi", "model": "llama3"},
                    "3": {"parentId": "1", "role": "assistant", "content": "Another hi", "model": "llama3"},
                },
            },
        },
    }
]
# Printed by llm 0.36 (`llm logs -n 0 --json`), but for what is not looked at, and the order.
LLM = [
    {
        "id": "01m8krkbg23yx02tznk7mtjfjr",
        "model": "echo",
        "conversation_id": "01m8krkbfqcp2rvcn9bvs2tcxn",
        "datetime_utc": "2026-11-29T13:41:04.130719+00:00",
        "prompt": "What is my cat called?",
        "system": "be short",
        "response": "You said: What is my cat called?",
    },
    {
        "id": "01m8krkbfqcp2rvcn9bvs2tcxp",
        "model": "echo",
        "conversation_id": "01m8krkbfqcp2rvcn9bvs2tcxn",
        "datetime_utc": "2026-11-29T13:41:04.119481+00:00",
        "prompt": "My cat is called Mia.",
        "system": "be short",
        "response": "You said: My cat is called Mia.",
    },
]
SHAREGPT = {
    "id": "s-1",
    "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes?"}],
}
MESSAGES = {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "Good day"}]}


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            OPENAI,
            Conversation(
                "openai",
                "c-1",
                (
                    Said("user", "My cat is called Zyx.", "2023-11-14T22:13:20.250Z"),
                    Said("assistant", "A fine name.", "2023-11-14T22:13:20.250Z", "gpt-4o"),
                ),
            ),
        ),
        (
            OPEN_WEBUI,
            Conversation(
                "open-webui",
                "w-1",
                (Said("user", "Hello", "2023-11-14T22:13:20.000Z"), Said("assistant", "Hi", None, "llama3")),
            ),
        ),
        (
            LLM,
            Conversation(
                "llm",
                "01m8krkbfqcp2rvcn9bvs2tcxn",
                (
                    Said("user", "My cat is called Mia.", "2026-11-29T13:41:04.119Z"),
                    Said("assistant", "You said: My cat is called Mia.", "2026-11-29T13:41:04.119Z", "echo"),
                    Said("user", "What is my cat called?", "2026-11-29T13:41:04.130Z"),
                    Said("assistant", "You said: What is my cat called?", "2026-11-29T13:41:04.130Z", "echo"),
                ),
            ),
        ),
        (SHAREGPT, Conversation("sharegpt", "s-1", (Said("user", "Hi"), Said("assistant", "Yes?")))),
        ([MESSAGES], Conversation("messages", "said.json:0", (Said("user", "Good day"),))),
    ],
    ids=["openai", "open-webui", "llm", "sharegpt", "messages"],
)
def test_each_form_is_read(tmp_path: Path, content: Any, expected: Conversation) -> None:
    assert list(read_conversations(written(tmp_path / "said.json", content))) == [expected]


def circle() -> list[dict[str, Any]]:
    return [{"mapping": {"a": {"parent": "b"}, "b": {"parent": "a"}}, "current_node": "a"}]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (circle(), "hang together as a tree"),
        ([{"mapping": {}, "current_node": "gone"}], "hang together as a tree"),
        ([{"chat": {}}], "chat must have history or messages"),
        ([{"text": "zyxomma"}], "is one text"),
        (["zyxomma"], "must be an object"),
        ([{"zyxomma": 1}], "must have conversations, messages or text"),
        ([{"prompt": "\ud800", "response": "x"}], "not Unicode"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_nothing_is_written(
    tmp_path: Path, content: Any, why: str
) -> None:
    file = written(tmp_path / "said.json", [*OPENAI, *content])
    with pytest.raises(DataError, match=rf"said\.json:1: .*{why}") as caught:
        importing(tmp_path / "store", file)
    assert "zyxomma" not in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_an_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "export.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="unpack it first"):
        importing(tmp_path / "store", tmp_path / "export.zip")


def importing(store: Path, file: Path, **options: Any) -> Imported:
    return import_file(ImportConfig(store, file, **options), HashEncoder(), Silent())


def turns(store: Path) -> Iterator[Event]:
    return (event for event in read_events(store / "events") if isinstance(event.body, Turn))


def texts(store: Path) -> list[str | None]:
    return [event.body.text for event in turns(store) if isinstance(event.body, Turn)]


def test_turns_come_as_they_were_said_and_are_remembered(tmp_path: Path) -> None:
    store = tmp_path / "store"
    done = importing(store, written(tmp_path / "said.json", LLM))
    assert (done.conversations, done.turns, dict(done.formats)) == (1, 4, {"llm": 1})
    first, second, *_ = turns(store)
    assert isinstance(first.body, Turn)
    assert isinstance(second.body, Turn)
    assert first.time == "2026-11-29T13:41:04.119Z"
    assert (first.body.role, first.body.text, first.body.source) == ("user", "My cat is called Mia.", "llm")
    assert (second.body.role, second.body.model) == ("assistant", "echo")
    assert first.body.conversation == second.body.conversation
    with Memory(store / "memory.sqlite", HashEncoder()) as memory:
        assert "My cat is called Mia." in [hit.text for hit in memory.search("cat called Mia", "default", 3)]


def test_the_filter_stands_before_the_disk(tmp_path: Path) -> None:
    said = [
        "Mail me at zyx@example.org",
        "answer one",
        "Keep this from training #no-train",
        "answer two",
        "zyxomma #off-record",
        "zyxomma again",
    ]
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
    done = importing(tmp_path / "store", written(tmp_path / "said.json", {"messages": messages}))
    assert texts(tmp_path / "store") == [
        "Mail me at [email]",
        "answer one",
        "Keep this from training",
        "answer two",
    ]
    tags = [event.body.tags for event in turns(tmp_path / "store") if isinstance(event.body, Turn)]
    assert tags == [(), (), ("no-train",), ("no-train",)]
    counted = [e.body.counts for e in read_events(tmp_path / "store/events") if isinstance(e.body, Redacted)]
    assert counted == [{"email": 1}]
    assert done.left_out == {"by the privacy filter": 1, "answers to what is not kept": 1}
    for path in (tmp_path / "store").rglob("*"):
        assert path.is_dir() or (b"zyxomma" not in path.read_bytes() and b"zyx@" not in path.read_bytes())


def test_again_adds_only_what_is_new_and_what_was_forgotten_stays_so(tmp_path: Path) -> None:
    store, file = tmp_path / "store", tmp_path / "said.json"
    importing(store, written(file, LLM[1:]))
    with hold_store(store) as held, EventLog(held.events) as log:
        log.erase([next(turns(store)).id])
    assert texts(store) == [None, "You said: My cat is called Mia."]
    done = importing(store, written(file, LLM))
    assert (done.turns, done.known) == (2, 0)
    assert texts(store) == [
        None,
        "You said: My cat is called Mia.",
        "What is my cat called?",
        "You said: What is my cat called?",
    ]
    done = importing(store, file)
    assert (done.conversations, done.turns, done.known) == (0, 0, 1)
    assert str(done) == (
        "read 1 conversation of llm; imported 0 turns of 0 conversations; 1 conversation had nothing new"
    )


def test_another_file_of_the_same_name_is_another_conversation(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for text in ("One", "Two", "One"):
        importing(store, written(tmp_path / "said.json", [{"messages": [{"role": "user", "content": text}]}]))
    assert texts(store) == ["One", "Two"]


def test_another_users_import_is_their_own(tmp_path: Path) -> None:
    file = written(tmp_path / "said.json", LLM)
    for user in ("ida", "ole"):
        assert importing(tmp_path / "store", file, user=user).turns == 4
    assert [event.user for event in turns(tmp_path / "store")] == ["ida"] * 4 + ["ole"] * 4


def test_as_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_load", lambda name: HashEncoder())
    file = written(tmp_path / "said.json", OPENAI)
    arguments = ["import", str(tmp_path / "store"), str(file), "--json"]
    done = CliRunner().invoke(cli.memory, arguments, catch_exceptions=False)
    assert followed(done.stdout, "device_sim/companion/memory/memory") == {
        "conversations": 1,
        "turns": 2,
        "known": 0,
        "left_out": {},
        "formats": {"openai": 1},
    }
