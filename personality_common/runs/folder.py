"""The folder that a job writes: what is unfinished stands aside, what is published is whole.

A job works in `RUN/in-progress`. When all is there it writes `RUN/in-progress/run.json` last and
publishes: every entry moves up into RUN, `run.json` last. A kill before that file leaves what the
folder held before; a kill after it leaves a move half done, which the next `finish_publishing`
completes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from personality_common.contract import RUN_FILE
from personality_common.files.atomic import sync_folder

WORK_DIR: Final = "in-progress"


def finish_publishing(run: Path) -> None:
    """Move finished work up into the run; does nothing where there is none. Idempotent."""
    work = run / WORK_DIR
    if not (work / RUN_FILE).exists():
        return
    entries = sorted(work.iterdir(), key=lambda entry: entry.name == RUN_FILE)
    for entry in entries:
        target = run / entry.name
        if entry.is_dir() and target.exists():
            shutil.rmtree(target)
        entry.replace(target)
    work.rmdir()
    sync_folder(run)
