"""One model, many who ask: one is answered at a time, a few wait, the rest are sent away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from personality_common.endpoint.model import RequestError, Stop

WAIT_S: Final = 120.0
_LOOK_S: Final = 0.1


class Turns:
    """Who is answered, and who waits."""

    def __init__(self, waiting: int) -> None:
        """`waiting`: how many may, beside the one that is answered."""
        self._most = waiting + 1
        self._inside = 0
        self._closed = False
        self._lock = threading.Lock()
        self._one = threading.Semaphore()

    @contextmanager
    def take(self, stop: Stop) -> Iterator[None]:
        """Wait for one's turn, and have it.

        Args:
            stop: whoever waits has gone.

        Raises:
            RequestError: too many wait, or it takes too long.
        """
        with self._lock:
            if self._closed:
                raise RequestError("the endpoint ends", 503, "busy")
            if self._inside >= self._most:
                raise RequestError(
                    f"the model answers one at a time and {self._most - 1} wait; try again", 503, "busy"
                )
            self._inside += 1
        try:
            until = time.monotonic() + WAIT_S
            while not self._one.acquire(timeout=_LOOK_S):
                if stop.is_set() or self._closed or time.monotonic() > until:
                    raise RequestError(f"the model was busy for {WAIT_S:g} s; try again", 503, "busy")
            try:
                yield
            finally:
                self._one.release()
        finally:
            with self._lock:
                self._inside -= 1

    def close(self, seconds: float) -> None:
        """Nobody is answered any more; wait for the one that is, but not longer than so many seconds."""
        with self._lock:
            self._closed = True
        self._one.acquire(timeout=seconds)
