"""A tool call by llama.cpp, under a grammar of the tools on offer, and parsed strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from personality_common.errors import ConfigError, DataError, ToolkitError
from personality_common.files.bounded import read_bounded
from pretrain.lm.chat import (
    ROLE_TOKENS,
    SPECIAL_IDS,
    Document,
    Perspective,
    Turn,
    call_text,
    go_json,
    signature_text,
)

if TYPE_CHECKING:
    from pretrain.lm.llama import Llama

Type = Literal["string", "integer", "number", "boolean"]
MAX_TOOLS_BYTES: Final = 1 << 20
MOST_TOKENS: Final = 256
MOST_STRING: Final = 200
"""Characters of a string in a call."""
INVOKE, NONE = (SPECIAL_IDS[ROLE_TOKENS[role]] for role in ("call", "none"))
RULES: Final = r"""
character ::= [^"\\<>&\x00-\x1F\u2028\u2029] | "\\" (["\\bfnrt] | "u00" low | "u202" [89])
low ::= "0" [0-7bef] | "1" [0-9a-f] | "26" | "3" [ce]
whole ::= [1-9] [0-9]{0,14}
integer ::= "0" | "-"? whole
number ::= integer | "-"? ("0" | [1-9] [0-9]{0,9}) "." [0-9]{0,3} [1-9]
boolean ::= "true" | "false"
text ::= [^\x00]*
"""
"""In GBNF: JSON as `go_json` writes it, and in no other way."""


@dataclass(frozen=True)
class Tool:
    """What may be called.

    Attributes:
        arguments: of each, its type, or the strings that it may be.
    """

    name: str
    description: str
    arguments: Mapping[str, Type | tuple[str, ...]]

    @property
    def signature(self) -> str:
        return signature_text(self.name, self.description, self.arguments)

    def takes(self, arguments: Mapping[str, Any]) -> bool:
        """Whether these are all its arguments, each of its type."""
        return arguments.keys() == self.arguments.keys() and all(
            _is_of(value, self.arguments[name]) for name, value in arguments.items()
        )


@dataclass(frozen=True)
class Answer:
    """A call with its arguments; or text, where no tool fits."""

    name: str | None
    arguments: Mapping[str, Any] | None
    text: str | None


def read_tools(path: Path) -> list[Tool]:
    """Tools from a file of JSON: a list as OpenAI's clients send it.

    Raises:
        DataError: no such list, or an argument of a type that calls do not have.
    """
    try:
        entries = json.loads(read_bounded(path, MAX_TOOLS_BYTES, "a list of tools"))
        return [as_tool(entry["function"]) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: must be a list of tools as OpenAI's clients send it, with arguments of the types "
            f"string (or an enum), integer, number, boolean: {error!r:.200}"
        ) from None


def as_tool(function: Any) -> Tool:
    """A tool as OpenAI's clients write its `function`.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is something else.
    """
    arguments: dict[str, Type | tuple[str, ...]] = {}
    for name, schema in function["parameters"].get("properties", {}).items():
        if "enum" in schema:
            arguments[name] = tuple(str(value) for value in schema["enum"])
        elif schema["type"] in ("string", "integer", "number", "boolean"):
            arguments[name] = schema["type"]
        else:
            raise ValueError(f"{name} is of type {schema['type']}")
    return Tool(str(function["name"]), str(function.get("description", "")), arguments)


def grammar(
    tools: Sequence[Tool],
    otherwise: Literal["none", "text", "nothing"] = "none",
    longest: int | None = None,
) -> str:
    """GBNF of what may follow the assistant's mark: a call of one of the tools, or something else.

    Args:
        otherwise: text after `<|none|>`; text without it, as after a call's result; or no text at all.
        longest: characters of a string, at most; None for any number.
    """
    characters = "*" if longest is None else f"{{0,{longest}}}"
    calls = " | ".join(f"tool-{index}" for index in range(len(tools)))
    other = {"none": f" | <[{NONE}]> text", "text": " | text", "nothing": ""}[otherwise]
    lines = [f"root ::= <[{INVOKE}]> ({calls}){other}"]
    for index, tool in enumerate(tools):
        pieces = []
        for name in sorted(tool.arguments):
            kind = tool.arguments[name]
            value = kind if isinstance(kind, str) else f"({' | '.join(_literal(go_json(c)) for c in kind)})"
            pieces.append(f"{_literal(go_json(name) + ':')} {value}")
        inner = f" {_literal(',')} ".join(pieces)
        start, end = _literal('{"arguments":{'), _literal('},"name":' + go_json(tool.name) + "}")
        lines.append(f"tool-{index} ::= {start} {inner} {end}")
    lines.append(f'string ::= "\\"" character{characters} "\\""')
    return "\n".join(lines) + RULES


def room_for_strings(llama: Llama, tools: Sequence[Tool], prompt: Sequence[int]) -> int:
    """Characters that each string of a call may have, if every call is to end before its tokens do.

    A character is a token at most, unless it is none of ASCII: such a call can still be cut off.
    """
    room = min(MOST_TOKENS, llama.context_length - len(prompt)) - 2
    longest = MOST_STRING
    for tool in tools:
        strings = sum(kind == "string" for kind in tool.arguments.values())
        if strings:
            rest = call_text(tool.name, {name: _longest(kind) for name, kind in tool.arguments.items()})
            longest = min(longest, (room - len(llama.tokenize(rest))) // strings)
    return max(0, longest)


def ask(
    llama: Llama, tools: Sequence[Tool], text: str, perspective: Perspective | None = None, system: str = ""
) -> Answer:
    """Have a model call one of the tools, or say that none fits.

    Raises:
        ConfigError: no tools.
        ToolkitError: what it says was cut off, or is no call of a tool on offer.
    """
    if not tools:
        raise ConfigError("a call needs a tool at least, got none")
    turns = [Turn("system", system, False)] if system else []
    turns += [Turn("tools", "\n".join(tool.signature for tool in tools), False), Turn("user", text, False)]
    prompt = llama.encode_prompt(Document("call", "call", "call", perspective, tuple(turns)))
    longest = room_for_strings(llama, tools, prompt)
    said = llama.generate(prompt, MOST_TOKENS, grammar(tools, longest=longest))
    if not said.ended:
        raise ToolkitError(
            f"what the model says must end, was cut off after {len(said.ids)} tokens: {said.text!r:.80}"
        )
    if said.ids[:1] == [NONE]:
        return Answer(None, None, said.text)
    try:
        found = json.loads(said.text)
        (tool,) = (tool for tool in tools if tool.name == found["name"])
        whole = said.ids[:1] == [INVOKE] and found.keys() == {"name", "arguments"}
        if not whole or not tool.takes(found["arguments"]):
            raise ValueError("not its arguments")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolkitError(
            f"the model must call a tool on offer, says {said.text!r:.200}: {error!r:.80}"
        ) from None
    for name, value in found["arguments"].items():
        if tool.arguments[name] == "string" and len(value) >= longest:
            raise ToolkitError(
                f"{name} of the model's call must fit into {longest} characters, or the call might not end; "
                f"it says {value!r:.80}"
            )
    return Answer(tool.name, found["arguments"], None)


def _longest(kind: Type | tuple[str, ...]) -> Any:
    """An argument's value of as many tokens as it may have; of a string none, whose length is asked for."""
    if isinstance(kind, tuple):
        return max(kind, key=lambda choice: len(go_json(choice)), default="")
    values: dict[Type, Any] = {
        "string": "",
        "integer": -123456789012345,
        "number": -1234567890.1234,
        "boolean": False,
    }
    return values[kind]


def _is_of(value: Any, kind: Type | tuple[str, ...]) -> bool:
    if isinstance(kind, tuple):
        return value in kind
    types: dict[Type, tuple[type, ...]] = {
        "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)
    }  # fmt: skip
    return type(value) in types[kind]


def _literal(text: str) -> str:
    """A string of GBNF."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
