"""The store keeps versions byte for byte, and never activates one that it should not."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from personality_common.errors import ConfigError, DataError, MismatchError, ToolkitError
from personality_common.files.atomic import folder_lock
from personality_common.registry.record import Gate, Record, check_id, now
from personality_common.registry.registry import Registry


def file_of(store: Any, version: Any, name: Any = "note.txt") -> Any:
    return store.path / "versions" / version / name


def ours(content: Any) -> Any:
    return content["kinds"]["note"]


def edit(path: Any, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_what_shipped_is_active_and_pinned_from_the_start(store: Any, make_note: Any) -> None:
    (line,) = store.versions()
    assert (line.version, line.active, line.pinned) == (store.active, True, True)
    assert line.stored.record.parents == ()
    assert store.load(store.active) == make_note(0)


def test_a_version_is_its_files_and_json(store: Any, make_note: Any, make_record: Any) -> None:
    """The checksums by hashlib; the id from the content, the letter from the kind."""
    version = store.add(make_note(1, b"aside"), make_record(store.active))
    assert version == "n0002-" + hashlib.sha256(b"note 1\n").hexdigest()[:12]
    assert file_of(store, version).read_bytes() == b"note 1\n"
    content = json.loads(file_of(store, version, "record.json").read_text())
    assert content["files"] == {
        "note.txt": {"sha256": hashlib.sha256(b"note 1\n").hexdigest(), "size": 7},
        "margin.bin": {"sha256": hashlib.sha256(b"aside").hexdigest(), "size": 5},
    }
    assert content["record"]["settings"] == {"learning_rate": 30.0, "loss": "dr-grpo"}
    assert content["record"]["identity"]["base"] == "b" * 64
    assert content["record"]["after"] == {"reward": 0.5}
    again = Registry(store.path, store.codec)
    assert again.show(version).record == make_record(store.active)
    assert again.load(version) == make_note(1, b"aside")


def test_adding_does_not_activate(store: Any, make_note: Any, make_record: Any) -> None:
    before = store.active
    store.add(make_note(1), make_record(before))
    assert store.active == before


def test_rollback_returns_the_exact_bytes_step_by_step(grown: Any, make_note: Any) -> None:
    store, versions = grown
    files = {v: file_of(store, v).read_bytes() for v in versions}
    for seed in (4, 3, 2, 1, 0):
        assert store.rollback() == versions[seed] == store.active
        assert store.load(store.active) == make_note(seed)
    assert {v: file_of(store, v).read_bytes() for v in versions} == files
    with pytest.raises(ToolkitError, match="nothing was active before"):
        store.rollback()


@pytest.mark.parametrize("name", ["base", "author", "third"])
def test_foreign_version_is_refused(
    store: Any, make_note: Any, make_record: Any, tmp_path: Path, name: Any
) -> None:
    identity = {**store.pointers().identity, name: "0" * 64}
    with pytest.raises(MismatchError, match=f"must belong to the store's {name}"):
        store.add(make_note(1), make_record(store.active, identity=identity))
    # It may have been copied in from the store of another bundle.
    other = Registry.create(tmp_path / "other", store.codec, identity, make_note(9))
    shutil.copytree(other.path / "versions" / other.active, store.path / "versions" / other.active)
    before = store.active
    with pytest.raises(MismatchError, match=f"must belong to the store's {name}"):
        store.activate(other.active)
    assert store.active == before


@pytest.mark.parametrize(
    ("gates", "words"),
    [
        ((Gate("frozen", True), Gate("reward rose", False, "-0.1")), r"failed: reward rose \(-0\.1\)"),
        ((), "it has none"),
    ],
)
def test_update_that_failed_its_gates_is_refused(
    store: Any, make_note: Any, make_record: Any, gates: Any, words: Any
) -> None:
    before = store.active
    version = store.add(make_note(1), make_record(before, gates=gates))
    with pytest.raises(ToolkitError, match=words):
        store.activate(version)
    assert store.active == before


def flip(path: Any, position: Any) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("position", [-1, 3])
@pytest.mark.parametrize("file", ["note.txt", "record.json"])
def test_broken_checksum_is_refused(grown: Any, file: Any, position: Any) -> None:
    store, versions = grown
    flip(store.path / "versions" / versions[4] / file, -3 if file == "record.json" else position)
    for change in (lambda: store.activate(versions[4]), store.rollback):
        with pytest.raises(DataError, match=r"damaged|not valid JSON"):
            change()
    assert store.active == versions[5]
    damaged = [line.version for line in store.versions() if line.damage]
    assert damaged == ([versions[4]] if file == "record.json" else [])


def test_gates_cannot_be_changed_afterwards(store: Any, make_note: Any, make_record: Any) -> None:
    version = store.add(make_note(1), make_record(store.active, gates=(Gate("reward rose", False),)))

    def pass_(content: Any) -> None:
        content["record"]["gates"][0]["passed"] = True

    edit(store.path / "versions" / version / "record.json", pass_)
    with pytest.raises(DataError, match="does not match its checksum"):
        store.activate(version)


def test_version_under_another_name_is_refused(grown: Any) -> None:
    store, versions = grown
    (store.path / "versions" / versions[2]).rename(store.path / "versions" / "n0099-0123456789ab")
    with pytest.raises(DataError, match="must hold the record of n0099"):
        store.activate("n0099-0123456789ab")


@pytest.mark.parametrize(
    "version",
    [
        "",
        ".",
        "..",
        "../x",
        "/etc",
        "n0001",
        "n0001-0123456789ab/..",
        "N0001-0123456789ab",
        "h0001-0123456789ab",
        "a\0b",
    ],
)
def test_version_is_never_a_path(store: Any, version: Any) -> None:
    for method in (store.load, store.show, store.activate, store.pin, store.unpin):
        with pytest.raises(DataError, match="a version is named like"):
            method(version)


def test_newline_after_an_id_is_no_id() -> None:
    with pytest.raises(DataError, match="is named like"):
        check_id("h0001-0123456789ab\n")


def test_link_out_of_the_store_is_refused(store: Any, tmp_path: Path) -> None:
    version = "n0007-0123456789ab"
    shutil.copytree(store.path / "versions" / store.active, tmp_path / "elsewhere")
    (store.path / "versions" / version).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="has no version"):
        store.load(version)
    path = file_of(store, store.active)
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    with pytest.raises(DataError, match="must be a file"):
        store.load(store.active)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.clear(),
        lambda c: c.update(schema=1),
        lambda c: c.update(schema=3),
        lambda c: c.update(kinds={}),
        lambda c: ours(c).pop("history"),
        lambda c: ours(c).update(active="../../x"),
        lambda c: ours(c).update(active=7),
        lambda c: ours(c).update(active="h0001-0123456789ab"),
        lambda c: ours(c).update(pinned=[["x"]]),
        lambda c: ours(c).update(next=-1),
        lambda c: ours(c).update(next=1e999),
        lambda c: ours(c).update(shapes={"lines": "ab"}),
        lambda c: ours(c).update(identity=[]),
        lambda c: ours(c).update(log=[{"at": "", "version": "n0001-0123456789ab", "how": "[bold]"}]),
    ],
)
def test_garbled_store_is_one_clear_error(store: Any, change: Any) -> None:
    edit(store.path / "store.json", change)
    with pytest.raises(DataError, match=r"store\.json|is named like"):
        Registry(store.path, store.codec)


def test_garbled_record_is_one_clear_error(store: Any, make_note: Any, make_record: Any) -> None:
    version = store.add(make_note(1), make_record(store.active))
    path = store.path / "versions" / version / "record.json"
    for content in (b"", b"[]", b"\xff", b"{}", b'{"schema": 2}', b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"record\.json"):
            store.show(version)


def test_no_store(tmp_path: Path, codec: Any) -> None:
    with pytest.raises(DataError, match="must be a store of notes"):
        Registry(tmp_path, codec)
    assert list(tmp_path.iterdir()) == []


def test_store_is_not_made_over_something(store: Any, make_note: Any) -> None:
    with pytest.raises(ConfigError, match="has something in it"):
        Registry.create(store.path, store.codec, store.pointers().identity, make_note(3))


@pytest.mark.parametrize(("text", "words"), [(b"two\nlines\n", "lines must be"), (b"what?\n", "ask nothing")])
def test_what_does_not_fit_is_refused(
    store: Any, make_note: Any, make_record: Any, text: Any, words: Any
) -> None:
    with pytest.raises(ToolkitError, match=words):
        store.add(dataclasses.replace(make_note(1), text=text), make_record(store.active))
    assert len(store.versions()) == 1


def test_parent_must_be_there(store: Any, make_note: Any, make_record: Any) -> None:
    with pytest.raises(DataError, match="has no version"):
        store.add(make_note(1), make_record("n0042-0123456789ab"))


@pytest.mark.parametrize(
    "fields",
    [{"after": {"reward": float("nan")}}, {"settings": {"x": float("inf")}}, {"settings": {"x": object()}}],
)
def test_record_that_json_cannot_hold_is_refused(store: Any, fields: Any) -> None:
    with pytest.raises(ToolkitError, match=r"finite|JSON"):
        Record(store.pointers().identity, now(), **fields)


def test_prune_keeps_the_last_the_pinned_the_active_and_the_one_before(grown: Any) -> None:
    store, versions = grown
    store.pin(versions[1])
    assert store.rollback() == versions[4]
    assert store.rollback() == versions[3]
    # Shipped 0 and 1 are pinned, 5 is the last, 3 is active, 2 was before it.
    assert store.prune(keep=1) == [versions[4]]
    assert [line.version for line in store.versions()] == [versions[i] for i in (0, 1, 2, 3, 5)]
    store.unpin(versions[1])
    assert store.prune(keep=2) == [versions[1]]
    assert store.rollback() == versions[2]
    assert store.rollback() == versions[0]
    with pytest.raises(ConfigError, match="--keep must be 1 or more"):
        store.prune(keep=0)


def test_numbers_are_not_used_twice(grown: Any, make_note: Any, make_record: Any) -> None:
    store, versions = grown
    store.rollback()
    store.rollback()
    store.activate(versions[0])
    assert versions[5] in [line.version for line in store.versions()]
    store.prune(keep=1)
    added = store.add(make_note(7), make_record(versions[0]))
    assert added.startswith("n0007-")


def test_another_process_holding_the_store_is_waited_for_by_the_user(
    store: Any, make_note: Any, make_record: Any
) -> None:
    script = (
        "import sys; from pathlib import Path; from personality_common.files.atomic import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, store.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        for change in (
            lambda: store.add(make_note(1), make_record(store.active)),
            lambda: store.activate(store.active),
            store.rollback,
            lambda: store.prune(1),
        ):
            with pytest.raises(ToolkitError, match=f"process {holder.pid} is working"):
                change()
        assert store.load(store.active)
        holder.stdin.close()
    store.activate(store.active)
    with folder_lock(store.path):
        pass


def test_every_file_of_a_version_is_verified(store: Any, make_note: Any, make_record: Any) -> None:
    version = store.add(make_note(1, b"aside"), make_record(store.active))
    margin = file_of(store, version, "margin.bin")
    for spoil, words in (
        (lambda: margin.write_bytes(b"asidf"), "damaged: its SHA-256"),
        (lambda: margin.write_bytes(b"x" * 17), "at most 16 bytes"),
        (margin.unlink, "must be a file"),
    ):
        spoil()
        with pytest.raises(DataError, match=rf"margin\.bin: .*{words}"):
            store.activate(version)


def test_file_that_no_record_names_is_not_read(store: Any, make_note: Any, make_record: Any) -> None:
    version = store.add(make_note(1), make_record(store.active))
    file_of(store, version, "margin.bin").write_bytes(b"planted")
    assert store.load(version) == make_note(1)


@pytest.mark.parametrize("name", ["../../elsewhere", "other.txt"])
def test_record_that_names_a_foreign_file_is_refused(store: Any, name: Any) -> None:
    """With a checksum that holds, as a hostile store would have it."""
    path = file_of(store, store.active, "record.json")
    content = json.loads(path.read_text())
    content.pop("checksum")
    content["files"][name] = content["files"]["note.txt"]
    checksum = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(content | {"checksum": checksum}))
    with pytest.raises(DataError, match="garbles files"):
        store.load(store.active)


def test_version_is_named_by_any_beginning_of_its_own(grown: Any) -> None:
    store, versions = grown
    assert [store.resolve(v[:5]) for v in versions] == versions
    assert store.resolve(versions[3]) == versions[3]
    with pytest.raises(DataError, match=rf"begins {versions[0]}, {versions[1]}, "):
        store.resolve("n000")
    for nothing in ("", "n0042", "../x", "*"):
        with pytest.raises(DataError, match="is named like"):
            store.resolve(nothing)
    with pytest.raises(DataError, match="has no version"):
        store.resolve("n0042-0123456789ab")


def test_copies_drive_out_nothing_that_is_not_a_copy(store: Any, make_note: Any, make_record: Any) -> None:
    """A night that changed something, then three that did not: the last three are one and the same."""
    shipped = store.active
    learned = store.add(make_note(1), make_record(shipped))
    copies = [store.add(make_note(2), make_record(shipped)) for _ in range(3)]
    store.activate(copies[0])
    store.activate(copies[1])
    store.activate(shipped)
    assert store.prunable(2) == [copies[0]]
    assert store.prune(2) == [copies[0]]
    assert [line.version for line in store.versions()] == [shipped, learned, *copies[1:]]
    assert store.prune(1) == [learned]


def test_audit_finds_each_damaged_version_and_tells_who_was_active(
    grown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, versions = grown
    times = iter(f"2026-01-0{day}T00:00:00+00:00" for day in range(1, 9))
    monkeypatch.setattr("personality_common.registry.registry.now", lambda: next(times))
    assert store.rollback() == versions[4]
    store.activate(versions[4])
    store.activate(versions[1])
    flip(file_of(store, versions[2]), 0)
    flip(file_of(store, versions[3], "record.json"), 9)
    found = store.audit()
    assert [version for version, damage in found.damage.items() if damage] == versions[2:4]
    assert list(found.damage) == versions
    assert [(e.version, e.how) for e in found.log[:6]] == [
        (v, "activated" if v != versions[0] else "created") for v in versions
    ]
    assert [(e.at[:10], e.version, e.how) for e in found.log[6:]] == [
        ("2026-01-01", versions[4], "rolled back"),
        ("2026-01-02", versions[1], "activated"),
    ]


def test_other_kinds_in_a_store_are_left_as_they_are(store: Any, make_note: Any, make_record: Any) -> None:
    """One `store.json` for all kinds, so that two can be moved in one step."""
    theirs = ours(json.loads((store.path / "store.json").read_text())) | {
        "active": "a0001-0123456789ab",
        "log": [],
        "pinned": [],
    }
    edit(store.path / "store.json", lambda c: c["kinds"].update(adapter=theirs))
    (store.path / "versions" / "a0001-0123456789ab").mkdir()
    store.activate(store.add(make_note(1), make_record(store.active)))
    assert store.prune(1) == []
    store.rollback()
    assert len(store.versions()) == 2
    assert json.loads((store.path / "store.json").read_text())["kinds"]["adapter"] == theirs
    assert (store.path / "versions" / "a0001-0123456789ab").is_dir()


def test_leftovers_of_a_kill_are_cleared_by_the_next_change(
    store: Any, make_note: Any, make_record: Any
) -> None:
    versions = store.path / "versions"
    for leftover in (".n0007-0123456789ab.partial/new", ".n0001-0123456789ab.removed"):
        (versions / leftover).mkdir(parents=True)
    (store.path / ".store.json.x1y2z3.tmp").write_text("{")
    (versions / ".a0007-0123456789ab.partial").mkdir()
    store.pin(store.active)
    assert sorted(p.name for p in versions.iterdir()) == [".a0007-0123456789ab.partial", store.active]
    assert sorted(p.name for p in store.path.iterdir()) == [".lock", "store.json", "versions"]
