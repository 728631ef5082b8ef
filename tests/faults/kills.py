"""`python tests/faults/kills.py [--kills 200] [--seed 0] [--json]`: SIGKILL at any moment of a companion.

One store lives through all of it. `pt chat`, `pt serve`, `pt feedback` and `pt memory` run as they are, in
children of one warm process, in front of a server that says one line; each is killed at a moment drawn over
the time that it takes. What a command had said was done must be there afterwards: answers that were read to
their end, judgements, and what was to be forgotten, of which no byte may be left. The next command must find
a whole log, and a memory that agrees with it. Exits with 1 if anything was lost or damaged.
SIGTERM ends it after the try that is under way, with the table so far.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from device_sim.companion.events import Event, Feedback, Turn
from device_sim.companion.log import read_events
from device_sim.companion.memory.memory import Memory
from device_sim.companion.memory.sayings import remembered
from personality_common.endpoint.config import EndpointConfig
from personality_common.endpoint.model import Card, End, Piece, Request, Stop, Text
from personality_common.endpoint.server import Endpoint

WARM: Final = (
    "device_sim.companion.export", "device_sim.companion.memory.cli", "device_sim.companion.memory.upkeep",
    "device_sim.companion.opening", "device_sim.companion.privacy.filter", "device_sim.companion.terminal",
    "device_sim.companion.router.router", "device_sim.companion.serving.opening", "openai",
    "personality_common.cli", "personality_common.text.encoder", "presidio_analyzer",
)  # fmt: skip
NEVER: Final = float("inf")
MESSAGES: Final = 3
"""Of a chat; a chat with an endpoint has one less."""


class Speaker:
    """Repeats the message's last word, a piece at a time."""

    card = Card("speaker", 4096)

    def stream(self, request: Request, stop: Stop) -> Generator[Piece, None, None]:
        for piece in ("So ", "it ", "is ", f"{request.messages[-1].content.split()[-1]}!"):
            time.sleep(0.004)
            yield Text(piece)
        yield End("stop")


@dataclass
class Life:
    """What was done so far.

    Attributes:
        said: messages whose answers were read to their end, that nobody wants forgotten.
        forgotten: messages that a command said are forgotten; `asked` for those that it was asked to forget.
        judged: how many judgements a command said are noted.
    """

    store: Path
    model: str
    draw: random.Random
    said: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    judged: int = 0
    number: int = 0

    def message(self) -> str:
        """One that is not in any other, with a word that is not either."""
        self.number += 1
        return f"My locker at the station has the code zq{self.number:05}x"

    def command(self, name: str, *more: str) -> list[str]:
        serving = name in ("chat", "serve")
        return [name, *(("--store", str(self.store), "--model", self.model) if serving else ()), *more]


@dataclass
class Child:
    """A command that was started; `killed` tells whether it died of the kill."""

    pid: int
    given: int
    said: int
    killer: int | None = None
    killed: bool = False
    code: int = 0

    def end(self) -> None:
        os.close(self.said)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.killed, self.code = status == -signal.SIGKILL, status
        if self.killer is not None:
            os.kill(self.killer, signal.SIGKILL)
            os.waitpid(self.killer, 0)

    def lines(self) -> Generator[str, None, None]:
        """Whole lines of its output, until it ends."""
        rest = b""
        while some := os.read(self.said, 1 << 16):
            *lines, rest = (rest + some).split(b"\n")
            yield from (line.decode() for line in lines)


def start(arguments: list[str], kill_after: float) -> Child:
    """A command in a child, and another child that kills it, so many seconds after."""
    their_in, given = os.pipe()
    said, their_out = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(given)
        os.close(said)
        errors = os.memfd_create("errors") if kill_after != NEVER else 2
        for descriptor, number in ((their_in, 0), (their_out, 1), (errors, 2)):
            os.dup2(descriptor, number)
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww")
        )
        run_pt(arguments)
    os.close(their_in)
    os.close(their_out)
    child = Child(pid, given, said)
    if kill_after != NEVER:
        # Of this very process, whatever else gets its number when it has ended before.
        process = os.pidfd_open(pid)
        child.killer = os.fork()
        if not child.killer:
            os.close(given)
            os.close(said)
            time.sleep(kill_after)
            signal.pidfd_send_signal(process, signal.SIGKILL)
            os._exit(0)
        os.close(process)
    return child


