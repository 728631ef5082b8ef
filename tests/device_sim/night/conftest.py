"""A store with a day of sixty turns in it, each answer of which was edited to end in the same word."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from .living import Day
from .pretending import small_suites

THINGS = (
    "river", "stone", "bread", "cloud", "lamp", "garden", "train", "coffee", "window", "mountain",
    "letter", "guitar", "soup", "rain", "market", "bicycle", "planet", "spoon", "forest", "ticket",
)  # fmt: skip
DOING = ("I painted a", "Somebody lost the old", "We talked of one")


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty turns; nobody may write to it."""
    day = Day(tmp_path_factory.mktemp("day") / "store")
    with day:
        for i in range(60):
            thing, other = THINGS[i % 20], THINGS[(i * 7 + i // 20 + 3) % 20]
            day.talk(
                f"{DOING[i // 20]} {thing} near number{i} {other}{i}.",
                "Oh.",
                edit=f"The {thing}, fine. Ahoy!",
            )
    return day.store


@pytest.fixture
def day(lived: Path, tmp_path: Path) -> Day:
    """A copy of it to live in."""
    shutil.copytree(lived, tmp_path / "store")
    return Day(tmp_path / "store")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_small(monkeypatch)


def keep_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Suites of a few hundred tasks that take no model."""
    monkeypatch.setattr("device_sim.night.desk.suites", small_suites)


class Ended(NamedTuple):
    """What a command ended with."""

    code: object
    out: str
    err: str


@pytest.fixture
def pt(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """A command in this process: `pt("night", "run", store)`; signals stay as they are."""
    from personality_common import cli
    from personality_common.terminal import console

    monkeypatch.setattr(cli, "end_on_signals", lambda: None)
    monkeypatch.setattr(console.output, "width", 200)

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main([str(argument) for argument in arguments])
        return Ended(end.value.code or 0, *capsys.readouterr())

    return run
