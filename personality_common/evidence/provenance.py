"""Where a report comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Provenance:
    """What was run, when, and on what; whoever starts a command knows it, and hands it to the reports.

    Attributes:
        date: ISO 8601, in UTC, to the second.
        command: as it was given, quoted for a shell.
        machine: system, architecture and cores; no name of anybody's.
        versions: of Python and of the packages that compute, by name.
    """

    date: str
    command: str
    machine: str
    versions: Mapping[str, str]
