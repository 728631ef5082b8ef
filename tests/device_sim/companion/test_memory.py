"""A memory against what it would be without what was forgotten, and against a plain reading of its texts."""

import os
import random
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hash_encoder import HashEncoder
from numpy.typing import NDArray

from device_sim.companion.memory.database import DamagedMemory
from device_sim.companion.memory.memory import Memory, build
from device_sim.companion.memory.sayings import Known, Saying
from personality_common.errors import DataError, MismatchError, ToolkitError

NOON = "2026-11-29T12:00:00.000Z"


class BagEncoder(HashEncoder):
    """A text is the sum of its words' vectors: texts that share words are near."""

    def encode(self, texts: Any) -> NDArray[np.float32]:
        self.calls.append(list(texts))
        rows = []
        for text in texts:
            words = "".join(c if c.isalnum() else " " for c in text.casefold()).split() or [text]
            rows.append(sum(self.vector(word) for word in words))
        found = np.array(rows, np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def fresh(folder: Path) -> Memory:
    return Memory(folder / "memory.sqlite", BagEncoder())


def add(memory: Memory, number: int, text: str, user: str = "ada", role: str = "user") -> None:
    memory.add(f"t{number:04}", text, user, f"2026-11-29T12:{number // 60:02}:{number % 60:02}.000Z", role)


def texts(memory: Memory, query: str, user: str = "ada", k: int = 5) -> list[str]:
    return [hit.text for hit in memory.search(query, user, k)]


def test_what_was_said_is_found_by_whoever_said_it(tmp_path: Path) -> None:
    with fresh(tmp_path) as memory:
        add(memory, 1, "The kiln of my pottery is blue.")
        add(memory, 2, "My bicycle has a flat tyre.", role="assistant")
        add(memory, 3, "The kiln of my pottery is red.", user="bob")
        hits = memory.search("pottery kiln", "ada")
        assert [hit.turn_id for hit in hits] == ["t0001", "t0002"]
        assert hits[0].chunk_id == "t0001.0"
        assert (hits[0].text, hits[0].role) == ("The kiln of my pottery is blue.", "user")
        assert hits[0].time == "2026-11-29T12:00:01.000Z"
        assert hits[0].score == pytest.approx(hits[0].dense + 0.02 * hits[0].lexical)
        assert hits[0].lexical > hits[1].lexical == 0
        assert memory.search(" \n", "ada") == memory.search("pottery", "nobody") == []
    with Memory(tmp_path / "memory.sqlite", BagEncoder()) as memory:
        assert texts(memory, "tyre", k=1) == ["My bicycle has a flat tyre."]
    assert (tmp_path / "memory.sqlite").stat().st_mode & 0o777 == 0o600


def test_no_memory_blank_and_known_turns_change_nothing(tmp_path: Path) -> None:
    with fresh(tmp_path) as memory:
        memory.add("t1", "a secret", "ada", NOON, "user", {"no-memory"})
        memory.add("t2", "  \n", "ada", NOON, "user")
        assert not memory.turns()
        memory.add("t3", "kept", "ada", NOON, "user", {"no-train"}, "import")
        memory.add("t3", "another text for the same turn", "ada", NOON, "user")
        (known,) = memory.audit("ada")
        assert (known.text, known.tags, known.source, known.turns) == (
            "kept",
            ("no-train",),
            "import",
            ("t3",),
        )


@pytest.mark.parametrize("again", ["My cat sleeps on the oven", "my cat sleeps on the oven!"])
def test_forgetting_one_of_two_that_said_the_same_keeps_the_other(tmp_path: Path, again: str) -> None:
    with fresh(tmp_path) as memory:
        add(memory, 1, "My cat sleeps on the oven")
        add(memory, 2, again)
        assert texts(memory, "cat") == [again]
        assert {turn for known in memory.audit("ada") for turn in known.turns} == {"t0001", "t0002"}
        memory.forget(["t0002"])
        assert texts(memory, "cat") == ["My cat sleeps on the oven"]
        add(memory, 3, again)
        memory.forget(["t0001"])
        assert texts(memory, "cat") == [again]
        assert memory.forget(["t0003", "no such turn"]) == 1
        assert texts(memory, "cat") == memory.audit("ada") == []


def test_a_later_statement_replaces_an_earlier_one_until_it_is_forgotten(tmp_path: Path) -> None:
    with fresh(tmp_path) as memory:
        add(memory, 1, "I live in Oslo.")
        add(memory, 2, "I moved to Rome last week.")
        add(memory, 3, "I live in Lima.", role="assistant")
        add(memory, 4, "I live in Bonn.", user="bob")
        found = {known.text: (known.hidden_by, known.why) for known in memory.audit("ada")}
        assert found["I live in Oslo."] == ("t0002.0", "replaced")
        assert found["I moved to Rome last week."] == found["I live in Lima."] == (None, None)
        add(memory, 5, "I live in Oslo.")
        assert "I moved to Rome last week." not in texts(memory, "I moved")
        assert "I live in Oslo." in texts(memory, "I live")
        memory.forget(["t0005"])
        assert "I live in Oslo." not in texts(memory, "I live")
        memory.forget(["t0002"])
        assert "I live in Oslo." in texts(memory, "I live")


def state(memory: Memory) -> list[Known]:
    return memory.audit()


def test_any_coming_and_going_leaves_what_the_log_alone_would_make(tmp_path: Path) -> None:
    """The memory after adds and forgets, in whatever order, is the one that is built from what is left."""
    said = [
        "I live in Oslo.", "I live in Rome.", "i live in oslo", "I moved to Rome.", "I like tea",
        "i LIKE tea!", "I don't like tea", "tea I like", "My favourite tea is mint.",
        "My favourite tea is black.", "ok", "ok.",
        " ".join(f"Sentence {number} of a long one." for number in range(60)),
    ]  # fmt: skip
    seen: set[str | None] = set()
    for seed in range(4):
        rng, log = random.Random(seed), {}
        with Memory(tmp_path / f"{seed}.sqlite", BagEncoder()) as memory:
            for number in range(45):
                if log and rng.random() < 0.25:
                    turns = rng.sample(sorted(log), rng.randint(1, min(2, len(log))))
                    memory.forget(turns)
                    for turn in turns:
                        del log[turn]
                    continue
                when = f"2026-11-29T12:00:{rng.randint(0, 59):02}.000Z"
                saying = Saying(f"t{number:04}", rng.choice(said), rng.choice("ab"), when, "user")
                log[saying.turn] = saying
                memory.add_all([saying])
            build(tmp_path / "built.sqlite", BagEncoder(), list(log.values()))
            with Memory(tmp_path / "built.sqlite", BagEncoder()) as built:
                assert state(memory) == state(built)
                seen |= {known.why for known in state(built)}
                for user in "ab":
                    ours, theirs = (one.search("I like tea in Oslo", user, 50) for one in (memory, built))
                    assert {h.chunk_id for h in ours} == {h.chunk_id for h in theirs}
                    shown = {known.chunk_id for known in state(built) if known.user == user and not known.why}
                    assert {h.chunk_id for h in ours} == shown
    assert len(seen) == 3


HOSTILE = [
    '"', '""', "'", "a OR", "NOT", "AND OR NOT", "NEAR(", "NEAR(a b, 3)", "text:", "text : secret", "*", "a*",
    "^a", "-a", "+", "(", "))((", "{text}: x", "a\0b", "\0", "secret\" OR \"", "'; DROP TABLE chunks; --",
    "\ud800", "🧵 emoji", "e\u0301", "x" * 5_000, "a " * 3_000, "%s", "\\", "content:", "rank", "words",
]  # fmt: skip


def test_no_query_breaks_the_syntax_of_the_index(tmp_path: Path) -> None:
    class Lenient(BagEncoder):
        def encode(self, texts: Any) -> NDArray[np.float32]:
            return super().encode([text.encode(errors="replace").decode() for text in texts])

    with Memory(tmp_path / "memory.sqlite", Lenient()) as memory:
        add(memory, 1, 'a "quoted" secret')
        add(memory, 2, "something else about words and rank")
        for query in HOSTILE:
            assert len(memory.search(query, "ada")) == 2, query
        assert memory.lexical_scores("SECRET*", "ada").tolist()[0] > 0
        assert memory.lexical_scores("else NOT about", "ada").tolist()[1] > 0
        with pytest.raises(ToolkitError, match="Unicode"):
            add(memory, 3, "\ud800")
        add(memory, 4, "a\0b \x1b[31m")
        memory.forget(["t0004"])
        assert len(memory.turns()) == 2


def test_only_rare_words_count(tmp_path: Path) -> None:
    with fresh(tmp_path) as memory:
        memory.add_all(
            Saying(f"t{i:04}", f"the day number {i} zebra{i % 8}", "ada", NOON, "user") for i in range(64)
        )
        assert not memory.lexical_scores("the day number", "ada").any()
        assert memory.lexical_scores("the day number", "ada", all_words=True).all()
        assert not memory.lexical_scores("zebra3", "ada").any()  # in 8 of 64: more than 3, and than 1%
        memory.forget([f"t{i:04}" for i in range(64) if i % 8 == 3 and i > 20])
        rare = memory.lexical_scores("zebra3", "ada")
        assert np.flatnonzero(rare).tolist() == [3, 11, 19]


SECRET = "Kvothe-Xylographer-90210 hides under Quetzalcoatlus"


def leaked(folder: Path) -> list[str]:
    """Words of the secret, and ends of them, as the index may have them apart, in any file."""
    parts = [b"vothe", b"ylographer", b"90210", b"uetzalcoatlus", "Kvothe".encode("utf-16-le")]
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes().lower()
            found += [f"{path.name}: {part!r}" for part in parts if part.lower() in data]
    return found


def test_no_byte_of_what_was_forgotten_stays(tmp_path: Path) -> None:
    memory = fresh(tmp_path)
    memory.add_all(Saying(f"a{i}", f"filler {i} about day {i * 7}", "ada", NOON, "user") for i in range(300))
    add(memory, 1, SECRET)
    add(memory, 2, f"{SECRET}. " + "And more words of a long story. " * 80)
    memory.add_all(Saying(f"b{i}", f"later filler {i}", "ada", NOON, "user") for i in range(300))
    (vector,) = BagEncoder().encode([SECRET])
    assert leaked(tmp_path)
    memory.search("Xylographer", "ada")
    assert vector.astype(np.float16).tobytes() in (tmp_path / "memory.sqlite").read_bytes()
    assert memory.forget(["t0001", "t0002"]) > 2
    assert leaked(tmp_path) == []
    assert vector.astype(np.float16).tobytes() not in (tmp_path / "memory.sqlite").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["memory.sqlite"]
    assert len(memory.search("filler 7", "ada", 700)) == 600
    memory.close()
    with sqlite3.connect(tmp_path / "memory.sqlite") as db:
        db.execute("INSERT INTO words(words, rank) VALUES('integrity-check', 1)")
        assert db.execute("PRAGMA freelist_count").fetchone() == (0,)


def test_another_encoder_is_refused_with_the_line_that_helps(tmp_path: Path) -> None:
    with fresh(tmp_path) as memory:
        add(memory, 1, "hello")
    path = tmp_path / "memory.sqlite"
    with pytest.raises(MismatchError, match=r"are of 'hash'.*pt memory rebuild"):
        Memory(path, BagEncoder("other"))
    with Memory(path) as memory:  # no encoder: what needs none works
        assert memory.audit("ada")[0].text == "hello"
        with pytest.raises(ToolkitError, match="without an encoder"):
            memory.search("hello", "ada")
        assert memory.forget(["t0001"]) == 1
    with pytest.raises(ToolkitError, match="no memory yet; pt memory rebuild"):
        Memory(tmp_path / "none.sqlite")
    build(path, BagEncoder("other"), [])
    Memory(path, BagEncoder("other")).close()


def spoil(path: Path, how: str) -> None:
    size = path.stat().st_size
    if how == "cut":
        os.truncate(path, size - 4096)
    elif how == "half":
        os.truncate(path, size // 2 + 17)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "noise":
        path.write_bytes(random.Random(0).randbytes(size))
    elif how == "schema":
        with sqlite3.connect(path) as db:
            db.execute("CREATE TRIGGER evil AFTER INSERT ON chunks BEGIN DELETE FROM sayings; END")
    elif how == "vector":
        with sqlite3.connect(path) as db:
            db.execute("UPDATE chunks SET vector = zeroblob(10) WHERE id = 2")
    elif how == "pages":
        data = bytearray(path.read_bytes())
        data[4096 * 2 :] = b"\xa5" * (size - 4096 * 2)
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["cut", "half", "empty", "noise", "schema", "vector", "pages"])
def test_damage_is_seen_and_named(tmp_path: Path, how: str) -> None:
    with fresh(tmp_path) as memory:
        memory.add_all(Saying(f"t{i}", f"the day number {i}", "ada", NOON, "user") for i in range(200))
    spoil(tmp_path / "memory.sqlite", how)
    with pytest.raises(DamagedMemory, match=r"whole memory.*pt memory rebuild"), fresh(tmp_path) as memory:
        memory.search("day 3", "ada")


def test_links_are_not_followed(tmp_path: Path) -> None:
    fresh(tmp_path).close()
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "memory.sqlite").symlink_to(tmp_path / "memory.sqlite")
    with pytest.raises(DataError, match="regular file"):
        fresh(tmp_path / "link")


def test_readers_see_what_a_writer_did_and_what_was_swapped_in(tmp_path: Path) -> None:
    path = tmp_path / "memory.sqlite"
    with fresh(tmp_path) as writer, Memory(path, BagEncoder()) as reader:
        assert texts(reader, "kiln") == []
        add(writer, 1, "the kiln is hot")
        assert texts(reader, "kiln") == ["the kiln is hot"]
        writer.forget(["t0001"])
        assert texts(reader, "kiln") == []
        build(path, BagEncoder(), [Saying("t9", "a new kiln", "ada", NOON, "user")])
        assert texts(reader, "kiln") == texts(writer, "kiln") == ["a new kiln"]
        add(writer, 10, "and a wheel")
        assert len(texts(reader, "kiln")) == 2
