"""A fact's questions as they are asked by day: beside what is remembered."""

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
    texts = list(dict.fromkeys(item.told or item.said for item in known))
    if not facts or not texts:
        return [Prompted(item.said) for item in items]
    cosines = embed([item.said for item in facts]) @ embed(texts).T
    found = {}
    for item, row in zip(facts, cosines, strict=True):
        best = np.argsort(-row, kind="stable")[:MEMORIES]
        found[item.id] = Prompted(item.said, tuple(texts[i] for i in best), float(row[best[0]]))
    return [found.get(item.id, Prompted(item.said)) for item in items]
