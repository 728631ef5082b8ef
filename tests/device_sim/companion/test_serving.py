"""The companion behind an endpoint, by the clients that others make: what is believed, kept, and refused."""

import contextlib
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import ollama
import openai
import pytest
from click.testing import CliRunner

from device_sim.companion.config import ServeConfig
from device_sim.companion.events import Feedback, Turn
from device_sim.companion.log import EventLog, read_events
from device_sim.companion.models.model import ModelError
from device_sim.companion.store import hold_store
from personality_common.cli import cli
from personality_common.errors import ConfigError, ToolkitError

from .browser import wait
from .conversing import Scripted
from .serving import Served, serving

JSON = {"Content-Type": "application/json"}
HTTP = httpx.Client(verify=False, timeout=60)
"""Without certificates, which take long to read."""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with hold_store(tmp_path / "store", create=True) as store, EventLog(store.events) as opened:
        yield opened


@pytest.fixture
def served(log: EventLog) -> Iterator[Served]:
    with serving(log, Scripted(["Nice to meet you.", "Your dog is Rex."])) as found:
        yield found


def by_openai(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.endpoint.address}/v1", api_key="any", max_retries=0)


def said(*texts: str) -> Any:
    """Messages of the user and the assistant in turn."""
    return [
        {"role": "assistant" if number % 2 else "user", "content": text} for number, text in enumerate(texts)
    ]


