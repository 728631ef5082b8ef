"""What an endpoint asks of a model, in no protocol's words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from personality_common.errors import ToolkitError

Role = Literal["system", "user", "assistant", "tool"]


class RequestError(ToolkitError):
    """What a client asked cannot be done; it is told so.

    Attributes:
        status: of HTTP.
        code: a word for programs, as OpenAI calls it.
        parameter: the field that is wrong.
    """

    def __init__(self, message: str, status: int = 400, code: str = "", parameter: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.parameter = status, code, parameter


@dataclass(frozen=True)
class Call:
    """A tool that the model calls."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Message:
    """A turn of a conversation.

    Attributes:
        calls: of the assistant; the tools' answers follow, each a message of the role `tool`.
    """

    role: Role
    content: str
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True)
class Tool:
    """What may be called.

    Attributes:
        parameters: JSON Schema of an object.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Options:
    """How to draw tokens; None is the model's own way.

    Attributes:
        max_tokens: of the answer.
        stop: texts before which the answer ends.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """What to go on from, and how.

    Attributes:
        variant: of the model, "" for the plain one.
        messages: the conversation; empty where `prompt` is given.
        prompt: plain text to go on from, without a chat template.
        tools: on offer.
        call_required: the answer must be a call.
        schema: JSON Schema of the answer's text.
    """

    variant: str = ""
    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    tools: tuple[Tool, ...] = ()
    call_required: bool = False
    schema: Mapping[str, Any] | None = None
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class Text:
    """Some more of what the model says."""

    text: str


@dataclass(frozen=True)
class End:
    """The model has ended, or was cut off.

    Attributes:
        reason: length: at `max_tokens`, or at the end of the context.
    """

    reason: Literal["stop", "length"]
    prompt_tokens: int = 0
    completion_tokens: int = 0


Piece: TypeAlias = Text | Call | End


@dataclass(frozen=True)
class Card:
    """What a model says of itself.

    Attributes:
        name: by which clients ask for it; they may add `:latest`, or `:` and a variant.
        variants: other ways to answer.
        family: architecture.
        created: seconds since 1970.
        bytes, sha256: of its file.
        parameters: how many.
        quantization: such as Q8_0.
        template: its chat template.
        tools: it can call.
    """

    name: str
    context_length: int
    variants: tuple[str, ...] = ()
    family: str = ""
    created: float = 0.0
    bytes: int = 0
    sha256: str = "0" * 64
    parameters: int = 0
    quantization: str = ""
    template: str = ""
    tools: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *(f"{self.name}:{variant}" for variant in self.variants))

    def variant(self, asked: str) -> str:
        """Which variant a client means; RequestError if it means another model."""
        known = {self.name: "", f"{self.name}:latest": ""} | {f"{self.name}:{v}": v for v in self.variants}
        if asked not in known:
            raise RequestError(
                f"the model {asked!r} is not here; there is {', '.join(self.names)}",
                404, "model_not_found", "model",
            )  # fmt: skip
        return known[asked]


class Stop:
    """Asks a stream to end: the client has gone, or the program ends. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._actions: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        """Ask; what was given to `calls` is called once."""
        with self._lock:
            self._set = True
            actions, self._actions = self._actions, []
        for action in actions:
            action()

    def calls(self, action: Callable[[], None]) -> None:
        """Have something called when it is asked, or now if it was."""
        with self._lock:
            if not self._set:
                self._actions.append(action)
                return
        action()


class Model(Protocol):
    """What stands behind an endpoint."""

    @property
    def card(self) -> Card: ...

    def stream(self, request: Request, stop: Stop) -> Generator[Piece, None, None]:
        """Texts and calls, then one End. One stream at a time; closing the generator ends it.

        Args:
            stop: when it is set, the stream ends soon; nobody reads what it still says.

        Raises:
            RequestError: the request cannot be served: too long, or tools of a kind unknown to it.
        """
        ...
