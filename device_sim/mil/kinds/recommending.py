"""Item similarity. Source: ItemSimilarityRecommender.proto (coremltools, mlmodel/format)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from device_sim.mil.kinds.binding import Bound, Label, Run
from device_sim.mil.limits import Usage
from personality_common.errors import DataError


def item_similarity_recommender(bound: Bound) -> Run:
    """The items most similar to those given, best first, and their scores by item.

    The score of item k is the sum, over the given items i, of similarity(k, i) * (score_i - shift_k). An item
    that is given without a score has 1. Of equal scores the item that is numbered first comes first.
    """
    p = bound.proto
    entries = {}
    shift: dict[int, float] = {}
    for _, similar in bound.clocked(p.itemItemSimilarities):
        if similar.itemId in entries:
            raise DataError(f"itemItemSimilarities: item {similar.itemId} is given twice")
        entries[similar.itemId] = similar.similarItemList
        shift[similar.itemId] = similar.itemScoreAdjustment
    names = list(p.itemStringIds.vector) or list(p.itemInt64Ids.vector)
    count = len(names) or max([*entries, *(c.itemId for s in entries.values() for c in s)], default=-1) + 1
    bound.usage.check_value(count, 100, "itemId: the items")
    ids: list[Label] = names or list(range(count))
    if entries and max(entries) >= count:
        raise DataError(f"itemId {max(entries)} is beyond the {count} items that have names")
    number = {item: at for at, item in enumerate(ids)}
    if p.itemInputFeatureName not in [f.name for f in bound.inputs]:
        raise DataError(f"itemInputFeatureName {p.itemInputFeatureName[:80]!r} is no input of the model")

    def numbers(values: Mapping[str, Any], name: str) -> set[int] | None:
        """Items of an optional list."""
        if not name or name not in values:
            return None
        return {number[item] for item in values[name] if item in number}

    def run(values: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
        given = values[p.itemInputFeatureName]
        observed = given if isinstance(given, Mapping) else dict.fromkeys(given, 1.0)
        if unknown := [item for item in observed if item not in number]:
            raise DataError(f"item {str(unknown[0])[:80]!r} is not one of the model's")
        scores: dict[int, float] = dict.fromkeys(range(count), 0.0)
        usage.spend(16 * count)
        for item, score in observed.items():
            for connected in entries.get(number[item], ()):
                k = connected.itemId
                if k not in scores:
                    raise DataError(f"itemId {k} is beyond the {count} items of the model")
                scores[k] += connected.similarityScore * (score - shift.get(k, 0.0))
        excluded = numbers(values, p.itemExclusionInputFeatureName)
        allowed = numbers(values, p.itemRestrictionInputFeatureName)
        excluded = {number[item] for item in observed} if excluded is None else excluded
        candidates = [k for k in scores if k not in excluded and (allowed is None or k in allowed)]
        candidates.sort(key=lambda k: -scores[k])
        most = values.get(p.numRecommendationsInputFeatureName, len(candidates))
        best = candidates[: max(int(most), 0)]
        found = {
            p.recommendedItemListOutputFeatureName: [ids[k] for k in best],
            p.recommendedItemScoreOutputFeatureName: {ids[k]: scores[k] for k in best},
        }
        return {output.name: found[output.name] for output in bound.outputs if output.name in found}

    return run
