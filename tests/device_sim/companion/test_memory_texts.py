"""Chunks of a text, and whether two texts say the same."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_sim.companion.memory.chunks import LONGEST, OVERLAP, SHORTEST, split
from device_sim.companion.memory.sameness import agree, statement
from device_sim.companion.memory.vectors import BLOCK_ROWS, Vectors


def test_a_short_text_is_one_chunk_and_a_blank_one_none() -> None:
    assert split("  I like tea. Do you?\n") == ["I like tea. Do you?"]
    assert split("x" * LONGEST) == ["x" * LONGEST]
    assert split(" \n\t") == []


def test_a_long_text_is_cut_behind_sentences_and_begins_with_the_one_before() -> None:
    sentences = [f"This is the sentence with the number {number:03}, as it was said." for number in range(60)]
    chunks = split(" ".join(sentences))
    assert len(chunks) > 3
    for chunk in chunks:
        assert SHORTEST <= len(chunk) <= LONGEST
        assert chunk.startswith("This is")
        assert chunk.endswith("said.")
    for before, after in pairwise(chunks):
        assert after.split(". ")[0] in before
    assert all(any(sentence in chunk for chunk in chunks) for sentence in sentences)


def test_a_text_without_sentences_or_spaces_is_cut_all_the_same() -> None:
    words = split(" ".join(["word"] * 500))
    assert all(set(chunk.split()) == {"word"} for chunk in words)
    assert [len(chunk) for chunk in split("x" * 2_100)] == [1_000, 1_000, 512]
    assert split("。".join(["字" * 30] * 50))[0].endswith("字。")


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab .\n?。é", min_size=0, max_size=4_000))
def test_nothing_is_lost_and_little_is_repeated(text: str) -> None:
    chunks, place, text = split(text), 0, text.strip()
    for number, chunk in enumerate(chunks):
        assert 0 < len(chunk) <= LONGEST
        at = text.find(chunk, max(0, place - (OVERLAP if number < len(chunks) - 1 else LONGEST)))
        assert at >= 0
        assert not text[place:at].strip()
        place = at + len(chunk)
    assert not text[place:].strip()


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("I have two cats.", "I have three cats.", False),
        ("I have 2 cats.", "I have 3 cats.", False),
        ("It costs 1.50.", "It costs 15.0.", False),
        ("Anna beat Maria at chess.", "Maria beat Anna at chess.", False),
        ("My friend Anna called.", "My friend Hanna called.", False),
        ("I like tea.", "I don't like tea.", False),
        ("I like tea.", "I don’t like tea.", False),
        ("I can do it.", "I cannot do it.", False),
        ("I never said that.", "I said that.", False),
        ("The dog is big.", "the dog is big", True),
        ("The kiln fires on Fridays.", "the kiln fires on fridays", True),
        ("I love my little dog", "I love my small dog!", True),
        ("I met Anna in Oslo.", "I met Anna in Oslo!", True),
        ("I'm tired.", "I am tired.", True),
    ],
)
def test_numbers_names_and_negations_must_agree(first: str, second: str, same: bool) -> None:
    assert agree(first, second) is same
    assert agree(second, first) is same


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I live in Oslo.", ("home", "oslo")),
        ("By the way, I've just moved to the Hague last week!", ("home", "hague")),
        ("I'm 34 years old", ("age", "34")),
        ("My favourite colour is now green.", ("favourite colour", "green")),
        ("My favorite colour is green.", ("favourite colour", "green")),
        ("My job is baker.", ("work", "baker")),
        ("I work as a baker.", ("work", "baker")),
        ("I don't live in Oslo.", None),
        ("I live in Oslo. My dog is called Rex.", None),
        ("Do I live in Oslo?", None),
        ("My dog is called Rex.", None),
        ("My sister lives in Oslo.", None),
        ("I live in " + "x" * 200, None),
    ],
)
def test_what_a_sentence_says_of_its_speaker(text: str, said: tuple[str, str] | None) -> None:
    assert statement(text) == said


def test_vectors_over_several_blocks_are_as_one_matrix() -> None:
    rng = np.random.default_rng(0)
    rows, dim = BLOCK_ROWS + 77, 8
    matrix = rng.standard_normal((rows, dim)).astype(np.float16)
    matrix /= np.linalg.norm(matrix.astype(np.float32), axis=1, keepdims=True).astype(np.float16)
    vectors, ids, done = Vectors(dim), np.arange(rows, dtype=np.int64) * 3, 0
    for part in (5, BLOCK_ROWS - 10, 60, 22):
        vectors.append(ids[done : done + part], matrix[done : done + part], np.ones(part, bool))
        done += part
    assert done == rows
    wide, query = matrix.astype(np.float32), matrix[BLOCK_ROWS + 3].astype(np.float32)
    assert np.allclose(vectors.scores(query), wide @ query, atol=1e-5)
    assert list(vectors.place(np.array([0, 1, 3 * BLOCK_ROWS, 10**9]))) == [0, -1, BLOCK_ROWS, -1]
    expected = {(0, int(row)) for row in np.flatnonzero(wide @ query >= 0.9)}
    assert set(vectors.near(query[None], 0.9)) == expected
    vectors.show(3, False)
    vectors.remove(BLOCK_ROWS + 3)
    scores = vectors.scores(query)
    assert np.isneginf(scores[[3, BLOCK_ROWS + 3]]).all()
    assert np.isfinite(scores).sum() == rows - 2
    assert BLOCK_ROWS + 3 not in [row for _, row in vectors.near(query[None], 0.9)]
    assert list(Vectors(dim).scores(query)) == []
