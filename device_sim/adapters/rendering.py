"""What of `pt adapters` is about adapters alone."""

from __future__ import annotations

from rich.table import Table

from device_sim.adapters.difference import AdapterDifference


def difference_tables(found: AdapterDifference) -> list[Table]:
    """Norms of what is added to the base's weights, in all and by linear part."""
    numbers = Table(show_header=False)
    numbers.add_row("added before", f"{found.before:.4g}")
    numbers.add_row("added after", f"{found.after:.4g}")
    numbers.add_row("difference", f"{found.difference:.4g}")
    numbers.add_row("cosine", "none" if found.cosine is None else f"{found.cosine:.4f}")
    parts = Table("part", "before", "after", "difference")
    for part in found.parts:
        parts.add_row(part.part, *(f"{value:.4g}" for value in (part.before, part.after, part.difference)))
    return [table for table in (numbers, parts) if table.row_count]
