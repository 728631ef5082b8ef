"""Calls under a grammar: whatever the model, what is said is a call of a tool on offer, or refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from personality_common.cli import cli
from personality_common.errors import ConfigError, DataError, ToolkitError
from pretrain.lm import calls
from pretrain.lm.calls import (
    INVOKE,
    MOST_STRING,
    MOST_TOKENS,
    NONE,
    Answer,
    Tool,
    ask,
    grammar,
    read_tools,
    room_for_strings,
)
from pretrain.lm.chat import Document, Turn, call_text
from pretrain.lm.llama import Completion, Llama
from pretrain.lm.tokenizer import Tokenizer

TOOLS = (
    Tool("a<b", "", {"n": "integer", "unit": ("c", 'é"<')}),
    Tool("now", "", {}),
    Tool("say", "", {"text": "string", "f": "number", "t": "boolean"}),
)


@pytest.fixture(scope="module")
def llama(lm_folder: Path) -> Llama:
    return Llama(lm_folder / "model-q8_0.gguf")


def test_whatever_the_model_says_is_a_call(llama: Llama) -> None:
    """Drawn from a model that knows nothing; written as training saw calls, to the byte."""
    # Which of three it draws, rounding says; of one, whole calls of the first two are all but sure.
    for offered, whole in (((TOOLS[0],), 20), ((TOOLS[1],), 20), (TOOLS, 10)):
        rules, ended = grammar(offered, "nothing"), 0
        for seed in range(40):
            said = llama.generate([seed + 20], 100, rules, temperature=1.0, seed=seed)
            assert said.ids[0] == INVOKE
            if said.ended:
                found = json.loads(said.text)
                (tool,) = (tool for tool in offered if tool.name == found["name"])
                assert tool.takes(found["arguments"])
                assert call_text(tool.name, found["arguments"]) == said.text
                ended += 1
        assert ended >= whole


def test_a_model_that_never_ends_a_string_is_made_to(llama: Llama) -> None:
    """Where a string has no bound, what this model draws fills the context; with one, every call is whole."""
    two = (Tool("say", "", {"text": "string", "to": "string"}),)
    prompt = [20] * 8
    longest = room_for_strings(llama, two, prompt)
    # Tokens less 46 of `{"arguments":{"text":"","to":""},"name":"say"}`, at most, for each of two.
    assert (llama.context_length - 8 - 50) // 2 <= longest < (llama.context_length - 8) // 2
    assert room_for_strings(llama, (TOOLS[1],), prompt) == MOST_STRING
    assert room_for_strings(llama, two, [20] * llama.context_length) == 0
    cut_off = 0
    for seed in range(8):
        free = llama.generate(prompt, MOST_TOKENS, grammar(two, "nothing"), temperature=1.0, seed=seed)
        cut_off += not free.ended
        rules = grammar(two, "nothing", longest=8)
        said = llama.generate(prompt, MOST_TOKENS, rules, temperature=1.0, seed=seed)
        assert said.ended
        # Bytes that are no text are shown as one character each.
        if "\ufffd" not in said.text:
            assert all(len(value) <= 8 for value in json.loads(said.text)["arguments"].values())
    assert cut_off > 0


def test_a_string_that_fills_its_room_is_refused(llama: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been cut: no call says less than was meant."""
    monkeypatch.setattr(calls, "room_for_strings", lambda *_: 5)
    for text, refused in (("abcde", True), ("abcd", False)):
        said = f'{{"arguments":{{"f":1,"t":true,"text":"{text}"}},"name":"say"}}'
        monkeypatch.setattr(llama, "generate", lambda *_, said=said: Completion([INVOKE, 20], said, True))
        if refused:
            with pytest.raises(ToolkitError, match="text of the model's call must fit into 5 characters"):
                ask(llama, TOOLS, "Hi")
        else:
            assert ask(llama, TOOLS, "Hi") == Answer("say", {"f": 1, "t": True, "text": text}, None)


def test_prompts_are_the_tokenizers(llama: Llama, tokenizer: Tokenizer) -> None:
    turns = (Turn("tools", TOOLS[0].signature, False), Turn("user", "x <|end|> é", False))
    document = Document("1", "s", "g", "newton", turns)
    assert llama.encode_prompt(document) == tokenizer.encode_prompt(document)


@pytest.mark.parametrize(
    ("ids", "text", "ended", "expected"),
    [
        ([INVOKE, 20], '{"arguments":{},"name":"now"}', True, Answer("now", {}, None)),
        ([NONE, 20], "Sorry.", True, Answer(None, None, "Sorry.")),
        ([INVOKE, 20], '{"arguments":{},"name":"now"', False, "was cut off after 2 tokens"),
        ([INVOKE, 20], '{"arguments":{},"name":"then"}', True, "must call a tool on offer"),
        ([INVOKE, 20], '{"arguments":{"x":1},"name":"now"}', True, "must call a tool on offer"),
        ([INVOKE, 20], '{"arguments":{"n":true,"unit":"c"},"name":"a<b"}', True, "must call a tool on offer"),
        ([INVOKE, 20], '{"arguments":{"n":1,"unit":"k"},"name":"a<b"}', True, "must call a tool on offer"),
        ([INVOKE, 20], '{"arguments":[],"name":"now"}', True, "must call a tool on offer"),
        ([INVOKE, 20], "[]", True, "must call a tool on offer"),
        ([20], '{"arguments":{},"name":"now"}', True, "must call a tool on offer"),
    ],
)
def test_answers_are_parsed_strictly(
    llama: Llama, monkeypatch: pytest.MonkeyPatch, ids: list[int], text: str, ended: bool, expected: Any
) -> None:
    monkeypatch.setattr(llama, "generate", lambda *_: Completion(ids, text, ended))
    if isinstance(expected, Answer):
        assert ask(llama, TOOLS, "Hi") == expected
        return
    with pytest.raises(ToolkitError, match=expected):
        ask(llama, TOOLS, "Hi")
    with pytest.raises(ConfigError, match="a tool at least"):
        ask(llama, (), "Hi")


def as_openai(tool: Tool) -> dict[str, Any]:
    properties = {
        name: {"type": kind} if isinstance(kind, str) else {"type": "string", "enum": list(kind)}
        for name, kind in tool.arguments.items()
    }
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": tool.name, "parameters": parameters}}


def test_the_command_calls(lm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps([as_openai(tool) for tool in TOOLS]))
    assert read_tools(path) == list(TOOLS)
    path.write_text(json.dumps([as_openai(TOOLS[1])]))
    # The model knows nothing: it is made to call.
    monkeypatch.setattr(calls, "grammar", lambda tools, **bound: grammar(tools, "nothing", **bound))
    done = CliRunner().invoke(cli, ["lm", "call", str(lm_folder), "What time is it?", "--tools", str(path)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"name": "now", "arguments": {}, "text": None}


@pytest.mark.parametrize(
    "content", ["{}", "[1]", "[", '[{"function": {"name": "x", "parameters": {"properties": {"a": {}}}}}]']
)
def test_other_lists_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tools.json"
    path.write_text(content)
    if content == "{}":
        assert read_tools(path) == []
        return
    with pytest.raises(DataError, match="must be a list of tools"):
        read_tools(path)
