"""Run the benchmarks on this tree and write benchmarks.json.

    python tests/benchmarks/run.py [NAME …]

The file holds the machine, the commit, and what each benchmark printed. One that fails has an `error`
instead, the others go on, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from suite import ROOT, BenchmarkError, choose, git, is_dirty, machine, run_main, run_script, script_of

from personality_common.files.atomic import write_json
from personality_common.terminal.console import ConsoleReporter, output

RESULTS = ROOT / "benchmarks.json"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = choose(parser.parse_args().names)
    console = ConsoleReporter()
    results: dict[str, Any] = {
        "schema": 1,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "HEAD").strip(),
        "dirty": is_dirty(),
        "machine": machine(),
        "benchmarks": {},
    }
    failed = []
    for name in names:
        started = time.monotonic()
        try:
            result = run_script(script_of(ROOT, name), ROOT)
        except BenchmarkError as error:
            failed.append(str(error))
            result = {"error": str(error)}
        seconds = round(time.monotonic() - started, 1)
        console.say(f"{name}: {result.get('error', 'done')} ({seconds} s)")
        results["benchmarks"][name] = {"seconds": seconds, **result}
    write_json(RESULTS, results)
    show(results["benchmarks"])
    console.say(f"written: {RESULTS.name}")
    for failure in failed:
        console.say(f"error: {failure}")
    return 1 if failed else 0


def show(benchmarks: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("benchmark")
    table.add_column("ratio", no_wrap=True)
    table.add_column("value", justify="right")
    for name, result in benchmarks.items():
        for ratio, value in result.get("ratios", {}).items():
            table.add_row(name, ratio, f"{value:.4g}")
    output.print(table)


if __name__ == "__main__":
    run_main(main)
