"""A conversation: each turn is read, filtered, remembered, answered and logged, in that order.

What the user wrote goes to the model as it is, and to the disk only through the privacy filter. The user's
turn is on the disk before the model is asked, the answer, whole or broken off, before `answer` ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from device_sim.companion.events import (
    DEFAULT_USER,
    Event,
    Feedback,
    Route,
    Session,
    Turn,
    new_conversation,
)
from device_sim.companion.keeping import Filter, Keepable, keep, keepable
from device_sim.companion.log import EventLog
from device_sim.companion.memory.sayings import Known, is_small_talk, plain
from device_sim.companion.models.model import ChatModel, Sampling
from device_sim.companion.prompt import SYSTEM, Exchange, Prompt, build_prompt
from device_sim.companion.routing import Routed, route_of
from personality_common.errors import ToolkitError

MEMORIES: Final = 5
"""In a prompt at most."""
AGAIN: Final = -1.0
"""Reward of an answer in whose place another was asked for, as `grpo.events` has it."""


class Hit(Protocol):
    """Something that was remembered."""

    @property
    def chunk_id(self) -> Any: ...
    @property
    def text(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def turn_id(self) -> str: ...
    @property
    def score(self) -> float: ...


class Memory(Protocol):
    """What was said before, to be found again."""

    def search(self, query: str, user: str, k: int) -> Sequence[Hit]: ...
    def add(
        self, turn_id: str, text: str, user: str, time: str, role: str, tags: Collection[str] = ()
    ) -> None: ...
    def forget(self, turn_ids: Collection[str]) -> int: ...
    def audit(self, user: str | None = None) -> Sequence[Known]: ...


class Mood(Protocol):
    """Reads the mood of a text; see `mood.BundleMood`."""

    bundle: str
    head: str | None

    def read(self, text: str) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Parts:
    """What a companion is made of.

    Attributes:
        take_tags: a text -> without its tags, and those: `no-train`, `no-memory`, `off-record`.
        memory: opened when it is first needed, which is not before the first answer where nothing is known;
            None: nothing is remembered.
        mood: as `memory`; None: no mood is read.
        character: a block for the system prompt.
        route: of a text as it is kept; None, or where it gives None: turns get no route.
    """

    model: ChatModel
    filter: Filter
    take_tags: Callable[[str], tuple[str, frozenset[str]]]
    memory: Callable[[], Memory] | None = None
    mood: Callable[[], Mood] | None = None
    character: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    route: Callable[[str], Routed | None] | None = None


@dataclass
class _Asked:
    """The last message.

    Attributes:
        hits: the memories that were found for it.
        event: it, as it was kept.
        turns: ids of it and its answers.
        answered: with its last answer; None: that said nothing.
    """

    said: str
    hits: Sequence[Hit]
    event: Event | None
    turns: tuple[str, ...]
    answered: Exchange | None = None


class Companion:
    """One conversation of one user, on a log that the caller holds.

    Attributes:
        conversation: its name.
        mood: of the last message; `head`: version of the head that read it, None: the one that shipped.
        prompt: of the last answer; `recalled`: the memories in it.
        turns: ids of the last message and its answer, as far as they were kept.
        kept: the last message as it was kept, with what was found in it; None: not at all.
        cut_off: the last answer ended since it was as long as one may be.
    """

    def __init__(
        self,
        log: EventLog,
        parts: Parts,
        *,
        user: str = DEFAULT_USER,
        known: bool = True,
        history: Sequence[Exchange] = (),
    ) -> None:
        """
        Args:
            known: whether there may be something to remember; False spares the first turn the wait for it.
            history: what was said before, for the prompt alone: nothing of it is kept.
        """
        self.log, self.parts, self.user = log, parts, user
        self.conversation = new_conversation()
        self.mood: tuple[str, ...] = ()
        self.head: str | None = None
        self.prompt: Prompt | None = None
        self.recalled: tuple[str, ...] = ()
        self.turns: tuple[str, ...] = ()
        self.kept: Keepable | None = None
        self.cut_off = False
        self._known = known
        self._began = False
        self._asked: _Asked | None = None
        self._history: list[tuple[Exchange, tuple[str, ...]]] = [(exchange, ()) for exchange in history]
        """Exchanges with the ids of their turns."""

    def answer(self, text: str) -> Generator[str, None, None]:
        """Answer a message, piece by piece; closing the iterator, or an exception, breaks the answer off.

        Raises:
            ToolkitError: the message is blank or too long, which leaves no trace; or the model stopped, and
                what it had said is kept.
        """
        said, tags = self.parts.take_tags(text)
        if not said.strip():
            raise ToolkitError("a message must have a character that is not a space or of a tag")
        mood = self.parts.mood() if self.parts.mood else None
        self.mood = mood.read(said) if mood else ()
        hits = self._search(said)
        self.prompt = self._build(said, hits)
        self.head = mood.head if mood else None
        asked = self._keep(Turn(self.conversation, "user", said, head=self.head, mood=self.mood), tags)
        self._asked = _Asked(said, hits, asked, (asked.id,) if asked else ())
        yield from self._speak(self._asked)

    def again(self) -> Generator[str, None, None]:
        """Answer the last message once more, as `answer` does; the answer before is judged by it, and leaves
        the prompt.

        Raises:
            ToolkitError: there is no such message, or it was forgotten; and as `answer`.
        """
        asked = self._asked
        if asked is None:
            raise ToolkitError("there must be a message to answer again, is none")
        before = None
        if asked.answered is not None and self._history[-1][0] is asked.answered:
            before, _ = self._history.pop()
        self.prompt = self._build(asked.said, asked.hits)
        if len(asked.turns) > 1:
            self.log.append(Feedback(asked.turns[-1], AGAIN, "regenerate"), self.user)
        yield from self._speak(asked, before)

    def _build(self, said: str, hits: Sequence[Hit]) -> Prompt:
        return build_prompt(
            self.parts.model,
            said,
            room=self.parts.model.context_length - self.parts.sampling.max_tokens,
            system=self._system(),
            mood=self.mood,
            memories=[hit.text for hit in hits],
            score=hits[0].score if hits else 0.0,
            history=self.history,
        )

    def _speak(self, asked: _Asked, before: Exchange | None = None) -> Generator[str, None, None]:
        """What the model answers, and what is kept of it.

        Args:
            before: what stays in the prompt if nothing is said now.
        """
        assert self.prompt is not None
        hits = asked.hits[: self.prompt.memories]
        self.recalled = tuple(hit.text for hit in hits)
        spoken: list[str] = []
        end = None
        try:
            for piece in self.parts.model.stream(self.prompt.messages, self.parts.sampling):
                spoken.append(piece.text)
                end = piece.end
                yield piece.text
        finally:
            answer = "".join(spoken)
            turn = Turn(
                self.conversation,
                "assistant",
                answer,
                partial=end != "done",
                model=self.parts.model.name,
                memories=tuple(str(hit.chunk_id) for hit in hits),
            )
            event, first = asked.event, len(asked.turns) < 2
            # With the tags that it was kept with: an answer to what names a person is about that person.
            answered = self._keep(turn, event.body.tags) if event and isinstance(event.body, Turn) else None
            if answered:
                asked.turns = (*asked.turns, answered.id)
            self.turns = asked.turns
            self.cut_off = end == "limit"
            asked.answered = Exchange(asked.said, answer) if answer.strip() else before
            if asked.answered:
                self._history.append((asked.answered, self.turns))
            # After the answer, which does not wait for it.
            route = self._route(event) if first else None
            for one in (event if first else None, answered):
                self._remember(one, route)

    @property
    def history(self) -> tuple[Exchange, ...]:
        """What was said so far, with the answers."""
        return tuple(exchange for exchange, _ in self._history)

    def rate(self, reward: float) -> None:
        """Judge the last answer, from -1 to 1.

        Raises:
            ToolkitError: there is none that was kept.
        """
        self.log.append(Feedback(self._last()[-1], reward, "thumbs"), self.user)

    def forget(self, turns: Sequence[str] | None = None) -> int:
        """Forget turns; None: the last exchange. Returns how many lost their text.

        Raises:
            ToolkitError: there is no such exchange, or what is given is no id.
        """
        gone = list(turns if turns is not None else self._last())
        self.leave_out(gone)
        count = self.log.erase(gone, self.user)
        if self.parts.memory:
            self.parts.memory().forget(gone)
        return count

    def leave_out(self, turns: Collection[str]) -> None:
        """Let turns not stand in a prompt any more."""
        self._history = [(e, ids) for e, ids in self._history if not set(ids) & set(turns)]
        if self._asked and set(self._asked.turns) & set(turns):
            self._asked = None

    def memories(self, query: str, most: int = 10) -> Sequence[Hit]:
        """What is remembered that has to do with a text."""
        return self.parts.memory().search(query, self.user, most) if self.parts.memory else ()

    def _system(self) -> str:
        own = self.parts.model.system or SYSTEM
        return f"{own}\n\n{self.parts.character}" if self.parts.character else own

    def _last(self) -> tuple[str, ...]:
        if not self._history or not self._history[-1][1]:
            raise ToolkitError("there must be an answer that was kept, is none yet")
        return self._history[-1][1]

    def _search(self, said: str) -> Sequence[Hit]:
        if self.parts.memory is None or not self._known:
            return ()
        hits = self.parts.memory().search(said, self.user, 3 * MEMORIES)
        here = {id for _, ids in self._history for id in ids}
        again = plain(said)
        # What models said is no fact, what was said just now stands in the prompt anyway, and a question that
        # was asked before, found first since nothing is nearer, does not answer it.
        return [
            hit for hit in hits if hit.role == "user" and hit.turn_id not in here and plain(hit.text) != again
        ][:MEMORIES]

    def _keep(self, turn: Turn, tags: Collection[str]) -> Event | None:
        """Log a turn as it may be kept; None: not at all."""
        kept = keepable(turn, tags, self.parts.filter)
        if turn.role == "user":
            self.kept = kept
        if kept is None:
            return None
        if not self._began:
            mood = self.parts.mood() if self.parts.mood else None
            bundle, head = (mood.bundle, mood.head) if mood else (None, None)
            self.log.append(Session(self.conversation, self.parts.model.name, bundle, head), self.user)
            self._began = True
        return keep(self.log, kept, self.user)

    def _route(self, asked: Event | None) -> Route | None:
        """Log where a user's turn goes to be learned; None: nobody knows."""
        if asked is None or self.parts.route is None or not isinstance(asked.body, Turn):
            return None
        route = route_of(asked.id, self.parts.route(asked.body.text or ""))
        if route is not None:
            self.log.append(route, self.user)
        return route

    def _remember(self, event: Event | None, route: Route | None) -> None:
        if event is None or self.parts.memory is None or not isinstance(event.body, Turn):
            return
        if route is not None and event.id == route.turn and is_small_talk(route):
            return
        turn = event.body
        if "no-memory" not in turn.tags and turn.text:
            self.parts.memory().add(event.id, turn.text, self.user, event.time, turn.role, turn.tags)
            self._known = True
