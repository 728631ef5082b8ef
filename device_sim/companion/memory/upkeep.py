"""A memory and the log that it is made of, brought to agree: by whoever holds the store."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from device_sim.companion.log import EventLog
from device_sim.companion.memory.database import DamagedMemory
from device_sim.companion.memory.memory import Memory, aside_of, build
from device_sim.companion.memory.sayings import remembered
from personality_common.text.identity import Encoder


@dataclass(frozen=True)
class Mended:
    """What was found when a memory was opened.

    Attributes:
        damage: of a file that was made anew, None: it was whole.
        added: turns that the log had and the memory did not.
        forgotten: chunks that the memory had and nothing in the log.
        waiting: turns that it lacks still, for want of an encoder.
    """

    damage: str | None = None
    added: int = 0
    forgotten: int = 0
    waiting: int = 0

    def __str__(self) -> str:
        said = [f"made anew from the log, {self.damage}"] if self.damage else []
        said += [f"{self.added} turns added from the log"] if self.added else []
        said += [f"{self.forgotten} chunks forgotten"] if self.forgotten else []
        said += [f"{self.waiting} turns of the log are not in it yet"] if self.waiting else []
        return "; ".join(said)


def open_memory(path: Path, log: EventLog, encoder: Encoder | None) -> tuple[Memory, Mended]:
    """Open the memory of a store that the caller holds: repaired, and level with the log.

    A kill between the log and the memory leaves a turn in the one that is not in the other, or one that the
    log has forgotten: both are mended here.

    Args:
        encoder: None: what would have to be embedded waits.

    Raises:
        MismatchError: its vectors are of another encoder; `pt memory rebuild` makes them anew.
        DamagedMemory: it is damaged, and there is no encoder to make it anew.
    """
    aside_of(path).unlink(missing_ok=True)
    try:
        memory = Memory(path, encoder)
    except DamagedMemory as error:
        if encoder is None:
            raise
        build(path, encoder, remembered(log.read()))
        return Memory(path, encoder), Mended(str(error))
    try:
        here = memory.turns()
        there = {saying.turn: saying for saying in remembered(log.read())}
        gone = memory.forget(here - there.keys()) if here - there.keys() else 0
        missing = [saying for turn, saying in there.items() if turn not in here]
        added = memory.add_all(missing) if encoder is not None else 0
        memory.finish()
    except BaseException:
        memory.close()
        raise
    blank = sum(not saying.text.strip() for saying in missing)
    return memory, Mended(None, added - blank if added else 0, gone, 0 if encoder else len(missing) - blank)


def forget(log: EventLog, memory: Memory, turns: Collection[str]) -> tuple[int, int]:
    """Forget turns wherever they are: first it is written that they shall be, so that a kill stops nothing.

    Returns:
        How many turns lost their text, and how many chunks are gone.
    """
    return log.erase(turns), memory.forget(turns)
