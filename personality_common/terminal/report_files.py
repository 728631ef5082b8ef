"""The files of a command that ends with a verdict."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from personality_common.evidence.claims import Check
from personality_common.evidence.github import github_annotations
from personality_common.evidence.junit import junit
from personality_common.evidence.provenance import Provenance
from personality_common.files.atomic import atomic_writer, write_json
from personality_common.terminal.console import output
from personality_common.terminal.options import FILE, dataclass_options


@dataclass(frozen=True)
class ReportFiles:
    """Where a report goes, beside the terminal.

    Attributes:
        html: write the report as a page.
        json: write the figures.
        junit: write the verdict as JUnit XML, for CI.
    """

    html: Path | None = None
    json: Path | None = None
    junit: Path | None = None

    def write(
        self, suite: str, checks: Iterable[Check], made: Provenance, document: dict[str, Any], page: bytes
    ) -> None:
        """Write those that are asked for, each atomically; annotate GitHub's run, if this is one.

        Args:
            suite: the command: `parity`, `simulate`, …
            document: the figures.
            page: the report.
        """
        found = tuple(checks)
        if self.json is not None:
            write_json(self.json, document)
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
                output.print(line, soft_wrap=True)


report_options: Final = dataclass_options(ReportFiles, types=dict.fromkeys(("html", "json", "junit"), FILE))
