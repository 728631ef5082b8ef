"""What every model that chats can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from personality_common.errors import ToolkitError


@dataclass(frozen=True)
class Message:
    """One turn of a prompt, as text; nothing in it is a role or a special token."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True)
class Sampling:
    """How to answer.

    Attributes:
        max_tokens: at most.
        temperature: 0 takes the likeliest token.
        seed: None: by chance.
        grammar: GBNF that the answer must follow.
    """

    max_tokens: int = 256
    temperature: float = 0.7
    seed: int | None = None
    grammar: str | None = None


@dataclass(frozen=True)
class Piece:
    """Some of an answer; the last one says how it ended: the model was done, or `max_tokens` were."""

    text: str
    end: Literal["done", "limit"] | None = None


class ModelError(ToolkitError):
    """The model stopped answering: a server that stalls, breaks off, or refuses."""


class ChatModel(Protocol):
    """A model that answers.

    Attributes:
        name: for the log.
        context_length: tokens of a prompt and its answer.
        system: what its own template says of who it is, where nobody says otherwise; None: nothing.
    """

    name: str
    context_length: int
    system: str | None

    def count(self, messages: Sequence[Message]) -> int:
        """Tokens of a prompt with these messages, and all that the template adds.

        Exact, or an upper estimate where the tokenizer is not known.
        """
        ...

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        """Answer piece by piece; closing the iterator stops the model.

        Raises:
            ModelError: it stopped before its end.
            ToolkitError: it does not take the prompt, or cannot do what is asked.
        """
        ...

    def log_probabilities(self, messages: Sequence[Message], answer: str) -> list[float]:
        """Of each token of an answer, natural logarithms.

        Raises:
            ToolkitError: the model does not tell.
        """
        ...
