"""Run the benchmarks on a commit and on this tree, in turn; fail when a ratio drops by more than 15%.

    python tests/benchmarks/compare.py [--base COMMIT] [NAME …]

Both sides are copies in a temporary folder: of the commit, and of the working tree as it is when the
comparison starts, changes that are not committed included. Both run the scripts of the working
tree, each against its own packages, so that the measurement is the same. Where a script fails on the
commit's packages, the commit's own script runs there.

Each process has one thread unless OMP_NUM_THREADS says otherwise, and measures CPU time (`suite.clock`), so
that what else runs on the machine is not measured. Ratios are compared by their medians over rounds, which
alternate. A benchmark is done after two rounds if both sides repeat themselves exactly, and else after
ROUNDS; while a median is lower by more than half of what is tolerated, it goes on, up to MOST_ROUNDS.

Exit 0: nothing dropped. 1: a ratio or a benchmark dropped or is gone, a script failed, or cannot be
compared. 2: no such commit. A ratio or benchmark that only this tree has is named, and passes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from rich.table import Table
from rich.text import Text
from suite import ROOT, BenchmarkError, choose, git, is_dirty, machine, run_main, run_script, script_of

from personality_common.errors import ConfigError, ToolkitError
from personality_common.terminal.console import ConsoleReporter, output

TOLERANCE: Final = 0.15
ROUNDS: Final = 3
MOST_ROUNDS: Final = 7

Verdict = Literal["ok", "dropped", "new", "gone"]
CONSOLE: Final = ConsoleReporter()


@dataclass(frozen=True)
class Row:
    """One ratio on both sides; a side without rounds does not have it."""

    benchmark: str
    ratio: str
    base: list[float] = field(default_factory=list)
    head: list[float] = field(default_factory=list)

    def below(self, tolerance: float) -> bool:
        """Whether this tree's median is lower than the commit's by more than `tolerance`, a share."""
        if not (self.base and self.head):
            return False
        return statistics.median(self.head) < (1 - tolerance) * statistics.median(self.base)

    @property
    def verdict(self) -> Verdict:
        if not self.base:
            return "new"
        if not self.head:
            return "gone"
        return "dropped" if self.below(TOLERANCE) else "ok"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", metavar="COMMIT", help="where this branch left main, or else HEAD~1")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    names = choose(options.names)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    dirty = is_dirty()
    base = commit_of(options.base or default_base(dirty))
    head = git("rev-parse", "HEAD").strip()
    mark = "  with changes that are not committed: the working tree is compared" if dirty else ""
    CONSOLE.say(f"base     {described(base)}\nhead     {described(head)}{mark}\n{machine_line()}")
    rows: list[Row] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bench-compare-") as folder:
        trees = {"base": Path(folder, "base"), "head": Path(folder, "head")}
        copy_commit(base, trees["base"])
        copy_working_tree(trees["head"])
        failed += [] if options.names else [f"{name}: gone" for name in removed(**trees)]
        for name in names:
            try:
                rows += compare(name, **trees)
            except BenchmarkError as error:
                CONSOLE.say(f"{name}: {error}")
                failed.append(f"{name}: {error}")
    show(rows)
    CONSOLE.say(machine_line())
    for row in rows:
        if row.verdict == "dropped":
            failed.append(f"{row.benchmark}: {row.ratio} dropped by more than {TOLERANCE:.0%}")
        elif row.verdict == "gone":
            failed.append(f"{row.benchmark}: {row.ratio} is gone")
    for failure in failed:
        CONSOLE.say(f"failed: {failure}")
    return 1 if failed else 0


def default_base(dirty: bool) -> str:
    """Where this branch left main. On main itself: HEAD under uncommitted changes, or else HEAD~1."""
    head = base = git("rev-parse", "HEAD").strip()
    for main_branch in ("main", "origin/main"):
        try:
            base = git("merge-base", "HEAD", main_branch).strip()
            break
        except ToolkitError:
            continue
    return "HEAD~1" if base == head and not dirty else base


def commit_of(name: str) -> str:
    """The full hash of a commit.

    Raises:
        ConfigError: the repository has no such commit.
    """
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").strip()
    except ToolkitError:
        raise ConfigError(f"BASE must be a commit of this repository, {name!r} is none") from None


def described(commit: str) -> str:
    return git("log", "-1", "--format=%h %s", commit).strip()


def machine_line() -> str:
    facts = machine()
    load = " ".join(str(load) for load in facts["load_average"])
    return f"machine  {facts['cpu']}, {facts['cores']} cores, load {load}, torch {facts['torch']}"


def copy_commit(commit: str, folder: Path) -> None:
    """Write a commit's files, by way of an index beside the folder: the repository's is not touched."""
    index = folder.with_suffix(".index")
    git("read-tree", commit, index=index)
    git("checkout-index", "--all", f"--prefix={folder}/", index=index)


def copy_working_tree(folder: Path) -> None:
    """Copy what git tracks and what it does not ignore, as it is now."""
    for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        source = ROOT / name
        if name and (source.is_file() or source.is_symlink()):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def removed(base: Path, head: Path) -> list[str]:
    """Benchmarks whose scripts the commit has and this tree has not."""
    scripts = sorted((base / "tests" / "benchmarks").glob("bench_*.py"))
    return [one.stem.removeprefix("bench_") for one in scripts if not (head / one.relative_to(base)).exists()]


def compare(name: str, base: Path, head: Path) -> list[Row]:
    """Run one benchmark on both sides in turn until it is clear, at most MOST_ROUNDS times.

    Raises:
        BenchmarkError: it fails on this tree, or cannot be compared.
    """
    started = time.monotonic()
    script = script_of(head, name)
    rows: dict[str, Row] = {}

    def add(side: Literal["base", "head"], ratios: dict[str, float]) -> None:
        for ratio, value in ratios.items():
            getattr(rows.setdefault(ratio, Row(name, ratio)), side).append(value)

    add("head", run_script(script, head)["ratios"])
    first = run_on_base(name, script, base)
    if first is None:
        return list(rows.values())
    base_script, ratios = first
    add("base", ratios)
    rounds = 1
    while True:
        CONSOLE.say(f"{name}: round {rounds}, {time.monotonic() - started:.0f} s")
        if rounds == MOST_ROUNDS or settled(list(rows.values()), rounds):
            return list(rows.values())
        # A B, B A, A B, …: what changes steadily, as the load of a shared machine, hits both.
        for side in ("base", "head") if rounds % 2 else ("head", "base"):
            add(side, run_script(*((script, head) if side == "head" else (base_script, base)))["ratios"])
        rounds += 1


def settled(rows: list[Row], rounds: int) -> bool:
    """Whether more rounds would hardly change a verdict."""
    if rounds >= ROUNDS:
        return not any(row.below(TOLERANCE / 2) for row in rows)
    return rounds >= 2 and all(len({*side}) <= 1 for row in rows for side in (row.base, row.head))


def run_on_base(name: str, script: Path, base: Path) -> tuple[Path, dict[str, float]] | None:
    """The script that can measure the commit, and its first ratios; None for a new benchmark.

    Raises:
        BenchmarkError: the commit has the benchmark, but neither side's script measures it there.
    """
    own = script_of(base, name)
    try:
        return script, run_script(script, base)["ratios"]
    except BenchmarkError as error:
        if not own.exists():
            CONSOLE.say(f"{name}: new; on the base, {error}")
            return None
        failure = f"on the base's packages this tree's {error}"
    try:
        ratios = run_script(own, base)["ratios"]
    except BenchmarkError as error:
        raise BenchmarkError(f"cannot be compared: {failure}; the base's own: {error}") from None
    CONSOLE.say(f"{name}: the base runs its own script, for {failure}")
    return own, ratios


def show(rows: list[Row]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("benchmark", "ratio", "base", "head", "change", "rounds", "verdict"):
        table.add_column(heading, justify="left" if heading in ("benchmark", "ratio", "verdict") else "right")
    for row in rows:
        base, head = (f"{statistics.median(s):.4g}" if s else "" for s in (row.base, row.head))
        change = ""
        if row.base and row.head:
            change = f"{statistics.median(row.head) / statistics.median(row.base) - 1:+.1%}"
        verdict = Text(row.verdict, "" if row.verdict in ("ok", "new") else "bold red")
        table.add_row(row.benchmark, row.ratio, base, head, change, str(len(row.head)), verdict)
    output.print(table)


if __name__ == "__main__":
    run_main(main)
