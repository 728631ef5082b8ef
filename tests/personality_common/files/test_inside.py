"""A path that somebody else wrote down leads nowhere but below its folder."""

import os
from pathlib import Path

import pytest

from personality_common.errors import DataError
from personality_common.files.inside import inside


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file, a link to it, a folder behind a link, and a secret beside it."""
    folder = tmp_path / "bundle"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_text("x")
    (tmp_path / "secret").write_text("y")
    (folder / "twin").symlink_to("sub/file")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to("sub")
    (folder / "loop").symlink_to("loop")
    (folder / "nowhere").symlink_to("missing")
    return folder


@pytest.mark.parametrize(
    "path", ["sub/file", "sub", "./sub//file", "missing", "missing/too", "..sub", "sub/..x"]
)
def test_what_stays_inside(folder: Path, path: str) -> None:
    found = inside(folder, path)
    assert os.path.normpath(found) == os.path.normpath(folder / path)
    assert found.is_relative_to(folder)


@pytest.mark.parametrize(
    "path", ["", ".", "/", "/etc/passwd", "//etc", "..", "../secret", "sub/../../secret", "a\0b"]
)
def test_what_leads_out(folder: Path, path: str) -> None:
    with pytest.raises(DataError, match="must stay inside of it, got") as error:
        inside(folder, path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["twin", "out", "linked/file", "linked/missing", "loop", "nowhere"])
def test_links_are_refused_wherever_they_lead(folder: Path, path: str) -> None:
    with pytest.raises(DataError, match="must lead through no link"):
        inside(folder, path)


def test_a_name_that_no_file_can_have(folder: Path) -> None:
    with pytest.raises(DataError, match="a name must have at most 255 characters, got 'sub/xxx"):
        inside(folder, "sub/" + "x" * 5000)


@pytest.mark.parametrize("path", ["\ud800"])
def test_names_that_no_file_can_have_are_for_whoever_opens_them(folder: Path, path: str) -> None:
    with pytest.raises((OSError, ValueError)):
        inside(folder, path).open()


def test_the_folder_itself_may_be_reached_through_links(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(folder)
    assert inside(tmp_path / "alias", "sub/file").read_text() == "x"
