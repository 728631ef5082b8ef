"""Which turns somebody means who wants them forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from device_sim.companion.events import Event, Turn
from device_sim.companion.memory.sayings import Known, plain
from personality_common.errors import ToolkitError


@dataclass(frozen=True)
class Chosen:
    """A turn of the log that can be forgotten."""

    turn: str
    time: str
    user: str
    role: str
    text: str


def choose(
    events: Iterable[Event], known: Sequence[Known], names: Sequence[str], matching: str | None
) -> list[Chosen]:
    """The turns that are named, oldest first; a log has more of them than a memory, so it is asked.

    Args:
        names: of turns, or of chunks, which stand for all turns that said them: a turn goes as a whole.
        matching: and all turns that have this in their text, in whatever case and spacing.

    Raises:
        ToolkitError: nothing goes by one of the names.
    """
    there = {
        event.id: Chosen(event.id, event.time, event.user, event.body.role, event.body.text)
        for event in events
        if isinstance(event.body, Turn) and event.body.text is not None
    }
    said = {name: chunk.turns for chunk in known for name in chunk.names}
    wanted: set[str] = set()
    for name in names:
        turn, _, part = name.rpartition(".")
        found = {name} if name in there else set(said.get(name, ()))
        if not found and part.isdecimal():
            found = {turn}
        if not found & there.keys():
            raise ToolkitError(
                f"a turn or a chunk must be in the log, {name!r} is not; pt memory audit has names"
            )
        wanted |= found & there.keys()
    if matching is not None:
        pattern = plain(matching)
        if not pattern:
            raise ToolkitError("--matching must have a text, has none")
        wanted |= {turn for turn, one in there.items() if pattern in plain(one.text)}
    return [one for turn, one in there.items() if turn in wanted]
