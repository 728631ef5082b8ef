"""Processes that start in milliseconds: forked from one that has imported all that is slow to import.

A process has a pid, streams, an environment, signals and an exit code of its own, as one of `subprocess` has.
What Python itself reads as it starts (PYTHONPATH, PYTHONIOENCODING) comes too late for it.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

SLOW: Final = ("torch._dynamo", "torch.distributed.run", "scipy.stats", "scipy.special", "safetensors.torch")
PT: Final = ("-m", "personality_common.cli")

_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(list(SLOW))


class Warm:
    """`python PROGRAM`, whose output is kept until it has ended."""

    def __init__(
        self,
        program: Sequence[object],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        input: str = "",
    ) -> None:
        """
        Args:
            program: -m, a module and its arguments; or a file and its arguments.
            env: None for that of this process.
        """
        self.args = [str(word) for word in program]
        self.returncode: int | None = None
        source, self._out, self._err = (tempfile.TemporaryFile() for _ in range(3))  # noqa: SIM115
        source.write(input.encode())
        source.seek(0)
        given = [Connection(os.dup(stream.fileno())) for stream in (source, self._out, self._err)]
        source.close()
        environment = dict(os.environ if env is None else env)
        self._process = _CONTEXT.Process(
            target=_run, args=(self.args, environment, str(cwd or Path.cwd()), given), daemon=True
        )
        self._process.start()
        for stream in given:
            stream.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        self.returncode = self._process.exitcode
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end: stdout and stderr.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        self._process.join(timeout)
        if self.poll() is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        said = []
        for file in (self._out, self._err):
            with file:
                file.seek(0)
                said.append(file.read().decode())
        return said[0], said[1]


def run(
    program: Sequence[object],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    input: str = "",
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    """To the end, as `subprocess.run` does."""
    process = Warm(program, env=env, cwd=cwd, input=input)
    try:
        out, err = process.communicate(timeout)
    finally:
        process.kill()
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _run(program: list[str], environment: dict[str, str], folder: str, streams: list[Connection]) -> None:
    """In the forked process: what the interpreter does with a program."""
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    os.chdir(folder)
    vars(multiprocessing.current_process())["_config"]["daemon"] = False  # a program may have children
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    if threads := environment.get("OMP_NUM_THREADS"):
        import torch

        torch.set_num_threads(int(threads))
    code = interpret(program)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def interpret(program: Sequence[str]) -> int:
    """Run a program in this process: its exit code."""
    code: object = 0
    try:
        if program[0] == "-m":
            sys.argv = list(program[1:])
            sys.path.insert(0, str(Path.cwd()))
            runpy.run_module(program[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(program)
            sys.path.insert(0, str(Path(program[0]).parent))
            runpy.run_path(program[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    return int(code or 0) & 255
