"""A memory and the log that it is made of, brought to agree: by whoever holds the store."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from device_sim.companion.log import EventLog
from device_sim.companion.memory.database import DamagedMemory
from device_sim.companion.memory.memory import Memory, build, clear_aside
from device_sim.companion.memory.sayings import remembered
from personality_common.errors import MismatchError
from personality_common.files.atomic import sync_folder
from personality_common.text.identity import Encoder


@dataclass(frozen=True)
class Mended:
    """What was found when a memory was opened.

    Attributes:
        damage: of a file that was made anew, None: it was whole.
        added: turns that the log had and the memory did not.
        forgotten: chunks that the memory had and nothing in the log.
    """

    damage: str | None = None
    added: int = 0
    forgotten: int = 0

    def __str__(self) -> str:
        said = [f"made anew from the log, since {self.damage}"] if self.damage else []
        said += [f"{self.added} of the log's turns added"] if self.added else []
        said += [f"{self.forgotten} chunks forgotten"] if self.forgotten else []
        return "; ".join(said)


def open_memory(
    path: Path, log: EventLog, load: Callable[[], Encoder], embeds: bool
) -> tuple[Memory, Mended]:
    """Open the memory of a store that the caller holds: repaired, and level with the log.

    A kill between the log and the memory leaves a turn in the one that is not in the other, or one that the
    log has forgotten: both are mended here.

    Args:
        load: the encoder; called where something has to be embedded, or the caller will.
        embeds: whether the caller will.

    Raises:
        MismatchError: its vectors are of another encoder; `pt memory rebuild` makes them anew.
    """
    clear_aside(path)
    encoder = load() if embeds or not path.exists() else None
    try:
        return _levelled(path, log, encoder, load)
    except DamagedMemory as error:
        encoder = encoder or load()
        build(path, encoder, remembered(log.read()))
        return Memory(path, encoder), Mended(str(error))


def open_to_forget(path: Path, log: EventLog) -> Memory | None:
    """The memory, without an encoder. None: there is none, or a damaged one, now gone: the log has it all."""
    clear_aside(path)
    try:
        return _levelled(path, log, None, None)[0] if path.exists() else None
    except DamagedMemory:
        path.unlink(missing_ok=True)
        Path(f"{path}-journal").unlink(missing_ok=True)
        sync_folder(path.parent)
        return None


def forget(log: EventLog, memory: Memory | None, turns: Collection[str]) -> tuple[int, int]:
    """Forget turns wherever they are: first it is written that they shall be, so that no kill leaves a half.

    Returns:
        How many turns lost their text, and how many chunks are gone.
    """
    return log.erase(turns), memory.forget(turns) if memory else 0


def _levelled(
    path: Path, log: EventLog, encoder: Encoder | None, load: Callable[[], Encoder] | None
) -> tuple[Memory, Mended]:
    """Without `load`, what would have to be embedded waits."""
    memory = Memory(path, encoder)
    try:
        here = memory.turns()
        there = {saying.turn: saying for saying in remembered(log.read()) if saying.text.strip()}
        gone = memory.forget(here - there.keys()) if here - there.keys() else 0
        missing = [saying for turn, saying in there.items() if turn not in here]
        if missing and encoder is None and load is not None:
            try:
                memory_with = Memory(path, load())
            except MismatchError:
                missing = []  # they wait for whoever has the encoder
            else:
                memory.close()
                memory, encoder = memory_with, memory_with.encoder
        added = memory.add_all(missing) if encoder is not None else 0
        memory.finish()
    except BaseException:
        memory.close()
        raise
    return memory, Mended(None, added, gone)
