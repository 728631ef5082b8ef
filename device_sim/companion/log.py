"""The files of the event log: appended to by one writer, read by anybody, rewritten only to forget."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Final

from device_sim.companion.events import (
    DEFAULT_USER,
    MAX_LINE_BYTES,
    Body,
    Event,
    Feedback,
    Forgotten,
    Turn,
    new_id,
    parse_event,
    utc_now,
)
from personality_common.errors import DataError, ToolkitError
from personality_common.files.atomic import atomic_writer, sync_folder
from personality_common.files.bounded import open_regular

MAX_FILE_BYTES: Final = 8 << 20
"""From here on the next file is begun."""
MOST_FORGOTTEN: Final = 20_000
"""Turns that one event names."""
_NAME: Final = re.compile(r"[0-9]{6}\.jsonl")
_ID: Final = re.compile(r"[0-9a-f]{12}-[0-9a-f]{8}")


def read_events(folder: Path) -> Iterator[Event]:
    """All events, oldest first, one at a time; what a writer has not finished is not there yet.

    Raises:
        DataError: a line is no event, or longer than one may be; a file is missing, or ids do not rise.
    """
    last = ""
    for where, line in _all_lines(folder):
        event = parse_event(line, where)
        if not _ID.fullmatch(event.id) or event.id <= last:
            raise DataError(
                f"{where}: id must be one, and above that of the event before; the file is damaged"
            )
        last = event.id
        yield event


@dataclass(frozen=True)
class Repair:
    """What a kill had left: bytes of a line that were cut off, turns that were still to be forgotten."""

    torn_bytes: int = 0
    forgotten: int = 0


class EventLog:
    """The log, to write to it; who makes one holds the store, see `store.hold_store`.

    Attributes:
        repaired: what opening it mended, None: nothing.
    """

    def __init__(self, folder: Path, max_file_bytes: int = MAX_FILE_BYTES) -> None:
        """Open the log, and mend what a kill left.

        Raises:
            DataError: the end of the log is damaged otherwise than by a kill.
        """
        self.folder = folder
        self.repaired: Repair | None = None
        self._max_file_bytes = max_file_bytes
        self._failed = False
        folder.mkdir(mode=0o700, exist_ok=True)
        self._number = max((int(path.stem) for path in _files(folder)), default=1)
        torn = self._cut_torn_line()
        last = _last_event(folder)
        self._last = last.id if last else None
        self._file = self._open(self._number)
        left = 0
        if last is not None and isinstance(last.body, Forgotten):
            left = self._rewrite(frozenset(last.body.turns))
        if torn or left:
            self.repaired = Repair(torn, left)

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def read(self) -> Iterator[Event]:
        """See `read_events`."""
        return read_events(self.folder)

    def append(self, body: Body, user: str = DEFAULT_USER, time: str | None = None) -> Event:
        """Write an event; when this returns, it is on the disk.

        Args:
            time: when it happened, of what is imported; None: now.

        Raises:
            ToolkitError: it is too long or no Unicode; nothing was written.
            OSError: no space; the log is as it was.
        """
        if self._failed:
            raise ToolkitError(f"{self.folder}: a write failed before; open the store again")
        event = Event(new_id(self._last), time or utc_now(), user, body)
        line = event.line()
        size = os.fstat(self._file).st_size
        if size and size + len(line) > self._max_file_bytes:
            file = self._open(self._number + 1)
            self.close()
            self._file, self._number, size = file, self._number + 1, 0
        self._failed = True  # until the line is whole, or gone
        try:
            _write(self._file, line)
            os.fsync(self._file)
        except BaseException as error:
            os.ftruncate(self._file, size)
            self._failed = False
            if isinstance(error, OSError):
                error.filename = str(self._path(self._number))  # a write that fails does not say where
            raise
        self._failed = False
        self._last = event.id
        return event

    def erase(self, turns: Collection[str], user: str = DEFAULT_USER) -> int:
        """Forget turns: an event says which, and their texts leave the files.

        The event comes first, so that what a kill stops, the next opening completes.

        Returns:
            How many turns lost their text now.

        Raises:
            ToolkitError: no ids of events.
        """
        waiting, erased = sorted(set(turns)), 0
        if wrong := [turn for turn in waiting if not _ID.fullmatch(turn)]:
            raise ToolkitError(f"what is to be forgotten must be the id of a turn, is {wrong[0]!r:.80}")
        while waiting:
            batch, waiting = waiting[:MOST_FORGOTTEN], waiting[MOST_FORGOTTEN:]
            self.append(Forgotten(tuple(batch)), user)
            self._failed = True  # until all is done nothing may follow the event
            erased += self._rewrite(frozenset(batch))
            self._failed = False
        return erased

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.jsonl"

    def _open(self, number: int) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(self._path(number), flags, 0o600)
        sync_folder(self.folder)
        return file

    def _cut_torn_line(self) -> int:
        """Cut off a line without an end, or, at the end, one with the zeros of a power cut in it."""
        path = self._path(self._number)
        if not path.exists():
            return 0
        with os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - 2 * MAX_LINE_BYTES)
            file.seek(start)
            tail = file.read()
            whole = tail.rfind(b"\n") + 1
            if b"\0" in tail[tail.rfind(b"\n", 0, max(whole - 1, 0)) + 1 : whole]:
                whole = tail.rfind(b"\n", 0, whole - 1) + 1
            if len(tail) - whole > MAX_LINE_BYTES:
                raise DataError(f"{path}: a line may have {MAX_LINE_BYTES:,} bytes, the last has more")
            if whole == len(tail):
                return 0
            file.truncate(start + whole)
            os.fsync(file.fileno())
            return len(tail) - whole

    def _rewrite(self, turns: frozenset[str]) -> int:
        erased, files = 0, _files(self.folder)
        for path in files:
            lines: list[bytes] = []
            found = 0
            for where, line in _lines(path, path == files[-1]):
                event = _without_text(parse_event(line, where), turns)
                lines.append(event.line() if event else line)
                found += event is not None
                erased += event is not None and isinstance(event.body, Turn)
            if found:
                with atomic_writer(path, private=True) as file:
                    file.writelines(lines)
        self.close()
        self._file = self._open(self._number)
        return erased


def _without_text(event: Event, turns: frozenset[str]) -> Event | None:
    """The event as it is kept of a turn that was forgotten; None: it stays as it is."""
    body = event.body
    if isinstance(body, Turn) and event.id in turns and not body.forgotten:
        return replace(event, body=replace(body, text=None, forgotten=True, mood=(), memories=()))
    if isinstance(body, Feedback) and body.turn in turns and body.text is not None:
        return replace(event, body=replace(body, text=None))
    return None


def _files(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name)) if folder.is_dir() else []
    for before, after in pairwise(found):
        if int(after.stem) != int(before.stem) + 1:
            raise DataError(
                f"{folder}: files must be numbered without a gap, {after.name} follows {before.name}"
            )
    return found


def _all_lines(folder: Path) -> Iterator[tuple[str, bytes]]:
    files = _files(folder)
    for path in files:
        yield from _lines(path, path == files[-1])


def _lines(path: Path, last: bool) -> Iterator[tuple[str, bytes]]:
    """File with line number, and the line; of the last file, one that has no end yet is left out."""
    with os.fdopen(open_regular(path), "rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if not line.endswith(b"\n"):
                if len(line) > MAX_LINE_BYTES:
                    raise DataError(f"{path}:{number}: a line may have {MAX_LINE_BYTES:,} bytes, has more")
                if not last:
                    raise DataError(
                        f"{path}:{number}: a line must have an end, has none; the file is damaged"
                    )
                return
            yield f"{path}:{number}", line


def _last_event(folder: Path) -> Event | None:
    for path in reversed(_files(folder)):
        with os.fdopen(open_regular(path), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_LINE_BYTES))
            lines = file.read().split(b"\n")
        if len(lines) > 1:
            return parse_event(lines[-2], f"{path}, its last line")
    return None


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
