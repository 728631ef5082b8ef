"""What a user thinks of an answer, from outside of the chat."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from device_sim.companion.events import Event, Feedback, Redacted, Turn
from device_sim.companion.log import EventLog
from device_sim.companion.privacy.filter import Filter
from device_sim.companion.store import hold_store
from personality_common.errors import ConfigError, DataError

LAST: Final = "last"
EDITED: Final = -0.3
"""Reward of an answer that had to be edited, as `grpo.events` has it."""


def judge(
    store: Path, turn: str, *, reward: float | None = None, edit: str | None = None, thumbs: bool = False
) -> str:
    """Note a reward for an answer, or what it should have been.

    Args:
        turn: id of an answer that was kept, or LAST.
        thumbs: the reward was given as one.

    Returns:
        The answer's id.

    Raises:
        ConfigError: a reward out of range, or a blank edit.
        DataError: there is no such answer.
    """
    if reward is not None and not -1 <= reward <= 1:
        raise ConfigError(f"--reward must be from -1 to 1, got {reward:g}")
    if edit is not None and not edit.strip():
        raise ConfigError("--edit must have a text, got none")
    with hold_store(store) as held, EventLog(held.events) as log:
        found = find_answer(log, turn)
        if found is None:
            raise DataError(
                f"{store}: --turn must be {LAST} or the id of an answer that was kept, is {turn!r:.80}"
            )
        if edit is not None:
            redaction = Filter("mask").redact(edit)
            if redaction.counts:
                # First, so that no kill leaves an edit that names a person without a word of it.
                log.append(Redacted(found.id, redaction.counts), found.user)
            log.append(Feedback(found.id, EDITED, "edit", redaction.text), found.user)
        else:
            assert reward is not None
            log.append(Feedback(found.id, reward, "thumbs" if thumbs else "reward"), found.user)
        return found.id


def find_answer(log: EventLog, turn: str) -> Event | None:
    """The answer of an id, or the LAST, if it was kept and is not forgotten."""
    found: Event | None = None
    for event in log.read():
        body = event.body
        if isinstance(body, Turn) and body.role == "assistant" and not body.forgotten:
            found = event if turn in (LAST, event.id) else found
    return found
