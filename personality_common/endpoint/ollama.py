"""Ollama's protocol: chat, generate, and what it says of models.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from personality_common.endpoint.exchange import Exchange, Said, ndjson
from personality_common.endpoint.fields import MAX_MESSAGES, Fields
from personality_common.endpoint.model import Call, Card, Message, Options, Request, RequestError, Role, Text


def error_body(error: RequestError) -> dict[str, Any]:
    """An error as Ollama's clients read it."""
    return {"error": str(error)}


def model_entries(card: Card) -> list[dict[str, Any]]:
    """A model and its variants, for `/api/tags`."""
    rest = {
        "modified_at": _time(card.created),
        "size": card.bytes,
        "digest": card.sha256,
        "details": _details(card),
    }
    return [{"name": name, "model": name, **rest} for name in card.names]


def running_entries(card: Card) -> list[dict[str, Any]]:
    """What is loaded, for `/api/ps`: it stays."""
    never = "2318-01-01T00:00:00Z"
    return [{**entry, "size_vram": 0, "expires_at": never} for entry in model_entries(card)[:1]]


def model_page(card: Card) -> dict[str, Any]:
    """All about a model, for `/api/show`."""
    return {
        "modelfile": f"FROM {card.name}\n",
        "parameters": "",
        "template": card.template,
        "details": _details(card),
        "model_info": {
            "general.architecture": card.family,
            "general.parameter_count": card.parameters,
            f"{card.family}.context_length": card.context_length,
        },
        "capabilities": ["completion", *(["tools"] if card.tools else [])],
        "modified_at": _time(card.created),
    }


class _Ollama(Exchange):
    content_type: ClassVar[str] = "application/x-ndjson"

    def __init__(self, fields: Fields, card: Card) -> None:
        self.model = fields.text("model", card.name)
        self.variant = card.variant(self.model)
        self.streams = fields.flag("stream", True)
        self.started = time.perf_counter_ns()
        self.first: int | None = None
        for key in ("images", "logprobs", "suffix", "think", "top_logprobs"):
            fields.refuse(key)

    @staticmethod
    def options(fields: Fields) -> Options:
        given = fields.inner("options")
        most = given.whole("num_predict", -2, 1 << 31)
        return Options(
            most if most is not None and most > 0 else None,
            given.number("temperature", 0, 100),
            given.number("top_p", 0, 1),
            given.whole("top_k", 0, 1 << 31),
            given.number("min_p", 0, 1),
            given.whole("seed", -(1 << 63), (1 << 63) - 1),
            given.number("presence_penalty", -2, 2),
            given.number("frequency_penalty", -2, 2),
            given.number("repeat_penalty", 0.1, 10),
            given.stops("stop"),
        )

    @staticmethod
    def schema(fields: Fields) -> Mapping[str, Any] | None:
        wanted = fields.value.get("format")
        if wanted in (None, ""):
            return None
        if wanted != "json" and not isinstance(wanted, dict):
            raise fields.wrong("format", "'json' or a JSON Schema")
        return {"type": "object"} if wanted == "json" else fields.inner("format").value

    def record(self, content: Mapping[str, Any], said: Said | None = None) -> dict[str, Any]:
        head = {"model": self.model, "created_at": _time(time.time()), **content}
        if said is None:
            self.first = self.first or time.perf_counter_ns()
            return {**head, "done": False}
        now = time.perf_counter_ns()
        first = self.first or now
        return {
            **head,
            "done": True,
            "done_reason": said.end.reason if self.request else "load",
            "total_duration": now - self.started,
            "load_duration": 0,
            "prompt_eval_count": said.end.prompt_tokens,
            "prompt_eval_duration": first - self.started,
            "eval_count": said.end.completion_tokens,
            "eval_duration": now - first,
        }

    def start(self) -> bytes:
        return b""

    def broken(self, error: RequestError) -> bytes:
        return ndjson(error_body(error))


class Chat(_Ollama):
    """`/api/chat`; without messages it loads the model, which is loaded."""

    def __init__(self, fields: Fields, card: Card) -> None:
        super().__init__(fields, card)
        messages = tuple(map(_message, fields.objects("messages", MAX_MESSAGES)))
        tools, schema, options = fields.tools("tools"), self.schema(fields), self.options(fields)
        request = Request(self.variant, messages, None, tools, False, schema, options)
        self.request = request if messages else None

    def piece(self, piece: Text | Call) -> bytes:
        if isinstance(piece, Text):
            return ndjson(self.record(_said(piece.text)))
        return ndjson(self.record(_said("", [piece])))

    def end(self, said: Said) -> bytes:
        return ndjson(self.record(_said(""), said))

    def whole(self, said: Said) -> dict[str, Any]:
        return self.record(_said(said.text, said.calls), said)


class Generate(_Ollama):
    """`/api/generate`: one question, or with `raw` plain text that goes on; without a prompt it loads."""

    def __init__(self, fields: Fields, card: Card) -> None:
        super().__init__(fields, card)
        for key in ("context", "template"):
            fields.refuse(key)
        prompt, system = fields.text("prompt", ""), fields.text("system", "")
        schema, options = self.schema(fields), self.options(fields)
        if fields.flag("raw"):
            request = Request(self.variant, prompt=prompt, schema=schema, options=options)
        else:
            told = (Message("system", system),) if system else ()
            messages = (*told, Message("user", prompt))
            request = Request(self.variant, messages, schema=schema, options=options)
        self.request = request if prompt else None

    def piece(self, piece: Text | Call) -> bytes:
        return ndjson(self.record({"response": piece.text if isinstance(piece, Text) else ""}))

    def end(self, said: Said) -> bytes:
        return ndjson(self.record({"response": ""}, said))

    def whole(self, said: Said) -> dict[str, Any]:
        return self.record({"response": said.text}, said)


def _message(fields: Fields) -> Message:
    roles: dict[str, Role] = {
        "system": "system", "user": "user", "assistant": "assistant", "tool": "tool"
    }  # fmt: skip
    role = fields.text("role")
    if role not in roles:
        raise RequestError(
            f"{fields.name('role')} must be one of {', '.join(roles)}", parameter=fields.name("role")
        )
    fields.refuse("images")
    functions = [entry.inner("function") for entry in fields.objects("tool_calls", MAX_MESSAGES)]
    calls = tuple(Call(one.text("name"), one.inner("arguments").value) for one in functions)
    return Message(roles[role], fields.text("content", ""), calls if role == "assistant" else ())


def _said(text: str, calls: list[Call] | None = None) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"function": {"name": call.name, "arguments": call.arguments}} for call in calls
        ]
    return {"message": message}


def _details(card: Card) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": card.family,
        "families": [card.family],
        "parameter_size": f"{card.parameters / 1e6:.1f}M",
        "quantization_level": card.quantization,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
