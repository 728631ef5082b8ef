"""Conversations of a file -> turns of a log, through the privacy filter, each once however often it is asked.

A conversation goes by a hash of its tool and its name there. What is in the log of it already, forgotten
turns too, is not written again: so an import that was killed goes on, a newer export adds what was said
since, and what was forgotten stays so. One whose beginning differs from the log's is another.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Final

from device_sim.companion.config import ImportConfig
from device_sim.companion.events import MAX_LINE_BYTES, Route, Turn
from device_sim.companion.keeping import Keepable, keep, keepable
from device_sim.companion.log import EventLog
from device_sim.companion.memory.imports.formats import Conversation, read_conversations
from device_sim.companion.memory.upkeep import open_memory
from device_sim.companion.privacy.filter import Filter
from device_sim.companion.privacy.tags import take_tags
from device_sim.companion.routing import Routed, route_of, routing
from device_sim.companion.store import hold_store
from personality_common.printable import counted
from personality_common.terminal.progress import Reporter
from personality_common.text.identity import Encoder

LONGEST: Final = MAX_LINE_BYTES // 8
"""Bytes of a message: in JSON a byte may take six."""


@dataclass
class Imported:
    """What an import did.

    Attributes:
        conversations, turns: that were written.
        known: conversations of which nothing was new.
        left_out: turns, by reason.
        formats: conversations in the file, by its format.
    """

    conversations: int = 0
    turns: int = 0
    known: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        counts = {"conversations": self.conversations, "turns": self.turns, "known": self.known}
        return counts | {"left_out": dict(self.left_out), "formats": dict(self.formats)}

    def __str__(self) -> str:
        read = ", ".join(
            f"{counted(n, 'conversation')} of {name}" for name, n in sorted(self.formats.items())
        )
        said = [f"read {read or 'no conversation'}"]
        said += [f"imported {counted(self.turns, 'turn')} of {counted(self.conversations, 'conversation')}"]
        said += [f"{counted(self.known, 'conversation')} had nothing new"] if self.known else []
        said += [f"{n:,} left out: {why}" for why, n in sorted(self.left_out.items())]
        return "; ".join(said)


def import_file(config: ImportConfig, encoder: Encoder, reporter: Reporter) -> Imported:
    """Put the conversations of a file into a store's log, and remember them.

    Raises:
        DataError: the file is damaged, or of no format that is known; nothing was written.
        ToolkitError: another process has the store.
    """
    for _ in read_conversations(config.file):
        pass  # to its end, before anything is written
    with hold_store(config.store, create=True) as held, EventLog(held.events) as log:
        found = read_conversations(config.file)
        done = import_conversations(found, log, Filter(config.redact), config.user)
        route_imported(log, routing(lambda: encoder, reporter), config.user)
        memory, _ = open_memory(held.memory, log, lambda: encoder, embeds=True)
        memory.close()
    return done


def import_conversations(
    conversations: Iterable[Conversation],
    log: EventLog,
    filter: Filter,
    user: str,
) -> Imported:
    """Write to the log what is not in it yet.

    Raises:
        DataError: as the conversations' reader; what came before stays.
        OSError: no space; what was written stays, and the next import goes on behind it.
    """
    known = _known(log, user)
    done = Imported()
    for conversation in conversations:
        done.formats[conversation.source] += 1
        turns = _turns(conversation, filter, done.left_out)
        name, here = next(
            (name, here)
            for number in count()
            if _goes_on(turns, here := known.get(name := _hash(conversation, number), []))
        )
        new = turns[len(here) :]
        for kept, time in new:
            kept = kept._replace(turn=replace(kept.turn, conversation=name))
            keep(log, kept, user, time)
            known.setdefault(name, []).append((kept.turn.role, kept.turn.text))
        done.turns += len(new)
        done.conversations += bool(new)
        done.known += bool(here) and not new
    return done


def route_imported(log: EventLog, route: Callable[[str], Routed | None], user: str) -> None:
    """Log of each imported message of the user that has no route where it goes to be learned."""
    waiting: dict[str, str] = {}
    for event in log.read():
        body = event.body
        if isinstance(body, Route):
            waiting.pop(body.turn, None)
        elif isinstance(body, Turn) and body.source != "chat" and body.role == "user" and event.user == user:
            waiting[event.id] = body.text or ""
    for turn, text in waiting.items():
        found = route_of(turn, route(text)) if text else None
        if found is not None:
            log.append(found, user)


def _known(log: EventLog, user: str) -> dict[str, list[tuple[str, str | None]]]:
    """Conversation -> role and text of its turns, None where it was forgotten."""
    known: dict[str, list[tuple[str, str | None]]] = {}
    for event in log.read():
        body = event.body
        if isinstance(body, Turn) and body.source != "chat" and event.user == user:
            known.setdefault(body.conversation, []).append((body.role, body.text))
    return known


def _hash(conversation: Conversation, number: int) -> str:
    """Its name in the log; by `number`, others that go by the same name in their tool."""
    of = "\0".join((conversation.source, conversation.name, str(number)))
    return hashlib.sha256(of.encode(errors="replace")).hexdigest()[:16]


def _turns(
    conversation: Conversation,
    filter: Filter,
    left_out: Counter[str],
) -> list[tuple[Keepable, str | None]]:
    """What may be kept of a conversation, and when it was said. An answer has the tags of what it answers."""
    turns: list[tuple[Keepable, str | None]] = []
    tags: frozenset[str] | None = frozenset()
    for said in conversation.said:
        text, own = take_tags(said.text) if said.role == "user" else (said.text, frozenset())
        if said.role == "user":
            tags = own
        if tags is None:
            left_out["answers to what is not kept"] += 1
            continue
        if not text.strip() or len(text.encode()) > LONGEST:
            left_out["too long" if text.strip() else "blank"] += 1
            kept = None
        else:
            turn = Turn("", said.role, text, model=said.model, source=conversation.source)
            kept = keepable(turn, tags, filter)
            if kept is None:
                left_out["by the privacy filter"] += 1
        if kept is not None:
            turns.append((kept, said.time))
        if said.role == "user":
            tags = frozenset(kept.turn.tags) if kept else None
    return turns


def _goes_on(turns: Sequence[tuple[Keepable, str | None]], here: Sequence[tuple[str, str | None]]) -> bool:
    """Whether the turns are those of the log, and perhaps more; what was forgotten may have been anything."""
    return len(here) <= len(turns) and all(
        kept.turn.role == role and text in (None, kept.turn.text)
        for (kept, _), (role, text) in zip(turns, here, strict=False)
    )
