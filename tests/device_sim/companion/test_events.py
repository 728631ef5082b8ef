"""The store and its event log: what is said stays, what is forgotten goes, and a kill changes neither."""

import json
import os
import random
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from device_sim.companion import events
from device_sim.companion.events import Event, Feedback, Forgotten, Redacted, Route, Session, Turn, new_id
from device_sim.companion.log import EventLog, read_events
from device_sim.companion.store import Store, hold_store, open_store
from personality_common.errors import DataError, ToolkitError
from personality_common.files.atomic import read_json_object

HERE = Path(events.__file__)
SCHEMA = read_json_object(HERE.with_name("event.schema.json"))
STORE_SCHEMA = read_json_object(HERE.with_name("companion.schema.json"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with hold_store(tmp_path / "store", create=True) as held:
        yield held


def said(text: str = "My cat is called Mia.", role: str = "user") -> Turn:
    return Turn("c", "user" if role == "user" else "assistant", text)


def disk(store: Store) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(store.path.rglob("*")) if path.is_file())


def test_a_store_is_private_and_says_what_it_is(store: Store) -> None:
    with EventLog(store.events) as log:
        log.append(said())
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (store.path, store.events)}
    assert set(modes.values()) == {0o700}
    assert stat.S_IMODE((store.events / "000001.jsonl").stat().st_mode) == 0o600
    jsonschema.validate(read_json_object(store.path / "store.json"), STORE_SCHEMA)
    assert open_store(store.path) == store


def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(DataError, match="has something in it"), hold_store(tmp_path, create=True):
        pass
    with pytest.raises(DataError, match=r"has no store\.json"), hold_store(tmp_path / "none"):
        pass
    (tmp_path / "store.json").write_text('{"schema": 2, "kinds": {}}')  # of the registry
    for create in (False, True):
        with (
            pytest.raises(DataError, match="of kind 'companion'"),
            hold_store(tmp_path, create=create),
        ):
            pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "store.json"]


def test_links_in_a_store_are_refused(store: Store, tmp_path: Path) -> None:
    (store.path / "memory.sqlite").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="through no link"):
        open_store(store.path)


def test_two_writers(store: Store) -> None:
    with pytest.raises(ToolkitError, match=f"process {os.getpid()} is working"), hold_store(store.path):
        pass


