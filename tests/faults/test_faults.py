"""A slice of `make faults`, and whether the harness sees what it should."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

CARELESS = """
import subprocess
import sys

import numpy as np
from harness import Scenario


def old(folder):
    (folder / "a").write_text("old " * 10)


def in_place(folder):
    (folder / "a").write_text("new " * 10)


def by_stdio(folder):
    np.full(10, b"new ").tofile(folder / "a")  # fwrite, inside of libc


def in_another_process(folder):
    code = f"open({str(folder / 'a')!r}, 'w').write('new ' * 10)"
    subprocess.run([sys.executable, "-c", code], check=True)


def aside(folder):
    (folder / "b").write_text("new " * 10)
    (folder / "b").rename(folder / "a")


def liar(folder):
    try:
        aside(folder)
    except OSError:
        pass


def crasher(folder):
    try:
        aside(folder)
    except OSError as error:
        raise KeyError from error


def keep(folder, found):
    return found


def rest(folder):
    return [p.name for p in folder.iterdir() if p.name != "a"]


SCENARIOS = [
    Scenario(change.__name__, old, change, lambda folder: (folder / "a").read_text(), keep, rest)
    for change in (in_place, by_stdio, in_another_process, aside, liar, crasher)
]
"""


def tried(*arguments: object) -> list[dict[str, object]]:
    command = [sys.executable, str(HERE), *map(str, arguments), "--json"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode == 77:
        pytest.skip(found.stdout.strip())
    assert found.returncode in (0, 1), found.stderr
    tallies: list[dict[str, object]] = json.loads(found.stdout)
    return tallies


def test_harness_sees_what_is_careless(tmp_path: Path) -> None:
    """Worked out by hand: calls are open, write and, aside, rename; each is tried killed, full and broken."""
    (tmp_path / "careless.py").write_text(CARELESS)
    kinds = ("calls", "lost", "leftovers", "crashed")
    assert {t["name"]: tuple(t[kind] for kind in kinds) for t in tried(tmp_path / "careless.py")} == {
        # Half of the text when killed or full at the write; after EIO Python writes once more on closing.
        "in_place": (2, 2, 0, 0),
        # fclose does not: nothing is in the file.
        "by_stdio": (2, 3, 0, 0),
        # The same in a child, whose end raises what is no OSError; but a file that is never closed fails in
        # silence at the write.
        "in_another_process": (2, 2, 0, 4),
        # Nothing lost; what lies aside stays, unless it was never opened.
        "aside": (3, 0, 6, 0),
        # Says that it is done six times when it is not.
        "liar": (3, 6, 6, 0),
        "crasher": (3, 0, 6, 6),
    }


@pytest.mark.parametrize(
    ("scenarios", "every"),
    [(["files"], 10), (["registry"], 10), (["companion"], 5), (["pretrain", "export", "device"], 200)],
    ids=["files", "registry", "companion", "commands"],
)
def test_nothing_is_lost_damaged_or_left_over(scenarios: list[str], every: int) -> None:
    for tally in tried(*(HERE / f"scenarios_{name}.py" for name in scenarios), "--every", every):
        assert tally["tries"]
        assert tally["faults"] == []
