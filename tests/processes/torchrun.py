"""torchrun, but for one thing: it forks its processes, which so need not import torch anew.

Its options, agent, restarts and the environment of the processes are torch's own. In /proc they are named
`rank 0`, `rank 1`, …
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import warm
from torch.distributed.elastic.multiprocessing.errors import record
from torch.distributed.launcher.api import elastic_launch
from torch.distributed.run import config_from_args, parse_args

NAME = Path("/proc/self/comm")


def work(*program: str) -> None:
    """In a forked process: what torchrun would start."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):  # the launcher's own
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if NAME.exists():
        NAME.write_text(f"rank {os.environ['RANK']}")
    if code := warm.interpret(program):
        sys.exit(code)


@record
def main() -> None:
    given = parse_args(sys.argv[1:])  # type: ignore[no-untyped-call]
    config, _, _ = config_from_args(given)
    config.start_method = "fork"
    program = ["-m"] * given.module + [given.training_script, *given.training_script_args]
    elastic_launch(config, work)(*program)


if __name__ == "__main__":
    main()
