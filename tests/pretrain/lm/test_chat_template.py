"""The four renderers of a conversation give the same bytes: ours, transformers', llama.cpp's and Go's."""

import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from personality_common.errors import ToolkitError
from pretrain.lm.bundle.manifest import MODELFILE, gguf_file
from pretrain.lm.chat import Document, Perspective, Turn, call_text, go_json, render, signature_text
from pretrain.lm.chat_template import CHAT_TEMPLATE
from pretrain.lm.llama import Llama

GO_SOURCE = Path(__file__).with_name("render.go")
TEXTS = (
    *(
        "",
        " ",
        "Hi",
        "\n",
        "  two  ",
        "a\nb\n",
        "<b>&amp;</b>",
        "\"quoted\" \\ 'single'",
        "naïve 日本 \U0001f642",
    ),
    *("{{ x }} {% y %}", "\u007f\t", "<|end|>", "\x08\x0c\x01"),
)
NAMES = ("set_timer", "Add", "café", "a<b", "zz&", 'q"uote', "x_1", "none")
Case = tuple[Document, list[dict[str, Any]], list[dict[str, Any]]]


def conversation(seed: int) -> Case:
    """A document, and the same as OpenAI's messages and tools."""
    draw = random.Random(seed)
    turns: list[Turn] = []
    messages: list[dict[str, Any]] = []
    tools: list[dict[str, Any]] = []

    def text() -> str:
        return "".join(draw.choices(TEXTS, k=draw.randint(1, 3)))

    if draw.random() < 0.5:
        # Ollama takes an empty one for none.
        content = "S" + text()
        turns.append(Turn("system", content, False))
        messages.append({"role": "system", "content": content})
    if draw.random() < 0.6:
        lines = []
        for name in draw.sample(NAMES, draw.randint(1, 3)):
            arguments = {
                argument: draw.choice(["string", "integer", ["a<", "é", "C"]])
                for argument in draw.sample(NAMES, draw.randint(0, 3))
            }
            description = draw.choice(["", 'Does <this> & "that".'])
            lines.append(signature_text(name, description, arguments))
            properties = {
                key: {"type": "string", "enum": kind} if isinstance(kind, list) else {"type": kind}
                for key, kind in arguments.items()
            }
            parameters = {"type": "object", "properties": properties}
            function = {"name": name, "description": description, "parameters": parameters}
            tools.append({"type": "function", "function": function})
        turns.append(Turn("tools", "\n".join(lines), False))
    for _ in range(draw.randint(1, 3)):
        content = text()
        turns.append(Turn("user", content, False))
        messages.append({"role": "user", "content": content})
        if tools and draw.random() < 0.5:
            calls: list[dict[str, Any]] = []
            for _ in range(draw.randint(1, 2)):
                values = {n: draw.choice([1, -20, 2.5, True, "é<", "x\ny"]) for n in draw.sample(NAMES, 2)}
                calls.append({"name": draw.choice(NAMES), "arguments": values})
                turns.append(Turn("call", call_text(**calls[-1]), True))
            messages.append(
                {"role": "assistant", "content": "", "tool_calls": [{"function": c} for c in calls]}
            )
            content = text()
            turns.append(Turn("result", content, False))
            messages.append({"role": "tool", "content": content})
            kind = "assistant"
        else:
            kind = "none" if tools else "assistant"
        content = text()
        turns.append(Turn("none" if kind == "none" else "assistant", content, True))
        messages.append({"role": "assistant", "content": content})
    content = "Last" + text()
    turns.append(Turn("user", content, False))
    messages.append({"role": "user", "content": content})
    perspective: Perspective | None = draw.choice(("newton", "systems", None))
    return Document(str(seed), "s", "g", perspective, tuple(turns)), messages, tools


def ours(document: Document) -> str:
    return "".join(part.text for part in render(document)) + "<|assistant|>"


CASES = [conversation(seed) for seed in range(60)]


def test_transformers_renders_what_training_saw() -> None:
    for document, messages, tools in CASES:
        found, _ = render_jinja_template(
            [messages],
            tools=tools or None,
            chat_template=CHAT_TEMPLATE,
            add_generation_prompt=True,
            perspective=document.perspective,
        )
        assert found == [ours(document)]


def test_llama_cpp_renders_what_training_saw(lm_folder: Path) -> None:
    llama = Llama(lm_folder / gguf_file("q8_0"))
    for document, messages, tools in CASES:
        variables = {"perspective": document.perspective} if document.perspective else {}
        called = [
            {**message, "tool_calls": [_as_openai(call) for call in message["tool_calls"]]}
            if "tool_calls" in message
            else message
            for message in messages
        ]
        assert llama.render(called, tools, **variables) == ours(document)
    with pytest.raises(ToolkitError, match="roles must be"):
        llama.render([{"role": "user", "content": "x"}, {"role": "king", "content": "x"}])


def _as_openai(call: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's clients send arguments as a string of JSON."""
    function = call["function"] | {"arguments": json.dumps(call["function"]["arguments"])}
    return {"id": "1", "type": "function", "function": function}


@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go")
def test_go_renders_what_training_saw(lm_folder: Path, tmp_path: Path) -> None:
    """The template as it stands in the Modelfile; Ollama passes no perspective on."""
    _, template, rest = (lm_folder / MODELFILE).read_text().split('"""')
    assert rest.splitlines()[1] == 'PARAMETER stop "<|end|>"'
    requests, expected = [], []
    for document, messages, tools in CASES:
        system = messages[0]["content"] if messages[0]["role"] == "system" else ""
        # What Ollama's own types do: names of fields, and tool calls beside the content.
        said = [
            {
                "Role": message["role"],
                "Content": message["content"],
                "ToolCalls": [{"Function": call["function"]} for call in message.get("tool_calls", ())],
            }
            for message in messages
        ]
        requests.append({"Template": template, "System": system, "Tools": tools, "Messages": said})
        expected.append(ours(Document(document.id, "s", "g", None, document.turns)))
    home = {"GOCACHE": str(tmp_path), "GOPATH": str(tmp_path), "HOME": str(tmp_path), "GO111MODULE": "off"}
    done = subprocess.run(
        ["go", "run", str(GO_SOURCE)],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | home,
    )
    assert json.loads(done.stdout) == expected


def test_json_is_written_as_go_writes_it() -> None:
    value = {"b": [1.0, 2.5, True, None, -3], "a": '<é>&\u2028"\\\n', "A": {}}
    written = r'{"A":{},"a":"\u003cé\u003e\u0026\u2028\"\\\n","b":[1,2.5,true,null,-3]}'
    assert go_json(value) == written
    with pytest.raises(ValueError, match="JSON"):
        go_json({"a": float("nan")})


def test_a_tools_line() -> None:
    line = signature_text("weather", "Now & later", {"unit": ["c", "f"], "city": "string"})
    assert line == (
        r'{"arguments":{"city":"string","unit":["c","f"]},"description":"Now \u0026 later","name":"weather"}'
    )
    assert signature_text("now", "", {}) == '{"arguments":{},"name":"now"}'
