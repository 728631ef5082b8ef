"""A GGUF file behind an endpoint, or a chat in a terminal: ours, and anybody's with a chat template."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from personality_common.endpoint.model import Call, Card, End, Piece, Request, RequestError, Stop, Text
from personality_common.errors import DataError, ToolkitError
from personality_common.files.bounded import open_regular
from personality_common.llama_server import LlamaServer
from pretrain.lm import template_calls
from pretrain.lm.bundle.gguf_file import read_metadata
from pretrain.lm.calls import INVOKE, as_tool, grammar
from pretrain.lm.chat import (
    PERSPECTIVES,
    ROLE_TOKENS,
    SPECIAL_IDS,
    SPECIAL_TOKENS,
    Document,
    Turn,
    call_text,
)

if TYPE_CHECKING:
    from pretrain.lm.llama import Llama

MOST_TOKENS: Final = 1_024
"""Of an answer for which nobody says how long it may be."""
MOST_CONTEXT: Final = 4_096
"""Memory grows with it; models claim much more."""
_CONTROL: Final = 3
_OPTIONS: Final = (
    "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repeat_penalty"
)  # fmt: skip


@dataclass(frozen=True)
class _Prompt:
    """Attributes:
    constraint: of the answer, in llama.cpp's words.
    calls: the answer may be a call.
    """

    ids: list[int]
    constraint: Mapping[str, Any]
    calls: bool = False


class _Served(ABC):
    """What both kinds share: a prompt in tokens, and the stream that follows."""

    temperature: float | None
    llama: LlamaServer

    def __init__(self, card: Card) -> None:
        self._card = card

    @property
    def card(self) -> Card:
        return self._card

    @abstractmethod
    def prompt(self, request: Request) -> _Prompt:
        """Tokens to go on from; RequestError where the model cannot."""

    @abstractmethod
    def begins_call(self, ids: Sequence[int], text: str) -> bool | None:
        """Whether what was said so far begins a call; None: it cannot be told yet."""

    @abstractmethod
    def call(self, text: str) -> Call:
        """A whole call; ValueError, KeyError, TypeError if it is none."""

    def stream(self, request: Request, stop: Stop) -> Generator[Piece, None, None]:
        if request.tools and request.schema is not None:
            raise RequestError("an answer is a call or of a format, not both: leave tools or the format out")
        prompt = self.prompt(request)
        room = self.card.context_length - len(prompt.ids)
        if room < 1:
            raise RequestError(
                f"the conversation must be shorter than the model's context of {self.card.context_length} "
                f"tokens, has {len(prompt.ids)}", 400, "context_length_exceeded", "messages",
            )  # fmt: skip
        most = min(request.options.max_tokens or MOST_TOKENS, room)
        asked = {"prompt": prompt.ids, "n_predict": most, "return_tokens": True, "cache_prompt": True}
        schema = {} if request.schema is None else {"json_schema": template_calls.plain(request.schema)}
        with contextlib.closing(
            self.llama.stream({**asked, **self._drawing(request), **schema, **prompt.constraint}, stop)
        ) as pieces:
            yield from self._said(prompt, pieces)

    def _drawing(self, request: Request) -> dict[str, Any]:
        given = request.options
        drawing = {key: getattr(given, key) for key in _OPTIONS if getattr(given, key) is not None}
        if self.temperature is not None:
            drawing.setdefault("temperature", self.temperature)
        if given.seed is not None:
            drawing["seed"] = given.seed % (1 << 32)
        # In the middle of a call a stop would leave half of its JSON.
        return drawing | ({} if request.tools else {"stop": list(given.stop)})

    def _said(self, prompt: _Prompt, pieces: Generator[Mapping[str, Any], None, None]) -> Any:
        """Text as it comes; of a call nothing before all of it is there."""
        ids: list[int] = []
        held = ""
        is_call: bool | None = None if prompt.calls else False
        for piece in pieces:
            ids += piece.get("tokens", [])
            held += piece["content"]
            last = piece.get("stop", False)
            if is_call is None:
                is_call = self.begins_call(ids, held)
            if held and is_call is False:
                yield Text(held)
                held = ""
            if last:
                cut_off = piece["stop_type"] == "limit"
                if held and is_call is None:
                    yield Text(held)
                elif is_call and not cut_off:
                    yield self._checked_call(held)
                yield End(
                    "length" if cut_off else "stop", piece["tokens_evaluated"], piece["tokens_predicted"]
                )

    def _checked_call(self, text: str) -> Call:
        try:
            return self.call(text)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ToolkitError("the model must call a tool on offer, said something else") from None


class OwnModel(_Served):
    """A model of `pt lm export`: no text makes a special token, and calls follow its own grammar."""

    temperature = 0.0

    def __init__(self, llama: Llama, card: Card) -> None:
        super().__init__(card)
        self.llama: Llama = llama

    def prompt(self, request: Request) -> _Prompt:
        if request.prompt is not None:
            mark = SPECIAL_IDS[ROLE_TOKENS["text"]]
            return _Prompt([mark, *self.llama.tokenize(request.prompt)], {})
        try:
            tools = [
                as_tool({"name": t.name, "description": t.description, "parameters": t.parameters})
                for t in request.tools
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RequestError(
                "arguments of tools must be of the types that this model has: string (or an enum), integer, "
                "number, boolean", 400, "unsupported_tool", "tools",
            ) from None  # fmt: skip
        turns = _turns(request)
        if request.variant and not any(turn.role == "user" for turn in turns):
            raise RequestError("a perspective needs a message of the user", parameter="messages")
        lines = "\n".join(tool.signature for tool in tools)
        told = [turn for turn in turns if turn.role == "system"]
        offered = [Turn("tools", lines, False)] if tools else []
        rest = [turn for turn in turns if turn.role != "system"]
        perspective = next((name for name in PERSPECTIVES if name == request.variant), None)
        document = Document("asked", "asked", "asked", perspective, (*told, *offered, *rest))
        ids = self.llama.encode_prompt(document)
        if not tools:
            return _Prompt(ids, {})
        answered = bool(rest) and rest[-1].role == "result"
        rules = grammar(tools, "nothing" if request.call_required else "text" if answered else "none")
        return _Prompt(ids, {"grammar": rules}, calls=True)

    def begins_call(self, ids: Sequence[int], text: str) -> bool | None:
        return ids[0] == INVOKE if ids else None

    def call(self, text: str) -> Call:
        found = json.loads(text)
        return Call(found["name"], found["arguments"])


def _turns(request: Request) -> list[Turn]:
    """The conversation as training writes it: one system turn, and text marked where no tool fit."""
    told = "\n".join(m.content for m in request.messages if m.role == "system")
    turns = [Turn("system", told, False)] if told else []
    for message in request.messages:
        after_result = bool(turns) and turns[-1].role == "result"
        if message.role == "user":
            turns.append(Turn("user", message.content, False))
        elif message.role == "tool":
            turns.append(Turn("result", message.content, False))
        elif message.calls:
            turns += [Turn("call", call_text(call.name, call.arguments), False) for call in message.calls]
        elif message.role == "assistant":
            marked = request.tools and not after_result
            turns.append(Turn("none" if marked else "assistant", message.content, False))
    return turns


class TemplateModel(_Served):
    """Anybody's model, through its own chat template."""

    temperature = None

    def __init__(self, llama: LlamaServer, card: Card, control: Sequence[str]) -> None:
        """`control`: names of tokens that no message may make."""
        super().__init__(card)
        self.llama = llama
        self._control = tuple(name for name in control if name)

    def prompt(self, request: Request) -> _Prompt:
        if request.prompt is not None:
            return _Prompt(self.llama.tokenize(request.prompt, special=True, add_special=True), {})
        tools = [template_calls.tool_entry(tool) for tool in request.tools]
        messages = [template_calls.message_entry(message) for message in request.messages]
        if self._names_control([*tools, *(m.get("tool_calls") for m in messages)]):
            raise RequestError("tools and calls must not hold the name of a special token", parameter="tools")
        if tools and self._render(messages, tools) == self._render(messages, []):
            messages, tools = template_calls.without_template(messages, request.tools), []
        ids = self._encode(messages, tools)
        if not request.tools:
            return _Prompt(ids, {})
        rules = template_calls.grammar(request.tools, request.call_required)
        return _Prompt(ids, {"grammar": rules}, calls=True)

    def begins_call(self, ids: Sequence[int], text: str) -> bool | None:
        return text[0] in template_calls.BEGINNINGS if text else None

    def call(self, text: str) -> Call:
        return template_calls.read(text)

    def _render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> str:
        request = {"messages": list(messages)} | ({"tools": list(tools)} if tools else {})
        try:
            return str(self.llama.post("/apply-template", request)["prompt"])
        except ToolkitError:
            raise RequestError(
                "the model's chat template refuses these messages: roles or their order", parameter="messages"
            ) from None

    def _encode(self, messages: list[dict[str, Any]], tools: Sequence[Mapping[str, Any]]) -> list[int]:
        """Tokens of a rendered conversation. Where a message has the name of a special token, what it says is
        put in after rendering, so that the name stays text."""
        if not self._names_control([message["content"] for message in messages]):
            return self.llama.tokenize(self._render(messages, tools), special=True, add_special=True)
        marks = {f"content-{os.urandom(16).hex()}-": str(message["content"]) for message in messages}
        marked = [m | {"content": mark} for m, mark in zip(messages, marks, strict=True)]
        ids: list[int] = []
        rest = self._render(marked, tools)
        while rest:
            at, mark = min(
                ((rest.find(mark), mark) for mark in marks if mark in rest), default=(len(rest), "")
            )
            if at:
                ids += self.llama.tokenize(rest[:at], special=True, add_special=not ids)
            if mark:
                ids += self.llama.tokenize(marks[mark])
            rest = rest[at + len(mark) :]
        return ids

    def _names_control(self, value: Any) -> bool:
        text = json.dumps(value, ensure_ascii=False)
        return any(name in text for name in self._control)


