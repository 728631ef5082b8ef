"""The command that is running, for the reports that it writes."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

from personality_common.evidence.provenance import Provenance

_PACKAGES: Final = ("personality-toolkit", "torch", "numpy", "coremltools")


def this_command() -> Provenance:
    """Now, here, and as it was given on the command line."""
    return Provenance(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=shlex.join(["pt", *sys.argv[1:]]),
        machine=f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} cores",
        versions={name: version(name) for name in _PACKAGES} | {"python": platform.python_version()},
    )
