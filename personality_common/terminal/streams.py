"""Standard input and output, whatever a command was started with."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from io import TextIOWrapper

from personality_common.errors import DataError


def usable_streams() -> None:
    """Give closed streams /dev/null, and print in any encoding: `\\xe4` for what it does not have.

    Where one of the first three descriptors is closed, the next file that is opened would get its number, and
    what is printed would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
        stream = getattr(sys, name)
        if mode == "w" and isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def input_lines(blank: bool = False) -> Iterator[str]:
    """Lines of standard input, stripped; UTF-8, whatever the locale.

    Args:
        blank: give blank lines, too, as "".

    Raises:
        DataError: it is something else.
    """
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError as error:
            raise DataError(
                f"standard input, line {number}: must be UTF-8, has the byte 0x{line[error.start]:02x} at "
                f"{error.start + 1}; iconv makes UTF-8 of it"
            ) from None
        if text or blank:
            yield text
