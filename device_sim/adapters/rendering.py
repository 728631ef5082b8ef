"""What of `pt adapters` is about adapters alone."""

from __future__ import annotations

from device_sim.adapters.difference import AdapterDifference
from personality_common.terminal.tables import Column, Grid, facts, figures


def difference_tables(found: AdapterDifference) -> list[Grid]:
    """Norms of what is added to the base's weights, in all and by linear part."""
    numbers = facts(
        [
            ("added before", f"{found.before:.4g}"),
            ("added after", f"{found.after:.4g}"),
            ("difference", f"{found.difference:.4g}"),
            ("cosine", "none" if found.cosine is None else f"{found.cosine:.4f}"),
        ]
    )
    parts = [
        (part.part, *(f"{value:.4g}" for value in (part.before, part.after, part.difference)))
        for part in found.parts
    ]
    return [numbers, Grid((Column("part"), *figures("before", "after", "difference")), parts)][
        : 1 + bool(parts)
    ]
