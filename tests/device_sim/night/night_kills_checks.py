"""`tests/faults/night_kills.py` with a stand-in engine: what it kills is whole, and it sees what is not.

`test_night_kills.py` runs these in a process of their own: the harness forks, and a test worker
has threads.
"""

from __future__ import annotations

import importlib
import shutil
import threading
from pathlib import Path

import pytest
from night_kills import (
    PARTS,
    Unkilled,
    faults,
    faults_at_the_end,
    keep_general,
    kill_nights,
    live_unkilled,
    write_day,
    write_suite,
)

from personality_common.registry.registry import Registry

from .conftest import keep_small
from .pretending import Pretender, TextCodec

KILLS = 3
WARM = (
    "device_sim.adapters.cli",
    "device_sim.night.cli",
    "device_sim.night.cycle",
    "device_sim.night.rendering",
    "personality_common.registry.rendering",
    "personality_common.terminal.console",
)
"""Else each child would import them."""


@pytest.fixture(autouse=True)
def _pretends(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)


def pretend(patch: pytest.MonkeyPatch) -> None:
    def open_adapters(store: Path) -> Registry[str]:
        return Registry(store / "learned", TextCodec())

    patch.setattr("device_sim.night.models.ModelEngine", lambda path, **_: Pretender())
    for module in ("device_sim.adapters.learned", "night_kills"):
        patch.setattr(f"{module}.open_adapters", open_adapters)


@pytest.fixture(scope="module")
def lived(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Unkilled]:
    """A store before the night that is killed, and the night unkilled, whose store is beside it."""
    store = tmp_path_factory.mktemp("kills") / "store"
    for module in WARM:
        importlib.import_module(module)
    suite, other = store.with_name("suite.toml"), store.with_name("unkilled")
    with pytest.MonkeyPatch.context() as patch:
        keep_small(patch)
        pretend(patch)
        write_suite(suite)
        write_day(store)
        Pretender().registry(store, create=True)
        shutil.copytree(store, other)
        unkilled = live_unkilled(other, suite, str(tiny_llama))
        keep_general(other, store)
    return store, unkilled


def test_a_night_that_is_killed_is_whole(
    lived: tuple[Path, Unkilled], tiny_llama: Path, tmp_path: Path
) -> None:
    store, unkilled = lived
    tally = kill_nights(
        store, tmp_path, unkilled, store.with_name("suite.toml"), str(tiny_llama), KILLS, 0, threading.Event()
    )
    assert tally.faults == []
    assert tally.kills.total() == KILLS
    assert set(tally.kills) <= set(PARTS)
    assert tally.nights


@pytest.mark.parametrize(
    ("what", "kind"), [("events", "lost"), ("versions", "damaged"), ("active", "different")]
)
def test_what_is_not_whole_is_seen(
    lived: tuple[Path, Unkilled], tmp_path: Path, what: str, kind: str
) -> None:
    store, unkilled = lived
    broken = tmp_path / "broken"
    shutil.copytree(store.with_name("unkilled") if what == "active" else store, broken)
    assert faults(broken, unkilled) == []
    if what == "active":
        Registry(broken / "learned", TextCodec()).rollback()
    else:
        folder = broken / {"versions": f"learned/versions/{unkilled.before.active}"}.get(what, what)
        path = max((path for path in folder.iterdir() if path.is_file()), key=lambda p: p.stat().st_size)
        path.write_bytes(path.read_bytes()[:-20])
    assert faults(broken, unkilled)[0][0] == kind


def test_an_end_that_differs_is_seen(lived: tuple[Path, Unkilled], tmp_path: Path) -> None:
    store, unkilled = lived
    ended = tmp_path / "ended"
    shutil.copytree(store.with_name("unkilled"), ended)
    folder = ended / "nights" / "0001"
    (folder / "candidate.gguf").touch()
    state = folder / "state.json"
    state.write_text(state.read_text().replace('"replayed": ', '"replayed": 1'))
    assert faults_at_the_end(ended, unkilled) == [
        ("different", "replayed of the night"),
        ("left over", "nights/0001/candidate.gguf"),
    ]
