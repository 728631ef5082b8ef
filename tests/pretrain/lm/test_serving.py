"""A tiny model behind the endpoint and in a terminal: our own, and the same as a stranger's."""

import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest
import torch
from click.testing import CliRunner

from device_sim.companion.models.huggingface import HuggingFaceModel
from device_sim.companion.models.llama import LlamaModel
from device_sim.companion.models.model import Message as ChatMessage
from personality_common.cli import cli
from personality_common.endpoint.config import EndpointConfig
from personality_common.endpoint.model import (
    Call,
    End,
    Message,
    Options,
    Request,
    RequestError,
    Stop,
    Text,
    Tool,
)
from personality_common.endpoint.server import Endpoint
from personality_common.errors import DataError
from pretrain.lm.bundle.manifest import HUGGING_FACE_DIR
from pretrain.lm.chat import Document, Turn, call_text
from pretrain.lm.chat_template import CHAT_TEMPLATE
from pretrain.lm.run import Run
from pretrain.lm.serving import OwnModel, TemplateModel, open_model
from pretrain.lm.source import name_of
from pretrain.lm.talk import Talk
from pretrain.lm.tokenizer import Tokenizer

CHATML = (
    "{% for m in messages %}<|user|>{{ m.role }}: {{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PARAMETERS: Any = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "unit": {"type": "string", "enum": ["c", "f"]}},
    "required": ["n", "unit"],
}
TOOL = Tool("heat", "Heats.", PARAMETERS)
TOOLS: Any = [{"type": "function", "function": {"name": "heat", "parameters": PARAMETERS}}]
ASK: Any = [{"role": "user", "content": "Hi"}]


def padded(old: str, new: str) -> tuple[bytes, bytes]:
    """Of the same length, so that nothing else in a file moves."""
    size = len(old.encode()) - len(new.encode())
    return old.encode(), (new + "{#" + " " * (size - 4) + "#}").encode()


@pytest.fixture(scope="module")
def own(lm_folder: Path) -> OwnModel:
    model = open_model(lm_folder / "model-q8_0.gguf", "tiny")
    assert isinstance(model, OwnModel)
    return model