def test_lines_follow_the_schema_and_come_back_as_they_were(store: Store) -> None:
    bodies: list[events.Body] = [
        Session("c", "smollm2", "b" * 8, "h0001-0123456789ab"),
        Turn("c", "user", "é\u2028\n\r{}\x00\x1b[2J", tags=("no-train",), mood=("calm",), memories=("7",)),
        Turn("c", "assistant", "", partial=True, model="smollm2"),
        Feedback("0" * 12 + "-" + "0" * 8, -0.5, "edit", "better"),
        Route("0" * 12 + "-" + "0" * 8, "both", {"adapter": 0.25}),
        Redacted("0" * 12 + "-" + "0" * 8, {"email": 2}),
        Forgotten(("0" * 12 + "-" + "0" * 8,)),
    ]
    with EventLog(store.events) as log:
        written = [log.append(body, user="ada") for body in bodies]
    assert list(read_events(store.events)) == written
    assert [event.body for event in written] == bodies
    lines = (store.events / "000001.jsonl").read_bytes().split(b"\n")[:-1]
    for line in lines:
        jsonschema.validate(json.loads(line), SCHEMA)
    named = {"schema", "id", "time", "kind", "user", *SCHEMA["$defs"]["turn"]["properties"]}
    assert set(json.loads(lines[1])) == named
    for wrong in ({"text": None}, {"kind": "dream"}, {"id": "1"}, {"role": "system"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(json.loads(lines[1]) | wrong, SCHEMA)


def test_ids_rise_whatever_the_clock_does(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([5_000_000_000, 5_000_000_000, 1_000_000_000, 9_000_000_000])
    monkeypatch.setattr(time, "time_ns", lambda: next(clock) * 1_000_000)
    with EventLog(store.events) as log:
        first = [log.append(said()).id for _ in range(2)]
    with EventLog(store.events) as log:
        assert sorted(ids := [*first, *(log.append(said()).id for _ in range(2))]) == ids


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{\n", "must be an event in JSON"),
        (b"[1]\n", "an object"),
        (b"[" * 100_000 + b"\n", "must be an event in JSON"),
        (b'{"schema": 2, "kind": "turn"}\n', "schema 2, kind 'turn'"),
        (b'{"schema": 1, "kind": ["turn"]}\n', "kind among"),
        (b'{"schema": 1, "kind": "turn", "id": 3}\n', "id must be a string"),
        (b'{"schema": 1, "kind": "forget", "id": "x", "time": "", "user": "", "turns": []}\n',
         "id must be one"),
        (b'{"schema": 1, "kind": "forget", "id": "x", "time": "", "user": "", "turns": [1]}\n', "turns"),
        (b'{"schema": 1, "kind": "turn", "id": "x", "time": "", "user": "", "conversation": "c", "role": '
         b'"user", "text": null}\n', "unless it is forgotten"),
        (b" " * (2 << 20) + b"\n", "a line may have"),
    ],
)  # fmt: skip
def test_damage_is_named_with_file_and_line(store: Store, line: bytes, message: str) -> None:
    with EventLog(store.events) as log:
        log.append(said())
        log.append(said())
    file = store.events / "000001.jsonl"
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + line + second)
    with pytest.raises(DataError, match=message) as error:
        list(read_events(store.events))
    assert f"{file}:2: " in str(error.value)


def test_order_gaps_and_lines_without_an_end_are_damage(store: Store) -> None:
    with EventLog(store.events, max_file_bytes=1) as log:
        for _ in range(3):
            log.append(said())
    one, two, three = sorted(store.events.iterdir())
    whole = one.read_bytes()
    one.write_bytes(whole + whole)
    with pytest.raises(DataError, match=r"000001\.jsonl:2: id must be one, and above"):
        list(read_events(store.events))
    one.write_bytes(whole[:-9])  # in the middle of the log this is no kill
    with pytest.raises(DataError, match=r"000001\.jsonl:1: a line must have an end"):
        list(read_events(store.events))
    with EventLog(store.events) as log:
        assert log.repaired is None
    assert one.read_bytes() == whole[:-9]
    one.write_bytes(whole)
    two.rename(store.path / "away")
    with pytest.raises(DataError, match=f"{three.name} follows {one.name}"):
        list(read_events(store.events))


@pytest.mark.parametrize("tail", [b"{", b'{"schema": 1, "text": "I tol', b"\0" * 512, b'{"a": "\0\0"}\n'])
def test_a_torn_last_line_is_cut_off_and_reported(store: Store, tail: bytes) -> None:
    with EventLog(store.events) as log:
        kept = log.append(said())
    file = store.events / "000001.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + tail)
    if not tail.endswith(b"\n"):
        assert list(read_events(store.events)) == [kept]  # a reader leaves it to the writer
    with EventLog(store.events) as log:
        assert log.repaired is not None
        assert (log.repaired.torn_bytes, log.repaired.forgotten) == (len(tail), 0)
        assert file.read_bytes() == whole
        log.append(said())
    assert len(list(read_events(store.events))) == 2
    file.write_bytes(file.read_bytes() + b"{}\n")  # a whole line is never cut off, whatever it says
    with pytest.raises(DataError, match="its last line"):
        EventLog(store.events)


def test_files_rotate_by_size(store: Store) -> None:
    with EventLog(store.events, max_file_bytes=800) as log:
        written = [log.append(said("x" * 100)) for _ in range(7)]
    sizes = [path.stat().st_size for path in sorted(store.events.iterdir())]
    assert len(sizes) == 4
    assert max(sizes) <= 800
    with EventLog(store.events, max_file_bytes=800) as log:
        assert list(log.read()) == written
        log.append(said("x" * 2000))  # one that is longer than a file has a file of its own
    assert len(list(store.events.iterdir())) == 5


def test_forgotten_text_is_in_no_byte_of_the_store(store: Store) -> None:
    with EventLog(store.events, max_file_bytes=1500) as log:
        secret = log.append(Turn("c", "user", "My password is zebra-crossing.", mood=("careless",)))
        answer = log.append(said("You said zebra-crossing.", "assistant"))
        log.append(Feedback(answer.id, 1, "edit", "zebra-crossing it is"))
        others = [log.append(said("y" * 200)) for _ in range(8)]
        assert log.erase([secret.id, answer.id, new_id(None)]) == 2
        assert log.erase([secret.id]) == 0
        with pytest.raises(ToolkitError, match="must be the id of a turn"):
            log.erase(["zebra"])
        log.append(said("Still here."))
    assert b"zebra" not in disk(store)
    assert b"careless" not in disk(store)
    found = list(read_events(store.events))
    assert [e for e in found if e in others] == others
    kept = {e.id: e.body for e in found}
    assert kept[secret.id] == Turn("c", "user", None, forgotten=True)
    for path in store.events.iterdir():
        for line in path.read_text().splitlines():
            jsonschema.validate(json.loads(line), SCHEMA)


def test_forgetting_that_a_kill_stopped_is_completed(store: Store) -> None:
    with EventLog(store.events) as log:
        turn = log.append(said("zebra"))
        log.append(Forgotten((turn.id,)))  # and here it ends
    assert b"zebra" in disk(store)
    with EventLog(store.events) as log:
        assert log.repaired is not None
        assert log.repaired.forgotten == 1
    assert b"zebra" not in disk(store)


@pytest.mark.parametrize("body", [said("x" * (1 << 20)), said("\ud800")], ids=["long", "surrogate"])
def test_what_cannot_be_kept_is_refused_whole(store: Store, body: Turn) -> None:
    with EventLog(store.events) as log:
        with pytest.raises(ToolkitError, match=r"an event may have|must be Unicode"):
            log.append(body)
        kept = log.append(said())
        assert list(log.read()) == [kept]


def live(path: Path, acknowledge: int, seed: int) -> None:
    """Talk, and forget every fifth thing, until killed; what was said is acknowledged once it is kept."""
    draw = random.Random(seed)
    with hold_store(path, create=True) as store, EventLog(store.events, max_file_bytes=4000) as log:
        while True:
            turn = log.append(said(f"secret{draw.random()} " + "z" * draw.randrange(900)))
            os.write(acknowledge, f"+{turn.id}\n".encode())
            if draw.random() < 0.2:
                log.erase([turn.id])
                os.write(acknowledge, f"-{turn.id}\n".encode())


def test_nothing_said_is_lost_and_nothing_damaged_by_kills(tmp_path: Path) -> None:
    """Real SIGKILLs at any moment, on one store that lives on; what was acknowledged must be there."""
    path, draw = tmp_path / "store", random.Random(0)
    kept: dict[str, bool] = {}
    for kill in range(40):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            live(path, writing, kill)
        os.close(writing)
        with os.fdopen(reading) as acknowledged:
            first = [acknowledged.readline()] if kill % 4 else []  # some while they open the store
            time.sleep(draw.uniform(0.001, 0.03))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            for line in first + acknowledged.readlines():
                kept[line[1:].strip()] = line[0] == "+"
        if not (path / "store.json").exists():
            continue
        with hold_store(path) as store:
            if store.events.exists():
                EventLog(store.events, max_file_bytes=4000).close()
        texts = {e.id: e.body.text for e in read_events(path / "events") if isinstance(e.body, Turn)}
        assert kept.keys() <= texts.keys()
        assert all(texts[turn] is None for turn, there in kept.items() if not there)
        forgotten = {
            t for e in read_events(path / "events") if isinstance(e.body, Forgotten) for t in e.body.turns
        }
        assert {turn for turn, text in texts.items() if text is None} == forgotten
        assert not list(path.rglob("*.tmp"))
    assert len(kept) >= 30


def test_events_are_told_apart_by_kind() -> None:
    assert {body.kind for body in events.BODIES.values()} == set(SCHEMA["properties"]["kind"]["enum"])
    assert Event("i", "t", "u", said()).line().endswith(b'"forgotten": false}\n')
