"""`pt`, but for one thing: the workers that it starts are forked, and so need not import torch anew.

What they run, their environment, session, log, and how they are ended are the program's own. In /proc they
have the command line of this process; their stdout is the log.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import BinaryIO, Final

import torch
import warm

from personality_common.cli import main
from personality_common.runs import workers

_FORK = multiprocessing.get_context("fork")


class Forked:
    """What `personality_common.runs.workers` uses of `subprocess.Popen`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdout: BinaryIO,
        stderr: BinaryIO,
        env: Mapping[str, str],
        **_: object,
    ) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._process = _FORK.Process(
            target=_become, args=(command[1:], (stdout.fileno(), stderr.fileno()), env)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        self.terminate, self.kill = self._process.terminate, self._process.kill

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a worker", timeout or 0)
        return self._process.exitcode


def _become(program: Sequence[str], streams: tuple[int, int], environment: Mapping[str, str]) -> None:
    """In the forked process: what Python starts with."""
    os.setsid()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams, 1):
        os.dup2(stream, number)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    warnings.resetwarnings()
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)  # a team of OpenMP's threads is not forked with the one that leads it
    code = warm.interpret(program)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


FORKING: Final = SimpleNamespace(
    Popen=Forked, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
)
"""For `personality_common.runs.workers.subprocess`."""

if __name__ == "__main__":
    vars(workers)["subprocess"] = FORKING
    main()
