"""The one module that owns the terminal: progress, messages, tables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from personality_common.terminal.progress import Stage

LOG_EVERY: Final = 50
"""Where there is no terminal, one line for so many calls of `advance`."""

errors = Console(stderr=True, highlight=False)
output = Console(highlight=False)


class _Counted:
    """Counts a stage and words its rate and time left."""

    def __init__(self, name: str, total: int, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = self.calls = 0
        self.started = time.monotonic()
        self.figures = ""

    def count(self, done: int, figures: Mapping[str, str] | None) -> None:
        self.done += done
        self.calls += 1
        if figures:
            self.figures = "  ".join(f"{name} {value}" for name, value in figures.items())

    def rate(self) -> str:
        rate = self.done / max(time.monotonic() - self.started, 1e-9)
        return f"{rate:,.0f} {self.unit}/s" if rate >= 10 else f"{rate:.2g} {self.unit}/s"

    def line(self) -> str:
        elapsed = time.monotonic() - self.started
        left = elapsed / max(self.done, 1) * (self.total - self.done)
        figures = f"  {self.figures}" if self.figures else ""
        return f"{self.name} {self.done}/{self.total}{figures}  {self.rate()}  ETA {left:.0f} s"


class _Logged(_Counted):
    """For a log file or a CI job: a line for every LOG_EVERY steps, and the last."""

    def advance(self, done: int, figures: Mapping[str, str] | None = None) -> None:
        self.count(done, figures)
        if self.calls % LOG_EVERY == 0 or self.done == self.total:
            errors.print(escape(self.line()), soft_wrap=True)


class _Drawn(_Counted):
    """For a person: a bar."""

    def __init__(self, name: str, total: int, unit: str, progress: Progress) -> None:
        super().__init__(name, total, unit)
        self.progress = progress
        self.task = progress.add_task(name, total=total, figures="", rate="")

    def advance(self, done: int, figures: Mapping[str, str] | None = None) -> None:
        self.count(done, figures)
        self.progress.update(self.task, completed=self.done, figures=self.figures, rate=self.rate())


class ConsoleReporter:
    """Speaks on stderr, so that stdout holds results only."""

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Stage]:
        if not errors.is_terminal:
            yield _Logged(name, total, unit)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=errors, transient=True) as progress:
            yield _Drawn(name, total, unit, progress)

    def say(self, message: str) -> None:
        errors.print(escape(message), soft_wrap=True)

    def warn(self, message: str) -> None:
        errors.print(f"[bold yellow]warning:[/] {escape(message)}", soft_wrap=True)
