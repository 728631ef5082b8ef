"""Feedback from outside of the chat, and what is exported to learn from."""

import json
from pathlib import Path

import pytest

from device_sim.companion.events import Feedback, Turn
from device_sim.companion.export import (
    conversations,
    interactions,
    write_interactions,
    write_messages,
    write_preferences,
)
from device_sim.companion.feedback import judge
from device_sim.companion.log import EventLog, read_events
from device_sim.companion.store import hold_store
from grpo.feedback import read_feedback
from personality_common.errors import ConfigError, DataError
from personality_common.vocabulary import load_vocabulary

TOKENS = load_vocabulary().tokens


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Five exchanges, of which the first and the last may be learned from."""
    path = tmp_path / "store"
    with hold_store(path, create=True) as held, EventLog(held.events) as log:

        def exchange(name: str, **answer: object) -> list[str]:
            tags = answer.pop("tags", ())
            asked = Turn("c", "user", f"ask {name}", mood=TOKENS[:3], tags=tags)  # type: ignore[arg-type]
            said = Turn("c", "assistant", f"say {name}", tags=tags, **answer)  # type: ignore[arg-type]
            return [log.append(asked).id, log.append(said).id]

        exchange("first")
        exchange("secret", tags=("no-train",))
        exchange("half", partial=True)
        forgotten = exchange("forgotten")
        log.append(Turn("c", "user", "ask without an answer", mood=TOKENS[:3]))
        exchange("last", memories=("1",))
        log.append(Turn("c", "user", "and then it ended", mood=TOKENS[:3]))
        log.erase(forgotten[:1])
    return path


def test_conversations_have_what_may_be_learned(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert write_messages(store, out) == 1
    (line,) = out.read_text().splitlines()
    assert json.loads(line) == {
        "messages": [
            {"role": "user", "content": "ask first"},
            {"role": "assistant", "content": "say first"},
            {"role": "user", "content": "ask last"},
            {"role": "assistant", "content": "say last"},
        ]
    }
    assert out.stat().st_mode & 0o077 == 0


def test_interactions_are_read_by_the_head_s_learner(store: Path, tmp_path: Path) -> None:
    judge(store, "last", reward=0.5)
    judge(store, "last", reward=-0.25)  # a changed mind counts once
    out = tmp_path / "out.jsonl"
    assert write_interactions(store, out) == 2
    first, last = read_feedback(out, TOKENS).interactions
    assert (first.text, last.text) == ("ask first", "ask last")
    assert last.candidates[0].tokens == (0, 1, 2)
    assert (first.candidates[0].reward, last.candidates[0].reward) == (None, -0.25)


def test_an_edit_of_what_was_broken_off_is_said_and_says_nothing_of_the_mood(
    store: Path, tmp_path: Path
) -> None:
    half = next(
        event.id
        for event in read_events(store / "events")
        if isinstance(event.body, Turn) and event.body.partial
    )
    judge(store, half, edit="All of it.")
    (conversation,) = conversations(read_events(store / "events"))
    assert conversation["messages"][2:4] == [
        {"role": "user", "content": "ask half"},
        {"role": "assistant", "content": "All of it."},
    ]
    assert write_interactions(store, tmp_path / "out.jsonl") == 2


def test_an_edit_takes_the_place_of_the_answer_and_a_bad_answer_is_left_out(store: Path) -> None:
    judged = judge(store, "last", edit="Better. Mail me at ada@example.org")
    events = list(read_events(store / "events"))
    assert isinstance(events[-1].body, Feedback)
    assert events[-1].body.text == "Better. Mail me at [email]"
    (conversation,) = conversations(events)
    assert conversation["messages"][-1]["content"] == "Better. Mail me at [email]"
    assert [i["candidates"][0]["reward"] for i in interactions(events)] == [None, -0.3]

    first = next(e.id for e in events if isinstance(e.body, Turn) and e.body.text == "say first")
    assert judge(store, first, reward=-1, thumbs=True) == first != judged
    (conversation,) = conversations(read_events(store / "events"))
    assert conversation["messages"][0]["content"] == "ask last"


def test_an_edit_that_names_a_person_is_not_learned_from(store: Path) -> None:
    judge(store, "last", edit="Ask my friend Anna.")
    events = list(read_events(store / "events"))
    assert [e.body.text for e in events if isinstance(e.body, Feedback)] == ["Ask my friend Anna."]
    assert [messages["messages"][0]["content"] for messages in conversations(events)] == ["ask first"]
    assert [i["text"] for i in interactions(events)] == ["ask first"]


def test_what_cannot_be_judged(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="from -1 to 1, got 2"):
        judge(store, "last", reward=2)
    with pytest.raises(ConfigError, match="--edit must have a text"):
        judge(store, "last", edit=" ")
    with pytest.raises(DataError, match="last or the id of a"):
        judge(store, "nothing", reward=1)
    asked = next(e.id for e in read_events(store / "events") if isinstance(e.body, Turn))
    with pytest.raises(DataError, match="last or the id of a"):
        judge(store, asked, reward=1)  # of the user's


def test_an_edit_is_preferred_to_what_it_is_of(store: Path, tmp_path: Path) -> None:
    judge(store, "last", edit="say better")
    out = tmp_path / "out.jsonl"
    assert write_preferences(store, out) == 1
    assert json.loads(out.read_text()) == {
        "prompt": [{"role": "user", "content": "ask last"}],
        "chosen": [{"role": "assistant", "content": "say better"}],
        "rejected": [{"role": "assistant", "content": "say last"}],
    }
