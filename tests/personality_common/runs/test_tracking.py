"""What trackers hold, by their own readers, and what is said where one is not installed."""

import os
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from personality_common.errors import ToolkitError
from personality_common.files.inside import refuse_links
from personality_common.runs.tracking import TRACKERS, TrackerName, require_tracker, tracking

HISTORY: list[dict[str, Any]] = [
    {"step": 0, "val_loss": 1.5},
    {"step": 10, "val_loss": 1.25, "norm": {"mean": 0.5, "max": 2}, "done": True},
    {"step": 15, "val_loss": 1.0, "norm": {"mean": 0.25, "max": 1}, "machine": "words are not figures"},
]
"""Binary fractions: float32 holds them exactly."""
CURVES = {
    "val_loss": [(0, 1.5), (10, 1.25), (15, 1.0)],
    "norm/mean": [(10, 0.5), (15, 0.25)],
    "norm/max": [(10, 2.0), (15, 1.0)],
}


def read_tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """By TensorBoard's own reader."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="of the extra tensorboard"
    )
    events = accumulator.EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def track_with_a_break(name: TrackerName, run: Path) -> None:
    """As a trainer that is interrupted behind step 10, whose checkpoint was written, and goes on."""
    with pytest.raises(KeyboardInterrupt), tracking(name, run, "step") as track:
        track(HISTORY[:1])
        track(HISTORY[:2])
        raise KeyboardInterrupt
    with tracking(name, run, "step") as track:
        track(HISTORY[:2])
        track(HISTORY[:2])
        track(HISTORY)


def test_tensorboard_reads_the_history_once_after_a_break(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="of the extra tensorboard")
    track_with_a_break("tensorboard", tmp_path)
    assert read_tensorboard(tmp_path / "tensorboard") == CURVES


def test_a_killed_run_leaves_what_was_told(tmp_path: Path) -> None:
    """Nothing is closed: what is on the disk after each entry counts."""
    pytest.importorskip("tensorboard", reason="of the extra tensorboard")
    with tracking("tensorboard", tmp_path, "step") as track:
        track(HISTORY[:2])
        assert read_tensorboard(tmp_path / "tensorboard")["val_loss"] == CURVES["val_loss"][:2]


class Wandb:
    """Stands in for the package: what `tracking` uses of it."""

    class Error(Exception):
        pass

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.runs: list[tuple[Path, list[tuple[int, dict[str, float]]]]] = []
        self.codes: list[int] = []

    def Settings(self, **settings: Any) -> dict[str, Any]:
        self.settings = settings
        return settings

    def init(self, *, project: str, dir: str, settings: Any) -> Any:
        assert os.environ["WANDB_ERROR_REPORTING"] == "false"
        assert settings is self.settings
        folder = Path(dir) / "wandb" / f"offline-run-{len(self.runs)}"
        folder.mkdir()
        (folder / "debug-core.log").symlink_to("/nowhere")
        entries: list[tuple[int, dict[str, float]]] = []
        self.runs.append((folder, entries))

        def log(figures: Mapping[str, float], step: int) -> None:
            entries.append((step, dict(figures)))

        return SimpleNamespace(log=log, finish=lambda exit_code: self.codes.append(exit_code))


def test_wandb_is_offline_and_told_the_history_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = Wandb()
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "true")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    track_with_a_break("wandb", tmp_path)
    assert stand_in.settings["mode"] == "offline"
    assert stand_in.codes == [1, 0]
    (_, _), (folder, entries) = stand_in.runs
    assert list((tmp_path / "wandb").iterdir()) == [folder], "the interrupted one is gone"
    refuse_links(tmp_path)
    figures = [{tag: dict(curve)[step] for tag, curve in CURVES.items() if step in dict(curve)}
               for step in (0, 10, 15)]  # fmt: skip
    assert entries == list(zip((0, 10, 15), figures, strict=True))


def leveldb_log(data: bytes) -> Iterator[bytes]:
    """Records of a file of wandb: LevelDB's log format behind 7 bytes of its own; each of ours is whole."""
    place = 7
    while place < len(data):
        _, size, kind = struct.unpack_from("<IHB", data, place)
        assert kind == 1
        yield data[place + 7 : place + 7 + size]
        place += 7 + size


def test_wandb_itself_holds_figures_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real package, a second; it has no reader of its own any more."""
    wandb = pytest.importorskip("wandb", reason="of the extra wandb, which is too large for development")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run = tmp_path / "a private name"
    run.mkdir()
    track_with_a_break("wandb", run)
    wandb.teardown()  # its process writes on after a run is finished
    refuse_links(run)
    (file,) = run.rglob("*.wandb")
    history = [
        r.history for r in map(Record.FromString, leveldb_log(file.read_bytes())) if r.HasField("history")
    ]
    told = [{"/".join(item.nested_key) or item.key: item.value_json for item in one.item} for one in history]
    assert [(int(one["_step"]), float(one["val_loss"])) for one in told] == CURVES["val_loss"]
    assert b"private" not in file.read_bytes()


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_extra_is_a_line_that_says_what_to_install(
    name: TrackerName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "true")
    monkeypatch.setitem(sys.modules, name, None)
    line = rf"--track {name} needs the package {name}; pip install 'personality-toolkit\[{name}\]'"
    with pytest.raises(ToolkitError, match=line):
        require_tracker(name)
    with pytest.raises(ToolkitError, match=line), tracking(name, tmp_path, "step"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_a_tracker_nothing_is_written(tmp_path: Path) -> None:
    require_tracker(None)
    with tracking(None, tmp_path, "step") as track:
        track(HISTORY)
    assert list(tmp_path.iterdir()) == []
