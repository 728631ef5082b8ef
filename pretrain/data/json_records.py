"""JSON and JSONL files, plain or gzipped, and files of text -> numbered records.

Our own reader, since the usual ones take a whole file at a time, or stop without saying on which
line. At most one record (and a buffer) is in memory, however long the file.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO, Final

from pretrain.data.schemas import BadRecord, Truncated

MAX_RECORD_BYTES: Final = 16 << 20
"""Longest line of a JSONL file, and longest record of a JSON file."""
MAX_BLANK_BYTES: Final = 4 << 20
"""Of blank lines in a row: a few megabytes of gzip hold a billion, which take half an hour to pass over."""
CHUNK_BYTES: Final = 1 << 18

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_TOO_BLANK: Final = f"more than {MAX_BLANK_BYTES >> 20} MiB of blank lines: the rest of the file is not read"
_TOO_LONG: Final = f"longer than {MAX_RECORD_BYTES >> 20} MiB: no conversation is"

Records = Iterator[tuple[int, object | BadRecord]]


def read_json_lines(path: Path) -> Records:
    """Yield (line, record) of a JSONL file; blank lines are passed over, a bad one does not hide the next."""
    return _read(path, _lines)


def read_json_values(path: Path) -> Records:
    """Yield (first line, record) of a JSON file: an array of records, one record, or JSON lines after all.

    In an array there is no telling where the record after a bad one starts: the file ends there.
    """
    return _read(path, _lines_or_values)


def read_prose(path: Path) -> Records:
    """Yield one record with the text of a file of nothing else."""
    with path.open("rb") as file:
        data = file.read(MAX_RECORD_BYTES + 1)
    if len(data) > MAX_RECORD_BYTES:
        yield 1, BadRecord(f"more than {MAX_RECORD_BYTES >> 20} MiB: divide the file")
        return
    try:
        yield 1, {"text": data.decode("utf-8-sig")}
    except UnicodeDecodeError as error:
        yield 1, BadRecord(f"not UTF-8 at byte {error.start + 1}")


def json_lines(file: BinaryIO) -> Records:
    """Yield (line, record) of JSONL in an open file."""
    return _lines(file)


def read_text_lines(path: Path) -> Records:
    """Yield (line, record) of a file with a text a line; blank lines are passed over."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_RECORD_BYTES + 1), b""), start=1):
            if len(line) > MAX_RECORD_BYTES:
                yield number, Truncated(f"the line is {_TOO_LONG}")
                return
            try:
                if text := line.decode("utf-8-sig" if number == 1 else "utf-8").strip():
                    yield number, {"text": text}
            except UnicodeDecodeError as error:
                yield number, BadRecord(f"not UTF-8 at byte {error.start + 1} of the line")


