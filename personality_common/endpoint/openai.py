"""OpenAI's protocol: chat completions, completions, models.

Source: https://platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

from personality_common.endpoint.exchange import Exchange, Said, dumps, server_sent
from personality_common.endpoint.fields import MAX_MESSAGES, Fields
from personality_common.endpoint.model import (
    Call,
    Card,
    Message,
    Options,
    Request,
    RequestError,
    Role,
    Text,
    Tool,
)

_ROLES: Final[dict[str, Role]] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"
}  # fmt: skip
_TYPES: Final = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
_DONE: Final = b"data: [DONE]\n\n"
_UNSERVED: Final = (
    "audio", "echo", "function_call", "functions", "logit_bias", "logprobs", "prediction", "suffix",
    "top_logprobs", "web_search_options"
)  # fmt: skip
"""They change what an answer is, and are not served. What is not named, as `user`, is ignored."""


def error_body(error: RequestError) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    detail = {"param": error.parameter or None, "code": error.code or None}
    return {"error": {"message": str(error), "type": kind, **detail}}


def model_entries(card: Card) -> list[dict[str, Any]]:
    """A model and its variants, for `/v1/models`."""
    rest = {"object": "model", "created": int(card.created), "owned_by": "personality-toolkit"}
    return [{"id": name, **rest} for name in card.names]


class _OpenAI(Exchange):
    content_type: ClassVar[str] = "text/event-stream"
    kind: ClassVar[str]
    chunk_kind: ClassVar[str]
    prefix: ClassVar[str]

    def __init__(self, fields: Fields, card: Card) -> None:
        self.model = fields.text("model", card.name)
        self.variant = card.variant(self.model)
        self.streams = fields.flag("stream")
        self._usage = self.streams and fields.inner("stream_options").flag("include_usage")
        self._head = {"id": f"{self.prefix}-{secrets.token_hex(12)}", "created": int(time.time())}
        for key in _UNSERVED:
            fields.refuse(key)
        for key in ("n", "best_of"):
            fields.refuse(key, unless=(1,))

    @staticmethod
    def options(fields: Fields) -> Options:
        most = fields.whole("max_completion_tokens", 1, 1 << 31) or fields.whole("max_tokens", 1, 1 << 31)
        return Options(
            most,
            fields.number("temperature", 0, 2),
            fields.number("top_p", 0, 1),
            fields.whole("top_k", 0, 1 << 31),
            fields.number("min_p", 0, 1),
            fields.whole("seed", -(1 << 63), (1 << 63) - 1),
            fields.number("presence_penalty", -2, 2),
            fields.number("frequency_penalty", -2, 2),
            fields.number("repeat_penalty", 0.1, 10),
            fields.stops("stop"),
        )

    def chunk(self, *choices: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        unused = {"usage": None} if self._usage and not more else {}
        head = {**self._head, "object": self.chunk_kind, "model": self.model}
        return {**head, "choices": list(choices), **unused, **more}

    def broken(self, error: RequestError) -> bytes:
        return server_sent([error_body(error)])

    def closing(self, said: Said, last: Mapping[str, Any]) -> bytes:
        values = [self.chunk(last)] + ([self.chunk(usage=_usage(said))] if self._usage else [])
        return server_sent(values) + _DONE

    def complete(self, said: Said, choice: Mapping[str, Any]) -> dict[str, Any]:
        head = {**self._head, "object": self.kind, "model": self.model}
        return {**head, "choices": [{"index": 0, "logprobs": None, **choice}], "usage": _usage(said)}


class Chat(_OpenAI):
    """`/v1/chat/completions`."""

    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"
    prefix = "chatcmpl"

    def __init__(self, fields: Fields, card: Card) -> None:
        super().__init__(fields, card)
        if fields.value.get("modalities") not in (None, ["text"]):
            raise fields.wrong("modalities", "['text']")
        messages = tuple(map(_message, fields.objects("messages", MAX_MESSAGES)))
        if not messages:
            raise RequestError("messages must have an item at least, has none", parameter="messages")
        tools, required = _choice(fields, fields.tools("tools"))
        self.request = Request(
            self.variant, messages, None, tools, required, _schema(fields), self.options(fields)
        )
        self._called = 0

    def start(self) -> bytes:
        return server_sent([self._delta({"role": "assistant", "content": ""})])

    def piece(self, piece: Text | Call) -> bytes:
        if isinstance(piece, Text):
            return server_sent([self._delta({"content": piece.text})])
        call = {"index": self._called, **_call_entry(piece)}
        self._called += 1
        return server_sent([self._delta({"tool_calls": [call]})])

    def end(self, said: Said) -> bytes:
        return self.closing(said, {"index": 0, "delta": {}, "finish_reason": _reason(said)})

    def whole(self, said: Said) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": said.text, "refusal": None}
        if said.calls:
            message |= {"content": said.text or None, "tool_calls": list(map(_call_entry, said.calls))}
        return self.complete(said, {"message": message, "finish_reason": _reason(said)})

    def _delta(self, delta: Mapping[str, Any]) -> dict[str, Any]:
        return self.chunk({"index": 0, "delta": delta, "finish_reason": None})


class Completion(_OpenAI):
    """`/v1/completions`: plain text, and how it goes on."""

    kind = chunk_kind = "text_completion"
    prefix = "cmpl"

    def __init__(self, fields: Fields, card: Card) -> None:
        super().__init__(fields, card)
        prompt = fields.value.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
            fields = Fields(fields.value | {"prompt": prompt[0]})
        options = self.options(fields)
        # OpenAI's default for this one.
        options = options if options.max_tokens else replace(options, max_tokens=16)
        self.request = Request(self.variant, prompt=fields.text("prompt"), options=options)

    def start(self) -> bytes:
        return b""

    def piece(self, piece: Text | Call) -> bytes:
        text = piece.text if isinstance(piece, Text) else ""
        return server_sent([self.chunk({"index": 0, "text": text, "logprobs": None, "finish_reason": None})])

    def end(self, said: Said) -> bytes:
        last = {"index": 0, "text": "", "logprobs": None, "finish_reason": _reason(said)}
        return self.closing(said, last)

    def whole(self, said: Said) -> dict[str, Any]:
        return self.complete(said, {"text": said.text, "finish_reason": _reason(said)})


def _message(fields: Fields) -> Message:
    role = fields.text("role")
    if role not in _ROLES:
        raise RequestError(
            f"{fields.name('role')} must be one of {', '.join(_ROLES)}", parameter=fields.name("role")
        )
    calls = tuple(_call(entry) for entry in fields.objects("tool_calls", MAX_MESSAGES))
    value = fields.value.get("content")
    if isinstance(value, list):
        content = "".join(_part(part) for part in fields.objects("content", MAX_MESSAGES))
    else:
        content = fields.text("content", "" if role == "assistant" else None)
    return Message(_ROLES[role], content, calls if role == "assistant" else ())


def _part(part: Fields) -> str:
    if part.text("type") not in ("text", "refusal"):
        name = part.name("type")
        raise RequestError(f"{name} must be 'text': pictures and sound are not supported", parameter=name)
    return part.text(part.text("type"))


def _call(entry: Fields) -> Call:
    function = entry.inner("function")
    name = function.name("arguments")
    try:
        arguments = json.loads(function.text("arguments"))
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise RequestError(f"{name} must be a string with an object of JSON", parameter=name)
    return Call(function.text("name"), arguments)


def _choice(fields: Fields, tools: tuple[Tool, ...]) -> tuple[tuple[Tool, ...], bool]:
    """Tools that may be called, and whether one must be."""
    choice = fields.value.get("tool_choice")
    if isinstance(choice, dict):
        name = fields.inner("tool_choice").inner("function").text("name")
        named = tuple(tool for tool in tools if tool.name == name)
        if not named:
            raise RequestError("tool_choice must name a tool on offer", parameter="tool_choice")
        return named, True
    if choice not in (None, "none", "auto", "required"):
        raise RequestError(
            "tool_choice must be none, auto, required, or name a function", parameter="tool_choice"
        )
    if choice in ("auto", "required") and not tools:
        raise RequestError("tool_choice needs tools, there are none", parameter="tool_choice")
    return (() if choice == "none" else tools), choice == "required"


def _schema(fields: Fields) -> Mapping[str, Any] | None:
    wanted = fields.inner("response_format")
    kind = wanted.text("type", "text")
    if kind == "json_schema":
        return wanted.inner("json_schema").inner("schema").value
    if kind not in ("text", "json_object"):
        name = wanted.name("type")
        raise RequestError(f"{name} must be text, json_object or json_schema", parameter=name)
    return {"type": "object"} if kind == "json_object" else None


def _call_entry(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": dumps(call.arguments)}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


def _reason(said: Said) -> str:
    return "tool_calls" if said.calls else said.end.reason


def _usage(said: Said) -> dict[str, int]:
    prompt, completion = said.end.prompt_tokens, said.end.completion_tokens
    return {
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion
    }  # fmt: skip
