"""Checks that failed as annotations of GitHub Actions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from personality_common.evidence.claims import Check
from personality_common.printable import printable


def github_annotations(suite: str, checks: Iterable[Check]) -> Iterator[str]:
    """A line for each check that failed; printed to stdout, GitHub shows it on the run's page.

    Source: docs.github.com, "Workflow commands for GitHub Actions"; escapes of actions/toolkit, command.ts.
    """
    for check in checks:
        if check.failed:
            title = ": ".join(filter(None, (f"pt {suite}", check.about, check.name)))
            message = "; ".join(filter(None, (check.against, check.detail))) or check.name
            yield f"::error title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    """What is not printable becomes a mark, a carriage return too."""
    return printable(text).replace("%", "%25").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
