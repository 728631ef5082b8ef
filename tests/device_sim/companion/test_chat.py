"""`pt chat` as it is used: in a terminal, from a pipe, interrupted, and twice at once."""

import fcntl
import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device_sim.companion.companion import Companion, Parts
from device_sim.companion.config import ChatConfig
from device_sim.companion.events import Event, Feedback, Turn
from device_sim.companion.log import EventLog, read_events
from device_sim.companion.models.model import ModelError
from device_sim.companion.opening import open_companion
from device_sim.companion.store import hold_store
from device_sim.companion.terminal import Chat
from personality_common.errors import ConfigError, DataError

from .conversing import Masking, Moody, Remembering, Scripted, take_tags

ANSWER = ["--no-memory", "--max-tokens", "12", "--temperature", "0"]


class Heard:
    """A reporter that keeps what it hears."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def stage(self, name: str, total: int, unit: str) -> Any:
        raise AssertionError

    def say(self, message: str) -> None:
        self.said.append(message)

    warn = say


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with hold_store(tmp_path / "store", create=True) as store, EventLog(store.events) as opened:
        yield opened


def chat(
    log: EventLog, model: Scripted, lines: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, list[str], bool]:
    """What was written, what was said besides, and whether all went well."""
    memory = Remembering()
    parts = Parts(model, Masking(), take_tags, lambda: memory, Moody)
    heard, out = Heard(), io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    config = ChatConfig(verbose=True, show_mood=True)
    well = Chat(Companion(log, parts), config, heard, out).run(terminal=False)
    return out.getvalue(), heard.said, well


def turns(log: EventLog) -> list[Turn]:
    return [event.body for event in log.read() if isinstance(event.body, Turn)]


def test_lines_of_a_pipe_are_messages_and_commands(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "Hello you\n\n/+\n/memories\n/forget\n/memories\n/dance\n/quit\nnever read\n"
    written, said, well = chat(log, Scripted(["Hi."]), lines, monkeypatch)
    assert written == "Hi.\n"
    assert not well
    assert said[0] == "mood: hello, you"
    assert re.fullmatch(r"prompt \d+ tokens, 0 memories, first word after 0\.\d\d s, mood by \S+", said[1])
    assert said[2] == "noted"
    assert [line.partition("  ")[2] for line in said[3:5]] == ["Hello you", "Hi."]
    assert said[5] == "forgot 2 turns"
    assert said[6] == "nothing is remembered"
    assert "/help" in said[7]
    assert [turn.text for turn in turns(log)] == [None, None]
    assert [b.reward for b in (e.body for e in log.read()) if isinstance(b, Feedback)] == [1.0]


def test_what_is_not_kept_is_said(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "A zebra lives here\nA horse lives here\nA cow #off-record\n"
    _, said, _ = chat(log, Scripted(["Hi."]), lines, monkeypatch)
    told = [line for line in said if "kept" in line]
    assert told == ["kept without what the privacy filter found: secret", "of this nothing is kept"]
    assert [turn.text for turn in turns(log)][::2] == ["A [secret] lives here", "A horse lives here"]


def test_escapes_of_a_model_do_not_reach_the_terminal(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "\x1b]0;owned\x07 \x1b[2J \x9b31m \r \u202e ok"
    written, *_ = chat(log, Scripted([hostile]), "go\n", monkeypatch)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", written)
    assert written.endswith("ok\n")


def test_ctrl_c_breaks_an_answer_off_and_keeps_what_was_said(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = 0

    def between() -> None:
        nonlocal words
        words += 1
        if words == 3:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    before = signal.getsignal(signal.SIGINT)
    model = Scripted(["one two three four", "Yes."], between=between)
    written, _, well = chat(log, model, "count\ngo on\n", monkeypatch)
    assert written == "one two  [broken off]\nYes.\n"
    assert well
    assert [(turn.text, turn.partial) for turn in turns(log)][1::2] == [("one two ", True), ("Yes.", False)]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_model_that_fails_does_not_end_the_chat(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    words = 0

    def between() -> None:
        nonlocal words
        words += 1
        if words == 2:
            raise ModelError("the server broke off")

    written, said, well = chat(log, Scripted(["one two", "Yes."], between=between), "a\nb\n", monkeypatch)
    assert written == "one \nYes.\n"
    assert "the answer broke off: the server broke off" in said
    assert not well
    assert [turn.partial for turn in turns(log)] == [False, True, False, False]


def test_what_a_config_refuses() -> None:
    for wrong, message in (
        ({"user": " "}, "--user"),
        ({"max_tokens": 0}, "--max-tokens"),
        ({"temperature": 3.0}, "--temperature"),
        ({"threads": 0}, "--threads"),
        ({"heads": Path("h")}, "--heads"),
    ):
        with pytest.raises(ConfigError, match=message):
            ChatConfig(**wrong)


def pt(*arguments: str | Path, text: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "personality_common.cli", *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def kept(store: Path) -> list[Event]:
    return list(read_events(store / "events"))


def test_the_real_model_by_pipe_with_a_second_chat_and_feedback(tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = pt("chat", "--store", store, *ANSWER, text="What is the capital of France? #no-train\n")
    assert first.returncode == 0, first.stderr
    assert "no --bundle" in first.stderr
    asked, answered = (event.body for event in kept(store)[1:])
    assert isinstance(asked, Turn)
    assert isinstance(answered, Turn)
    assert asked.text == "What is the capital of France?"
    assert answered.text == first.stdout.rstrip("\n")
    assert answered.model == "SmolLM2-135M-Instruct.Q4_1"
    with hold_store(store):
        second = pt("chat", "--store", store, *ANSWER, text="hi\n")
    assert (second.returncode, "is working in this folder" in second.stderr) == (4, True)
    judged = pt("feedback", store, "--thumbs", "down", text="")
    assert judged.returncode == 0, judged.stderr
    last = kept(store)[-1].body
    assert isinstance(last, Feedback)
    assert (last.reward, last.how) == (-1.0, "thumbs")
    exported = pt("feedback", store, "--export", tmp_path / "out.jsonl", text="")
    assert "0 conversations" in exported.stderr


def read_until(terminal: int, wanted: bytes, seconds: float = 60) -> bytes:
    found, end = b"", time.monotonic() + seconds
    while not re.search(wanted, found):
        ready, _, _ = select.select([terminal], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"waited in vain for {wanted!r}, got {found!r}"
        found += os.read(terminal, 4096)
    return found


def test_a_terminal_with_ctrl_c_and_ctrl_d(tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if not child:
        command = ["chat", "--store", str(tmp_path / "store"), "--no-memory", "--max-tokens", "4000"]
        os.execv(sys.executable, [sys.executable, "-m", "personality_common.cli", *command])
    fcntl.fcntl(terminal, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    read_until(terminal, b"> ")
    os.write(terminal, b"Tell me a very long storx\x7fy about the sea.\n")
    read_until(terminal, rb"sea\.\r\n(.|\n){30}")
    os.write(terminal, b"\x03")
    read_until(terminal, rb"\[broken off\]\r\n(.|\n)*> ")
    os.write(terminal, b"\x04")
    with pytest.raises(OSError, match="Input/output"):  # the other end of the terminal is closed
        read_until(terminal, b"never")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    _, asked, answered = (event.body for event in kept(tmp_path / "store"))
    assert isinstance(asked, Turn)
    assert isinstance(answered, Turn)
    assert asked.text == "Tell me a very long story about the sea."
    assert answered.partial
    assert answered.text


@pytest.mark.parametrize("made", ["a file", "another's manifest"])
def test_what_is_no_bundle_is_refused_before_a_store_is_made(tmp_path: Path, made: str) -> None:
    """It was a warning at each message, over a store that held nothing but messages without an answer."""
    bundle = tmp_path / "bundle"
    if made == "a file":
        bundle.write_text("hello")
    else:
        bundle.mkdir()
        (bundle / "manifest.json").write_text('{"schema": 1}')
    config = ChatConfig(store=tmp_path / "store", bundle=bundle)
    with pytest.raises(DataError, match="bundle"), open_companion(config, Heard()):
        pass
    assert not (tmp_path / "store").exists()
