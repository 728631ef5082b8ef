"""Whether this machine has what a night takes; and who is told when one fails."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Final

from personality_common.errors import ConfigError, ToolkitError
from personality_common.terminal.progress import Reporter

LOW_BATTERY: Final = 30
"""Percent, below which a night that no socket feeds does not begin."""
PATIENCE_S: Final = 30
BATTERIES: Final = Path("/sys/class/power_supply")
"""Of Linux; other systems are not asked."""


def require_room(store: Path, min_free: float, batteries: Path = BATTERIES) -> None:
    """
    Args:
        min_free: GB.

    Raises:
        ToolkitError: the disk is fuller than that, or the battery is low and not being charged.
    """
    free = shutil.disk_usage(store).free / 1e9
    if free < min_free:
        raise ToolkitError(
            f"{store}: a night must have {min_free:g} GB of the disk free (--min-free), has {free:.1f}"
        )
    for battery in sorted(batteries.glob("BAT*")):
        try:
            charge = int((battery / "capacity").read_text())
            discharging = (battery / "status").read_text().strip() == "Discharging"
        except (OSError, ValueError):
            continue
        if discharging and charge < LOW_BATTERY:
            raise ToolkitError(
                f"a night must have {LOW_BATTERY}% of the battery, or a socket; {battery.name} has {charge}%"
            )


def failure_command(command: str) -> list[str]:
    """The words of a command of the user's.

    Raises:
        ConfigError: quotes that do not end, or no word.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"--on-failure must be a command, {command!r:.80} is none: {error}") from None
    if not words:
        raise ConfigError("--on-failure must be a command, got none")
    return words


def tell(words: list[str], message: str, reporter: Reporter) -> None:
    """Run a command with a message as its last word: no shell reads either."""
    try:
        done = subprocess.run([*words, message], stdin=subprocess.DEVNULL, timeout=PATIENCE_S, check=False)
        if done.returncode:
            reporter.warn(f"--on-failure {words[0]} ended with {done.returncode}")
    except (OSError, subprocess.TimeoutExpired) as error:
        reporter.warn(f"--on-failure {words[0]}: {error}")
