"""`pt pretrain`, as torchrun starts it: `torchrun --nproc-per-node 2 -m pretrain --data … --output-dir …`."""

import sys

from personality_common.cli import main

if __name__ == "__main__":
    main(["pretrain", *sys.argv[1:]])
