"""The history of training beside the run, for TensorBoard or Weights & Biases, through their own libraries.

A trainer hands its history over whenever there is a new entry. What is written follows from it alone: who
goes on after a kill writes all of it again in the place of what was there, so no step is missing and none is
there twice. It is figures, by the history's own names, and nothing of it leaves the machine.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

from personality_common.errors import ToolkitError

TrackerName = Literal["tensorboard", "wandb"]
TRACKERS: Final = get_args(TrackerName)
"""Each is the name of the extra, of its package, and of the folder in the run."""
Track = Callable[[Sequence[Mapping[str, Any]]], None]
"""Takes all of the history so far."""
_Log = Callable[[int, Mapping[str, float]], None]
PROJECT: Final = "personality-toolkit"


def untracked(history: Sequence[Mapping[str, Any]]) -> None:
    """Nobody asked for it."""


def require_tracker(name: TrackerName | None) -> None:
    """Raise ToolkitError where the tracker's package is not installed."""
    if name == "wandb":
        # Before the import, which else would tell its makers of errors in it.
        os.environ["WANDB_ERROR_REPORTING"] = "false"
    if name is not None:
        try:
            importlib.import_module(name)
        except ImportError:
            raise ToolkitError(
                f"--track {name} needs the package {name}; pip install 'personality-toolkit[{name}]'"
            ) from None


@contextlib.contextmanager
def tracking(name: TrackerName | None, run: Path, count: str) -> Iterator[Track]:
    """Track a run, in a folder of it with the tracker's name; nothing without a name.

    Args:
        run: its folder, which is held.
        count: what entries are numbered in: epoch, step.

    Raises:
        ToolkitError: the tracker is not installed, or does not begin.
        OSError: a file cannot be written.
    """
    if name is None:
        yield untracked
        return
    require_tracker(name)
    folder = run / name
    with contextlib.ExitStack() as stack:
        opened: list[_Log] = []
        told = 0

        def track(history: Sequence[Mapping[str, Any]]) -> None:
            nonlocal told
            if not opened:
                if folder.exists():
                    shutil.rmtree(folder)
                opened.append(stack.enter_context(_OPEN[name](folder)))
            for entry in history[told:]:
                figures = dict(_figures(entry))
                opened[0](int(figures.pop(count)), figures)
            told = len(history)

        yield track


def _figures(entry: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """Numbers of an entry; those of a group are called `group/name`."""
    for name, value in entry.items():
        if isinstance(value, Mapping):
            yield from _figures(value, f"{above}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{above}{name}", value


@contextlib.contextmanager
def _tensorboard(folder: Path) -> Iterator[_Log]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def log(number: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, number)
        writer.flush()

    with contextlib.closing(writer):
        yield log


@contextlib.contextmanager
def _wandb(folder: Path) -> Iterator[_Log]:
    wandb = importlib.import_module("wandb")
    # Nothing of code, machine, output or packages; no links, which a run may not have in it.
    settings = wandb.Settings(
        mode="offline", silent=True, console="off", symlink=False, disable_code=True, disable_git=True,
        host="", x_disable_meta=True, x_disable_machine_info=True, x_disable_stats=True,
        x_save_requirements=False,
    )  # fmt: skip
    folder.mkdir(parents=True)
    try:
        run = wandb.init(project=PROJECT, dir=str(folder.parent), settings=settings)
    except wandb.Error as error:
        raise ToolkitError(f"--track wandb: it did not begin: {str(error)[:200]}") from None
    for path in folder.rglob("*"):
        if path.is_symlink():  # to its log in the cache of the user
            path.unlink()
    failed = True
    try:
        yield lambda number, figures: run.log(dict(figures), step=number)
        failed = False
    finally:
        run.finish(exit_code=int(failed))


_OPEN: Final[Mapping[TrackerName, Callable[[Path], contextlib.AbstractContextManager[_Log]]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
}
