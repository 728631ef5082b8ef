"""`python tests/faults/night_kills.py [--kills 200] [--seed 0] [--json]`: SIGKILL at any moment of a night.

A companion has had a day of sixteen answers that were edited. Its night is `pt night run` as it is, with
SmolLM2, PyTorch and llama.cpp, in children of one warm process. It is lived once unkilled. Then copies of the
store live it, and each process is killed: in the step that is next, mostly, or in a later one, at a moment
drawn over the time that the step took unkilled. Most go on with --resume. After each kill the store must be
readable, every byte of the log and of the version from before be there, and active be that version or the
finished one, as the step has it. A night that came to its end must equal the unkilled one: adapter, answers,
figures, decision. Then `pt adapters rollback` must bring back what was active before.

The day is short, the suite of tasks is of products, and what the base says to prompts of nobody's is kept
from the unkilled night, as it would be from an earlier one, so that a night takes minutes; all else is as
always.
Exits with 1 if anything was lost, damaged, different or left over. SIGTERM ends it once the night that is
under way is at its end, with the table so far.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from kills import run_pt

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from night_days import said as messages

from device_sim.adapters.learned import LEARNED, create_adapters, open_adapters
from device_sim.companion.events import Feedback, Route, Turn, new_conversation
from device_sim.companion.log import EventLog
from device_sim.companion.models.llama import smollm2
from device_sim.companion.store import hold_store
from device_sim.night.general import GENERAL_FILE
from device_sim.night.report import read_report
from device_sim.night.state import (
    AFTER_FILE,
    BEFORE_FILE,
    NIGHTS,
    STATE_FILE,
    STEPS,
    Night,
    folder_of,
    read_nights,
)
from personality_common.files.atomic import file_sha256
from personality_common.registry.pointers import STORE_FILE
from personality_common.registry.versions import VERSIONS_DIR

WARM: Final = (
    "device_sim.adapters.cli", "device_sim.adapters.rendering", "device_sim.finetuning.training",
    "device_sim.night.cli", "device_sim.night.cycle", "device_sim.night.models", "device_sim.night.rendering",
    "peft", "personality_common.cli", "personality_common.terminal.console",
    "personality_common.text.bert_numpy", "personality_common.text.encoder", "transformers.models.llama",
    "xllamacpp",
)  # fmt: skip
START: Final = "start"
"""Before the night is on the disk."""
PARTS: Final = (START, *STEPS)
STAYS: Final = 0.75
"""Share of kills that are meant for the step that is next; of the rest the same share for the one after."""
ANEW: Final = 0.04
"""Share of runs without --resume: the night begins anew, unless its gate has decided."""
SIGN_OFF: Final = "Aye aye! Fair winds!"
TURNS: Final = 16
"""Of a day, of which eight are held out: the fewest that a gate judges."""
DAY: Final = 84_772
"""Of the ids, which say what is held out: so that the gate takes what is learned."""
TASKS: Final = 30
"""Of the suite, each answered before and after; of much fewer the gate would be sure of nothing."""


@dataclass(frozen=True)
class Told:
    """What a store has that no night may change, and what is active.

    Attributes:
        files: path -> SHA-256 of the log and of versions.
        adapter: of the active version, as llama.cpp would be given it.
    """

    files: dict[str, str]
    active: str
    adapter: bytes


@dataclass(frozen=True)
class Unkilled:
    """The night as it is when nothing is killed.

    Attributes:
        before: what the night found.
        night: without what the clock says.
        adapter: that went live.
        measured: SHA-256 of the files of answers and scores.
        takes: seconds of each part.
    """

    before: Told
    night: Night
    adapter: bytes
    measured: dict[str, str]
    takes: dict[str, float]


@dataclass
class Tally:
    """What came of it.

    Attributes:
        kills: by the part that the night was in; after `anew` of them the night began anew.
        nights: that came to their end, `unkilled` of their last runs.
        faults: lost, damaged or different, and a sentence.
    """

    kills: Counter[str] = field(default_factory=Counter)
    anew: int = 0
    nights: int = 0
    rollbacks: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Moment:
    """So many seconds after a part of the night began."""

    part: str
    after: float


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    killed: bool
    code: int
    said: str


def run(arguments: Sequence[object], kill: Moment | None = None) -> Ended:
    """A `pt` in a child, which is killed at a moment, if it comes to it."""
    said, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.close(said)
        for descriptor, number in ((os.open(os.devnull, os.O_RDONLY), 0), (theirs, 1), (theirs, 2)):
            os.dup2(descriptor, number)
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww")
        )
        run_pt([str(argument) for argument in arguments])
    os.close(theirs)
    text, deadline, began = b"", None, time.monotonic()
    while True:
        if kill is not None and deadline is None:
            if kill.part == START:
                deadline = began + kill.after
            elif re.search(rb"^night-\d+: %s$" % kill.part.encode(), text, re.M):
                deadline = time.monotonic() + kill.after
        patience = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([said], [], [], patience)[0]:
            os.kill(child, signal.SIGKILL)
            break
        if not (some := os.read(said, 1 << 16)):
            break
        text += some
    os.close(said)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Ended(code == -signal.SIGKILL, code, text.decode(errors="replace"))


def write_day(store: Path) -> None:
    """A day of so many turns, each of which was edited to the same words; each time the same."""
    ids = (f"{DAY:012x}-{number:08x}" for number in count())
    given = patch("device_sim.companion.log.new_id", lambda last: next(ids))
    with given, hold_store(store, create=True) as held, EventLog(held.events) as log:
        for message in messages(TURNS):
            conversation = new_conversation()
            asked = log.append(Turn(conversation, "user", message))
            answered = log.append(Turn(conversation, "assistant", "That is a fine thing to do."))
            log.append(Route(asked.id, "adapter", {"adapter": 1.0}))
            log.append(Feedback(answered.id, -0.3, "edit", SIGN_OFF))


def write_suite(path: Path) -> None:
    """Products that the model cannot do, before or after: of what it can, sixteen turns may cost too much."""
    factors = [(211 + 7 * i, 345 + 11 * i) for i in range(TASKS)]
    tasks = [
        f'[[tasks]]\nid = "products.{a}-times-{b}"\nprompt = "What is {a} times {b}?"\n'
        f"number = {a * b}\nmax_tokens = 12\n"
        for a, b in factors
    ]
    path.write_text("\n".join(('name = "products"\n', *tasks)), encoding="utf-8")


def command(store: Path, suite: Path, model: str) -> list[object]:
    return ["night", "run", store, "--suite", suite, "--model", model, "--min-free", 0]


def tell(store: Path) -> Told:
    """All that is there, but what a night replaces."""
    changed = (store / LEARNED / STORE_FILE, store / NIGHTS / GENERAL_FILE)
    files = {
        str(path.relative_to(store)): file_sha256(path)
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name != ".lock" and path not in changed
    }
    return Told(files, open_adapters(store).active, active_adapter(store))


def active_adapter(store: Path) -> bytes:
    registry = open_adapters(store)
    return (registry.path / VERSIONS_DIR / registry.active / registry.codec.itself).read_bytes()


def measured(store: Path) -> dict[str, str]:
    return {name: file_sha256(folder_of(store, 1) / name) for name in (BEFORE_FILE, AFTER_FILE)}


def untimed(night: Night) -> Night:
    """A night without what the clock says, and how much memory a process had had before."""
    training = night.training and replace(night.training, seconds=0.0, peak_bytes=0)
    return replace(night, began="", ended=None, seconds={}, training=training)


def live_unkilled(store: Path, suite: Path, model: str) -> Unkilled:
    """The night that others are compared with.

    Raises:
        RuntimeError: it was not accepted: nothing would go live.
    """
    before, began = tell(store), time.monotonic()
    lived = run(command(store, suite, model))
    took = time.monotonic() - began
    night = read_nights(store)[-1]
    if lived.code or night.step != "done" or not night.accepted:
        raise RuntimeError(f"the night must be accepted, came to {lived.code}:\n{lived.said}")
    takes: dict[str, float] = {step: night.seconds.get(step, 0.0) for step in STEPS}
    takes[START] = max(0.0, took - sum(takes.values()))
    return Unkilled(before, untimed(night), active_adapter(store), measured(store), takes)


def keep_general(lived: Path, store: Path) -> None:
    """What the base says to prompts of nobody's, which a night asks once."""
    (store / NIGHTS).mkdir()
    shutil.copy(lived / NIGHTS / GENERAL_FILE, store / NIGHTS)


