"""Whether there is a night to live: what is new, what must be unlearned, what was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from device_sim.adapters.learned import LEARNED
from device_sim.companion.log import read_events
from device_sim.companion.store import Store
from device_sim.night.config import NightConfig
from device_sim.night.data import Collected, collect
from device_sim.night.engine import Engine
from device_sim.night.gate.evidence import GateState
from device_sim.night.listening import Listener, require_own
from device_sim.night.measuring import suites
from device_sim.night.reactions import reactions
from device_sim.night.state import (
    AFTER_FILE,
    BEFORE_FILE,
    STEPS,
    Night,
    Settings,
    discard,
    folder_of,
    read_nights,
    versions_that_saw,
    write_night,
)
from personality_common.errors import ConfigError
from personality_common.registry.pointers import holds_kind
from personality_common.registry.record import now
from personality_common.registry.registry import Registry
from personality_common.terminal.progress import Reporter

REMOVED: Final = "removed, since they may quote what was forgotten"


def begin(
    config: NightConfig, store: Store, engine: Engine, listener: Listener | None, reporter: Reporter
) -> Night | None:
    """The night to live, on the disk; None: there is nothing to learn, and nothing to unlearn.

    A night that was stopped after its gate goes on; before that with `resume` alone, and if nothing of it was
    forgotten since: what its candidate learned could not be told from the rest.

    Raises:
        ConfigError: there is none to go on with.
        MismatchError: the store's heads are of another bundle than the one that is given.
    """
    suites(config.suite)  # one that cannot be read is better said now than after the baseline
    heads = stored_heads(store)
    if heads is not None:
        require_own(heads, listener)
    nights = read_nights(store.path)
    stopped = nights[-1] if nights and nights[-1].step != "done" else None
    if stopped is not None:
        seen = {*stopped.turns, *(stopped.head.saw if stopped.head else ())}
        gone = collect(read_events(store.events), stopped.settings.user).forgotten & seen
        decided = STEPS.index(stopped.step) > STEPS.index("gate")
        if decided or (config.resume and not gone):
            reporter.say(f"{stopped.name} was stopped before its step {stopped.step!r} and goes on")
            return stopped
        why = "something of it was forgotten since" if gone else "--resume would have gone on with it"
        reporter.say(f"{stopped.name} was stopped before its step {stopped.step!r} and begins anew: {why}")
        discard(store.path, stopped.number)
        nights.pop()
    elif config.resume:
        raise ConfigError(f"{store.path}: --resume must have a night that was stopped, there is none")
    data = collect(read_events(store.events), config.user)
    forget_answers(store, nights, data.forgotten)
    registries = (engine.registry(store.path, create=False), heads)
    unclean = [v for registry in registries for v in unclean_versions(nights, data.forgotten, registry)]
    new = new_items(nights, data)
    if not new and not unclean and not _news_for_the_head(config, store, nights, listener, data.forgotten):
        for why, count in data.left_out.items():
            reporter.say(f"left out: {count}, {why}")
        return None
    settings = Settings(
        config.model, config.user, config.suite, config.budget_minutes, config.seed, config.threads,
        None if config.bundle is None else str(config.bundle), config.augment,
    )  # fmt: skip
    night = Night(
        nights[-1].number + 1 if nights else 1, "head", now(), settings, engine.base, data.until,
        dict(data.left_out), new, unclean=tuple(unclean), gate=nights[-1].gate if nights else GateState(),
    )  # fmt: skip
    write_night(store.path, night)
    return night


def stored_heads(store: Store) -> Registry[Any] | None:
    """Versions of the store's head; None: there are none."""
    from device_sim.heads.heads import HEADS

    folder = store.path / LEARNED
    return Registry(folder, HEADS) if holds_kind(folder, HEADS.kind) else None


def _news_for_the_head(
    config: NightConfig,
    store: Store,
    nights: Sequence[Night],
    listener: Listener | None,
    forgotten: frozenset[str],
) -> bool:
    """Whether there are reactions that no head was made of, or a head must be made without some."""
    if listener is None:
        return False
    found = reactions(read_events(store.events), config.user, listener.bundle, listener.tokens)
    return bool(found.by_night(nights)[1]) or must_be_made_anew(nights, forgotten)


def must_be_made_anew(nights: Sequence[Night], forgotten: frozenset[str]) -> bool:
    """Whether the last head was made of something that was forgotten since."""
    heads = [night.head for night in nights if night.head is not None]
    return any(head.version for head in heads) and bool(forgotten & set(heads[-1].saw))


def new_items(nights: Sequence[Night], data: Collected) -> tuple[str, ...]:
    """Ids of items that no night has divided yet."""
    seen: set[str] = set()
    for night in nights:
        parts = night.split
        seen.update(
            parts.train, parts.validation, parts.held_out, parts.earlier, parts.recall, parts.left_out
        )
    return tuple(item.id for item in data.items if item.id not in seen)


def unclean_versions(
    nights: Sequence[Night], forgotten: frozenset[str], registry: Registry[Any] | None
) -> list[str]:
    """Versions of a registry that can still be activated, and saw what was forgotten since."""
    if registry is None:
        return []
    blocked = registry.pointers().blocked
    there = {version.version for version in registry.versions()} - blocked.keys()
    return [version for version in versions_that_saw(nights, forgotten) if version in there]


def forget_answers(store: Store, nights: Sequence[Night], forgotten: frozenset[str]) -> None:
    """Remove answers of nights that saw what was forgotten, what quotes them, and the taste that was seen."""
    for night in nights:
        kept = night
        if forgotten & set(night.turns):
            for name in (BEFORE_FILE, AFTER_FILE):
                (folder_of(store.path, night.number) / name).unlink(missing_ok=True)
            kept = replace(night, reasons=(REMOVED,) if night.reasons else ())
        if night.head is not None and forgotten & set(night.head.saw):
            kept = replace(kept, head=replace(night.head, more=(), less=()))
        if kept != night:
            write_night(store.path, kept)
