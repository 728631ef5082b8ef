"""A chat in a terminal, or with lines from a pipe."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Generator, Iterator
from types import FrameType
from typing import Final, TextIO

from device_sim.companion.companion import Companion
from device_sim.companion.config import ChatConfig
from device_sim.companion.models.model import ModelError
from personality_common.errors import DataError, ToolkitError
from personality_common.printable import printable
from personality_common.terminal.console import output
from personality_common.terminal.progress import Reporter
from personality_common.terminal.streams import input_lines

HELP: Final = """\
/+  /-               the last answer was good, or was not
/again               answer your last message once more: the last answer was not it
/memories [WORDS]    what is remembered, nearest to the words, or to your last message
/forget [ID …]       forget the last exchange, or the turns of these ids
/help                this
/quit, Ctrl-D        end; Ctrl-C ends an answer, and then the chat
#no-train #no-memory #off-record in a message: never learned from, not remembered, not kept at all"""
PROMPT: Final = "> "


class Broken(Exception):
    """Ctrl-C in the middle of an answer."""


class Chat:
    """Reads messages, writes answers to `out` and all else through a reporter."""

    def __init__(self, companion: Companion, config: ChatConfig, reporter: Reporter, out: TextIO) -> None:
        self.companion, self.config, self.reporter, self.out = companion, config, reporter, out
        self.failed = False
        self._said = ""

    def run(self, terminal: bool) -> bool:
        """Chat until the end of the input.

        Args:
            terminal: a person types; otherwise each line of standard input is a message.

        Returns:
            Whether all messages were answered.
        """
        for line in _typed() if terminal else input_lines():
            try:
                if line.strip() == "/quit":
                    break
                self._take(line.strip())
            except ToolkitError as error:
                # One message failed; the conversation goes on.
                self.failed = True
                self.reporter.warn(str(error))
        return not self.failed

    def _take(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        if not line:
            return
        if command in ("/+", "/-"):
            self.companion.rate(1.0 if command == "/+" else -1.0)
            self.reporter.say("noted")
        elif command == "/again":
            self._answer(self.companion.again())
        elif command == "/memories":
            self._show_memories(rest.strip() or self._said)
        elif command == "/forget":
            count = self.companion.forget(rest.split() or None)
            self.reporter.say(f"forgot {count} turns")
        elif command == "/help":
            self.reporter.say(HELP)
        elif command.startswith("/"):
            raise ToolkitError(f"a command must be one that /help shows, is {command!r:.40}")
        else:
            self._said = line
            self._answer(self.companion.answer(line))

    def _answer(self, answer: Generator[str, None, None]) -> None:
        start, first = time.monotonic(), None
        broken = False
        try:
            with _ctrl_c_breaks():
                for piece in answer:
                    if first is None and piece:
                        first = time.monotonic() - start
                        self._show_mood()
                    self.out.write(printable(piece))
                    self.out.flush()
        except Broken:
            broken = True
        except ModelError as error:
            self.failed = True
            self.out.write("\n")
            self.reporter.warn(f"the answer broke off: {error}")
            return
        finally:
            answer.close()
        self.out.write(" [broken off]\n" if broken else "\n")
        self.out.flush()
        self._tell_kept()
        if self.config.verbose:
            self._tell(first)

    def _show_mood(self) -> None:
        if self.config.show_mood and self.companion.mood:
            self.reporter.say(f"mood: {', '.join(self.companion.mood)}")

    def _tell_kept(self) -> None:
        """Say what will be missing when this is asked for another day."""
        kept = self.companion.kept
        if kept is None:
            self.reporter.say("of this nothing is kept")
        elif kept.taken_out:
            self.reporter.say(f"kept without what the privacy filter found: {', '.join(kept.taken_out)}")

    def _tell(self, first: float | None) -> None:
        prompt = self.companion.prompt
        assert prompt is not None
        said = [f"prompt {prompt.tokens:,} tokens", f"{prompt.memories} memories"]
        if prompt.left_out:
            said.append(f"no room for the oldest {prompt.left_out} exchanges")
        if first is not None:
            said.append(f"first word after {first:.2f} s")
        if self.companion.head is not None:
            said.append(f"mood by {self.companion.head}")
        self.reporter.say(", ".join(said))

    def _show_memories(self, query: str) -> None:
        hits = self.companion.memories(query) if query else ()
        if not hits:
            self.reporter.say("nothing is remembered" if query else "/memories WORDS finds what was said")
        for hit in hits:
            self.reporter.say(f"{hit.turn_id}  {hit.text}")


@contextlib.contextmanager
def _ctrl_c_breaks() -> Iterator[None]:
    """Ctrl-C raises Broken in here, once; another one waits until the answer is kept, and ends the chat."""
    again = False

    def broken(number: int, frame: FrameType | None) -> None:
        nonlocal again
        if not again:
            again = True
            raise Broken

    before = signal.signal(signal.SIGINT, broken)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _typed() -> Iterator[str]:
    """Lines that a person types and edits; nothing of them is kept."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # edits the line of input()
    while True:
        try:
            yield input(PROMPT)
        except EOFError:
            output.print()
            return
        except UnicodeDecodeError:
            raise DataError("what is typed must be UTF-8, is not") from None
