"""`pt pretrain`, as torchrun starts it: `torchrun --nproc-per-node 2 -m pretrain --data … --output-dir …`."""

import os
import sys

from personality_common.cli import main

if __name__ == "__main__":
    try:
        main(["pretrain", *sys.argv[1:]])
    except SystemExit as stop:
        sys.stdout.flush()
        sys.stderr.flush()
        # All is written. Once Gloo was used, its threads now and then abort a process that shuts down
        # (3 of 8 runs of 4 processes, torch 2.13), and torchrun takes that for a failure.
        os._exit(stop.code if isinstance(stop.code, int) else 1 if stop.code else 0)
