"""The prompt of a turn: what stands in it, in which order, and what is left out when there is no room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from device_sim.companion.models.model import ChatModel, Message
from personality_common.errors import ToolkitError
from personality_common.prompt import memories_block, memories_question, tokens_block

SYSTEM: Final = "You are a helpful AI assistant."
"""Where neither the model's own template nor a character says who speaks."""
MEMORY_SHARE: Final = 4
"""Memories may take a quarter of the room."""
NEAR: Final = 0.35
"""Score of a memory, as MiniLM has it, from which a question is taken to be about it (BENCHMARKS.md)."""


@dataclass(frozen=True)
class Exchange:
    """What the user said, and the answer."""

    said: str
    answer: str


@dataclass(frozen=True)
class Prompt:
    """What the model is given.

    Attributes:
        tokens: of all messages.
        memories: how many of those that were found are in it, the best first.
        left_out: exchanges of the conversation that are not in it, the oldest.
    """

    messages: tuple[Message, ...]
    tokens: int
    memories: int
    left_out: int


def build_prompt(
    model: ChatModel,
    said: str,
    *,
    room: int,
    system: str = SYSTEM,
    mood: Sequence[str] = (),
    memories: Sequence[str] = (),
    score: float = 0.0,
    history: Sequence[Exchange] = (),
) -> Prompt:
    """Put a prompt together that has room.

    What must be in it is the system prompt, the mood, and what the user says now. Then memories, the best
    first, and of the conversation the newest. Mood and memories stand right before what the user says: they
    change each turn, and what stands before them is computed once. A question is put together with memories
    that are near it: a small model hardly reads what stands further away, and repeats what stands so near
    whether it answers the question or not (BENCHMARKS.md).

    Args:
        room: tokens that the prompt may have.
        score: of the best memory.
        history: without the turn that is to be answered, the oldest first.

    Raises:
        ToolkitError: what the user says, with what must stand around it, is too long.
    """

    def messages(memories: Sequence[str], history: Sequence[Exchange]) -> list[Message]:
        blocks = [tokens_block(mood)] if mood else []
        asked = said
        if memories and score >= NEAR and is_question(said):
            asked = memories_question(memories, said)
        elif memories:
            blocks.append(memories_block(memories))
        now = "\n\n".join(blocks)
        if not history:
            first = Message("system", "\n\n".join([system, *blocks]))
            return [first, Message("user", asked)]
        turns = [turn for e in history for turn in (Message("user", e.said), Message("assistant", e.answer))]
        late = [Message("system", now)] if now else []
        return [Message("system", system), *turns, *late, Message("user", asked)]

    least = model.count(messages((), ()))
    if least > room:
        raise ToolkitError(
            f"your message must fit the model's context: with what stands around it, it has {least:,} tokens,"
            f" and there is room for {room:,}; shorten it"
        )
    limit = min(room, least + room // MEMORY_SHARE)
    kept = _most(len(memories), lambda n: model.count(messages(memories[:n], ())) <= limit)
    known = memories[:kept]
    turns = _most(len(history), lambda n: model.count(messages(known, history[len(history) - n :])) <= room)
    chosen = messages(known, history[len(history) - turns :])
    return Prompt(tuple(chosen), model.count(chosen), kept, len(history) - turns)


def is_question(said: str) -> bool:
    """Whether a message ends as a question does."""
    return said.rstrip().endswith("?")


def _most(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `most` that fits; 0 does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
