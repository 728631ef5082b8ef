"""Two kinds in one store: both become active in one write of `store.json`, or neither does."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personality_common.errors import ConfigError, DataError, ToolkitError
from personality_common.files.atomic import folder_lock
from personality_common.registry.pointers import write_pointers
from personality_common.registry.record import Gate
from personality_common.registry.registry import Registry
from personality_common.registry.together import activate_together, add_kind


@pytest.fixture
def both(
    store: Registry[Any], codec: Any, make_note: Any, make_record: Any
) -> tuple[Registry[Any], Registry[Any]]:
    """Notes, and memos beside them; a second version of each, not active."""
    memos = add_kind(store.path, memo_codec(codec), {"desk": "d" * 64}, make_note(7))
    store.add(make_note(1), make_record(store.active))
    memos.add(make_note(8), make_record(memos.active, identity={"desk": "d" * 64}))
    return store, memos


def memo_codec(codec: Any) -> Any:
    return type("MemoCodec", (type(codec),), {"kind": "memo", "letter": "m"})()


def last(registry: Registry[Any]) -> str:
    return registry.versions()[-1].version


def test_a_second_kind_joins_and_the_first_stays(both: Any, make_note: Any) -> None:
    notes, memos = both
    assert (notes.load(notes.active), memos.load(memos.active)) == (make_note(0), make_note(7))
    assert memos.active.startswith("m0001-")
    assert memos.pointers().pinned == (memos.active,)
    content = json.loads((notes.path / "store.json").read_text())
    assert list(content["kinds"]) == ["note", "memo"]
    with pytest.raises(ConfigError, match="has memos already"):
        add_kind(notes.path, memos.codec, {"desk": "d" * 64}, make_note(7))


def test_a_first_kind_makes_the_store(tmp_path: Path, codec: Any, make_note: Any) -> None:
    made = add_kind(tmp_path / "new", codec, {"base": "b"}, make_note(0))
    assert made.load(made.active) == make_note(0)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "file").touch()
    with pytest.raises(ConfigError, match="has something in it"):
        add_kind(tmp_path / "else", codec, {"base": "b"}, make_note(0))


def test_what_a_kill_left_of_a_kind_that_joined_is_made_anew(
    store: Registry[Any], codec: Any, make_note: Any
) -> None:
    for left in ("m0001-0123456789ab", ".m0001-0123456789ab.partial"):
        (store.path / "versions" / left).mkdir()
    memos = add_kind(store.path, memo_codec(codec), {"desk": "d" * 64}, make_note(7))
    names = {path.name for path in (store.path / "versions").iterdir()}
    assert names == {store.active, memos.active}


def test_both_become_active_in_one_write(both: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    notes, memos = both
    first = [(notes.active, memos.active)]
    written: list[Any] = []
    monkeypatch.setattr(
        "personality_common.registry.together.write_pointers", lambda *given: written.append(given)
    )
    activate_together([(notes, last(notes)), (memos, last(memos))])
    assert [(notes.active, memos.active)] == first  # nothing else writes
    ((path, kinds),) = written
    write_pointers(path, kinds)
    assert (notes.active, memos.active) == (last(notes), last(memos))
    for registry in both:
        pointers = registry.pointers()
        assert (pointers.log[-1].version, pointers.log[-1].how) == (pointers.active, "activated")
        assert registry.rollback() == pointers.history[-1]


@pytest.mark.parametrize("spoil", ["gate", "damage", "lock", "foreign"])
def test_if_one_may_not_neither_does(both: Any, make_note: Any, make_record: Any, spoil: str) -> None:
    notes, memos = both
    chosen = last(memos)
    if spoil == "gate":
        record = make_record(memos.active, identity={"desk": "d" * 64}, gates=(Gate("reward rose", False),))
        chosen = memos.add(make_note(9), record)
    if spoil == "damage":
        (memos.path / "versions" / chosen / "note.txt").write_bytes(b"x")
    if spoil == "foreign":
        chosen = last(notes)
    before = (notes.path / "store.json").read_bytes()
    held = folder_lock(notes.path) if spoil == "lock" else contextlib.nullcontext()
    with held, pytest.raises(ToolkitError):
        activate_together([(notes, last(notes)), (memos, chosen)])
    assert (notes.path / "store.json").read_bytes() == before


def test_what_is_active_stays_without_a_write(both: Any) -> None:
    notes, memos = both
    before = (notes.path / "store.json").stat().st_ino
    activate_together([(notes, notes.active), (memos, memos.active)])
    assert (notes.path / "store.json").stat().st_ino == before


def test_of_two_folders_or_one_kind_twice(both: Any, tmp_path: Path, codec: Any, make_note: Any) -> None:
    notes, _ = both
    other = Registry.create(tmp_path / "other", memo_codec(codec), {"desk": "d"}, make_note(7))
    for second in (other, notes):
        with pytest.raises(ValueError, match="of one folder"):
            activate_together([(notes, last(notes)), (second, last(second))])


def test_a_damaged_store_takes_no_second_kind(
    store: Registry[Any], codec: Any, make_note: Callable[..., Any]
) -> None:
    (store.path / "store.json").write_text('{"schema": 2}')
    with pytest.raises(DataError, match=r"store\.json"):
        add_kind(store.path, memo_codec(codec), {}, make_note(7))