def read_table(path: Path, column: str) -> Records:
    """Yield (line of its end, record) of a CSV or TSV file whose header names `column`."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            header = next(rows, [])
            if column not in header:
                yield 1, Truncated(f"the header must name a column {column!r}; --text-column says which")
                return
            at = header.index(column)
            for row in rows:
                if len(row) > at:
                    yield rows.line_num, {"text": row[at]}
                elif row:
                    yield rows.line_num, BadRecord(f"the row must have {at + 1} fields, has {len(row)}")
        except UnicodeDecodeError:
            yield rows.line_num + 1, Truncated("not UTF-8 here or a little further on")
        except csv.Error:
            yield (
                rows.line_num,
                Truncated("not CSV: a quotation that does not end, or a field beyond 128 KiB"),
            )


def _read(path: Path, records: Callable[[BufferedIOBase], Records]) -> Records:
    line = 1
    with path.open("rb") as raw:
        if path.suffix.lower() != ".gz":
            yield from records(raw)
            return
        with gzip.GzipFile(fileobj=raw) as file:
            try:
                for line, record in records(file):
                    yield line, record
            except (gzip.BadGzipFile, EOFError, zlib.error):
                yield line, Truncated("the gzip data are truncated or corrupt here or further on")


def _lines(file: BufferedIOBase | BinaryIO) -> Records:
    number = blank = 0
    while line := file.readline(MAX_RECORD_BYTES + 1):
        number += 1
        blank = blank + len(line) if line.isspace() else 0
        if blank > MAX_BLANK_BYTES:
            yield number, BadRecord(_TOO_BLANK)
            return
        if len(line) > MAX_RECORD_BYTES:
            yield number, BadRecord(f"the line is {_TOO_LONG}")
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_RECORD_BYTES)
            continue
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line and not line.isspace():
            yield number, _last(line, _decode(line))


def _last(line: bytes, record: object | BadRecord) -> object | BadRecord:
    """A record that began and did not end before the file did was cut off with it."""
    if isinstance(record, BadRecord) and not line.endswith(b"\n") and line.lstrip()[:1] in (b"{", b"["):
        return Truncated(f"the file ends within the line, {record}")
    return record


def _decode(line: bytes) -> object | BadRecord:
    try:
        record: object = json.loads(line.decode())
        return record
    except UnicodeDecodeError as error:
        return BadRecord(f"not UTF-8 at byte {error.start + 1} of the line")
    except json.JSONDecodeError as error:
        return BadRecord(f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return BadRecord(_undecodable(error))


def _lines_or_values(file: BufferedIOBase) -> Records:
    first, blank = b"\n", 0
    while first.isspace():
        first = file.readline(MAX_RECORD_BYTES + 1)
        blank += len(first)
        if blank > MAX_BLANK_BYTES:
            yield 1, BadRecord(_TOO_BLANK)
            return
    first_is_record = isinstance(_decode(first.removeprefix(codecs.BOM_UTF8)), dict) if first else False
    file.seek(0)
    yield from _lines(file) if first_is_record else _values(file)


def _values(file: BufferedIOBase) -> Records:
    window = _Window(file)
    try:
        in_array = window.peek() == "["
        if in_array:
            window.take()
        end = "]" if in_array else ""
        while window.peek() != end:
            line = window.line
            yield line, window.value()
            if in_array and window.peek() == ",":
                window.take()
                if window.peek() == "]":
                    raise BadRecord("not JSON: a comma before the end of the array")
            elif in_array and window.peek() != "]":
                raise BadRecord("not JSON: the array must go on with a comma or end with ]")
        if in_array:
            window.take()
            if window.peek():
                raise BadRecord("not JSON: something follows the array")
    except BadRecord as bad:
        yield window.line, Truncated(*bad.args)


class _Window:
    """A stretch of a UTF-8 file that slides along and knows the line it starts on.

    Whatever raises BadRecord first moves ``line`` to where the trouble is.
    """

    def __init__(self, file: BufferedIOBase) -> None:
        self.line = 1
        self._file = file
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._scan = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._ended = False

    def peek(self) -> str:
        """The next character that is not space, or "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self._advance(match.end())
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow():
                return ""

    def take(self) -> None:
        """Pass the character that `peek` showed."""
        self._at += 1

    def value(self) -> object:
        """The JSON value that starts here."""
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except json.JSONDecodeError as error:
                # Perhaps only because the rest of the value is not there yet.
                if self._grow():
                    continue
                self.line += self._text.count("\n", self._at, error.pos)
                raise BadRecord(f"not JSON: {error.msg}") from None
            except (ValueError, RecursionError) as error:
                raise BadRecord(_undecodable(error)) from None
            # A number at the very end may have more digits to come.
            if end < len(self._text) or not self._grow():
                self._advance(end)
                return value

    def _advance(self, to: int) -> None:
        self.line += self._text.count("\n", self._at, to)
        self._at = to

    def _grow(self) -> bool:
        """Read on, dropping what was passed; False at the end of the file."""
        if self._ended:
            return False
        kept = self._text[self._at :]
        if len(kept) > MAX_RECORD_BYTES:
            raise BadRecord(f"the record is broken, or {_TOO_LONG}; write large data as JSONL")
        # As much again as there is: a long record is scanned anew a few times, not once per chunk.
        data = self._file.read(max(CHUNK_BYTES, len(kept)))
        self._ended = not data
        try:
            more = self._utf8.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            self.line += kept.count("\n") + data[: error.start].count(b"\n")
            raise BadRecord("not UTF-8 on this line") from None
        self._text, self._at = kept + more, 0
        return not self._ended


def _undecodable(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "not JSON that can be read: nested too deeply"
    return "not JSON that can be read: a number has too many digits"