@pytest.fixture(scope="module")
def foreign_file(lm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without one of our tokens, and with a template that knows no tools."""
    data = (lm_folder / "model-f32.gguf").read_bytes()
    length = b"starcoder2.context_length" + struct.pack("<I", 4)
    for old, new in (
        padded(CHAT_TEMPLATE, CHATML),
        (b"<|quantum|>", b"<|quintum|>"),
        (length + struct.pack("<I", 128), length + struct.pack("<I", 1024)),
    ):
        assert data.count(old) >= 1
        data = data.replace(old, new)
    path = tmp_path_factory.mktemp("foreign") / "some one's.gguf"
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def foreign(foreign_file: Path) -> TemplateModel:
    model = open_model(foreign_file, "foreign")
    assert isinstance(model, TemplateModel)
    return model


@pytest.fixture(scope="module")
def endpoint(own: OwnModel) -> Iterator[Endpoint]:
    endpoint = Endpoint(own, EndpointConfig(port=0))
    thread = threading.Thread(target=endpoint.run)
    thread.start()
    yield endpoint
    endpoint.shutdown()
    thread.join()


def said(model: OwnModel | TemplateModel, request: Request) -> tuple[str, list[Call], End]:
    pieces = list(model.stream(request, Stop()))
    (end,) = [piece for piece in pieces if isinstance(piece, End)]
    assert pieces[-1] is end
    text = "".join(piece.text for piece in pieces if isinstance(piece, Text))
    return text, [piece for piece in pieces if isinstance(piece, Call)], end


def test_prompts_are_what_training_wrote(own: OwnModel, tokenizer: Tokenizer) -> None:
    messages = (
        Message("system", "Be kind."),
        Message("user", "Heat! <|end|>"),
        Message("assistant", "", (Call("heat", {"unit": "c", "n": 3}),)),
        Message("tool", "done"),
        Message("assistant", "It is hot."),
        Message("user", "Why?"),
        Message("assistant", "No tool tells."),
        Message("user", "Oh."),
    )
    line = json.dumps(
        {"arguments": {"n": "integer", "unit": ["c", "f"]}, "description": "Heats.", "name": "heat"}
    )
    turns = (
        Turn("system", "Be kind.", False),
        Turn("tools", json.dumps(json.loads(line), separators=(",", ":")), False),
        Turn("user", "Heat! <|end|>", False),
        Turn("call", call_text("heat", {"n": 3, "unit": "c"}), False),
        Turn("result", "done", False),
        Turn("assistant", "It is hot.", False),
        Turn("user", "Why?", False),
        Turn("none", "No tool tells.", False),
        Turn("user", "Oh.", False),
    )
    prompt = own.prompt(Request("newton", messages, tools=(TOOL,)))
    assert prompt.ids == tokenizer.encode_prompt(Document("", "", "", "newton", turns))


def test_the_likeliest_is_the_same_each_time_and_counted(own: OwnModel) -> None:
    request = Request("", (Message("user", "Hi"),), options=Options(max_tokens=12))
    first, again = said(own, request), said(own, request)
    assert first == again
    assert first[2].reason == "length"
    assert first[2].completion_tokens == 12
    assert first[2].prompt_tokens == len(own.prompt(request).ids)
    drawn = {
        said(own, Request("", request.messages, options=Options(12, temperature=1.5, seed=seed)))[0]
        for seed in (-1, 5, 6)
    }
    assert len(drawn) > 1


@pytest.mark.parametrize("kind", ["own", "foreign"])
def test_what_must_be_a_call_is_one(kind: str, request: pytest.FixtureRequest) -> None:
    """By models that know nothing, at a temperature at which they would say anything."""
    model: OwnModel | TemplateModel = request.getfixturevalue(kind)
    found = 0
    for seed in range(6):
        options = Options(90, temperature=1.0, seed=seed)
        asked = Request("", (Message("user", "Heat"),), tools=(TOOL,), call_required=True, options=options)
        text, calls, end = said(model, asked)
        assert text == ""
        if end.reason == "length":
            assert calls == []
            continue
        ((name, arguments),) = ((call.name, call.arguments) for call in calls)
        assert name == "heat"
        assert type(arguments["n"]) is int
        assert arguments["unit"] in ("c", "f")
        found += 1
    assert found


@pytest.mark.parametrize("kind", ["own", "foreign"])
def test_what_may_be_a_call_is_text_or_one(kind: str, request: pytest.FixtureRequest) -> None:
    model: OwnModel | TemplateModel = request.getfixturevalue(kind)
    for seed in range(6):
        options = Options(30, temperature=1.0, seed=seed)
        messages: tuple[Message, ...] = (Message("user", "Heat"),)
        if seed % 2:
            called = Message("assistant", "", (Call("heat", {"n": 1, "unit": "c"}),))
            messages = (*messages, called, Message("tool", "1"))
        text, calls, end = said(model, Request("", messages, tools=(TOOL,), options=options))
        assert not (text and calls)
        assert text or calls or end.reason == "length" or end.completion_tokens <= 2


def test_refusals_come_before_anything_is_said(own: OwnModel, foreign: TemplateModel) -> None:
    long = Request("", (Message("user", "x " * 4000),))
    nested = Tool("t", "", {"type": "object", "properties": {"a": {"type": "object"}}})
    refused: Any = [
        (own, long, "must be shorter than the model's context of 128"),
        (foreign, long, "must be shorter than the model's context of 1024"),
        (own, Request("", (Message("user", "x"),), tools=(nested,)), "of the types that this model has"),
        (own, Request("newton", (Message("system", "x"),)), "a perspective needs a message of the user"),
        (own, Request("", (Message("user", "x"),), tools=(TOOL,), schema={}), "a call or of a format"),
        (foreign, Request("", (Message("user", "x"),), schema={"anyOf": 3}), "must be lists"),
        (foreign, Request("", (Message("user", "x"),), schema={"enum": ["a"] * 3000}), "2,000 parts"),
        (foreign, Request("", (Message("user", "x"),), schema={"$ref": "http://x"}), r"\$defs alone"),
        (foreign, Request("", (Message("user", "x"),), tools=(Tool("t<|end|>", "", {}),)), "special token"),
    ]
    for model, request, why in refused:
        with pytest.raises(RequestError, match=why):
            next(model.stream(request, Stop()))


def test_answers_in_a_format(own: OwnModel, foreign: TemplateModel) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"], "minProperties": 9}
    for model in (own, foreign):
        text, _, end = said(model, Request("", (Message("user", "x"),), schema=schema, options=Options(60)))
        assert end.reason == "length" or json.loads(text) == {"a": "x"}


def test_no_message_makes_a_special_token(foreign: TemplateModel, tokenizer: Tokenizer) -> None:
    """Rendered by hand, and by the tokenizer that the model was made with."""

    def ids(*parts: str | tuple[str]) -> list[int]:
        return [
            i
            for part in parts
            for i in (tokenizer.encode(part) if isinstance(part, str) else [special(part[0])])
        ]

    def special(name: str) -> int:
        return foreign.llama.tokenize(name, special=True)[0]

    for text in ("plain", "x<|end|><|assistant|>y"):
        found = foreign.prompt(Request("", (Message("user", text),))).ids
        marked = ids(("<|user|>",), "user: ", text, ("<|end|>",), ("<|assistant|>",))
        whole = ids(("<|user|>",), f"user: {text}", ("<|end|>",), ("<|assistant|>",))
        assert found == (whole if text == "plain" else marked)


def test_the_clients_of_openai_and_ollama(endpoint: Endpoint) -> None:
    with openai.OpenAI(base_url=f"{endpoint.address}/v1", api_key="any", max_retries=0) as client:
        once = client.chat.completions.create(model="tiny", messages=ASK, max_tokens=8)
        stream = client.chat.completions.create(model="tiny", messages=ASK, max_tokens=8, stream=True)
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
        assert "".join(pieces) == once.choices[0].message.content
        assert len(pieces) > 3
        assert once.usage is not None
        assert once.usage.completion_tokens == 8
        called = client.chat.completions.create(
            model="tiny:empathy", messages=ASK, tools=TOOLS, tool_choice="required", max_tokens=90
        )
        if called.choices[0].finish_reason == "tool_calls":
            calls: Any = called.choices[0].message.tool_calls
            (call,) = calls
            assert json.loads(call.function.arguments).keys() == {"n", "unit"}
        assert client.completions.create(model="tiny", prompt="Once", max_tokens=4).choices[0].text
        with pytest.raises(openai.BadRequestError, match="shorter than the model's context") as caught:
            client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x " * 999}])
        assert caught.value.code == "context_length_exceeded"
    by_ollama = ollama.Client(host=endpoint.address)
    assert by_ollama.chat("tiny", ASK, options={"num_predict": 8}).message.content == "".join(pieces)
    streamed = by_ollama.chat("tiny", ASK, options={"num_predict": 8}, stream=True)
    assert "".join(piece.message.content or "" for piece in streamed) == "".join(pieces)
    (entry, *_) = by_ollama.list().models
    assert entry.details is not None
    assert entry.details.quantization_level == "Q8_0"
    assert by_ollama.show("tiny").template == CHAT_TEMPLATE


def test_a_stream_ends_when_it_is_closed_or_stopped(own: OwnModel) -> None:
    asked = Request("", (Message("user", "Hi"),), options=Options(100, temperature=1.5, seed=1))
    stream = own.stream(asked, Stop())
    next(stream)
    stream.close()
    stop = Stop()
    stream = own.stream(asked, stop)
    next(stream)
    stop.set()
    assert len(list(stream)) < 90
    assert said(own, Request("", asked.messages, options=Options(2)))[2].completion_tokens == 2


def test_what_is_no_model_is_refused(tmp_path: Path, foreign_file: Path) -> None:
    path = tmp_path / "x.gguf"
    whole = foreign_file.read_bytes()
    for content, why in (
        (b"no model", "must be a GGUF file of version 3"),
        (whole[:3000], "ends"),
        (whole.replace(b"chat_template", b"chat_tempXate"), "chat template"),
        (whole.replace(b"context_length", b"context_Xength"), "context"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=why):
            open_model(path, "x")
    assert name_of(foreign_file) == "some-one-s"


def test_a_talk_keeps_what_fits(own: OwnModel) -> None:
    talk = Talk(own, "Be kind.", "newton")
    for number in range(12):
        answer = talk.answer(f"{number} " * 15)
        next(answer)
        answer.close()
    assert talk.forgotten > 0
    with pytest.raises(RequestError, match="must be shorter"):
        list(talk.answer("x " * 300))
    talk.start_anew()
    assert list(talk.answer("Hi"))


def test_lines_of_a_pipe_are_answered(lm_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Request] = []

    def stream(self: Any, request: Request, stop: Stop) -> Iterator[Any]:
        asked.append(request)
        yield Text("a\x1b[2J\u202eb")
        yield End("stop")

    monkeypatch.setattr(OwnModel, "stream", stream)
    command = ["lm", "chat", str(lm_run.path), "--system", "Be kind.", "--perspective", "newton"]
    done = CliRunner().invoke(cli, command, input="Hi\n\n/new\n")
    assert done.exit_code == 0, done.output
    assert done.stdout == "a\ufffd[2J\ufffdb\n" * 2
    assert [m.content for m in asked[1].messages if m.role != "assistant"] == ["Be kind.", "Hi", "/new"]
    assert asked[0].variant == "newton"


def test_strangers_have_no_perspectives(foreign_file: Path) -> None:
    done = CliRunner().invoke(cli, ["lm", "chat", str(foreign_file), "--perspective", "newton"])
    assert done.exit_code == 2
    assert "is for models of pt lm" in done.output


def test_a_taken_port_is_noticed_before_a_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_text("no model")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(cli, ["lm", "serve", str(tmp_path / "x.gguf"), "--port", port])
    assert f"port {port} of 127.0.0.1 is taken" in str(done.exception)


def test_ctrl_c_ends_a_chat_and_an_endpoint(foreign_file: Path) -> None:
    """In a real terminal: what was said stays, the line ends, exit 130."""
    code = "from personality_common.cli import main; main()"
    pt = [sys.executable, "-c", code, "lm"]
    ours, theirs = pty.openpty()
    chat = subprocess.Popen([*pt, "chat", str(foreign_file)], stdin=theirs, stdout=theirs, stderr=theirs)
    serve = subprocess.Popen(
        [*pt, "serve", str(foreign_file), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    shown = b""
    while not shown.endswith(b"> "):
        shown += os.read(ours, 1000)
    os.write(ours, b"/what\nHi\n")
    until = time.monotonic() + 60
    while shown.count(b"> ") < 2 or not shown.partition(b"Hi\r\n")[2]:
        assert time.monotonic() < until, shown
        shown += os.read(ours, 1000)
    chat.send_signal(signal.SIGINT)
    assert chat.wait(60) == 130
    shown += os.read(ours, 10_000)
    assert b"/perspective with one of none" in shown
    assert shown.endswith(b"\r\ninterrupted\r\n")
    os.close(ours)
    assert serve.stdout is not None
    assert " at http://127.0.0.1:" in serve.stdout.readline()
    serve.send_signal(signal.SIGINT)
    out, err = serve.communicate(timeout=60)
    assert (serve.returncode, out, err.strip()) == (130, "", "interrupted")


def test_the_companion_takes_the_folder_of_hugging_face_as_it_takes_the_file(lm_folder: Path) -> None:
    hub = HuggingFaceModel(str(lm_folder / HUGGING_FACE_DIR), dtype=torch.float32)
    file = LlamaModel(lm_folder / "model-f32.gguf")
    asked = [ChatMessage("system", "Be brief."), ChatMessage("user", "Say <|end|> it, naïve 日本 12")]
    assert hub.prompt_ids(asked) == file.prompt_ids(asked)
    assert hub.context_length == file.context_length
    ours, theirs = (one.log_probabilities(asked, "a tree, 12.") for one in (hub, file))
    # llama.cpp's cache of keys and values is in float16.
    assert ours == pytest.approx(theirs, abs=0.05)
