"""The folder of a run, whatever is trained: taken up, gone on with elsewhere, published."""

import contextlib
import dataclasses
import fcntl
import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from torch import nn

from personality_common.errors import DataError, MismatchError, ToolkitError
from personality_common.files.atomic import folder_lock
from personality_common.runs.folder import finish_publishing, hold_run, publish, take_up
from personality_common.runs.record import new_record, read_record, save_weights
from personality_common.terminal.progress import SILENT, Silent

PLAN: dict[str, Any] = {"seed": 1, "threads": 2, "torch": "2.13.0"}


@dataclasses.dataclass(frozen=True)
class Config:
    out: Path
    inner: "Config | None" = None


class Listener(Silent):
    def __init__(self) -> None:
        self.warned: list[str] = []

    def warn(self, message: str) -> None:
        self.warned.append(message)


def finish(run: Path) -> nn.Linear:
    """What a trainer does last."""
    model = nn.Linear(2, 1)
    tensors = save_weights(run / "in-progress", {"model.safetensors": model}, {})
    config = Config(run, Config(run))
    publish(run, new_record("toy", config, ["torch"], {"loss": 0.5}, tensors) | {"own": 7})
    return model


def test_a_run_from_its_plan_to_its_record(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with hold_run(run, resume=False):
        assert not take_up(run, PLAN, resume=False, reporter=SILENT)
        assert json.loads((run / "in-progress" / "plan.json").read_text()) == PLAN
        # A kill leaves such a file; it is no part of a run.
        (run / "in-progress" / ".curve.png.x.tmp").touch()
        model = finish(run)
    assert {path.name for path in run.iterdir()} == {".lock", "model.safetensors", "run.json"}
    record = read_record(run, "toy")
    assert record.content["plan"] == PLAN
    assert record.content["config"] == {"out": str(run), "inner": {"out": str(run), "inner": None}}
    assert record.content["quality"] == {"loss": 0.5}
    assert record.content["own"] == 7
    with resources.as_file(resources.files("personality_common.runs") / "run.schema.json") as path:
        schema = json.loads(path.read_text())
    written = json.loads((run / "run.json").read_text())
    jsonschema.validate(written, schema)
    for wrong in ({"schema": 2}, {"tensors": {"model.safetensors": {"weight": {"shape": [1, 2]}}}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(written | wrong, schema)
    again = nn.Linear(2, 1)
    record.load_into(again, "model.safetensors")
    assert torch.equal(again.weight, model.weight)
    with pytest.raises(DataError, match=r"x\.safetensors: there is no such file"):
        record.load_into(again, "x.safetensors")
    with pytest.raises(MismatchError, match="trainer must be other, is 'toy'"):
        read_record(run, "other")


def test_a_finished_run_is_recognised(tmp_path: Path) -> None:
    take_up(tmp_path, PLAN, resume=False, reporter=SILENT)
    finish(tmp_path)
    assert take_up(tmp_path, PLAN, resume=True, reporter=SILENT)
    assert take_up(tmp_path, PLAN | {"threads": 1}, resume=True, reporter=SILENT)
    with pytest.raises(MismatchError, match="seed is 1 there, 2 here"):
        take_up(tmp_path, PLAN | {"seed": 2}, resume=True, reporter=SILENT)
    # Without resume it is a new run.
    assert not take_up(tmp_path, PLAN | {"seed": 2}, resume=False, reporter=SILENT)


def test_going_on_elsewhere_is_said_and_kept(tmp_path: Path) -> None:
    take_up(tmp_path, PLAN, resume=False, reporter=SILENT)
    listener = Listener()
    elsewhere = PLAN | {"threads": 1, "device": "cuda"}
    assert not take_up(tmp_path, elsewhere, resume=True, reporter=listener)
    assert listener.warned == [
        "going on with device cuda (was None), threads 1 (was 2): "
        "the bits will not be those of a run without a break"
    ]
    # Back where it began: nothing to say, but what happened stays.
    assert not take_up(tmp_path, PLAN, resume=True, reporter=listener)
    assert len(listener.warned) == 1
    with pytest.raises(MismatchError, match="seed is 1 there, 2 here; --resume needs the same settings"):
        take_up(tmp_path, PLAN | {"seed": 2}, resume=True, reporter=listener)
    finish(tmp_path)
    kept = read_record(tmp_path, "toy").content["plan"]
    assert kept == PLAN | {"resumed_with": [{"device": "cuda", "threads": 1}]}
    assert take_up(tmp_path, PLAN, resume=True, reporter=listener)


def test_an_unfinished_run_is_not_overwritten_unasked(tmp_path: Path) -> None:
    with hold_run(tmp_path, resume=False):
        take_up(tmp_path, PLAN, resume=False, reporter=SILENT)
    with hold_run(tmp_path, resume=False):
        pass  # nothing was finished in it yet
    (tmp_path / "in-progress" / "checkpoints").mkdir()
    (tmp_path / "in-progress" / "checkpoints" / "step_3_loss_0.5.safetensors").touch()
    with (
        pytest.raises(ToolkitError, match="unfinished run with checkpoints; add --resume"),
        hold_run(tmp_path, resume=False),
    ):
        raise AssertionError("must not get here")
    with hold_run(tmp_path, resume=True):
        pass


@pytest.mark.parametrize("stop", range(5))
def test_a_kill_while_publishing_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """The moves stop after `stop` of four; before the last, the record is that of the run before."""
    take_up(tmp_path, PLAN, resume=False, reporter=SILENT)
    finish(tmp_path)
    (tmp_path / "cache").mkdir()
    before = (tmp_path / "run.json").read_bytes()
    take_up(tmp_path, PLAN | {"seed": 2}, resume=False, reporter=SILENT)
    (tmp_path / "in-progress" / "checkpoints").mkdir()
    (tmp_path / "in-progress" / "a").touch()
    replace, moved = Path.replace, 0

    def die(self: Path, target: Path) -> Path:
        nonlocal moved
        # Moves up; renames of files that are written aside stay in their folder.
        moved += self.parent != target.parent
        if moved > stop:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(Path, "replace", die)
        finish(tmp_path)
    assert ((tmp_path / "run.json").read_bytes() == before) == (stop < 4)
    if stop < 4:
        names = {path.name for path in tmp_path.iterdir()}
        with pytest.raises(DataError, match="is finished and not yet wholly in place"):
            read_record(tmp_path, "toy")
        assert names == {path.name for path in tmp_path.iterdir()}
    finish_publishing(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a", "cache", "checkpoints", "model.safetensors", "run.json"}
    record = read_record(tmp_path, "toy")
    assert record.content["plan"]["seed"] == 2
    record.load_into(nn.Linear(2, 1), "model.safetensors")


def test_a_link_is_not_published_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "run.json").write_text("{}")
    run = tmp_path / "run"
    run.mkdir()
    (run / "in-progress").symlink_to(precious)
    with pytest.raises(DataError, match="must lead through no link, 'in-progress' is one"):
        read_record(run, "toy")
    with (
        pytest.raises(DataError, match="must lead through no link, 'in-progress' is one"),
        hold_run(run, True),
    ):
        raise AssertionError("must not get here")
    assert [path.name for path in precious.iterdir()] == ["run.json"]


GOOD = {"schema": 1, "tensors": {"f": {"weight": {"fingerprint": "a" * 64}}}}


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (GOOD, None, ""),
        ({**GOOD, "schema": 2}, MismatchError, "schema must be 1, is 2"),
        ({**GOOD, "schema": "9" * 10**6}, MismatchError, f"schema must be 1, is '{'9' * 39}$"),
        ({"tensors": {}}, MismatchError, "schema must be 1, is None"),
        ({"schema": 1}, DataError, "not the record of a run: KeyError"),
        ({**GOOD, "tensors": []}, DataError, "not the record of a run"),
        (
            {**GOOD, "tensors": {"f": {"weight": {"fingerprint": "A" * 64}}}},
            DataError,
            "64 hexadecimal digits",
        ),
        ({**GOOD, "tensors": {"f": {"weight": {"fingerprint": 3}}}}, DataError, "not the record of a run"),
        ({**GOOD, "finished": "\x1b[31m"}, DataError, "not the record of a run"),
        ({**GOOD, "finished": 3}, DataError, "not the record of a run"),
    ],
)
def test_a_record_is_checked(
    tmp_path: Path, content: object, error: type[ToolkitError] | None, message: str
) -> None:
    (tmp_path / "run.json").write_text(json.dumps(content))
    if error is None:
        assert read_record(tmp_path, "toy").tensors == {"f": {"weight": "a" * 64}}
        return
    with pytest.raises(error, match=message):
        read_record(tmp_path, "toy")


def test_a_folder_made_for_nothing_goes_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), hold_run(run, resume=False):
        raise KeyboardInterrupt
    assert not run.exists()
    # One that was there, or has something in it, stays.
    run.mkdir()
    with pytest.raises(DataError, match="too few"), hold_run(run, resume=False):
        raise DataError("too few")
    assert [path.name for path in run.iterdir()] == [".lock"]
    other = tmp_path / "other"
    with pytest.raises(DataError, match="too few"), hold_run(other, resume=False):
        (other / "cache").mkdir()
        raise DataError("too few")
    assert {path.name for path in other.iterdir()} == {".lock", "cache"}


def test_a_folder_that_goes_while_its_lock_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock

    def late(file: Any, operation: int) -> None:
        (tmp_path / "run" / ".lock").unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with (
        pytest.raises(ToolkitError, match="another process removed it just now; try again"),
        folder_lock(tmp_path / "run"),
    ):
        pass