def open_model(path: Path, name: str, *, threads: int = 1) -> OwnModel | TemplateModel:
    """Load a file: as ours if it has our special tokens, and then it must be whole; else by its template.

    A stranger's file is given to llama.cpp once its header has been read; what is wrong further in may end
    the process.

    Args:
        name: by which clients ask for it.

    Raises:
        DataError: no GGUF, no chat template, or llama.cpp does not take it.
        MismatchError: it has our tokens, and is not as `pt lm export` writes it.
    """
    metadata = read_metadata(path)
    tokens, types = (metadata.get(f"tokenizer.ggml.{key}") for key in ("tokens", "token_type"))
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise DataError(f"{path}: must have a tokenizer, has none")
    ours = tokens[: len(SPECIAL_TOKENS)] == list(SPECIAL_TOKENS)
    if ours:
        # It looks at the file with PyTorch, which strangers' files do not need.
        from pretrain.lm.llama import Llama

        own = Llama(path, threads=threads)
        return OwnModel(own, _card(path, name, metadata, own, PERSPECTIVES))
    family = str(metadata.get("general.architecture", ""))
    length = metadata.get(f"{family}.context_length")
    if type(length) is not int or length < 1:
        raise DataError(f"{path}: must say its context length ({family}.context_length), does not")
    if not isinstance(metadata.get("tokenizer.chat_template"), str):
        raise DataError(f"{path}: must have a chat template (tokenizer.chat_template), has none")
    llama = LlamaServer(path, min(length, MOST_CONTEXT), threads=threads)
    kinds = types if isinstance(types, list) else []
    control = [token for token, kind in zip(tokens, kinds, strict=False) if kind == _CONTROL]
    return TemplateModel(llama, _card(path, name, metadata, llama), control)


def _card(
    path: Path, name: str, metadata: Mapping[str, Any], llama: LlamaServer, variants: tuple[str, ...] = ()
) -> Card:
    about = llama.about()
    with os.fdopen(open_regular(path), "rb") as file:
        status = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Card(
        name,
        llama.context_length,
        variants,
        str(metadata.get("general.architecture", "")),
        status.st_mtime,
        status.st_size,
        digest,
        int(about["n_params"]),
        str(about["ftype"]),
        str(metadata.get("tokenizer.chat_template", "")),
        tools=True,
    )
