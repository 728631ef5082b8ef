"""An examination in a terminal, to be pasted into a bug report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.text import Text

from device_sim.doctor.examination import Examination
from personality_common.printable import counted
from personality_common.terminal.tables import Column, Grid, facts

_MARKS: Final = {
    "works": Text("✓ works", "green"),
    "broken": Text("✗ broken", "bold red"),
    "absent": Text("– absent", "dim"),
}


def tables(found: Examination) -> Iterator[Grid]:
    """Machine, parts, libraries at work, weights."""
    yield facts(found.machine.items(), f"personality-toolkit {found.version}")
    yield Grid(
        (Column(""), Column("part"), Column("", "text")),
        [(_MARKS[part.state], part.name, part.line) for part in found.parts],
    )
    yield Grid(
        (Column(""), Column("library"), Column("seconds", "figure", drop=1), Column("", "text")),
        [
            (_MARKS["works" if one.works else "broken"], name, f"{one.seconds:.1f}", one.detail)
            for name, one in found.probes.items()
        ],
    )
    yield facts(found.weights.items(), "weights")


def verdict(found: Examination) -> str:
    """The last line."""
    broken = [part.name for part in found.parts if part.state == "broken"]
    absent = sum(part.state == "absent" for part in found.parts)
    if broken:
        return f"broken: {', '.join(broken)}"
    rest = f"; {counted(absent, 'extra')} not installed" if absent else ""
    return f"all that is installed works{rest}"
