"""A staged folder is complete or absent, whatever happens; killed at any step: tests/faults."""

import errno
from pathlib import Path
from typing import Any

import pytest

from personality_common.errors import ToolkitError
from personality_common.files import staging
from personality_common.files.staging import clear_aside, staged_folder


def content(folder: Any) -> Any:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def build(target: Any, text: Any) -> None:
    with staged_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text(text)
        (folder / "b").write_text(text)


def whole(target: Any, text: Any) -> Any:
    return content(target) == {"sub/a": text, "b": text}


def test_new_folder(tmp_path: Path) -> None:
    build(tmp_path / "t", "1")
    assert whole(tmp_path / "t", "1")
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


@pytest.mark.parametrize("swap", [True, False])
def test_existing_folder_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: Any) -> None:
    if not swap:
        monkeypatch.setattr(staging, "_exchange", lambda *_: False)
    build(tmp_path / "t", "1")
    build(tmp_path / "t", "2")
    assert whole(tmp_path / "t", "2")
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_failure_leaves_what_was_there(tmp_path: Path, existing: Any, error: Any) -> None:
    if existing:
        build(tmp_path / "t", "1")

    def fail() -> None:
        with staged_folder(tmp_path / "t") as folder:
            (folder / "b").write_text("2")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == (["t"] if existing else [])
    assert not existing or whole(tmp_path / "t", "1")


def test_rename_that_fails_puts_the_old_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_exchange", lambda *_: False)
    build(tmp_path / "t", "1")
    rename = Path.rename

    def fail(self: Path, target: Any) -> Any:
        if self.name == "new":
            raise OSError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(PermissionError):
        build(tmp_path / "t", "2")
    assert whole(tmp_path / "t", "1")
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_kill_between_two_renames_is_mended(tmp_path: Path) -> None:
    build(tmp_path / "t", "1")
    aside = tmp_path / ".t.partial"
    aside.mkdir()
    (tmp_path / "t").rename(aside / "old")
    (aside / "new").mkdir()
    with staged_folder(tmp_path / "t") as folder:
        assert whole(tmp_path / "t", "1")
        assert list(folder.iterdir()) == []
    build(tmp_path / "t", "1")
    assert whole(tmp_path / "t", "1")
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_two_at_once(tmp_path: Path) -> None:
    with (
        staged_folder(tmp_path / "t") as folder,
        pytest.raises(ToolkitError, match="is working in this folder"),
        staged_folder(tmp_path / "t"),
    ):
        raise AssertionError("the second one must not get here")
    assert folder.name == "new"
    assert (tmp_path / "t").is_dir()


def test_swap_is_one_step_on_this_file_system(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "was_a").touch()
    if not staging._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("the file system of the temporary folder cannot swap two names")
    assert (tmp_path / "b" / "was_a").exists()
    assert list((tmp_path / "a").iterdir()) == []


def test_what_a_kill_left_beside_a_finished_target_is_cleared(tmp_path: Path) -> None:
    build(tmp_path / "t", "1")
    (tmp_path / ".t.partial" / "new").mkdir(parents=True)
    clear_aside(tmp_path / "t")
    assert [p.name for p in tmp_path.iterdir()] == ["t"]
    clear_aside(tmp_path / "t")
    # Where the target is missing, what lies aside may be all there is of it.
    (tmp_path / ".u.partial" / "old").mkdir(parents=True)
    clear_aside(tmp_path / "u")
    assert (tmp_path / ".u.partial" / "old").is_dir()
    with staged_folder(tmp_path / "t"), pytest.raises(ToolkitError, match="is working in this folder"):
        clear_aside(tmp_path / "t")
