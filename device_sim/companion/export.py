"""What was said, as others read it: conversations and preferences for a language model, moods for the head.

What is marked `no-train`, names a person, is obscene, was forgotten, or was broken off is in none; and of
a conversation, a question whose answer is not there is not either. An answer that was broken off and edited
is in the conversations: the edit is whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_sim.companion.events import Event, Feedback, Redacted, Route, Turn
from device_sim.companion.log import read_events
from device_sim.companion.privacy.findings import LIMITS
from device_sim.companion.store import open_store
from personality_common.files.atomic import atomic_writer


@dataclass(frozen=True)
class Pair:
    """A message and its answer, both to be learned from, with what the user thought of the answer.

    Attributes:
        rewards: the latest of each way to judge, by way: a changed mind counts once.
        edit: what the answer should have been; None: nobody said.
        route: of the message; None: it got none.
    """

    asked: Event
    answered: Event
    rewards: Mapping[str, float]
    edit: str | None
    route: str | None

    @property
    def reward(self) -> float | None:
        """The sum, from -1 to 1; None: nobody judged."""
        return max(-1.0, min(1.0, sum(self.rewards.values()))) if self.rewards else None


def trainable_pairs(events: Iterable[Event]) -> Iterator[Pair]:
    """Messages with their answers, in the order of the log; of those broken off, the edited ones."""
    found: list[tuple[Event, Event]] = []
    waiting: dict[str, Event] = {}
    asked_of: dict[str, Event] = {}
    judged: dict[str, dict[str, float]] = {}
    edits: dict[str, str | None] = {}
    limited: set[str] = set()
    routes: dict[str, str] = {}
    for event in events:
        body = event.body
        if isinstance(body, Feedback):
            judged.setdefault(body.turn, {})[body.how] = body.reward
            if body.how == "edit":
                edits[body.turn] = body.text
            elif body.how == "regenerate" and body.turn in asked_of:
                waiting[asked_of[body.turn].body.conversation] = asked_of[body.turn]  # type: ignore[union-attr]
        elif isinstance(body, Route):
            routes[body.turn] = body.route
        elif isinstance(body, Redacted):
            # Turns are marked; edits, which can be of an answer without a name, say it here alone.
            if LIMITS.keys() & body.counts.keys():
                limited.add(body.turn)
        elif isinstance(body, Turn):
            if body.role == "user":
                waiting[body.conversation] = event
            else:
                asked = waiting.pop(body.conversation, None)
                if asked is not None:
                    asked_of[event.id] = asked
                if asked is not None and _learnable(asked) and _learnable(event):
                    found.append((asked, event))
    for asked, answered in found:
        if _broken_off(answered) and not edits.get(answered.id):
            continue
        if not limited & {asked.id, answered.id}:
            yield Pair(
                asked, answered, judged.get(answered.id, {}), edits.get(answered.id), routes.get(asked.id)
            )


def conversations(events: Iterable[Event]) -> Iterator[dict[str, Any]]:
    """`{"messages": [{"role", "content"}, …]}` of each conversation, with edits in the place of answers.

    An answer that was judged below zero, or whose question belongs in no adapter by its route, is left out
    with its question, unless it was edited.
    """
    gathered: dict[str, list[dict[str, str]]] = {}
    for pair in trainable_pairs(events):
        asked, answered = pair.asked.body, pair.answered.body
        assert isinstance(asked, Turn)
        assert isinstance(answered, Turn)
        answer = pair.edit or answered.text
        if pair.edit is None and ((pair.reward or 0.0) < 0 or pair.route in ("memory", "neither")):
            continue
        gathered.setdefault(asked.conversation, []).extend(
            [{"role": "user", "content": asked.text or ""}, {"role": "assistant", "content": answer or ""}]
        )
    for messages in gathered.values():
        yield {"messages": messages}


def interactions(events: Iterable[Event]) -> Iterator[dict[str, Any]]:
    """Lines of a feedback file of `pt grpo`: what the user said, the mood that was read, what came of it.

    Whatever the route, which is the language model's: a mood is in small talk, too. An edit of an answer that
    was broken off says nothing of the mood.
    """
    for pair in trainable_pairs(events):
        asked = pair.asked.body
        assert isinstance(asked, Turn)
        if asked.mood and not _broken_off(pair.answered):
            candidate = {"tokens": list(asked.mood), "reward": pair.reward}
            yield {
                "id": pair.answered.id,
                "text": asked.text,
                "time": pair.asked.time,
                "candidates": [candidate],
            }


def preferences(events: Iterable[Event]) -> Iterator[dict[str, Any]]:
    """`{"prompt", "chosen", "rejected"}`, a message each, as TRL's trainers take them.

    Chosen are an edit over what it is of, and over each answer in whose place another was asked for the last,
    unless that was judged below zero.
    """
    by_message: dict[str, list[Pair]] = {}
    for pair in trainable_pairs(events):
        by_message.setdefault(pair.asked.id, []).append(pair)
    for pairs in by_message.values():
        last = pairs[-1]
        for pair in pairs:
            if pair.edit is not None:
                yield _preference(pair.asked, pair.edit, pair.answered)
            elif pair is not last and ((last.reward or 0.0) >= 0 or last.edit is not None):
                chosen = last.answered.body
                assert isinstance(chosen, Turn)
                yield _preference(pair.asked, last.edit or chosen.text or "", pair.answered)


def _preference(asked: Event, chosen: str, rejected: Event) -> dict[str, Any]:
    said, worse = asked.body, rejected.body
    assert isinstance(said, Turn)
    assert isinstance(worse, Turn)
    return {
        "prompt": [{"role": "user", "content": said.text}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": worse.text}],
    }


def write_messages(store: Path, out: Path) -> int:
    """Write conversations as JSONL, private; returns how many."""
    return _write(out, conversations(read_events(open_store(store).events)))


def write_interactions(store: Path, out: Path) -> int:
    """Write interactions as JSONL, private; returns how many."""
    return _write(out, interactions(read_events(open_store(store).events)))


def write_preferences(store: Path, out: Path) -> int:
    """Write preferences as JSONL, private; returns how many."""
    return _write(out, preferences(read_events(open_store(store).events)))


def _write(out: Path, lines: Iterable[dict[str, Any]]) -> int:
    count = 0
    with atomic_writer(out, private=True) as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            count += 1
    return count


def _learnable(event: Event) -> bool:
    turn = event.body
    assert isinstance(turn, Turn)
    there = not turn.forgotten and bool((turn.text or "").strip())
    whole = turn.role == "assistant" or not turn.partial
    return there and whole and "no-train" not in turn.tags


def _broken_off(answered: Event) -> bool:
    return isinstance(answered.body, Turn) and answered.body.partial