def run_pt(arguments: list[str]) -> NoReturn:
    """`pt`, and the end of this process."""
    from personality_common.cli import main

    sys.argv, code = ["pt", *arguments], 4
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def chat(life: Life, kill_after: float) -> Child:
    messages = [life.message() for _ in range(MESSAGES)]
    child = start(life.command("chat"), kill_after)
    with contextlib.suppress(BrokenPipeError):
        os.write(child.given, "".join(f"{message}\n" for message in messages).encode())
    os.close(child.given)
    for message, _ in zip(messages, child.lines(), strict=False):
        life.said.append(message)
    for _ in child.lines():
        pass
    child.end()
    return child


def serve(life: Life, kill_after: float) -> Child:
    child = start(life.command("serve", "--port", "0"), kill_after)
    os.close(child.given)
    lines = child.lines()
    found = re.search(r"127\.0\.0\.1:(\d+)", next(lines, ""))
    if found:
        try:
            _ask_endpoint(life, int(found[1]))
            os.kill(child.pid, signal.SIGTERM)
        except (OSError, http.client.HTTPException):
            pass
    for _ in lines:
        pass
    child.end()
    return child


def _ask_endpoint(life: Life, port: int) -> None:
    for _ in range(MESSAGES - 1):
        message = life.message()
        content = {"messages": [{"role": "user", "content": message}], "stream": True}
        events = [line for line in _post(port, "/companion/chat", content) if line.startswith("data: ")]
        if events[-1:] != ["data: [DONE]"]:
            return
        life.said.append(message)
        turns = next(json.loads(e[6:])["noted"]["turns"] for e in events if '"noted"' in e)
        _post(port, "/companion/judge", {"turn": turns[1], "thumbs": "up"})
        life.judged += 1
        if life.draw.random() < 0.5:
            life.said.remove(message)
            life.asked.add(message)
            _post(port, "/companion/forget", {"turns": turns})
            life.forgotten.add(message)


def _post(port: int, path: str, content: Any) -> list[str]:
    """Lines of the answer.

    Raises:
        OSError, http.client.HTTPException: it broke off, or is an error.
    """
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", path, json.dumps(content), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"{path}: {answer.status} {answer.read()[:200]!r}")
        return answer.read().decode().splitlines()


def feedback(life: Life, kill_after: float) -> Child:
    child = _quiet(life, kill_after, "feedback", str(life.store), "--thumbs", "down")
    life.judged += child.code == 0
    return child


def forget(life: Life, kill_after: float) -> Child:
    message = life.draw.choice(life.said)
    life.said.remove(message)
    life.asked.add(message)
    child = _quiet(
        life, kill_after, "memory", "forget", str(life.store), "--matching", message.split()[-1], "--yes"
    )
    if child.code == 0:
        life.forgotten.add(message)
    return child


def rebuild(life: Life, kill_after: float) -> Child:
    return _quiet(life, kill_after, "memory", "rebuild", str(life.store))


def _quiet(life: Life, kill_after: float, *words: str) -> Child:
    child = start(life.command(*words), kill_after)
    os.close(child.given)
    for _ in child.lines():
        pass
    child.end()
    return child


COMMANDS: Final[dict[str, tuple[Callable[[Life, float], Child], int]]] = {
    "chat": (chat, 8), "serve": (serve, 5), "feedback": (feedback, 3), "forget": (forget, 3),
    "rebuild": (rebuild, 1),
}  # fmt: skip
"""With how often they are drawn."""


