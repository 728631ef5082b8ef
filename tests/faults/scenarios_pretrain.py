"""`pt pretrain`: into an empty folder, and in the place of a finished run."""

from __future__ import annotations

from pathlib import Path

from harness import Scenario
from small_model import beyond, train, undisturbed

from personality_common.contract import CHECKPOINTS_DIR, RUN_FILE
from personality_common.files.atomic import read_json_object
from personality_common.files.tensors import load_tensors
from personality_common.runs.folder import WORK_DIR
from personality_common.runs.plan import PLAN_FILE
from pretrain.personality.run import load_run

TO_BE_PUBLISHED = "finished, and not wholly in place"


def state(folder: Path) -> str:
    """The run that is there, read to the last byte; "" for none."""
    run = folder / "run"
    if (run / WORK_DIR / RUN_FILE).exists():
        return TO_BE_PUBLISHED
    if not (run / RUN_FILE).exists():
        return ""
    assert read_json_object(run / "training_history.json")["epochs"]
    assert (run / "learning_curve.png").read_bytes() == b"a picture"
    assert len([load_tensors(path) for path in (run / CHECKPOINTS_DIR).glob("*.safetensors")]) == 2
    return load_run(run).fingerprint


def nothing(folder: Path) -> None:
    NEW()  # what takes long the first time is in memory then, for all tries


def old(folder: Path) -> None:
    train(folder / "run", seed=0)


def new(folder: Path) -> None:
    train(folder / "run", seed=1)


OLD, NEW = undisturbed(old, state), undisturbed(new, state)


def again(folder: Path, found: object) -> str:
    """With --resume where there is something to go on with."""
    begun = any((folder / "run" / WORK_DIR / name).exists() for name in (PLAN_FILE, RUN_FILE))
    train(folder / "run", seed=1, resume=begun)
    return NEW()[0]


def leftovers(folder: Path) -> list[str]:
    # The note that the old run was made here stays.
    notes = {name for name in OLD()[1] if name.startswith("state/")}
    return beyond(folder, [NEW()[1], notes])


def publishing(found: object, before: object, after: object) -> bool:
    return found == TO_BE_PUBLISHED


SCENARIOS = [
    Scenario("pretrain", nothing, new, state, again, leftovers, publishing),
    Scenario("pretrain: over a run", old, new, state, again, leftovers, publishing),
]
