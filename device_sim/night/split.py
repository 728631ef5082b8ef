"""What a night trains on, and what it must never see: by conversation and by near-duplicate.

Two items are of one group if they share a conversation, a turn, or nearly their message,
however far the chain goes; a group is never divided. What was held out once stays held out for good.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from device_sim.night.data import Item
from device_sim.night.gate.config import GateConfig

Embed: TypeAlias = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts -> (N, width), L2-normalized."""
NEAR: Final = 0.9
"""Cosine of two messages from which they are one group: lower than where the memory sees one."""
HELD_OUT: Final = 0.25
"""Of a night's new items; or as many as the gate needs, if that is no more than half."""
VALIDATED: Final = 0.125
"""Of what is left: where training stops is chosen on them, so they judge nothing."""


@dataclass(frozen=True)
class Split:
    """Ids of items, in the order of the log.

    Attributes:
        train: what the weights are fitted to.
        validation: on which the best step is chosen; trained on another night.
        held_out: of this night, and for good from now on.
        earlier: held out by earlier nights, and still there.
        recall: a wording of each fact whose other wordings are trained.
        left_out: too near to what is held out.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()
    recall: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def split(
    items: Sequence[Item],
    embed: Embed,
    *,
    held_out: Collection[str],
    trained: Collection[str],
    seed: int,
) -> Split:
    """Divide items; the same seed and the same items give the same split.

    Args:
        held_out: ids that earlier nights held out.
        trained: ids that earlier nights trained on, which no longer can be held out.
    """
    chats = [item for item in items if item.kind == "chat"]
    facts = [item for item in items if item.kind == "fact"]
    before = set(held_out)
    groups = group(chats, embed)
    fresh = [g for g in groups if not before & {i.id for i in g} and not set(trained) & {i.id for i in g}]
    chosen = {item.id for g in _drawn(fresh, seed) for item in g}
    near = {item.id for g in groups if before & {i.id for i in g} for item in g} - before
    rest = [i for i in chats if i.id not in before | near | chosen]
    checked = _validation(group(rest, embed), seed)
    near |= _near([i for i in facts if not i.recall], [i for i in chats if i.id in before | chosen], embed)
    train = [i.id for i in rest if i.id not in checked]
    train += [i.id for i in facts if not i.recall and i.id not in near]
    return Split(
        train=tuple(train),
        validation=tuple(i.id for i in rest if i.id in checked),
        held_out=tuple(i.id for i in chats if i.id in chosen),
        earlier=tuple(i.id for i in chats if i.id in before),
        recall=tuple(i.id for i in facts if i.recall),
        left_out=tuple(i.id for i in (*chats, *facts) if i.id in near),
    )


def group(items: Sequence[Item], embed: Embed) -> list[list[Item]]:
    """Items that must stay together, each list in the order of the log."""
    parent = list(range(len(items)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(pairs: Iterable[tuple[int, int]]) -> None:
        for a, b in pairs:
            first, second = sorted((root(a), root(b)))
            parent[second] = first

    seen: dict[tuple[str, str], int] = {}
    for i, item in enumerate(items):
        for key in (("conversation", item.conversation), *(("turn", turn) for turn in item.turns)):
            join([(seen.setdefault(key, i), i)])
    if items:
        vectors = embed([item.said for item in items])
        for start in range(0, len(items), 1024):
            block = vectors[start : start + 1024] @ vectors.T
            rows, columns = np.nonzero(block >= NEAR)
            join((int(r) + start, int(c)) for r, c in zip(rows, columns, strict=True))
    groups: dict[int, list[Item]] = {}
    for i, item in enumerate(items):
        groups.setdefault(root(i), []).append(item)
    return list(groups.values())


def _near(items: Sequence[Item], others: Sequence[Item], embed: Embed) -> set[str]:
    """Ids of items whose message is nearly one of others."""
    if not items or not others:
        return set()
    cosines = embed([i.said for i in items]) @ embed([i.said for i in others]).T
    return {item.id for item, best in zip(items, cosines.max(axis=1), strict=True) if best >= NEAR}


def _drawn(groups: Sequence[list[Item]], seed: int) -> list[list[Item]]:
    """Groups in an order of their own until they have a share of the items; none that has far more."""
    count = sum(map(len, groups))
    wanted = max(math.ceil(HELD_OUT * count), min(GateConfig().least_examples, count // 2))
    chosen: list[list[Item]] = []
    for one in sorted(groups, key=lambda g: _rank(g, seed, "held out")):
        if wanted <= 0:
            break
        if len(one) <= 2 * wanted:
            chosen.append(one)
            wanted -= len(one)
    return chosen


def _validation(groups: Sequence[list[Item]], seed: int) -> set[str]:
    wanted = int(VALIDATED * sum(map(len, groups)))
    found: set[str] = set()
    for one in sorted(groups, key=lambda g: _rank(g, seed, "validation")):
        if len(found) + len(one) <= wanted:
            found |= {item.id for item in one}
    return found


def _rank(items: Sequence[Item], seed: int, what: str) -> str:
    return hashlib.sha256(f"{seed} {what} {items[0].id}".encode()).hexdigest()
