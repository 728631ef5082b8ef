"""The folder of a run: what is unfinished stands aside, what is published is whole.

A trainer works in `RUN/in-progress`. When all is there it writes `RUN/in-progress/run.json` last and
publishes: every entry moves up into RUN, `run.json` last. A kill before that file leaves what the
folder held before; a kill after it leaves a move half done, which the next `finish_publishing`
completes. What else is in RUN, such as a cache, stays: that, and going on after a kill, is why a run is not
a folder of `personality_common.files.staging`, which takes another's place as a whole.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from personality_common.contract import CHECKPOINTS_DIR, RUN_FILE
from personality_common.errors import DataError, MismatchError, ToolkitError
from personality_common.files.atomic import (
    LOCK_FILE,
    clear_unfinished,
    folder_lock,
    read_json_object,
    sync_folder,
    write_json,
)
from personality_common.files.inside import refuse_links
from personality_common.runs.plan import PLAN_FILE, require_same_plan
from personality_common.terminal.progress import Reporter

WORK_DIR: Final = "in-progress"
MAY_DIFFER: Final = frozenset({"device", "threads", "processes", "torch"})
"""Keys of a plan that tell what computes, not what is computed. Another value rounds otherwise (and
processes draw their dropout each for itself), so the bits are others and the result is as good: a run may go
on where it can, and says so. All else in a plan changes what is learned."""
RESUMED_WITH: Final = "resumed_with"
"""Entry of a plan: for each time that a run went on elsewhere, what differed."""


@contextlib.contextmanager
def hold_run(run: Path, resume: bool, overwrite: bool = False) -> Iterator[None]:
    """Have a run's folder for this process alone, with what was finished in it published.

    A folder that was made for it and is left with nothing in it, because something failed early, goes again.

    Raises:
        ToolkitError: another process has it; or it holds an unfinished run with checkpoints, which is neither
            overwritten nor, without `resume`, taken up; or a finished one, without `overwrite` or `resume`.
        DataError: there is a link in it.
    """
    made = not run.exists()
    with folder_lock(run), _gone_if_empty(run) if made else contextlib.nullcontext():
        refuse_links(run)
        clear_unfinished(run)
        finish_publishing(run)
        if not resume and any((run / WORK_DIR / CHECKPOINTS_DIR).rglob("*.safetensors")):
            raise ToolkitError(
                f"{run}: holds an unfinished run with checkpoints; add --resume to go on, "
                f"or remove {run / WORK_DIR} to start again"
            )
        if not resume and not overwrite and (run / RUN_FILE).exists():
            raise ToolkitError(
                f"{run}: holds a finished run; add --overwrite to put another in its place, or name another"
                " --output-dir"
            )
        yield


@contextlib.contextmanager
def _gone_if_empty(run: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if [entry.name for entry in run.iterdir()] == [LOCK_FILE]:
            (run / LOCK_FILE).unlink()
            run.rmdir()
        raise


def take_up(
    run: Path, plan: Mapping[str, Any], resume: bool, reporter: Reporter, length: str | None = None
) -> bool:
    """Make the work folder ready for a plan: all that the bits of the result depend on.

    Args:
        length: key of the plan that says how long training is. More of it takes up a run that is finished,
            or was planned to be shorter, at its last checkpoint.

    Returns:
        Whether `resume` finds the run finished.

    Raises:
        MismatchError: `resume` with another plan, see MAY_DIFFER, or with a shorter one.
        ToolkitError: more is asked of a finished run that has no checkpoint.
    """
    work = run / WORK_DIR
    advice = "--resume needs the same settings and data"
    may_differ = MAY_DIFFER | ({length} if length else set())

    def differing(theirs: Mapping[str, Any], where: Path) -> dict[str, Any]:
        elsewhere = require_same_plan(theirs, plan, where, advice, may_differ)
        if length in elsewhere and elsewhere[length] < theirs[length]:
            raise MismatchError(
                f"{where}: --{length} must be {theirs[length]} or more to go on, is {elsewhere[length]}"
            )
        return elsewhere

    def go_on(theirs: Mapping[str, Any], before: list[Any], elsewhere: Mapping[str, Any]) -> None:
        said = ", ".join(f"{key} {value} (was {theirs.get(key)})" for key, value in elsewhere.items())
        reporter.warn(f"going on with {said}: the bits will not be those of a run without a break")
        longer = {key: value for key, value in elsewhere.items() if key == length}
        write_json(work / PLAN_FILE, {**theirs, **longer, RESUMED_WITH: [*before, elsewhere]})

    if resume and (work / PLAN_FILE).exists():
        theirs = read_json_object(work / PLAN_FILE)
        before = theirs.pop(RESUMED_WITH, [])
        if elsewhere := differing(theirs, work):
            go_on(theirs, before, elsewhere)
        return False
    if resume and (run / RUN_FILE).exists():
        theirs = dict(read_json_object(run / RUN_FILE).get("plan", {}))
        before = theirs.pop(RESUMED_WITH, [])
        elsewhere = differing(theirs, run)
        if length not in elsewhere:
            return True
        if not any((run / CHECKPOINTS_DIR).rglob("*.safetensors")):
            raise ToolkitError(
                f"{run}: must have a checkpoint to go on with {length}, has none; --overwrite starts again"
            )
        shutil.rmtree(work, ignore_errors=True)
        # A copy: until the longer run is published, this one is whole. The plan comes last.
        shutil.copytree(run / CHECKPOINTS_DIR, work / CHECKPOINTS_DIR)
        go_on(theirs, before, elsewhere)
        return False
    shutil.rmtree(work, ignore_errors=True)
    write_json(work / PLAN_FILE, dict(plan))
    return False


def publish(run: Path, record: Mapping[str, Any]) -> None:
    """Put finished work in place, with its record and its plan in `run.json`."""
    work = run / WORK_DIR
    write_json(work / RUN_FILE, {**record, "plan": read_json_object(work / PLAN_FILE)})
    finish_publishing(run)


def finish_publishing(run: Path) -> None:
    """Move finished work up into the run, which must be held; idempotent, and nothing where there is none."""
    work = run / WORK_DIR
    if not (work / RUN_FILE).exists():
        return
    # Only here: without its plan an unfinished run cannot be resumed, and would start again.
    (work / PLAN_FILE).unlink(missing_ok=True)
    for half_written in work.rglob(".*.tmp"):
        half_written.unlink()
    for entry in sorted(work.iterdir(), key=lambda entry: entry.name == RUN_FILE):
        target = run / entry.name
        if entry.is_dir() and target.exists():
            shutil.rmtree(target)
        entry.replace(target)
    work.rmdir()
    sync_folder(run)


def require_published(run: Path) -> None:
    """For who only reads a run: refuse one with a link in it, or whose parts are of two runs.

    Raises:
        DataError: there is a link in it; or a kill, perhaps, left its publishing half done.
    """
    refuse_links(run)
    if (run / WORK_DIR / RUN_FILE).exists():
        raise DataError(
            f"{run}: is finished and not yet wholly in place, which reading does not do; pt pretrain "
            "--resume with this --output-dir does"
        )
