"""The one module that owns the terminal: progress, messages, tables.

Whatever is printed goes through `TerminalConsole`, which lets no character through that a terminal obeys.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from personality_common.printable import printable
from personality_common.terminal.progress import Stage

LOG_EVERY: Final = 50
"""Where there is no terminal, one line for so many calls of `advance`."""

_WITH_BAR: Final = 100
_WITH_RATE: Final = 80
"""Columns from which on progress has a bar, and a rate."""

PIPE_WIDTH: Final = 200
"""Of what is for grep rather than for a screen."""


class TerminalConsole(Console):
    """A console that prints text as text: no markup in it, and no characters that a terminal obeys."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """All that is printed comes by here, in pieces, rich's own commands apart from text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


errors = TerminalConsole(stderr=True)
output = TerminalConsole()


def wide_output() -> TerminalConsole:
    """As `output`; in a file, lines of PIPE_WIDTH columns, unless COLUMNS says otherwise."""
    piped = not output.is_terminal and "COLUMNS" not in os.environ
    return TerminalConsole(width=PIPE_WIDTH if piped else None)


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
            errors.print(self.line(), soft_wrap=True)


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
        # Figures are not cut off: where there is little room, the bar goes, and then the rate.
        columns = (
            TextColumn("{task.description}", markup=False),
            *([BarColumn(bar_width=12)] if errors.width >= _WITH_BAR else []),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            *([TextColumn("{task.fields[rate]}", markup=False)] if errors.width >= _WITH_RATE else []),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=errors, transient=True) as progress:
            yield _Drawn(name, total, unit, progress)

    def say(self, message: str) -> None:
        _print_words(Text(message))

    def warn(self, message: str) -> None:
        _print_words(Text.assemble(("warning:", "bold yellow"), f" {message}"))


def _print_words(text: Text) -> None:
    """Between words a terminal's lines break, within none: not within a number, nor a path that is copied."""
    if errors.is_terminal:
        errors.print(text, overflow="ignore", crop=False)
    else:
        errors.print(text, soft_wrap=True)