def part_of(store: Path) -> str:
    """Of the night that is lived: what is to be done next."""
    nights = read_nights(store)
    return nights[-1].step if nights else START


def aim(part: str, unkilled: Unkilled, draw: random.Random) -> Moment:
    """A moment in the part that is next, mostly, or in a later one; in `done` it ends before it is killed."""
    at = PARTS.index(part)
    while draw.random() > STAYS and PARTS[at] != "done":
        at += 1
    return Moment(PARTS[at], draw.uniform(0, unkilled.takes[PARTS[at]]))


def faults(store: Path, unkilled: Unkilled) -> list[tuple[str, str]]:
    """What is wrong with a store whose night was killed, or has ended."""
    for words in (("night", "report"), ("adapters", "list")):
        if (read := run([*words, store])).code:
            return [("damaged", f"pt {' '.join(words)} ended with {read.code}: {read.said}")]
    found = []
    try:
        now, registry = tell(store), open_adapters(store)
        read_report(store)
        damage = registry.audit().damage
    except Exception as error:
        return [("damaged", f"{type(error).__name__}: {error}")]
    found += [("damaged", f"{version}: {why}") for version, why in damage.items() if why]
    for path, digest in unkilled.before.files.items():
        if now.files.get(path) != digest:
            found.append(("lost", f"{path} is not what it was"))
    at, turns = PARTS.index(part_of(store)), PARTS.index("activate")
    may = [unkilled.before.adapter] * (at <= turns) + [unkilled.adapter] * (at >= turns)
    if now.adapter not in may:
        found.append(("different", f"{now.active} is active before {PARTS[at]}"))
    return found