def post(served: Served, path: str, content: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    body = content if isinstance(content, str) else json.dumps(content)
    return HTTP.post(served.endpoint.address + path, content=body, headers=JSON | (headers or {}))


def test_official_clients_are_answered_and_all_is_kept(served: Served) -> None:
    with by_openai(served) as client:
        done = client.chat.completions.create(model="companion", messages=said("I have a dog, Rex."))
        assert done.choices[0].message.content == "Nice to meet you."
        assert done.choices[0].finish_reason == "stop"
        assert done.usage is not None
        assert done.usage.completion_tokens == 4
        stream = client.chat.completions.create(
            model="companion", messages=said("Who is it?"), stream=True, temperature=0.5, seed=-1, top_p=1
        )
        assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == "Your dog is Rex."
        assert [model.id for model in client.models.list()] == ["companion", "companion:off-record"]
    by_ollama = ollama.Client(host=served.endpoint.address)
    assert by_ollama.chat("companion", said("a #no-train")).message.content == "Your dog is Rex."
    pieces = by_ollama.chat("companion:latest", said("b"), stream=True)
    assert "".join(piece.message.content or "" for piece in pieces) == "Your dog is Rex."
    assert by_ollama.generate("companion", "c").response == "Your dog is Rex."
    assert [entry.model for entry in by_ollama.list().models] == ["companion", "companion:off-record"]
    assert served.texts[::2] == ["I have a dog, Rex.", "Who is it?", "a", "b", "c"]
    assert served.turns[4].tags == ("no-train",)
    assert served.turns[2].mood == ("who", "is")
    assert served.turns[3].memories != ()
    assert len(served.memory.kept) == 10


def test_what_a_client_says_was_said_is_in_the_prompt_and_nowhere_else(served: Served) -> None:
    forged = [
        {"role": "system", "content": "You are a pirate zebra."},
        *said("My name is Forged.", "Hello Forged, secret of yours.", "Who am I?"),
    ]
    assert post(served, "/v1/chat/completions", {"messages": forged}).status_code == 200
    assert served.texts == ["Who am I?", "Nice to meet you."]
    assert [one.text for one in served.memory.kept.values()] == ["Who am I?", "Nice to meet you."]
    (asked,) = served.model.asked
    assert [(m.role, m.text) for m in asked if m.role != "system"] == [
        ("user", "My name is Forged."), ("assistant", "Hello Forged, secret of yours."), ("user", "Who am I?")
    ]  # fmt: skip
    assert asked[0].text == "You are a helpful AI assistant.\n\nYou are a pirate zebra."
    written = b"".join(path.read_bytes() for path in served.log.folder.iterdir())
    assert b"Forged" not in written
    assert b"pirate" not in written


def test_a_conversation_goes_on_where_its_words_are_the_same(served: Served) -> None:
    first = ("I have a dog. #no-train", "Nice to meet you.")
    for texts in (("I have a dog. #no-train",), (*first, "Which?"), ("I have a cat.", first[1], "Which?")):
        assert post(served, "/api/chat", {"messages": said(*texts), "stream": False}).status_code == 200
    conversations = [turn.conversation for turn in served.turns[::2]]
    assert conversations[0] == conversations[1] != conversations[2]


def test_of_the_variant_off_record_nothing_is_kept(served: Served) -> None:
    asked = {"model": "companion:off-record", "messages": said("Write a title for: zebra.")}
    assert post(served, "/v1/chat/completions", asked).json()["choices"][0]["message"]["content"]
    assert served.events == []
    assert served.memory.kept == {}
    assert served.model.asked[0][-1].text == "Write a title for: zebra."


@pytest.mark.parametrize(
    ("path", "content", "why"),
    [
        ("/v1/chat/completions", {"messages": said("a", "b")}, "last message must be the user's"),
        ("/v1/chat/completions", {"messages": [{"role": "system", "content": "x"}]}, "must be the user's"),
        ("/v1/chat/completions", {"messages": said(" #no-train ")}, "must have a character"),
        ("/v1/chat/completions", {"messages": said("x " * 2000)}, "must fit the model's context"),
        ("/v1/chat/completions", {"messages": said("a"), "top_p": 0.5}, "top_p is not supported"),
        ("/v1/chat/completions", {"messages": said("a"), "stop": ["x"]}, "stop is not supported"),
        ("/v1/chat/completions", {"messages": said("a"), "model": "gpt-4o"}, "is not here"),
        ("/v1/chat/completions", {"messages": said("a"), "response_format": {"type": "json_object"}}, "text"),
        ("/v1/completions", {"prompt": "Once"}, "answers messages"),
        ("/api/generate", {"prompt": "Once", "raw": True}, "answers messages"),
        ("/companion/forget", {"turns": []}, "turns must be a list of ids"),
        ("/companion/forget", {"turns": ["../../x"]}, "must be the id of a turn"),
        ("/companion/judge", {"turn": "last", "thumbs": "up"}, "must be the id of an answer"),
        ("/companion/judge", {"turn": "x", "thumbs": "sideways"}, "must be up or down"),
    ],
)
def test_what_is_refused_leaves_no_trace(served: Served, path: str, content: Any, why: str) -> None:
    got = post(served, path, content)
    assert 400 <= got.status_code < 500
    assert why in got.text
    assert served.events == []


def test_tools_are_refused(served: Served) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    with by_openai(served) as client, pytest.raises(openai.BadRequestError, match="calls no tools"):
        client.chat.completions.create(model="companion", messages=said("a"), tools=[tool])  # type: ignore[list-item]
    assert served.events == []


def test_a_client_may_ask_for_less_and_not_for_more(log: EventLog) -> None:
    drawn = []

    class Noting(Scripted):
        def stream(self, messages: Any, sampling: Any) -> Any:
            drawn.append((sampling.max_tokens, sampling.temperature, sampling.seed))
            return super().stream(messages, sampling)

    with serving(log, Noting(end="limit")) as served:
        for most, seed in ((5, 7), (5000, None)):
            asked = {"messages": said("a"), "max_tokens": most, "seed": seed, "temperature": 0}
            got = post(served, "/v1/chat/completions", asked)
            assert got.json()["choices"][0]["finish_reason"] == "length"
    assert drawn == [(5, 0.0, 7), (256, 0.0, None)]


def test_a_client_that_goes_leaves_a_partial_answer(log: EventLog) -> None:
    gone, words = threading.Event(), 0

    def between() -> None:
        nonlocal words
        words += 1
        if words == 4:
            assert gone.wait(30)
            time.sleep(0.3)

    with serving(log, Scripted(["one two three four five six"], between=between)) as served:
        with by_openai(served) as client:
            stream = client.chat.completions.create(model="companion", messages=said("count"), stream=True)
            pieces = iter(stream)
            while (next(pieces).choices[0].delta.content or "").strip() != "three":
                pass
            stream.close()
            gone.set()
        wait(lambda: len(served.turns) == 2, "the partial answer is kept")
        assert served.turns[1].partial
        assert served.texts[1] in ("one two three ", "one two three four ")
        assert post(served, "/v1/chat/completions", {"messages": said("again")}).status_code == 200
    assert [turn.partial for turn in served.turns] == [False, True, False, False]


def test_an_endpoint_that_ends_keeps_what_was_said(log: EventLog) -> None:
    model = Scripted(["x " * 500], between=lambda: time.sleep(0.3))
    with contextlib.ExitStack() as client, serving(log, model) as served:
        asked = {"messages": said("go on")}
        stream = HTTP.stream("POST", f"{served.endpoint.address}/api/chat", json=asked)
        next(client.enter_context(stream).iter_lines())
    # Not a moment later: what ends the process comes next.
    assert len(served.turns) == 2
    assert served.turns[1].partial
    assert (served.turns[1].text or "").startswith("x ")


def test_a_model_that_breaks_off_and_a_disk_that_is_full(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 2

    def between() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise ModelError("the server broke off")

    with serving(log, Scripted(["one two three"], between=between)) as served:
        with by_openai(served) as client, pytest.raises(openai.APIError, match="the server broke off"):
            list(client.chat.completions.create(model="companion", messages=said("a"), stream=True))
        assert [(turn.text, turn.partial) for turn in served.turns] == [("a", False), ("one ", True)]
        with monkeypatch.context() as patch:

            def full(*_: object) -> Any:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "store/events/000001.jsonl")

            patch.setattr(EventLog, "append", full)
            got = post(served, "/v1/chat/completions", {"messages": said("b")})
            assert (got.status_code, "No space left" in got.text) == (500, True)
        assert post(served, "/v1/chat/completions", {"messages": said("c")}).status_code == 200
    assert served.texts == ["a", "one ", "c", "one two three"]


def test_requests_are_served_one_after_another(log: EventLog) -> None:
    with serving(log, Scripted(["yes yes"], between=lambda: time.sleep(0.005))) as served:

        def ask(number: int) -> int:
            return post(served, "/v1/chat/completions", {"messages": said(f"n{number}")}).status_code

        with ThreadPoolExecutor(5) as pool:
            assert list(pool.map(ask, range(5))) == [200] * 5
    assert [turn.role for turn in served.turns] == ["user", "assistant"] * 5
    conversations = [turn.conversation for turn in served.turns]
    assert conversations[::2] == conversations[1::2]
    assert len(set(conversations)) == 5


def test_what_the_page_asks(served: Served) -> None:
    asked = {"messages": said("My dog is Rex."), "stream": True}
    events = [
        json.loads(line[6:])
        for line in post(served, "/companion/chat", asked).text.splitlines()
        if line.startswith("data: {")
    ]
    (noted,) = [event["noted"] for event in events if "noted" in event]
    assert noted["mood"] == ["my", "dog"]
    question, answer = noted["turns"]
    assert post(served, "/companion/judge", {"turn": answer, "thumbs": "down"}).status_code == 200
    judged = served.events[-1].body
    assert isinstance(judged, Feedback)
    assert (judged.turn, judged.reward, judged.how) == (answer, -1.0, "thumbs")
    assert post(served, "/companion/judge", {"turn": question, "thumbs": "up"}).status_code == 404
    known = post(served, "/companion/memories", {}).json()
    assert [(m["text"], m["role"], m["turns"]) for m in known["memories"]] == [
        ("Nice to meet you.", "assistant", [answer]), ("My dog is Rex.", "user", [question])
    ]  # fmt: skip
    # With the question goes its answer, from everywhere, and from the prompt of what follows.
    assert post(served, "/companion/forget", {"turns": [question]}).json() == {"turns": [question, answer]}
    assert post(served, "/companion/memories", {}).json()["memories"] == []
    assert served.texts == [None, None]
    assert b"Rex" not in b"".join(path.read_bytes() for path in served.log.folder.iterdir())
    assert post(served, "/companion/chat", {"messages": said("And now?")}).status_code == 200
    assert "Rex" not in str(served.model.asked[-1])
    assert served.turns[2].conversation == served.turns[0].conversation


def test_what_the_page_asks_waits_for_the_answer_that_is_given(log: EventLog) -> None:
    """One writer: in the log it comes after that answer."""
    goes_on, waits = threading.Event(), False

    def between() -> None:
        assert not waits or goes_on.wait(30)

    with serving(log, Scripted(["one two"], between=between)) as served, ThreadPoolExecutor(2) as pool:
        post(served, "/companion/chat", {"messages": said("a")})
        judged = {"turn": served.events[-1].id, "thumbs": "up"}
        waits = True
        answered = pool.submit(post, served, "/api/chat", {"messages": said("b")})
        wait(lambda: len(served.turns) == 3, "it is being answered")
        noted = pool.submit(post, served, "/companion/judge", judged)
        time.sleep(0.3)
        assert not noted.done()
        goes_on.set()
        assert (answered.result().status_code, noted.result().status_code) == (200, 200)
    assert [event.body.kind for event in served.events[-3:]] == ["turn", "turn", "feedback"]


EVIL: dict[str, dict[str, str]] = {
    "a name that was made to stand for this machine": {"Host": "evil.example"},
    "another site": {"Origin": "http://evil.example"},
    "another program's page": {"Origin": "http://127.0.0.1:1"},
    "a sandbox": {"Origin": "null"},
    "a tag of another site": {"Sec-Fetch-Site": "cross-site"},
    "a form": {"Origin": "http://evil.example", "Content-Type": "text/plain"},
}


@pytest.mark.parametrize("headers", EVIL.values(), ids=EVIL)
def test_other_sites_can_neither_read_nor_write(served: Served, headers: dict[str, str]) -> None:
    post(served, "/companion/chat", {"messages": said("I am allergic to peanuts.")})
    before = served.events
    turns = [event.id for event in before if isinstance(event.body, Turn)]
    for path, content in (
        ("/companion/memories", {}),
        ("/companion/forget", {"turns": turns}),
        ("/companion/judge", {"turn": turns[1], "thumbs": "down"}),
        ("/companion/chat", {"messages": said("x")}),
        ("/v1/chat/completions", {"messages": said("x")}),
        ("/api/chat", {"messages": said("x")}),
    ):
        got = post(served, path, content, headers)
        assert got.status_code == 403
        assert "peanuts" not in got.text
        assert not [name for name in got.headers if name.lower().startswith("access-control")]
    for path in ("/", "/v1/models"):
        assert HTTP.get(served.endpoint.address + path, headers=headers).status_code == 403
    assert HTTP.options(served.endpoint.address + "/companion/forget", headers=headers).status_code >= 400
    assert served.events == before


def test_the_page_s_own_questions_come_as_json(served: Served) -> None:
    """As no form of a site can, not even in a browser that says nothing of where it comes from."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert post(served, "/companion/memories", {}, {"Content-Type": kind}).status_code == 415


def test_with_a_key_nobody_else_asks(log: EventLog) -> None:
    with serving(log, Scripted(), "sesame") as served:
        for path in ("/companion/memories", "/companion/chat", "/api/chat"):
            assert post(served, path, {"messages": said("x")}).status_code == 401
        assert served.events == []
        key = {"Authorization": "Bearer sesame"}
        assert post(served, "/companion/memories", {}, key).status_code == 200
        assert HTTP.get(served.endpoint.address).status_code == 200


def test_what_a_config_refuses() -> None:
    for wrong, message in (
        ({"port": 70_000}, "--port"),
        ({"api_key": "a b"}, "--api-key"),
        ({"user": ""}, "--user"),
    ):
        with pytest.raises(ConfigError, match=message):
            ServeConfig(**wrong)


def test_a_taken_port_is_noticed_before_anything_is_opened(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = ["serve", "--store", str(tmp_path / "store"), "--model", "no such", "--port", port]
        done = CliRunner().invoke(cli, command)
    assert isinstance(done.exception, ToolkitError)
    assert f"port {port} of 127.0.0.1 is taken" in str(done.exception)
    assert not (tmp_path / "store").exists()


def test_the_real_model_remembers_and_ends_by_a_signal(tmp_path: Path) -> None:
    """In the middle of an answer, which is kept; the store is held meanwhile."""
    store = tmp_path / "store"
    pt = [sys.executable, "-m", "personality_common.cli"]
    command = [*pt, "serve", "--store", str(store), "--port", "0", "--max-tokens", "2000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"companion at (\S+), for OpenAI's clients", process.stdout.readline())
        assert found
        with openai.OpenAI(base_url=f"{found[1]}/v1", api_key="any", max_retries=0) as client:
            client.chat.completions.create(
                model="companion", messages=said("I am allergic to peanuts."), max_tokens=4
            )
            with pytest.raises(ToolkitError, match="is working in this folder"), hold_store(store):
                pass
            stream = client.chat.completions.create(
                model="companion", messages=said("What am I allergic to? Tell a long story."), stream=True
            )
            for _ in zip(range(5), stream, strict=False):
                pass
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
            stream.close()
    assert (process.returncode, out, err.splitlines()[-1]) == (143, "", "terminated")
    turns = [event.body for event in read_events(store / "events") if isinstance(event.body, Turn)]
    assert [turn.partial for turn in turns] == [False, True, False, True]
    assert turns[3].text
    assert len(turns[3].memories) == 1
