"""The most memory that this process has had."""

import resource
from pathlib import Path


def peak() -> int:
    """KiB."""
    # ru_maxrss begins with what the parent had; macOS has no other figure, and counts in bytes.
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return int(status.read_text().partition("VmHWM:")[2].split()[0])