def faults(life: Life) -> list[tuple[str, str]]:
    """What is wrong with the store once the next command has opened it: lost or damaged, and a sentence."""
    found = []
    audit = _quiet(life, NEVER, "memory", "audit", str(life.store))
    if audit.code != 0:
        return [("damaged", f"the next command ended with {audit.code}")]
    try:
        events = list(read_events(life.store / "events"))
        with Memory(life.store / "memory.sqlite") as memory:
            memory.check()
            turns = memory.turns()
    except Exception as error:
        return [("damaged", f"{type(error).__name__}: {error}")]
    if turns != {saying.turn for saying in remembered(events) if saying.text.strip()}:
        found.append(("damaged", "the memory is of other turns than the log"))
    texts = _texts(events)
    for message in life.said:
        if message not in texts or f"So it is {message.split()[-1]}!" not in texts:
            found.append(("lost", f"{message!r} or its answer, which was read to its end"))
    whole = b"".join(path.read_bytes() for path in life.store.rglob("*") if path.is_file())
    for message in life.forgotten:
        if message.split()[-1].encode() in whole:
            found.append(("lost", f"{message!r} should be forgotten, and is on the disk"))
    for message in life.asked:
        if (message in texts) != (message.split()[-1].encode() in whole):
            found.append(("damaged", f"{message!r} is half forgotten"))
    judged = sum(isinstance(event.body, Feedback) for event in events)
    if judged < life.judged:
        found.append(("lost", f"{life.judged - judged} judgements"))
    life.judged = judged
    return found


def _texts(events: list[Event]) -> set[str]:
    return {event.body.text for event in events if isinstance(event.body, Turn) and event.body.text}


@contextlib.contextmanager
def speaking() -> Generator[int, None, None]:
    """A server in a child of its own; its port."""
    told, tells = os.pipe()
    child = os.fork()
    if not child:
        endpoint = Endpoint(Speaker(), EndpointConfig(port=0))
        os.write(tells, f"{endpoint.server_address[1]}\n".encode())
        endpoint.run()
    os.close(tells)
    try:
        with os.fdopen(told) as lines:
            yield int(lines.readline())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/faults/kills.py")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="instead of the table")
    options = parser.parse_args()
    enough = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: enough.set())
    for name in WARM:
        __import__(name)
    kills = dict.fromkeys(COMMANDS, 0)
    ended = dict.fromkeys(COMMANDS, 0)
    wrong: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="kills.") as folder, speaking() as port:
        life = Life(Path(folder, "store"), f"http://127.0.0.1:{port}/v1", random.Random(options.seed))
        takes = {}
        for name, (run, _) in COMMANDS.items():
            began = time.monotonic()
            child = run(life, NEVER)
            takes[name] = time.monotonic() - began
            if child.killed or (child.code and name != "serve"):
                raise RuntimeError(f"{name}: must work when nothing is killed, ended with {child.code}")
        while sum(kills.values()) < options.kills and not enough.is_set():
            name = life.draw.choices(list(COMMANDS), [weight for _, weight in COMMANDS.values()])[0]
            if name == "forget" and not life.said:
                continue
            child = COMMANDS[name][0](life, life.draw.uniform(0, takes[name]))
            kills[name] += child.killed
            ended[name] += not child.killed
            for kind, fault in faults(life):
                wrong.append((kind, f"kill {sum(kills.values())}, {name}: {fault}"))
                print(kind, wrong[-1][1], file=sys.stderr, flush=True)
        told = {"said": len(life.said), "forgotten": len(life.forgotten), "judged": life.judged}
    lost, damaged = (sum(kind == k for k, _ in wrong) for kind in ("lost", "damaged"))
    if options.json:
        print(json.dumps({"kills": kills, "ended": ended, "lost": lost, "damaged": damaged, **told}))
    else:
        for name in COMMANDS:
            print(f"{name:10} {kills[name]:4} killed, {ended[name]:3} ended before")
        print(f"{sum(kills.values())} kills: {lost} lost, {damaged} damaged; {told}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