def faults_at_the_end(store: Path, unkilled: Unkilled) -> list[tuple[str, str]]:
    """What differs from the unkilled night; then the store is rolled back, and what differs from before."""
    found = []
    night, registry, before = read_nights(store)[-1], open_adapters(store), unkilled.before
    if active_adapter(store) != unkilled.adapter:
        found.append(("different", f"the adapter: {registry.active} is active"))
    if measured(store) != unkilled.measured:
        found.append(("different", "answers or scores"))
    for name, value in asdict(unkilled.night).items():
        theirs = asdict(untimed(night))[name]
        if name in ("version", "activated"):  # a kill may cost a number; what follows it is of the content
            value, theirs = value.split("-")[1], str(theirs).split("-")[-1]
        if theirs != value:
            found.append(("different", f"{name} of the night"))
    known = {str(folder_of(Path(), night.number) / n) for n in (STATE_FILE, BEFORE_FILE, AFTER_FILE)}
    known |= {p for p in tell(store).files if p.startswith(f"{LEARNED}/{VERSIONS_DIR}/{registry.active}/")}
    if over := tell(store).files.keys() - before.files.keys() - known:
        found.append(("left over", ", ".join(sorted(over))))
    back = run(["adapters", "rollback", store])
    after = tell(store)
    if back.code or (after.active, after.adapter) != (before.active, before.adapter):
        found.append(("different", f"rolled back ({back.code}): {after.active} is active"))
    found += [("lost", f"{p} after rollback") for p in before.files if after.files.get(p) != before.files[p]]
    return found


def kill_nights(
    prepared: Path,
    folder: Path,
    unkilled: Unkilled,
    suite: Path,
    model: str,
    kills: int,
    seed: int,
    enough: threading.Event,
) -> Tally:
    """Live the night from copies of a store, killed so many times in all; the last one to its end."""
    draw, tally, store = random.Random(seed), Tally(), folder / "killed"
    done = False

    def note(wrong: list[tuple[str, str]]) -> None:
        for kind, fault in wrong:
            tally.faults.append((kind, f"kill {tally.kills.total()}: {fault}"))
            print(kind, tally.faults[-1][1], file=sys.stderr, flush=True)

    while not done:
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(prepared, store)
        while (part := part_of(store)) != "done":
            done = tally.kills.total() >= kills or enough.is_set()
            anew = part != START and not done and draw.random() < ANEW
            begins = anew and STEPS.index(part) <= STEPS.index("gate")
            tally.anew += begins
            aimed = None if done else aim(START if begins else part, unkilled, draw)
            resume = [] if part == START or anew else ["--resume"]
            began = time.monotonic()
            ended = run([*command(store, suite, model), *resume], aimed)
            after = part_of(store)
            tally.kills[after] += ended.killed
            how = "killed" if ended.killed else "ended"
            said = f"{tally.kills.total():3} {part} {'anew ' if begins else ''}{how} in {after}"
            print(f"{said}, {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
            if not ended.killed and ended.code:
                note([("damaged", f"pt night run ended with {ended.code}: {ended.said}")])
                return tally
            note(faults(store, unkilled))
        note(faults_at_the_end(store, unkilled))
        tally.nights += 1
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/faults/night_kills.py")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="instead of the table")
    options = parser.parse_args()
    enough = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: enough.set())
    for name in WARM:
        __import__(name)
    if sum(1 for _ in Path("/proc/self/task").iterdir()) > 1:
        raise RuntimeError("children must be of a process of one thread")
    model = "smollm2"
    with tempfile.TemporaryDirectory(prefix="night-kills.") as name:
        folder = Path(name)
        prepared, reference, suite = folder / "prepared", folder / "unkilled", folder / "suite.toml"
        write_suite(suite)
        write_day(prepared)
        create_adapters(prepared, smollm2())
        shutil.copytree(prepared, reference)
        unkilled = live_unkilled(reference, suite, model)
        keep_general(reference, prepared)
        print({part: round(s, 3) for part, s in unkilled.takes.items()}, file=sys.stderr, flush=True)
        tally = kill_nights(prepared, folder, unkilled, suite, model, options.kills, options.seed, enough)
    kinds = Counter(kind for kind, _ in tally.faults)
    found: dict[str, Any] = {
        "kills": tally.kills.total(),
        "by_step": {part: tally.kills[part] for part in PARTS},
        "took_s": {part: round(unkilled.takes[part], 3) for part in PARTS},
        "anew": tally.anew,
        "nights": tally.nights,
        **{kind.replace(" ", "_"): kinds[kind] for kind in ("lost", "damaged", "different", "left over")},
    }
    if options.json:
        print(json.dumps(found))
    else:
        for part in PARTS:
            print(f"{part:10} {tally.kills[part]:4} killed, {unkilled.takes[part]:8.2f} s unkilled")
        print({name: value for name, value in found.items() if name not in ("by_step", "took_s")})
    return int(bool(tally.faults))


if __name__ == "__main__":
    sys.exit(main())
