"""How `pt export` shows a bundle."""

from __future__ import annotations

from personality_common.bundle.manifest import Manifest
from personality_common.inspection.layout import human_bytes
from personality_common.terminal.tables import Column, Grid


def bundle_table(manifest: Manifest) -> Grid:
    """Packages of a bundle, one a row."""
    columns = (
        Column("package"), Column("route"), Column("from", drop=1), Column("precision", drop=2),
        Column("size", "figure"),
    )  # fmt: skip
    rows = [
        (e.file, e.route or "-", e.minimum_os.split(",")[0], e.precision, human_bytes(e.bytes))
        for e in manifest.packages.values()
    ]
    return Grid(columns, rows)
