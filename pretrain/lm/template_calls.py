"""Calls by anybody's models: tools through their chat template, or told in words; held by a grammar.

What a call looks like is what most templates teach: `{"name": …, "arguments": {…}}`, bare or between
`<tool_call>` and `</tool_call>`. Grammars are llguidance's, which llama.cpp has for JSON Schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from personality_common.endpoint.exchange import dumps
from personality_common.endpoint.model import Call, Message, RequestError, Tool

BEGINNINGS: Final = "{<"
"""Characters with which a call begins, and other answers do not where tools are on offer."""
MAX_SCHEMA_PARTS: Final = 2_000
_SPACING: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""As Jinja's `tojson` and Python write; where any is allowed, a weak model goes on with it for ever."""
_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_KEPT: Final = ("type", "enum", "const", "required", "$ref", "items", "anyOf", "properties", "$defs")
"""Of JSON Schema; patterns, lengths and counts can take any time, and are left to whoever calls the tool."""


def tool_entry(tool: Tool) -> dict[str, Any]:
    """A tool as templates read it."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def message_entry(message: Message) -> dict[str, Any]:
    """A message as templates read it."""
    entry: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        entry["tool_calls"] = [
            {"id": str(i), "type": "function", "function": {"name": c.name, "arguments": dumps(c.arguments)}}
            for i, c in enumerate(message.calls)
        ]
    return entry


def without_template(messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The same conversation for a template that knows no tools: the system tells them, calls and results are
    messages."""
    lines = [dumps(tool_entry(tool)["function"]) for tool in tools]
    told = [str(message["content"]) for message in messages if message["role"] == "system"]
    told += ["Tools, one a line:", *lines, 'To use one, answer {"name": …, "arguments": {…}} alone.']
    result: list[dict[str, Any]] = [{"role": "system", "content": "\n".join(told)}]
    for message in messages:
        if message["role"] == "tool":
            result.append({"role": "user", "content": f"Result: {message['content']}"})
        elif message["role"] != "system":
            functions = [call["function"] for call in message.get("tool_calls", ())]
            said = [f'{{"name":{dumps(f["name"])},"arguments":{f["arguments"]}}}' for f in functions]
            result.append({"role": message["role"], "content": "\n".join(said) or message["content"]})
    return result


def grammar(tools: Sequence[Tool], required: bool) -> str:
    """What an answer may be: a call of one of the tools, or text that does not begin like one."""
    calls = {"anyOf": [_call_schema(tool) for tool in tools], "x-guidance": _SPACING}
    other = "" if required else " | text"
    return (
        f'%llguidance {{}}\nstart: call | "{_OPEN}" "\\n"? call "\\n"? "{_CLOSE}"{other}\n'
        f"call: %json {json.dumps(calls)}\ntext: /([^{{<\\s](.|\\n)*)?/"
    )


def read(text: str) -> Call:
    """A call that the grammar let through; ValueError, KeyError or TypeError if it is none."""
    found = json.loads(text.strip().removeprefix(_OPEN).removesuffix(_CLOSE))
    return Call(str(found["name"]), dict(found["arguments"]))


def plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without what makes grammars large; RequestError if it is too large, or malformed."""
    count = 0

    def walk(value: Any) -> dict[str, Any]:
        nonlocal count
        count += 1
        if value in (True, {}):
            return {}
        if not isinstance(value, dict):
            raise RequestError("a schema must be an object, or true")
        kept: dict[str, Any] = {key: value[key] for key in _KEPT if key in value}
        if "oneOf" in value:
            kept["anyOf"] = value["oneOf"]
        for key in ("properties", "$defs"):
            if key in kept:
                kept[key] = {name: walk(inner) for name, inner in _mapping(kept[key]).items()}
        if "items" in kept:
            kept["items"] = walk(kept["items"])
        if "anyOf" in kept:
            kept["anyOf"] = [walk(inner) for inner in _list(kept["anyOf"])]
        count += len(_list(kept.get("enum", []))) + len(_list(kept.get("required", [])))
        if count > MAX_SCHEMA_PARTS:
            raise RequestError(f"a schema must have {MAX_SCHEMA_PARTS:,} parts or fewer")
        if "$ref" in kept and not str(kept["$ref"]).startswith("#/$defs/"):
            raise RequestError("a schema may refer to its own $defs alone")
        if "properties" in kept:
            kept["additionalProperties"] = False
        return kept

    return walk(schema)


def _call_schema(tool: Tool) -> dict[str, Any]:
    arguments = plain({"type": "object", "properties": {}} | dict(tool.parameters))
    if "$defs" in arguments or "$ref" in json.dumps(arguments):
        raise RequestError(
            f"arguments of the tool {tool.name!r} must be written out, without $ref", parameter="tools"
        )
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RequestError("properties of a schema must be an object")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise RequestError("enum, required and anyOf of a schema must be lists")
    return value
