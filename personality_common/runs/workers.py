"""Processes that share a job on one machine: started, watched, and ended with the one that started them.

They need no socket to find each other: what they share lies in a folder.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from personality_common.files.atomic import open_own
from personality_common.terminal.signals import end_on_signals

PARENT_VARIABLE: Final = "PT_PARENT"
"""Process that a worker ends with."""
_LOOK_S: Final = 0.25
"""Seconds between two looks at whether the parent lives."""
_GRACE_S: Final = 15.0
"""Seconds that workers have to end when they are asked to."""


class Workers:
    """Running processes."""

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        self._processes = tuple(processes)

    @property
    def running(self) -> bool:
        """Whether any still runs, and none has failed."""
        codes = [process.poll() for process in self._processes]
        return None in codes and not any(codes)

    @property
    def failed(self) -> tuple[int, ...]:
        """Numbers of those that ended with another exit code than 0."""
        return tuple(i for i, process in enumerate(self._processes) if process.poll())

    def end(self) -> None:
        """Ask them to end; kill those that do not within 15 s."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + _GRACE_S
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def started(
    module: str, arguments: Sequence[str], environments: Sequence[Mapping[str, str]], log: Path
) -> Iterator[Workers]:
    """Start a process for each environment; when the block ends, however it does, none is left.

    Args:
        module: what each runs, as `python -m` does.
        arguments: the same for all.
        environments: variables beside this process's own.
        log: takes what they print.
    """
    command = [sys.executable, "-m", __spec__.name, module, *arguments]
    processes: list[subprocess.Popen[bytes]] = []
    with os.fdopen(open_own(log), "wb") as output:
        output.truncate()
        try:
            for environment in environments:
                own = {
                    **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    **environment, PARENT_VARIABLE: str(os.getpid()),
                }  # fmt: skip
                # A session of its own: Ctrl-C comes here first, and the workers are then ended in order.
                processes.append(
                    subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                        env=own, start_new_session=True,
                    )
                )  # fmt: skip
            yield Workers(processes)
        finally:
            Workers(processes).end()


def end_with_parent() -> None:
    """From here on this process ends, within a second, when the one that started it has ended.

    A process whose parent ends gets another one: no pipe or signal has to arrive. Without PARENT_VARIABLE
    the parent is the present one (torchrun's agent, a shell).
    """
    parent = int(os.environ.get(PARENT_VARIABLE) or os.getppid())

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


if __name__ == "__main__":
    # Before the imports of what runs: they take seconds, in which a parent may end.
    end_on_signals()
    end_with_parent()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
