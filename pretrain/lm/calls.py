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
    go_json,
    signature_text,
)

if TYPE_CHECKING:
    from pretrain.lm.llama import Llama

Type = Literal["string", "integer", "number", "boolean"]
MAX_TOOLS_BYTES: Final = 1 << 20
MOST_TOKENS: Final = 256
INVOKE, NONE = (SPECIAL_IDS[ROLE_TOKENS[role]] for role in ("call", "none"))
RULES: Final = r"""
string ::= "\"" character* "\""
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


def grammar(tools: Sequence[Tool], otherwise: Literal["none", "text", "nothing"] = "none") -> str:
    """GBNF of what may follow the assistant's mark: a call of one of the tools, or something else.

    Args:
        otherwise: text after `<|none|>`; text without it, as after a call's result; or no text at all.
    """
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
    return "\n".join(lines) + RULES


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
    said = llama.generate(prompt, MOST_TOKENS, grammar(tools))
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
    return Answer(tool.name, found["arguments"], None)


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
