"""A store with days of talk in it, and words as vectors."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from device_sim.companion.events import Feedback, Route, Session, Tag, Turn, new_conversation
from device_sim.companion.log import EventLog
from device_sim.companion.store import hold_store

Way = Literal["adapter", "memory", "both", "neither"]


class Day:
    """Writes to a store's log as a chat would; within `with`, in one go."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._open = contextlib.ExitStack()
        self._log: EventLog | None = None

    def __enter__(self) -> Day:
        held = self._open.enter_context(hold_store(self.store, create=True))
        self._log = self._open.enter_context(EventLog(held.events))
        return self

    def __exit__(self, *_: object) -> None:
        self._log = None
        self._open.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[EventLog]:
        if self._log is not None:
            yield self._log
            return
        with hold_store(self.store, create=True) as held, EventLog(held.events) as log:
            yield log

    def talk(
        self,
        said: str,
        answer: str,
        *,
        edit: str | None = None,
        reward: float | None = None,
        route: Way | None = "adapter",
        tags: tuple[Tag, ...] = (),
        partial: bool = False,
        conversation: str | None = None,
        user: str = "default",
        mood: tuple[str, ...] = (),
        bundle: str | None = None,
    ) -> tuple[str, str]:
        """An exchange, in a conversation of its own unless it is named; returns the ids of its turns."""
        conversation = conversation or new_conversation()
        with self._writing() as log:
            if bundle is not None:
                log.append(Session(conversation, "tiny", bundle), user)
            asked = log.append(Turn(conversation, "user", said, tags=tags, mood=mood), user)
            answered = log.append(Turn(conversation, "assistant", answer, partial=partial, tags=tags), user)
            if route is not None:
                log.append(Route(asked.id, route, {route: 1.0}), user)
            if reward is not None:
                log.append(Feedback(answered.id, reward, "reward"), user)
            if edit is not None:
                log.append(Feedback(answered.id, -0.3, "edit", edit), user)
        return asked.id, answered.id

    def forget(self, *turns: str) -> None:
        with self._writing() as log:
            log.erase(turns)


@cache
def _vector(word: str) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(64)


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """(N, 64) sums of a random vector per word, normalized: texts that share most words are near."""
    rows = []
    for text in texts:
        row = np.zeros(64) + sum(_vector(word) for word in text.lower().split())
        rows.append(row / max(float(np.linalg.norm(row)), 1e-9))
    return np.asarray(rows, np.float32).reshape(len(texts), 64)
