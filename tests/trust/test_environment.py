"""One line, never a traceback, wherever a command is started."""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from grpo.feedback import read_feedback
from personality_common.cli import LazyGroup
from personality_common.errors import DataError
from personality_common.files.atomic import atomic_writer, read_json_object, write_json
from personality_common.files.staging import staged_folder

ROOT = Path(__file__).parents[2]
Pt = Callable[..., Any]


def pt(*arguments: object, stdin: bytes = b"", shell: str = "", **environment: str) -> tuple[int, str, str]:
    """A command as a process; `shell` is what a shell is to do with its streams."""
    command: list[str | bytes] = [
        sys.executable,
        "-m",
        "personality_common.cli",
        *map(os.fsencode, map(str, arguments)),
    ]
    if shell:
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
    done = subprocess.run(
        command, input=stdin, capture_output=True, cwd=ROOT, env=os.environ | environment, timeout=120
    )
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


@pytest.fixture(scope="module")
def store(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In a folder whose name has an umlaut, and one in it that is not UTF-8."""
    folder = tmp_path_factory.mktemp("umläut")
    return Path(shutil.copytree(shelf / "store", folder / os.fsdecode(b"st\xf6re")))


ENVIRONMENTS: tuple[dict[str, str], ...] = (
    {},
    {"LC_ALL": "C"},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0"},
    {"PYTHONIOENCODING": "ascii"},
)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_names_and_output_in_any_encoding(store: Path, environment: dict[str, Any]) -> None:
    code, out, err = pt("heads", "pin", store, "h0002", **environment)
    assert (code, err) == (0, "")
    assert out
    code, _, err = pt("heads", "show", store.parent, "h0001", **environment)
    assert code == 3
    assert len(err.splitlines()) == 1
    assert "must be a store of heads" in err


@pytest.mark.parametrize("shell", ["<&-", ">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_streams(store: Path, shell: str) -> None:
    assert pt("heads", "list", store, shell=shell)[0] == 0
    code, _, err = pt("predict", store, shell=shell)
    assert code == 2
    assert len(err.splitlines()) == (0 if "2>" in shell else 1)
    # The lock did not get the number of a closed stream, and no output.
    assert pt("heads", "pin", store, "h0002", shell=shell)[0] == 0
    assert (store / ".lock").read_text().isdigit()


@pytest.mark.parametrize("environment", [{}, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}])
def test_input_that_is_not_utf8(store: Path, environment: dict[str, Any]) -> None:
    code, out, err = pt("predict", store, stdin="grün\n".encode() + b"gr\xfcn\n", **environment)
    assert (code, out) == (3, "")
    assert err == (
        "error: standard input, line 2: must be UTF-8, has the byte 0xfc at 3; iconv makes UTF-8 of it\n"
    )


def test_half_a_character(tmp_path: Path, shelf: Path) -> None:
    tokens = json.loads((shelf / "run" / "personality-tokens.json").read_text())["tokens"]
    candidates = [{"tokens": tokens[:3], "reward": 1.0}]
    path = tmp_path / "feedback.jsonl"
    for entry in ({"id": "\ud800", "text": "x"}, {"id": "1", "text": "x\udfff"}):
        path.write_text(json.dumps({**entry, "candidates": candidates}))
        with pytest.raises(DataError, match=r"feedback\.jsonl:1: (id|text): must be"):
            read_feedback(path, tokens)
    write_json(tmp_path / "x.json", {"folder": os.fsdecode(b"\xff"), "ü": "é"})
    assert read_json_object(tmp_path / "x.json") == {"folder": "\udcff", "ü": "é"}


def test_long_names(tmp_path: Path) -> None:
    for name in ("x" * 252, "ü" * 126):
        with atomic_writer(tmp_path / f"{name}.") as file:
            file.write(b"1")
        assert (tmp_path / f"{name}.").read_bytes() == b"1"
        with staged_folder(tmp_path / name) as folder:
            (folder / "a").touch()
        with staged_folder(tmp_path / name) as folder:
            (folder / "b").touch()
        assert [path.name for path in (tmp_path / name).iterdir()] == ["b"]
    assert len(list(tmp_path.iterdir())) == 4


def test_a_name_that_is_too_long_is_one_line(store: Path) -> None:
    code, _, err = pt("heads", "list", "x" * 300)
    assert code == 2
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_where_and_what_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, number: int
) -> None:
    def fill() -> None:
        with atomic_writer(tmp_path / "file") as file:
            file.write(b"x")
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(LazyGroup, "get_command", lambda *_: click.Command("predict", callback=fill))
    said = request.getfixturevalue("pt")("predict")
    assert said.code == 4
    assert said.err.startswith(
        f"error: [Errno {number}] {os.strerror(number)}: '{tmp_path / 'file'}'; what was"
    )
    assert "make room, and the same command goes on" in said.err
    assert len(said.err.splitlines()) == 1
    with pytest.raises(OSError, match=str(tmp_path / "target")), staged_folder(tmp_path / "target"):
        raise OSError(number, os.strerror(number))


def test_what_users_wrote_is_for_their_eyes(tmp_path: Path) -> None:
    with atomic_writer(tmp_path / "texts", private=True) as file:
        file.write(b"x")
    assert stat.S_IMODE((tmp_path / "texts").stat().st_mode) == 0o600
