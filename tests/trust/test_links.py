"""Nothing is written, truncated, moved or deleted through a link; what only reads changes nothing."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personality_common.errors import DataError
from personality_common.files.atomic import folder_lock
from personality_common.files.staging import staged_folder

TEXTS = Path(__file__).parents[2] / "fixtures" / "conversations.jsonl"
Pt = Callable[..., Any]

READING = {
    "predict": ("predict", "{run}", "Good morning!"),
    "inspect run": ("inspect", "{run}"),
    "inspect bundle": ("inspect", "{bundle}", "--json", "--weights"),
    "diff of bundles": ("diff", "{bundle}", "{bundle}"),
    "parity": ("parity", "{bundle}", "--run", "{run}", "--runtimes", "torch"),
    "list": ("heads", "list", "{store}"),
    "show": ("heads", "show", "{store}", "h0002"),
    "diff": ("heads", "diff", "{store}", "h0001", "h0002"),
    "audit": ("heads", "audit", "{store}"),
    "export": ("export", "{run}", "--out", "{out}", "--only", "model"),
    "grpo": ("grpo", "{run}", "--feedback", "{feedback}", "--out", "{out}"),
    "grpo on a bundle": ("grpo", "{bundle}", "--feedback", "{feedback}", "--out", "{out}"),
    "simulate": ("simulate", "{bundle}", "--feedback", "{feedback}", "--out", "{out}"),
}
WRITING = {
    "pretrain": ("pretrain", "--data", "{data}", "--output-dir", "{run}", "--max-samples", 40),
    "activate": ("heads", "activate", "{store}", "h0001"),
    "rollback": ("heads", "rollback", "{store}"),
    "pin": ("heads", "pin", "{store}", "h0002"),
    "prune": ("heads", "prune", "{store}", "--keep", 1, "--yes"),
    "fleet": ("fleet", "{bundle}", "--data", "{data}", "--run", "{run}", "--out", "{fleet}", "--devices", 2),
}
FOLDERS = ("run", "bundle", "store", "fleet")


def filled(command: tuple[object, ...], shelf: Path) -> list[str]:
    names = {name: shelf / name for name in (*FOLDERS, "out")}
    return [str(word).format(**names, data=TEXTS, feedback=shelf / "feedback.jsonl") for word in command]


def everything(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Of each path below: when it was changed, its mode and size, and its bytes."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_mtime_ns, status.st_mode, status.st_size, content)
    return found


@pytest.mark.parametrize("name", READING)
def test_what_reads_changes_nothing(received: Path, pt: Pt, name: str) -> None:
    before = {folder: everything(received / folder) for folder in ("run", "bundle", "store")}
    said = pt(*filled(READING[name], received))
    assert said.code in (0, 1), said.err
    assert "error" not in said.err
    assert before == {folder: everything(received / folder) for folder in before}


@pytest.mark.parametrize("name", ["predict", "inspect run", "export", "grpo", "parity"])
def test_what_reads_does_not_finish_what_was_interrupted(received: Path, pt: Pt, name: str) -> None:
    """A kill in the middle of publishing: one weight file is in place, the rest is not."""
    work = received / "run" / "in-progress"
    work.mkdir()
    for file in ("personality_model_weights.safetensors", "run.json"):
        shutil.copy(received / "run" / file, work / file)
    before = everything(received / "run")
    said = pt(*filled(READING[name], received))
    assert before == everything(received / "run")
    if name != "inspect run":
        assert said.code == 3
        assert "is finished and not yet wholly in place" in said.err


def precious(folder: Path) -> Path:
    """A folder that is none of ours, with names that ours would look for."""
    folder.mkdir()
    for name in ("run.json", "plan.json", "store.json", "x"):
        (folder / name).write_text("precious")
    (folder / "new").mkdir()
    (folder / "old").mkdir()
    return folder


PLACES = {
    "run": (".lock", "in-progress", "cache", "checkpoints", "run.json", "personality-tokens.json"),
    "bundle": ("PersonalityModel.mlpackage/Data/more", "golden/more", "manifest.json"),
    "store": (".lock", "store.json", "versions/h0001", "versions/.h0009-0123456789ab.partial"),
    "fleet": (".lock", ".claims", "workers.log", "tables", "chunks", "plan.json"),
}


@pytest.mark.parametrize(("kind", "place"), [(kind, place) for kind in PLACES for place in PLACES[kind]])
@pytest.mark.parametrize("to", ["file", "folder"])
def test_a_link_anywhere_is_refused_and_nothing_is_changed_through_it(
    shelf: Path, tmp_path: Path, pt: Pt, kind: str, place: str, to: str
) -> None:
    aim = precious(tmp_path / "precious")
    received = tmp_path / "received"
    received.mkdir()
    # Only what is spoilt is a copy.
    for path in shelf.iterdir():
        (received / path.name).symlink_to(path)
    (received / kind).unlink(missing_ok=True)
    if kind == "fleet":
        (received / kind).mkdir()
    else:
        shutil.copytree(shelf / kind, received / kind)
    (spot,) = list((received / kind).glob(f"{place}*")) or [received / kind / place]
    if spot.is_dir():
        shutil.rmtree(spot)
    spot.unlink(missing_ok=True)
    spot.symlink_to(aim if to == "folder" else aim / "x")
    before = everything(aim)
    commands = {n: c for n, c in (READING | WRITING).items() if any(f"{{{kind}}}" in str(w) for w in c)}
    for name, command in commands.items():
        if name.startswith("inspect"):
            continue
        said = pt(*filled(command, received))
        assert said.code == 3, (name, said)
        assert "link" in said.err.replace(str(tmp_path), ""), (name, said.err)
        assert len(said.err.splitlines()) == 1, (name, said.err)
        assert before == everything(aim), name
        assert spot.is_symlink()


@pytest.mark.parametrize("inner", ["", "new", "old", ".lock"])
def test_what_lies_beside_a_folder_is_not_built_in_through_a_link(tmp_path: Path, inner: str) -> None:
    """`.NAME.partial` beside what is made, which whoever made the folder around it may have put there."""
    aim = precious(tmp_path / "precious")
    aside = tmp_path / ".out.partial"
    if inner:
        aside.mkdir()
    (aside / inner if inner else aside).symlink_to(aim / "x" if inner == ".lock" else aim)
    before = everything(aim)
    with pytest.raises(DataError, match="link"), staged_folder(tmp_path / "out") as new:
        (new / "y").write_text("z")
    assert before == everything(aim)


def made(how: str) -> Callable[[Path, Path], None]:
    return {
        "link": lambda lock, aim: lock.symlink_to(aim),
        "second name": lambda lock, aim: lock.hardlink_to(aim),
        "pipe": lambda lock, aim: os.mkfifo(lock),
        "folder": lambda lock, aim: lock.mkdir(),
        "link to nowhere": lambda lock, aim: lock.symlink_to(aim.with_name("nowhere")),
    }[how]


@pytest.mark.parametrize("how", ["link", "second name", "pipe", "folder", "link to nowhere"])
def test_a_lock_is_a_file_of_its_own(tmp_path: Path, how: str) -> None:
    aim = tmp_path / "precious"
    aim.write_text("precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    made(how)(folder / ".lock", aim)
    with pytest.raises(DataError, match=r"\.lock: must be a regular file"), folder_lock(folder):
        raise AssertionError("must not get here")
    assert aim.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "precious"]
