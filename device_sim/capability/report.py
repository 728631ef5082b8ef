"""What a suite found, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from device_sim.capability.running import Scored, by_domain
from device_sim.capability.suite import Suite
from personality_common.terminal.tables import Column, Grid
from personality_common.terminal.tables import figures as columns

SCHEMA: Final = 1
"""Of capability.schema.json."""


def figures(suite: Suite, scored: Sequence[Scored], model: str, fingerprint: str | None) -> dict[str, Any]:
    """After capability.schema.json.

    Args:
        model: its name.
        fingerprint: SHA-256 of its file; None for a server.
    """
    return {
        "schema": SCHEMA,
        "model": model,
        "model_fingerprint": fingerprint,
        "suite": suite.name,
        "suite_fingerprint": suite.fingerprint,
        "domains": [
            {
                "domain": f.domain,
                "right": f.right,
                "tasks": f.tasks,
                "share": f.right / f.tasks,
                "low": max(0.0, f.share.low),
                "high": min(1.0, f.share.high),
            }
            for f in by_domain(scored)
        ],
        "tasks": [
            {
                "id": s.task.id,
                "domain": s.task.domain,
                "tags": list(s.task.tags),
                "score": s.score,
                "answer": s.answer,
            }
            for s in scored
        ],
    }


def domain_table(scored: Sequence[Scored]) -> Grid:
    """A row per domain, and one for all tasks."""
    rows = [
        (
            f.domain,
            f"{f.right} of {f.tasks}",
            f"{f.right / f.tasks:.0%}",
            f"{max(0.0, f.share.low):.0%} to {min(1.0, f.share.high):.0%}",
        )
        for f in by_domain(scored)
    ]
    return Grid((Column("domain", "text"), *columns("right", "share", "95% interval")), rows)
