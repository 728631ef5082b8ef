"""`python tests/faults [FILE …] [--only WORD] [--every N] [--json] [--write PAGE]`: a table of all tries.

A FILE has SCENARIOS, a list; without one, all files beside this one that are named scenarios_*.py. Exits with
1 if anything was lost, damaged, left over or crashed, and with 77 where the machine cannot do this.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
import tempfile
from dataclasses import asdict, astuple, fields
from pathlib import Path

import small_model  # noqa: F401  # before all that takes the dimensions from the contract
from harness import Shim, Tally, Unavailable, run

OPENING, CLOSING = "<!-- make faults writes this -->", "<!-- to here -->"
COLUMNS = [field.name for field in fields(Tally) if field.name != "faults"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/faults")
    parser.add_argument("files", nargs="*", type=Path, help="of scenarios")
    parser.add_argument("--only", default="", help="scenarios with this in their name")
    parser.add_argument("--every", type=int, default=1, help="every n-th call alone")
    parser.add_argument("--json", action="store_true", help="instead of the table")
    parser.add_argument("--write", type=Path, help="a page; the table goes between its marks, too")
    options = parser.parse_args()
    files = options.files or sorted(Path(__file__).parent.glob("scenarios_*.py"))
    found = [scenario for file in files for scenario in runpy.run_path(str(file))["SCENARIOS"]]
    scenarios = [scenario for scenario in found if options.only in scenario.name]
    # In memory, where there is such a place: nothing here waits for a disk.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    tallies = []
    with tempfile.TemporaryDirectory(prefix="faults.", dir=memory) as folder:
        try:
            shim = Shim(Path(folder))
        except Unavailable as reason:
            print(reason)
            return 77
        for number, scenario in enumerate(scenarios):
            place = Path(folder, str(number))
            place.mkdir()
            tallies.append(run(scenario, shim, place, options.every))
            # As they come: all of it takes half an hour, or is stopped before.
            print(f"{scenario.name}: {tallies[-1].tries} tries, {tallies[-1].seconds:.0f} s", file=sys.stderr)
            for fault in tallies[-1].faults:
                print(fault, file=sys.stderr)
    if options.json:
        print(json.dumps([asdict(tally) for tally in tallies]))
    else:
        print(table(tallies))
    if options.write is not None:
        write(table(tallies), options.write)
    return int(any(tally.faults for tally in tallies))


def table(tallies: list[Tally]) -> str:
    """In Markdown, with a line for the sum."""
    rows = [list(astuple(tally)[: len(COLUMNS)]) for tally in tallies]
    rows.append(["all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])])
    lines = [f"| {' | '.join(COLUMNS)} |", f"|---|{'---:|' * (len(COLUMNS) - 1)}"]
    for name, *counts, seconds in rows:
        lines.append(f"| {name} | {' | '.join(f'{count:,}' for count in counts)} | {seconds:.1f} |")
    return "\n".join(lines)


def write(text: str, page: Path) -> None:
    """Put the table in the place of the one between a page's marks."""
    before, opening, rest = page.read_text().partition(OPENING)
    _, closing, after = rest.partition(CLOSING)
    if not closing:
        raise ValueError(f"{page}: must have the marks {OPENING} and {CLOSING}")
    page.write_text(f"{before}{opening}\n{text}\n{closing}{after}")


if __name__ == "__main__":
    sys.exit(main())
