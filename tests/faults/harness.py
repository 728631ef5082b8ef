"""Tries a command again and again, each time with another of its system calls failing or killing it.

Only calls that change files below the scenario's folder count. Afterwards the folder must be as it was before
the command or as the command leaves it, and the next command must clear away what is left over. The commands
run in children of one warm process, so a try costs milliseconds.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from personality_common.errors import ToolkitError

SHIM: Final = Path(__file__).with_name("shim.c")
COUNT: Final = 0
ACTIONS: Final = {"killed": 1, "disk full": 2, "disk broken": 3}
"""As shim.c numbers them: killed at the k-th call; from then on no room; that call alone fails with EIO."""
TIMEOUT: Final = 120
"""Seconds for one try."""
_DONE, _REFUSED, _CRASHED = 0, 3, 4


class Unavailable(Exception):
    """This machine cannot make system calls fail."""


@dataclass(frozen=True)
class Scenario:
    """A command, and how to tell what it left.

    Attributes:
        name: for the table.
        prepare: makes the world before, in an empty folder.
        operate: the command. OSError and ToolkitError are how it may fail.
        state: what there is, as something that `==` compares; raises where anything is damaged.
        again: the next command; it clears what the first one left. Takes the state, and returns the one that
            must be there afterwards.
        leftovers: names of what should not be there.
        between: whether a state is another that a kill may leave; takes state, before, after.
    """

    name: str
    prepare: Callable[[Path], None]
    operate: Callable[[Path], None]
    state: Callable[[Path], object]
    again: Callable[[Path, object], object]
    leftovers: Callable[[Path], list[str]]
    between: Callable[[object, object, object], bool] = lambda state, before, after: False


@dataclass
class Tally:
    """What came of a scenario; each of `faults` is a sentence."""

    name: str
    calls: int
    tries: int = 0
    lost: int = 0
    damaged: int = 0
    leftovers: int = 0
    crashed: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


class Shim:
    """The compiled shim, and the file through which processes share its counter."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            Unavailable: no Linux on x86-64 or arm64, no C compiler, or seccomp is forbidden here.
        """
        if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
            raise Unavailable(f"needs Linux on x86-64 or arm64, this is {platform.platform()}")
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise Unavailable("needs gcc")
        self.library = folder / "shim.so"
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", self.library, SHIM], check=True)
        self._calls = ctypes.CDLL(str(self.library), use_errno=True)
        self._calls.faults_size.restype = ctypes.c_size_t
        self._state = folder / "state"
        self._state.write_bytes(bytes(self._calls.faults_size()))
        tried = _in_child(lambda: self.arm(folder, 1 << 30, COUNT))
        if tried != _DONE:
            raise Unavailable("seccomp is forbidden here")

    def arm(self, folder: Path, k: int, action: int) -> None:
        """From here on the k-th call in this process, and those that it starts, is acted on."""
        os.environ["LD_PRELOAD"] = str(self.library)
        os.environ["FAULTS_STATE"] = str(self._state)
        error = self._calls.faults_arm(os.fsencode(self._state), os.fsencode(folder.resolve()), k, action)
        if error:
            raise OSError(error, os.strerror(error))

    def count(self) -> int:
        """Calls since `arm`."""
        return int(self._calls.faults_count(os.fsencode(self._state)))


def run(scenario: Scenario, shim: Shim, folder: Path, every: int = 1) -> Tally:
    """Try a scenario.

    Args:
        folder: empty, for this scenario alone.
        every: 1 for all calls; n for every n-th, others for each action.
    """
    start = time.monotonic()
    world, work = folder / "world", folder / "work"
    world.mkdir()
    scenario.prepare(world)
    before = scenario.state(world)
    # The children share this process's memory as long as they do not write there, which a collection does.
    gc.collect()
    gc.freeze()

    def attempt(k: int, action: int) -> int:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(world, work, symlinks=True)

        def operate() -> None:
            shim.arm(work, k, action)
            scenario.operate(work)

        return _in_child(operate)

    code = attempt(1 << 30, COUNT)
    if code != _DONE:
        raise RuntimeError(f"{scenario.name}: must work when nothing fails, ended with {code}")
    after, tally = scenario.state(work), Tally(scenario.name, shim.count())
    for name, action in ACTIONS.items():
        for k in range(1 + action % every, tally.calls + 1, every):
            code = attempt(k, action)
            tally.tries += 1
            for kind, fault in _faults(scenario, work, code, before, after):
                setattr(tally, kind, getattr(tally, kind) + 1)
                tally.faults.append(f"{scenario.name}: {name} at call {k} of {tally.calls}: {kind}: {fault}")
    tally.seconds = time.monotonic() - start
    return tally


def _faults(
    scenario: Scenario, work: Path, code: int, before: object, after: object
) -> Iterator[tuple[str, str]]:
    """What is wrong after a try: the name of the tally's count, and a sentence."""
    if code not in (_DONE, _REFUSED, -signal.SIGKILL):
        yield "crashed", f"ended with {code}"
    try:
        found = scenario.state(work)
    except Exception as error:
        yield "damaged", f"{type(error).__name__}: {error}"
        return
    if code == _DONE and found != after:
        yield "lost", f"said that it was done, and left {found}"
    elif found not in (before, after) and not scenario.between(found, before, after):
        yield "lost", f"neither before nor after, but {found}"
    try:
        wanted = scenario.again(work, found)
        left = scenario.state(work)
    except Exception as error:
        yield "damaged", f"then the next command: {type(error).__name__}: {error}"
        return
    if left != wanted:
        yield "lost", f"then the next command left {left} of {wanted}"
    if names := scenario.leftovers(work):
        yield "leftovers", ", ".join(names)


def _in_child(operate: Callable[[], None]) -> int:
    """Run in a forked child; its exit code, negative for a signal."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        signal.alarm(TIMEOUT)
        code = _CRASHED
        try:
            operate()
            code = _DONE
        except (OSError, ToolkitError):
            code = _REFUSED
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
