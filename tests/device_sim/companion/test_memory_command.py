"""`pt memory` on stores with a log, repaired, killed and spoiled."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hash_encoder import HashEncoder
from json_results import followed

from device_sim.companion.events import Turn
from device_sim.companion.log import EventLog, read_events
from device_sim.companion.memory import cli
from device_sim.companion.memory.memory import Memory
from device_sim.companion.memory.sayings import remembered
from device_sim.companion.store import hold_store
from personality_common.errors import ToolkitError

ROOT = Path(__file__).parents[3]
SAID = (
    "My sister Ida keeps bees.",
    "The kiln fires on Friday.",
    "\x1b[31mred \u202eevil",
    "The kiln is blue",
)
SECRET = "zyxomma-kwyq lies under the threshold"


@pytest.fixture(autouse=True)
def _no_minilm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_load", lambda name: HashEncoder())


def chat(store: Path, *texts: str, memories: tuple[str, ...] = ()) -> list[str]:
    with hold_store(store, create=True) as held, EventLog(held.events) as log:
        turns = [Turn("c", "user", text, memories=memories) for text in texts]
        return [log.append(turn).id for turn in turns]


def pt(*arguments: str, given: str | None = None, columns: int = 200) -> Result:
    return CliRunner().invoke(
        cli.memory, list(arguments), given, catch_exceptions=False, env={"COLUMNS": str(columns)}
    )


def pt_json(*arguments: str) -> Any:
    done = pt(*arguments, "--json")
    assert done.exit_code == 0
    found = followed(done.stdout, "device_sim/companion/memory/memory")
    # A list is all that a search, show or audit has.
    (only,) = found.values() if len(found) == 1 else (found,)
    return only


@pytest.fixture
def store(tmp_path: Path) -> Path:
    chat(tmp_path / "store", *SAID)
    return tmp_path / "store"


def test_search_show_audit_and_export_say_what_the_log_says(store: Path) -> None:
    (used,) = chat(store, "what did I say?", memories=(f"{turns(store)[1]}.0",))
    hits = pt_json("search", str(store), "The kiln fires on Friday.", "-k", "2")
    assert hits[0]["text"] == "The kiln fires on Friday."
    assert hits[0]["dense"] == pytest.approx(1, abs=1e-3)
    (shown,) = pt_json("show", str(store), hits[0]["turn_id"])
    assert shown == pt_json("show", str(store), hits[0]["chunk_id"])[0]
    assert shown["last_used"] == next(e.time for e in read_events(store / "events") if e.id == used)
    known = pt_json("audit", str(store))
    assert [one["text"] for one in known] == ["what did I say?", *reversed(SAID)]
    lines = pt("export", str(store)).stdout.splitlines()
    assert [json.loads(line)["turns"][0] for line in lines] == turns(store)
    pt("export", str(store), "--out", str(store / "out.jsonl"))
    assert (store / "out.jsonl").read_text().splitlines() == lines
    found = pt_json("eval", str(store))
    assert found["figures"]["lexical"]["recall"] == 1
    assert found["questions"] == 4


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_tables_fit_and_obey_nothing(store: Path, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from personality_common.terminal import console

    monkeypatch.setattr(console.output, "width", columns)
    turn = turns(store)[2]
    for command in (["audit"], ["search", "kiln"], ["show", turn], ["eval"]):
        printed = pt(command[0], str(store), *command[1:], columns=columns).stdout
        assert printed
        assert "\x1b" not in printed
        assert "\u202e" not in printed
        assert max(map(len, printed.splitlines())) <= columns
    refused = pt("forget", str(store), turn, given="n\n")
    assert (refused.exit_code, refused.stdout.splitlines()[-1]) == (0, "nothing forgotten")
    assert len(pt_json("audit", str(store))) == len(SAID)


def turns(store: Path) -> list[str]:
    return [event.id for event in read_events(store / "events") if isinstance(event.body, Turn)]


def leaks(store: Path) -> list[Path]:
    """Files with a part of the secret, which has no hexadecimal digits: ids have all of these by chance."""
    return [
        path
        for path in store.rglob("*")
        if path.is_file() and any(part in path.read_bytes().lower() for part in (b"yxomma", b"kwyq"))
    ]


def test_forget_by_turn_by_chunk_and_by_text(store: Path) -> None:
    long = "A tale of bees and honey. " * 60
    secret, again, twin, story = chat(store, SECRET, f"{SECRET}!", SECRET, long)
    assert len(pt_json("audit", str(store))) > 6
    assert leaks(store)
    assert pt_json("forget", str(store), f"{story}.1", "--yes") == {"turns": [story], "chunks": 2}
    forgotten = pt_json("forget", str(store), f"{secret}.0", "--yes")
    assert forgotten == {"turns": [secret, twin], "chunks": 1}
    assert leaks(store)
    shown = pt("forget", str(store), "--matching", "ZYXOMMA-kwyq   lies", given="y\n")
    assert "zyxomma" in shown.stdout
    assert "forgotten: 1 turn, 1 chunk" in shown.stdout
    assert leaks(store) == []
    assert again not in str(pt_json("audit", str(store)))
    assert pt_json("forget", str(store), "--matching", "nowhere to be found", "--yes")["turns"] == []
    with pytest.raises(ToolkitError, match=r"'no\.0' is not; pt memory audit"):
        pt("forget", str(store), "no.0", "--yes")
    with pytest.raises(ToolkitError, match="name turns or chunks"):
        pt("forget", str(store))


@pytest.mark.parametrize("how", ["noise", "cut", "gone"])
def test_a_damaged_index_is_made_anew_and_said_so(store: Path, how: str) -> None:
    before, path = pt_json("audit", str(store)), store / "memory.sqlite"
    if how == "gone":
        path.unlink()
    elif how == "cut":
        os.truncate(path, path.stat().st_size - 4096)
    else:
        path.write_bytes(b"\xa5" * 9_000)
    done = pt("audit", str(store), "--json")
    assert json.loads(done.stdout)["chunks"] == before
    assert ("added" if how == "gone" else "made anew from the log, since") in done.stderr
    (secret,) = chat(store, SECRET)
    pt_json("audit", str(store))
    path.write_bytes(path.read_bytes()[:-5000])
    assert pt_json("forget", str(store), secret, "--yes")["turns"] == [secret]
    assert leaks(store) == []
    assert pt_json("audit", str(store)) == before


def test_another_encoder_needs_a_rebuild(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pt_json("audit", str(store))
    monkeypatch.setattr(cli, "_load", lambda name: HashEncoder("another"))
    with pytest.raises(ToolkitError, match="pt memory rebuild"):
        pt("search", str(store), "kiln")
    assert pt_json("rebuild", str(store)) == {"turns": 4, "chunks": 4}
    assert pt_json("search", str(store), SAID[0])[0]["text"] == SAID[0]
    assert pt_json("audit", str(store)) == before


def test_while_another_has_the_store_it_can_be_read(store: Path) -> None:
    known = pt_json("audit", str(store))
    with hold_store(store):
        chat_ahead = pt_json("audit", str(store))
        assert pt_json("search", str(store), SAID[0])[0]["text"] == SAID[0]
        with pytest.raises(ToolkitError, match="is working in this folder"):
            pt("forget", str(store), "--matching", "kiln", "--yes")
    assert chat_ahead == known


KILLED = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from hash_encoder import HashEncoder
from device_sim.companion.events import Turn
from device_sim.companion.log import EventLog
from device_sim.companion.memory.memory import build
from device_sim.companion.memory.sayings import remembered
from device_sim.companion.memory.upkeep import forget, open_memory
from device_sim.companion.store import hold_store

with hold_store(Path(sys.argv[1])) as held, EventLog(held.events) as log:
    memory, _ = open_memory(held.memory, log, HashEncoder, embeds=True)
    turns = [event.id for event in log.read() if isinstance(event.body, Turn) and event.body.text]
    print("ready", flush=True)
    if sys.argv[2] == "add":
        for number in range(10_000):
            event = log.append(Turn("c", "user", f"another day, number {number}"))
            memory.add(event.id, event.body.text, event.user, event.time, "user")
    elif sys.argv[2] == "forget":
        for turn in turns:
            forget(log, memory, [turn])
    else:
        while True:
            build(held.memory, HashEncoder(), remembered(log.read()))
"""


@pytest.mark.parametrize("what", ["add", "forget", "rebuild"])
def test_a_kill_leaves_nothing_half_remembered(tmp_path: Path, what: str) -> None:
    """After SIGKILL at some moment what opens next has just the turns that the log has."""
    store = tmp_path / "store"
    chat(store, *(f"zyxomma-kwyq number {number} of many" for number in range(120)))
    for attempt in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(store), what, str(ROOT / "tests" / "faults")],
            stdout=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(0.05 + 0.2 * attempt)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
        known = pt_json("audit", str(store))
        left = {saying.turn: saying.text for saying in remembered(read_events(store / "events"))}
        assert {turn for one in known for turn in one["turns"]} == left.keys()
        assert {one["text"] for one in known} == set(left.values())
        assert not list(store.glob(".*.tmp")) + list(store.glob("*-journal"))
        with Memory(store / "memory.sqlite", HashEncoder()) as memory:
            assert memory.search(known[-1]["text"], "default")[0].text == known[-1]["text"]
    if what == "forget":
        assert len(left) < 120
        pt_json("forget", str(store), "--matching", "zyxomma", "--yes")
        assert leaks(store) == []
