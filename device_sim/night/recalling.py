"""Questions as they are asked by day: beside what is remembered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from device_sim.companion.companion import MEMORIES
from device_sim.night.data import Item
from device_sim.night.engine import Prompted
from device_sim.night.split import Embed


def recalled(items: Sequence[Item], known: Sequence[Item], embed: Embed) -> list[Prompted]:
    """Items as they are asked: of facts with the memories that are nearest to the question; talk alone.

    Memories are of what is trained, and of that alone: what is held out must not be seen, and what was
    forgotten is not there.

    Args:
        known: items that are trained.
    """
    facts = [item for item in items if item.kind == "fact"]
    asked = beside_known([item.said for item in facts], known, embed)
    found = {item.id: one for item, one in zip(facts, asked, strict=True)}
    return [found.get(item.id, Prompted(item.said)) for item in items]


def beside_known(asked: Sequence[str], known: Sequence[Item], embed: Embed) -> list[Prompted]:
    """Questions with the memories that are nearest to each, of what is trained."""
    texts = list(dict.fromkeys(item.told or item.said for item in known))
    if not asked or not texts:
        return [Prompted(said) for said in asked]
    found = []
    for said, row in zip(asked, embed(list(asked)) @ embed(texts).T, strict=True):
        best = np.argsort(-row, kind="stable")[:MEMORIES]
        found.append(Prompted(said, tuple(texts[i] for i in best), float(row[best[0]])))
    return found
