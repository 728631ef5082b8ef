"""The files of a command that ends with a verdict."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from personality_common.evidence.claims import Check
from personality_common.evidence.github import STEP_SUMMARY, github_annotations, step_summary
from personality_common.evidence.junit import junit
from personality_common.evidence.provenance import Provenance
from personality_common.files.atomic import atomic_writer
from personality_common.terminal.console import errors, output
from personality_common.terminal.json_output import JsonPlace, emitted, json_option
from personality_common.terminal.options import FILE, dataclass_options

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class ReportFiles:
    """Where a report goes, beside the terminal.

    Attributes:
        html: write the report as a page.
        json: where the figures go.
        junit: write the verdict as JUnit XML, for CI.
    """

    html: Path | None = None
    json: JsonPlace | None = None
    junit: Path | None = None

    def write(
        self, suite: str, checks: Iterable[Check], made: Provenance, document: dict[str, Any], page: bytes
    ) -> bool:
        """Write those that are asked for, each atomically; annotate GitHub's run, if this is one, and add to
        its summary.

        Args:
            suite: the command: `parity`, `simulate`, …
            document: the figures.
            page: the report.

        Returns:
            Whether the figures are on standard output, so that nothing else may be printed there.
        """
        found = tuple(checks)
        taken = emitted(self.json, document)
        # A page quotes texts, which may be users'; the others have none.
        for path, content, private in (
            (self.html, page, True),
            (self.junit, junit(suite, found, made), False),
        ):
            if path is not None:
                with atomic_writer(path, private=private) as file:
                    file.write(content)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            for line in github_annotations(suite, found):
                (errors if taken else output).print(line, soft_wrap=True)
        if (summary := os.environ.get(STEP_SUMMARY)) and found:
            with Path(summary).open("a", encoding="utf-8") as file_:
                file_.write(step_summary(suite, found, made))
        return taken

    def told(self) -> Iterator[tuple[str, Path]]:
        """What was written where, for a line each at a command's end."""
        if self.html is not None:
            yield "report", self.html
        if self.json is not None and self.json.path is not None:
            yield "figures", self.json.path


def report_options(command: F) -> F:
    """`--html`, `--json` and `--junit`."""
    files = dataclass_options(
        ReportFiles, skip=("json",), types=dict.fromkeys(("html", "junit"), FILE), heading="Report"
    )
    return files(json_option("json")(command))
