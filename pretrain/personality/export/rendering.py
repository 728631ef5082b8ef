"""How `pt export` shows a bundle."""

from __future__ import annotations

from rich.table import Table

from personality_common.bundle.manifest import Manifest
from personality_common.inspection.layout import human_bytes


def bundle_table(manifest: Manifest) -> Table:
    """Packages of a bundle, one a row."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("package", "route", "from", "precision", "size"):
        table.add_column(column, no_wrap=True)
    for entry in manifest.packages.values():
        table.add_row(
            entry.file,
            entry.route or "-",
            entry.minimum_os.split(",")[0],
            entry.precision,
            human_bytes(entry.bytes),
        )
    return table
