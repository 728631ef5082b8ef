"""The companion as an endpoint's model: who asks says one message, and gets one answer.

What a client sends is not believed, since anything can be in it. Its last message, which must be the user's,
is what is said now: read, filtered, remembered, answered and logged as in a chat. The messages before it, and
what a client says as system, stand in the prompt, and no word of them is kept.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from device_sim.companion.companion import Companion
from device_sim.companion.events import Turn
from device_sim.companion.models.model import ModelError, Sampling
from device_sim.companion.prompt import Exchange
from personality_common.endpoint.model import (
    Card,
    End,
    Message,
    Options,
    Piece,
    Request,
    RequestError,
    Stop,
    Text,
)
from personality_common.errors import DataError, ToolkitError

NAME: Final = "companion"
OFF_RECORD: Final = "off-record"
"""A variant, of which nothing is kept: for what a client asks by itself, such as a title."""
MOST_CONVERSATIONS: Final = 64
_NEUTRAL: Final = {
    "top_p": 1, "top_k": 0, "min_p": 0, "presence_penalty": 0, "frequency_penalty": 0, "repeat_penalty": 1
}  # fmt: skip
"""Options that a companion's models do not have, and what changes nothing."""


@dataclass(frozen=True)
class Noted(End):
    """What there is to say of an answer, beside its end.

    Attributes:
        turns: ids of the message and of the answer, as far as they were kept.
        mood: that was read of the message.
        recalled: the memories in the prompt.
    """

    turns: tuple[str, ...] = ()
    mood: tuple[str, ...] = ()
    recalled: tuple[str, ...] = ()


class CompanionModel:
    """See `endpoint.model.Model`.

    A request goes on with a conversation if what stands before its last message is that conversation, word
    for word; otherwise another one begins.
    """

    def __init__(self, companion: Companion) -> None:
        """`companion`: whose log, parts and user all conversations share."""
        self.companion = companion
        self._base = companion.parts
        self._talks: list[tuple[str, Companion]] = []
        """With what the client said as system; the one that was used last is last."""
        self._card = Card(
            NAME,
            companion.parts.model.context_length,
            (OFF_RECORD,),
            family=NAME,
            created=time.time(),
        )

    @property
    def card(self) -> Card:
        return self._card

    def stream(self, request: Request, stop: Stop) -> Generator[Piece, None, None]:
        told, history, said = _conversation(request)
        history = [replace(exchange, said=self._base.take_tags(exchange.said)[0]) for exchange in history]
        sampling = _sampling(request.options, self._base.sampling)
        talk = self._talk(told, history)
        talk.parts = replace(talk.parts, sampling=sampling)
        count = 0
        with told_to_clients():
            answer = talk.answer(f"{said} #{OFF_RECORD}" if request.variant == OFF_RECORD else said)
            with contextlib.closing(answer):
                for piece in answer:
                    if piece:
                        count += 1
                        yield Text(piece)
        prompt = 0 if talk.prompt is None else talk.prompt.tokens
        reason = "length" if talk.cut_off else "stop"
        yield Noted(reason, prompt, count, talk.turns, talk.mood, talk.recalled)  # type: ignore[arg-type]

    def forget(self, turns: Sequence[str]) -> list[str]:
        """Forget turns with the answers to them, in all conversations, the log and the memory: their ids."""
        gone = _with_answers(self.companion, turns)
        for _, talk in self._talks:
            talk.leave_out(gone)
        self.companion.forget(gone)
        return gone

    def _talk(self, told: str, history: Sequence[Exchange]) -> Companion:
        wanted = _plain(history)
        for i, (other, talk) in enumerate(self._talks):
            if other == told and _plain(talk.history) == wanted:
                self._talks.append(self._talks.pop(i))
                return talk
        character = "\n\n".join(text for text in (self._base.character, told) if text)
        parts = replace(self._base, character=character or None)
        talk = Companion(self.companion.log, parts, user=self.companion.user, history=history)
        self._talks = [*self._talks, (told, talk)][-MOST_CONVERSATIONS:]
        return talk


@contextlib.contextmanager
def told_to_clients() -> Iterator[None]:
    """What is wrong with a message is told to who sent it; a disk that fails is no matter of the client's."""
    try:
        yield
    except (RequestError, ModelError, DataError):
        raise
    except OSError as error:
        raise ToolkitError(f"{error.filename or 'the store'}: {error.strerror or error}") from None
    except ToolkitError as error:
        raise RequestError(str(error), parameter="messages") from None


def _conversation(request: Request) -> tuple[str, list[Exchange], str]:
    """What the client says as system, what was said before, and what is said now."""
    if request.prompt is not None:
        raise RequestError("the companion answers messages: ask /v1/chat/completions, or /api/chat")
    if request.tools or any(message.calls or message.role == "tool" for message in request.messages):
        raise RequestError("the companion calls no tools; leave them out", parameter="tools")
    if request.schema is not None:
        raise RequestError("the companion answers in text; leave the format out", parameter="response_format")
    told = "\n\n".join(m.content for m in request.messages if m.role == "system" and m.content.strip())
    spoken = [message for message in request.messages if message.role != "system"]
    if not spoken or spoken[-1].role != "user":
        raise RequestError("the last message must be the user's", parameter="messages")
    return told, _exchanges(spoken[:-1]), spoken[-1].content


def _exchanges(messages: Sequence[Message]) -> list[Exchange]:
    """Messages of one side that follow one another are one."""
    found: list[tuple[list[str], list[str]]] = []
    for message in messages:
        if not found or (message.role == "user" and found[-1][1]):
            found.append(([], []))
        found[-1][message.role == "assistant"].append(message.content)
    return [Exchange("\n\n".join(said), "\n\n".join(answer)) for said, answer in found]


def _plain(history: Sequence[Exchange]) -> list[tuple[str, str]]:
    return [(exchange.said.strip(), exchange.answer.strip()) for exchange in history]


def _sampling(options: Options, own: Sampling) -> Sampling:
    """A client may ask for a shorter answer, another temperature, and a seed."""
    for name, neutral in _NEUTRAL.items():
        if getattr(options, name) not in (None, neutral):
            raise RequestError(f"{name} is not supported; leave it out", 400, "unsupported_parameter", name)
    if options.stop:
        raise RequestError("stop is not supported; leave it out", 400, "unsupported_parameter", "stop")
    return Sampling(
        min(options.max_tokens or own.max_tokens, own.max_tokens),
        own.temperature if options.temperature is None else min(options.temperature, 2.0),
        None if options.seed is None else options.seed % (1 << 32),
    )


def _with_answers(companion: Companion, turns: Sequence[str]) -> list[str]:
    """An answer says again what it answers."""
    gone = set(turns)
    asked: dict[str, str] = {}
    for event in companion.log.read():
        body = event.body
        if not isinstance(body, Turn):
            continue
        if body.role == "user":
            asked[body.conversation] = event.id
        elif asked.get(body.conversation) in gone:  # each answer to it, if another was asked for
            gone.add(event.id)
    return sorted(gone)
