"""What an adapter is trained on, and the very token ids that llama.cpp would be given."""

from __future__ import annotations

from dataclasses import dataclass

from device_sim.companion.models.model import Message
from personality_common.errors import DataError


@dataclass(frozen=True)
class Example:
    """A conversation whose last message, the assistant's, bears the loss."""

    messages: tuple[Message, ...]

    def __post_init__(self) -> None:
        if len(self.messages) < 2 or self.messages[-1].role != "assistant":
            raise DataError("an example must end with the assistant's message, after another one")
        if not self.messages[-1].text.strip():
            raise DataError("an example's answer must have a text, has none")


@dataclass(frozen=True)
class Row:
    """An example in tokens: prompt, answer, and the token that ends a turn.

    Attributes:
        ids: all of them.
        prompt: how many of them are the prompt's.
    """

    ids: tuple[int, ...]
    prompt: int
