"""What a night would do: read, divided, counted, and nothing touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from device_sim.companion.log import read_events
from device_sim.companion.store import Store, open_store
from device_sim.night.beginning import new_items
from device_sim.night.data import Collected, Item, collect
from device_sim.night.gate.config import GateConfig
from device_sim.night.general import replayed, restyled
from device_sim.night.listening import Listener
from device_sim.night.reactions import reactions
from device_sim.night.split import Embed, Split, split
from device_sim.night.state import Night, read_nights, versions_that_saw


@dataclass(frozen=True)
class Outlook:
    """A night before it.

    Attributes:
        stopped: a night that was not finished.
        new: how many examples no night has seen.
        split: of all that is live.
        items: by id.
        left_out: reason -> turns.
        replay: prompts of nobody's that would be trained, too.
        unclean: versions that saw what was forgotten since.
        enough: whether what is held out would do to judge by.
        augment: questions that the base would word itself, at most.
        reactions: how many would be new to the head, and how many are live; None: no bundle is given.
    """

    stopped: Night | None
    new: int
    split: Split
    items: Mapping[str, Item]
    left_out: Mapping[str, int]
    replay: int
    unclean: tuple[str, ...]
    enough: bool
    reactions: tuple[int, int] | None = None
    augment: int = 0


def outlook(
    store: Path, user: str, seed: int, embed: Embed, listener: Listener | None = None, augment: int = 0
) -> Outlook:
    """Look ahead, without the store's lock: what somebody is just saying may be missing.

    Raises:
        DataError: no store, or a damaged one.
    """
    found = open_store(store)
    nights = read_nights(store)
    stopped = nights.pop() if nights and nights[-1].step != "done" else None
    data = collect(read_events(found.events), user)
    divided = split_of(nights, data, seed, embed)
    items = {item.id: item for item in data.items}
    train = [items[id] for id in divided.train]
    new = set(new_items(nights, data))
    facts = any(item.kind == "fact" for item in train)
    judged = len(divided.held_out) + sum(id in new for id in divided.recall)
    return Outlook(
        stopped,
        len(new),
        divided,
        items,
        data.left_out,
        len(replayed(restyled(train), facts)),
        tuple(versions_that_saw(nights, data.forgotten)),
        judged >= GateConfig().least_examples and bool(train),
        None if listener is None else _reactions(found, user, nights, listener),
        augment if facts else 0,
    )


def _reactions(store: Store, user: str, nights: list[Night], listener: Listener) -> tuple[int, int]:
    heard = reactions(read_events(store.events), user, listener.bundle, listener.tokens)
    return len(heard.by_night(nights)[1]), len(heard.live)


def split_of(nights: list[Night], data: Collected, seed: int, embed: Embed) -> Split:
    """The split of a night after these."""
    return split(
        data.items,
        embed,
        held_out={id for night in nights for id in night.split.held_out},
        trained={id for night in nights for id in (*night.split.train, *night.split.validation)},
        seed=seed,
    )
