"""Where a report comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


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

    def on(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """A report's JSON, with where it comes from as its entry `made`."""
        return {**document, "made": asdict(self) | {"versions": dict(self.versions)}}
