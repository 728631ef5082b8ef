"""What an adapter is trained on, and the very token ids that llama.cpp would be given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from device_sim.companion.models.model import Message
from personality_common.errors import DataError

if TYPE_CHECKING:
    from device_sim.companion.models.llama import LlamaModel


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


def make_row(model: LlamaModel, example: Example) -> Row:
    """The ids of the prompt that the model would answer, of the answer, and of what ends it.

    What ends a turn is what the template puts after the answer once the conversation has gone on.

    Raises:
        DataError: in the conversation that went on, the answer does not follow its prompt as it was.
    """
    prompt = model.prompt_ids(example.messages[:-1])
    answer = model.answer_ids(example.messages[-1].text.strip())
    went_on = model.prompt_ids([*example.messages, Message("user", "?")])
    length = len(prompt) + len(answer)
    if went_on[:length] != prompt + answer or len(went_on) == length:
        raise DataError(
            f"{model.name}: its chat template must show an answer after its prompt as it was given; does not"
        )
    return Row(tuple(went_on[: length + 1]), len(prompt))
