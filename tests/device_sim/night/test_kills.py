"""A night that is killed, wherever, ends as one that was not: with --resume, or begun anew."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from device_sim.heads.heads import open_heads
from device_sim.night import activation, beginning, cycle, state
from device_sim.night.config import NightConfig
from device_sim.night.cycle import run_night
from device_sim.night.state import STEPS, HeadNight, Night, read_nights
from personality_common.registry import pointers, together
from personality_common.registry.pointers import Pointers
from personality_common.terminal.progress import SILENT

from .conftest import keep_small
from .hearing import Small, react
from .living import Day
from .pretending import Pretender

RANDOM = 12


def in_child(work: Callable[[], object], after: float | None = None) -> bool:
    """Do work in a process of its own; kill it after so many seconds. Returns whether it came to its end."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


BUNDLE = Path("tiny-bundle")


@pytest.fixture(autouse=True)
def _listens(monkeypatch: pytest.MonkeyPatch) -> None:
    listen(monkeypatch)


def listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "device_sim.night.cycle.open_listener", lambda path: None if path is None else Small()
    )


@pytest.fixture(scope="session")
def lived(lived: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With reactions to moods, too: head and adapter learn in one night."""
    store = tmp_path_factory.mktemp("reacted") / "store"
    shutil.copytree(lived, store)
    react(Day(store), 0, 80)
    return store


def live(store: Path, engine: Pretender, resume: bool = False) -> Night | None:
    return run_night(NightConfig(store, min_free=0, resume=resume, bundle=BUNDLE), engine, SILENT)


def go_on(store: Path, resume: bool) -> Night:
    """The next run: it finds a night to finish, one to begin, or one that is done."""
    engine = Pretender()
    nights = read_nights(store)
    if nights and nights[-1].step == "done":
        return nights[-1]
    night = live(store, engine, resume=resume and bool(nights))
    assert night is not None
    return night


def left_over(store: Path) -> set[str]:
    known = {"nights", "learned", "events", "store.json", ".lock"}
    found = {p.name for p in store.iterdir()} - known
    found |= {p.name for p in store.rglob("*.tmp")} | {p.name for p in store.rglob("*.partial")}
    night = {p.name for p in (store / "nights" / "0001").iterdir()}
    return found | (night - {"state.json", "before.json", "after.json"})


def active_bytes(store: Path) -> bytes:
    registry = Pretender().registry(store, create=False)
    assert registry is not None
    heads = open_heads(store)
    assert not any(registry.audit().damage.values())
    assert not any(heads.audit().damage.values())
    versions = store / "learned" / "versions"
    head = versions / heads.active / "head.safetensors"
    return (versions / registry.active / "adapter.txt").read_bytes() + head.read_bytes()


@pytest.fixture(scope="module")
def unkilled(lived: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    store = tmp_path_factory.mktemp("unkilled") / "store"
    shutil.copytree(lived, store)
    with pytest.MonkeyPatch.context() as patch:
        keep_small(patch)
        listen(patch)
        night = live(store, Pretender())
    assert night is not None
    assert night.accepted
    assert night.head is not None
    assert night.head.accepted
    return active_bytes(store)


def as_unkilled(store: Path, night: Night, unkilled: bytes) -> None:
    assert night.step == "done"
    assert night.accepted
    assert night.activated == night.version
    assert active_bytes(store) == unkilled
    registry = Pretender().registry(store, create=False)
    assert registry is not None
    assert len(registry.versions()) == len(open_heads(store).versions()) == 2  # what shipped, and the night's
    assert night.head is not None
    assert night.head.activated == night.head.version == open_heads(store).active
    assert left_over(store) == set()
    assert [n.number for n in read_nights(store)] == [1]


@pytest.mark.parametrize(
    ("before", "resume"),
    [(False, False), (False, True), (True, True)],
    ids=["after, anew", "after, resumed", "before, resumed"],
)
@pytest.mark.parametrize("boundary", range(len(STEPS)), ids=[f"before {step}" for step in STEPS])
def test_killed_around_a_step_s_end(
    lived: Path, tmp_path: Path, unkilled: bytes, boundary: int, before: bool, resume: bool
) -> None:
    store = tmp_path / "killed"
    shutil.copytree(lived, store)

    def killing(store: Path, night: Night) -> None:
        if not before:
            state.write_night(store, night)
        if STEPS.index(night.step) == boundary:
            os.kill(os.getpid(), signal.SIGKILL)
        if before:
            state.write_night(store, night)

    def work() -> None:
        cycle.write_night = beginning.write_night = killing  # type: ignore[attr-defined]
        live(store, Pretender())

    assert not in_child(work)
    night = go_on(store, resume)
    as_unkilled(store, night, unkilled)
    assert night.version is not None
    assert night.version.startswith("a0002-")  # registered once


@pytest.mark.parametrize("what", ["losses", "answers", "run", "epoch 1", "epoch 2", "written"])
@pytest.mark.parametrize("resume", [False, True], ids=["anew", "resumed"])
def test_killed_within_a_step(lived: Path, tmp_path: Path, unkilled: bytes, what: str, resume: bool) -> None:
    store = tmp_path / "killed"
    shutil.copytree(lived, store)

    def at(now: str) -> None:
        if now == what:
            os.kill(os.getpid(), signal.SIGKILL)

    assert not in_child(lambda: live(store, Pretender(at=at)))
    as_unkilled(store, go_on(store, resume), unkilled)


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_killed_as_both_go_live(lived: Path, tmp_path: Path, unkilled: bytes, done: bool) -> None:
    store = tmp_path / "killed"
    shutil.copytree(lived, store)
    write = pointers.write_pointers

    def killing(folder: Path, kinds: Mapping[str, Pointers]) -> None:
        if len(kinds) > 1 and all(len(kind.log) > 1 for kind in kinds.values()):
            if done:
                write(folder, kinds)
            os.kill(os.getpid(), signal.SIGKILL)
        write(folder, kinds)

    def work() -> None:
        together.write_pointers = killing  # type: ignore[attr-defined,assignment]
        live(store, Pretender())

    assert not in_child(work)
    adapters = Pretender().registry(store, create=False)
    assert adapters is not None
    assert {adapters.active[:5], open_heads(store).active[:5]} == (
        {"a0002", "h0002"} if done else {"a0001", "h0001"}
    )
    as_unkilled(store, go_on(store, resume=False), unkilled)


@pytest.mark.parametrize("what", ["kind", "version"])
def test_killed_as_the_head_is_kept(lived: Path, tmp_path: Path, unkilled: bytes, what: str) -> None:
    """Its kind is made, or its version added, and the night's state does not know."""
    store = tmp_path / "killed"
    shutil.copytree(lived, store)

    def killed(*_: object) -> HeadNight:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def work() -> None:
        if what == "kind":
            cycle.head_night = killed  # type: ignore[attr-defined,assignment]
        else:
            keep, activation._head = activation._head, lambda *given: killed(keep(*given))  # type: ignore[assignment]
        live(store, Pretender())

    assert not in_child(work)
    as_unkilled(store, go_on(store, resume=False), unkilled)


def test_killed_at_random(lived: Path, tmp_path: Path, unkilled: bytes) -> None:
    chance = random.Random(1)
    for number in range(RANDOM):
        store = tmp_path / f"killed{number}"
        shutil.copytree(lived, store)
        for _ in range(2):
            if read_done(store):
                break
            resume = bool(read_nights(store)) and chance.random() < 0.5
            in_child(lambda s=store, r=resume: live(s, Pretender(), r), after=chance.uniform(0.02, 0.5))  # type: ignore[misc]
        as_unkilled(store, go_on(store, resume=False), unkilled)


def read_done(store: Path) -> bool:
    nights = read_nights(store)
    return bool(nights) and nights[-1].step == "done"


def test_what_was_forgotten_while_a_night_was_stopped_is_not_learned(lived: Path, tmp_path: Path) -> None:
    for stopped in ("epoch 1", "gate"):
        store = tmp_path / stopped
        shutil.copytree(lived, store)
        _, turn = Day(store).talk("I painted a forgotten thing.", "Oh.", edit="Forgotten, fine. Ahoy!")

        def at(now: str, stopped: str = stopped) -> None:
            if now == stopped:
                os.kill(os.getpid(), signal.SIGKILL)

        def killing(store: Path, night: Night, stopped: str = stopped) -> None:
            state.write_night(store, night)
            if night.step == "register" and stopped == "gate":
                os.kill(os.getpid(), signal.SIGKILL)

        def work(store: Path = store, engine: Pretender = Pretender(at=at)) -> None:  # noqa: B008
            cycle.write_night = killing  # type: ignore[attr-defined]
            live(store, engine)

        assert not in_child(work)
        (night,) = read_nights(store)
        assert turn in night.turns
        Day(store).forget(turn, night.split.train[0])
        engine = Pretender()
        ended = live(store, engine, resume=True)
        assert ended is not None
        registry = engine.registry(store, create=False)
        assert registry is not None
        if stopped == "gate":
            # Judged, but not yet a version: it becomes one, and is never active.
            assert not ended.accepted
            assert registry.active == registry.versions()[0].version
            assert ended.version in registry.pointers().blocked
        else:
            assert ended.accepted
            assert turn not in ended.saw
            ((train, validation),) = engine.trained
            assert not any("I painted a forgotten thing." in f"{said}" for said in (*train, *validation))
