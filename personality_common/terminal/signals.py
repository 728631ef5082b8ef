"""SIGTERM and SIGHUP end a command as Ctrl-C does: what it holds is let go, and it says one line."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType
from typing import Final

ENDING: Final = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
SAME_WISH_S: Final = 1.0
"""A signal that follows another so closely is the same wish: somebody presses Ctrl-C four times."""


class Ended(KeyboardInterrupt):
    """A signal asked the process to end.

    A KeyboardInterrupt, so that whatever lets Ctrl-C pass lets this pass.
    """

    def __init__(self, number: int) -> None:
        super().__init__(ENDING[signal.Signals(number)])
        self.exit_code = 128 + number


def end_on_signals() -> None:
    """From here on a signal raises Ended in the main thread; another one, later, ends the process at once.

    A signal that was ignored stays so: `nohup` ignores SIGHUP.
    """
    asked: float | None = None

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked is None:
            asked = time.monotonic()
            raise Ended(number)
        if time.monotonic() - asked > SAME_WISH_S:
            os._exit(128 + number)

    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
