"""A probe in a process of its own, so that a crash is a finding, and nothing takes forever.

    python -m device_sim.doctor.probing NAME FILE

writes what came of the probe to FILE, as JSON.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from personality_common.errors import DataError
from personality_common.files.atomic import read_json_object, write_json

TIMEOUT_S: Final = 180.0
"""For a probe; the slowest takes 5 of a core, and 100 by the clock on a machine that is very busy."""
AT_ONCE: Final = 2
"""Processes; each may import torch."""
_PAUSE_S: Final = 0.02
_OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Found:
    """What came of a probe.

    Attributes:
        works: it did what it should.
        detail: what it did; or what went wrong, in one line.
        seconds: by the clock, with the start of its process.
    """

    works: bool
    detail: str
    seconds: float


def probe_all(names: Sequence[str], timeout_s: float = TIMEOUT_S) -> Iterator[tuple[str, Found]]:
    """Run probes, some at a time; each as it ends. None outlives the iterator."""
    waiting = list(names)
    running: list[_Running] = []
    with tempfile.TemporaryDirectory() as scratch:
        try:
            while waiting or running:
                while waiting and len(running) < AT_ONCE:
                    running.append(_Running(waiting.pop(0), Path(scratch), timeout_s))
                for one in list(running):
                    if (found := one.ended()) is not None:
                        running.remove(one)
                        yield one.name, found
                time.sleep(_PAUSE_S)
        finally:
            for one in running:
                one.end()


class _Running:
    def __init__(self, name: str, scratch: Path, timeout_s: float) -> None:
        self.name = name
        self._file = scratch / f"{name}.json"
        self._timeout_s = timeout_s
        self._started = time.monotonic()
        # What libraries print as they are imported is nobody's business here.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "device_sim.doctor.probing", name, str(self._file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | _OFFLINE,
        )

    def ended(self) -> Found | None:
        """What came of it; None: it goes on."""
        code = self._process.poll()
        seconds = time.monotonic() - self._started
        if code is None:
            if seconds < self._timeout_s:
                return None
            self.end()
            return Found(False, f"did not end within {self._timeout_s:g} s", seconds)
        try:
            written = read_json_object(self._file)
            return Found(bool(written["works"]), str(written["detail"]), seconds)
        except (OSError, DataError, KeyError):
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            return Found(False, f"its process {how}, and said nothing", seconds)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def probed(name: str) -> tuple[bool, str]:
    """Run a probe here: whether it works, and its line."""
    from device_sim.doctor.probes import PROBES

    try:
        return True, PROBES[name].run()
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no reason given"]
        return False, f"{type(error).__name__}: {lines[0]}"


def main(arguments: Sequence[str]) -> None:
    name, file = arguments
    works, detail = probed(name)
    write_json(Path(file), {"works": works, "detail": detail})


if __name__ == "__main__":
    main(sys.argv[1:])
