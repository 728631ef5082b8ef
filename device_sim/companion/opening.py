"""A companion from its config: what takes long is loaded side by side, and only when it is needed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from device_sim.adapters.learned import LEARNED
from device_sim.companion.companion import Companion, Memory, Parts
from device_sim.companion.config import NO_ADAPTER, CompanionConfig
from device_sim.companion.events import Turn
from device_sim.companion.log import EventLog
from device_sim.companion.models.model import ChatModel, Sampling
from device_sim.companion.models.opening import open_model
from device_sim.companion.routing import routing
from device_sim.companion.store import hold_store
from personality_common.errors import DataError, MismatchError
from personality_common.files.bounded import read_bounded
from personality_common.printable import printable
from personality_common.terminal.progress import Reporter

if TYPE_CHECKING:
    from device_sim.companion.mood import BundleMood
    from personality_common.text.identity import Encoder

T = TypeVar("T")
LONGEST_CHARACTER: Final = 8 << 10
"""Bytes."""


@contextlib.contextmanager
def open_companion(config: CompanionConfig, reporter: Reporter) -> Iterator[Companion]:
    """Hold a store, and start a conversation on it.

    Raises:
        ToolkitError: another process has the store, or a part of the companion cannot be opened.
    """
    from device_sim.companion.privacy.filter import Filter
    from device_sim.companion.privacy.tags import take_tags

    character = _read_character(config.character) if config.character else None
    if config.bundle is not None:
        # Its packages load beside the first message; that it is one at all is known before a store is made.
        from personality_common.bundle.bundle import open_bundle
        from pretrain.personality.rules.family import PERSONALITY

        open_bundle(config.bundle, PERSONALITY)
    filter = Filter(config.redact)
    with (
        hold_store(config.store, create=True) as store,
        EventLog(store.events) as log,
        contextlib.ExitStack() as stack,
    ):
        if log.repaired is not None:
            reporter.warn(f"{store.path}: {_repaired(log)}")
        pool = stack.enter_context(ThreadPoolExecutor(1))
        mood = _later(pool, lambda: _open_mood(config, reporter)) if config.bundle else None
        if mood is None:
            reporter.say("no --bundle: the mood of what you write is not read")
        known = any(isinstance(event.body, Turn) and event.body.text for event in log.read())
        memory: Callable[[], Memory] | None = None
        encoder: Callable[[], Encoder] | None = mood
        if not config.no_memory:
            embedding: Callable[[], Encoder] = mood if mood else _later(pool, _load_encoder)
            encoder = embedding

            @cache
            def open_memory() -> Memory:
                from device_sim.companion.memory.upkeep import open_memory as level

                opened, mended = level(store.memory, log, embedding, embeds=True)
                stack.callback(opened.close)
                if mended.damage:
                    reporter.warn(f"{store.memory}: {mended}")
                return opened

            memory = open_memory
        model = _open_model(config)
        if on := getattr(model, "adapters", ()):
            reporter.say(f"adapter {', '.join(on)} is on; --adapter {NO_ADAPTER} answers without it")
        if not getattr(model, "is_local", True):
            reporter.warn(
                f"every message leaves this machine: it is sent to {config.model.partition('#')[0]}"
            )
        sampling = Sampling(config.max_tokens, config.temperature)
        route = routing(encoder, reporter) if encoder else None
        parts = Parts(model, filter, take_tags, memory, mood, character, sampling, route)
        yield Companion(log, parts, user=config.user, known=known)


def _open_model(config: CompanionConfig) -> ChatModel:
    if config.adapter is None:
        return open_model(config.model, threads=config.threads, store=config.store)
    adapter = None if config.adapter == NO_ADAPTER else Path(config.adapter)
    return open_model(config.model, threads=config.threads, adapter=adapter)


def _later(pool: ThreadPoolExecutor, load: Callable[[], T]) -> Callable[[], T]:
    """Begin to load in another thread; who calls waits for it."""
    future: Future[T] = pool.submit(load)
    return future.result


def _open_mood(config: CompanionConfig, reporter: Reporter) -> BundleMood:
    from device_sim.companion.mood import BundleMood
    from device_sim.heads.heads import has_learned

    assert config.bundle is not None
    if config.heads is None and has_learned(config.store / LEARNED):
        try:
            return BundleMood(config.bundle, config.store / LEARNED)
        except MismatchError as error:
            reporter.warn(f"{error}; the head that shipped reads the mood")
    return BundleMood(config.bundle, config.heads)


def _load_encoder() -> Encoder:
    from personality_common.text.encoder import load_encoder

    return load_encoder("minilm")


def _read_character(path: Path) -> str:
    try:
        text = read_bounded(path, LONGEST_CHARACTER, "a character").decode()
    except UnicodeDecodeError:
        raise DataError(f"{path}: a character must be UTF-8, is not") from None
    if not text.strip():
        raise DataError(f"{path}: a character must have a text, has none")
    return printable(text.strip())


def _repaired(log: EventLog) -> str:
    assert log.repaired is not None
    found = []
    if log.repaired.torn_bytes:
        found.append(f"an event that was not finished ({log.repaired.torn_bytes:,} bytes) was cut off")
    if log.repaired.forgotten:
        found.append(f"{log.repaired.forgotten} turns that were to be forgotten are forgotten now")
    return "; ".join(found)
