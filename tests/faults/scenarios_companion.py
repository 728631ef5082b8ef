"""What was said to a companion: appended, rotated, forgotten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness import Scenario

from device_sim.companion.events import Forgotten, Turn
from device_sim.companion.log import EventLog, read_events
from device_sim.companion.store import hold_store

FILE_BYTES = 1200
State = tuple[tuple[str, ...], tuple[str | None, ...]] | None
"""Kinds of the events, and texts of the turns; None: no store."""


def talk(folder: Path, *texts: str) -> None:
    with (
        hold_store(folder / "store", create=True) as store,
        EventLog(store.events, FILE_BYTES) as log,
    ):
        for text in texts:
            log.append(Turn("c", "user", text))


def before(folder: Path) -> None:
    """Two files, the second nearly full."""
    talk(folder, *("x" * 100 for _ in range(5)))


def torn(folder: Path) -> None:
    before(folder)
    path = max((folder / "store" / "events").iterdir())
    path.write_bytes(path.read_bytes() + b'{"schema": 1, "text": "I tol')


def forget(folder: Path) -> None:
    with hold_store(folder / "store") as store, EventLog(store.events, FILE_BYTES) as log:
        first, *_, last = [event.id for event in log.read()]
        log.erase([first, last])


def state(folder: Path) -> State:
    if not (folder / "store" / "store.json").exists():
        return None
    found = list(read_events(folder / "store" / "events"))
    texts = tuple(event.body.text for event in found if isinstance(event.body, Turn))
    return tuple(event.body.kind for event in found), texts


def again(folder: Path, found: object) -> object:
    """Opening the store clears what a kill left, and completes what was to be forgotten."""
    talk(folder)
    now = state(folder)
    assert now is not None
    assert found is None or now[0] == found[0]  # type: ignore[index]
    if any(kind == Forgotten.kind for kind in now[0]):
        assert now[1].count(None) == 2
    return now


def leftovers(folder: Path) -> list[str]:
    wanted = {"store", "store/.lock", "store/store.json", "store/events"}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return sorted(name for name in found - wanted if not name.endswith(".jsonl"))


def nothing_yet(found: object, before: object, after: object) -> bool:
    """A store without a word in it."""
    return before is None and found == ((), ())


def half_forgotten(found: object, before: object, after: object) -> bool:
    """The event that says so is there, and the texts go file by file."""
    return bool(found[0] == after[0] and found[1].count(None) < 2)  # type: ignore[index]


def scenario(
    name: str,
    prepare: Callable[[Path], None],
    operate: Callable[[Path], None],
    between: Callable[[object, object, object], bool] = lambda found, before, after: False,
) -> Scenario:
    return Scenario(f"companion: {name}", prepare, operate, state, again, leftovers, between)


SCENARIOS = [
    scenario("first turn", lambda folder: None, lambda folder: talk(folder, "hello"), nothing_yet),
    scenario("turn", before, lambda folder: talk(folder, "hello")),
    scenario("turn in a new file", before, lambda folder: talk(folder, "hello " * 100)),
    scenario("turn after a torn line", torn, lambda folder: talk(folder, "hello")),
    scenario("forget", before, forget, half_forgotten),
]
