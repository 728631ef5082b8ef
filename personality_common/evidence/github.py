"""Checks as GitHub Actions shows them: annotations of what failed, and a table in the step's summary."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from personality_common.evidence.claims import Check, Status
from personality_common.evidence.provenance import Provenance
from personality_common.printable import printable

STEP_SUMMARY: Final = "GITHUB_STEP_SUMMARY"
SUMMARY_MARKS: Final[Mapping[Status, str]] = {"passed": "✅", "failed": "❌", "not judged": "–"}


def github_annotations(suite: str, checks: Iterable[Check]) -> Iterator[str]:
    """A line for each check that failed; printed to stdout, GitHub shows it on the run's page.

    Source: docs.github.com, "Workflow commands for GitHub Actions"; escapes of actions/toolkit, command.ts.
    """
    for check in checks:
        if check.failed:
            title = ": ".join(filter(None, (f"pt {suite}", check.about, check.name)))
            message = "; ".join(filter(None, (check.against, check.detail))) or check.name
            yield f"::error title={_property(title)}::{_data(message)}"


def step_summary(suite: str, checks: Sequence[Check], made: Provenance) -> str:
    """Markdown for the file that $GITHUB_STEP_SUMMARY names: the verdict, a row per check, and its origin.

    Source: docs.github.com, "Workflow commands for GitHub Actions", adding a job summary.
    """
    failed = sum(check.failed for check in checks)
    verdict = f"{failed} of {len(checks)} checks failed" if failed else f"{len(checks)} checks, none failed"
    rows = [
        [SUMMARY_MARKS[c.status], ": ".join(filter(None, (c.about, c.name))), c.against, c.detail]
        for c in checks
    ]
    lines = [
        f"### pt {suite}: {verdict}", "", "| | check | figure | detail |", "|---|---|---|---|",
        *(f"| {' | '.join(map(_markdown, row))} |" for row in rows), "",
        f"{_markdown(made.command)}, {made.date}, {_markdown(made.machine)}", "", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _markdown(text: str) -> str:
    """As text: no markup, no HTML, no end of a cell."""
    escaped = re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", html.escape(printable(text), quote=False))
    return " ".join(escaped.split())


def _data(text: str) -> str:
    """What is not printable becomes a mark, a carriage return too."""
    return printable(text).replace("%", "%25").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
