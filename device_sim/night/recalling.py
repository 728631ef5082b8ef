"""What is asked as it is by day: beside what is remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from device_sim.companion.companion import MEMORIES
from device_sim.companion.prompt import NEAR, is_question
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


def asked_for(prompts: Mapping[str, str], known: Sequence[Item], embed: Embed) -> dict[str, set[str]]:
    """Values that prompts may be said to ask for: by day what was told would be put before the question.

    "In which street do I live?" is near to "I live in Graz.", and "Graz" in its answer tells nothing that the
    memory would not; "What is the capital of France?" is not near.

    Args:
        prompts: name -> what is asked.

    Returns:
        Name -> values of facts among `known`, where there are any.
    """
    facts = {(item.told or item.said, item.value) for item in known if item.value}
    asked = {name: text for name, text in prompts.items() if is_question(text)}
    if not facts or not asked:
        return {}
    told = sorted(facts)
    near = embed(list(asked.values())) @ embed([text for text, _ in told]).T >= NEAR
    found = {
        name: {value for (_, value), is_near in zip(told, row, strict=True) if is_near}
        for name, row in zip(asked, near, strict=True)
    }
    return {name: values for name, values in found.items() if values}
