"""The benchmarks that `make bench` and `make bench-compare` run, and how one of them is run.

A benchmark NAME is the script `bench_NAME.py` beside this file. Without arguments it needs nothing but
the repository, and prints one JSON object. Its `ratios` map a name to a positive number in which higher is
better, measured against a baseline in the same process: these are compared between commits. All else in
the object is information.
"""

from __future__ import annotations

import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NoReturn

from personality_common.errors import ConfigError, ToolkitError
from personality_common.terminal.console import errors

BENCHMARKS: Final = (
    "pretrain",
    "quality",
    "labels",
    "mil",
    "trace",
    "grpo",
    "learning",
    "scale",
    "fleet",
    "character",
    "privacy",
    "router",
    "companion",
    "memory",
    "adapters",
    "gate",
    "night",
)

ROOT: Final = Path(__file__).resolve().parents[2]


class BenchmarkError(ToolkitError):
    """A script that fails, or prints something else than it should."""


def script_of(tree: Path, name: str) -> Path:
    return tree / "tests" / "benchmarks" / f"bench_{name}.py"


def choose(names: list[str]) -> list[str]:
    """The benchmarks named, or all.

    Raises:
        ConfigError: there is no such script.
    """
    for name in names:
        if not script_of(ROOT, name).is_file():
            raise ConfigError(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    return names or list(BENCHMARKS)


def run_script(script: Path, packages: Path) -> dict[str, Any]:
    """What a script prints when the project's packages come from the folder `packages`.

    Its temporary files go with it, and its processes end when this one is interrupted.

    Raises:
        BenchmarkError: it fails, or does not print one object with `ratios`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        process = subprocess.Popen(
            [sys.executable, str(script)],
            cwd=scratch,
            # PYTHONPATH goes before installed packages, and so before an editable install of this tree.
            env=os.environ | {"PYTHONPATH": str(packages), "TMPDIR": scratch},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            printed, said = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if process.returncode != 0:
        last = (said.strip().splitlines() or ["nothing on stderr"])[-1]
        raise BenchmarkError(f"{script.name} exits with {process.returncode}: {last}")
    return parse(script.name, printed)


def parse(script: str, printed: str) -> dict[str, Any]:
    """Check what a script printed against the convention above."""
    try:
        report = json.loads(printed)
    except ValueError as error:
        raise BenchmarkError(f"{script} must print one JSON object: {error}") from None
    ratios = report.get("ratios") if isinstance(report, dict) else None
    if not isinstance(ratios, dict) or not ratios:
        raise BenchmarkError(f"{script} must print an object with `ratios`, which map names to numbers")
    for name, value in ratios.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and value > 0):
            raise BenchmarkError(f"{script}: a ratio must be a positive number, {name!r} is {value}")
    return dict(report)


def clock(threads: int) -> Callable[[], float]:
    """What to time by, in seconds: the process's CPU time where it has one thread, else the wall.

    On a busy machine a step that is longer than a slice of the scheduler waits at every try, and the
    fastest of many short ones never does: by the wall, their ratio doubles.
    """
    return time.process_time if threads == 1 else time.perf_counter


def git(*arguments: str, index: Path | None = None) -> str:
    """What a git command prints; it takes no lock in the repository.

    Raises:
        ToolkitError: it fails; the message is git's own last line.
    """
    environment = dict(os.environ)
    if index is not None:
        environment["GIT_INDEX_FILE"] = str(index)
    done = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(ROOT), *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise ToolkitError(f"git {arguments[0]}: {lines[-1]}")
    return done.stdout


def is_dirty() -> bool:
    """Whether the working tree differs from HEAD, files that git does not know included."""
    return bool(git("status", "--porcelain"))


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "numpy": metadata.version("numpy"),
    }


def cpu_name() -> str:
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def run_main(main: Callable[[], int]) -> NoReturn:
    """Exit as `pt` does: 0, 1 for a failure, 2 for wrong usage, 130 when interrupted."""

    def interrupt(*_: object) -> None:
        # What cleans up is not interrupted a second time.
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, interrupt)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        errors.print("interrupted")
        sys.exit(130)
    except ToolkitError as error:
        errors.print(f"error: {error}", markup=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
