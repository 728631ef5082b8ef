"""Near duplicates, against exact similarity and datasketch's own index."""

import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH

from pretrain.lm.chat import Document, Turn
from pretrain.lm.data.duplicates import BANDS, ROWS, Signatures, exact_key, shingles

WORDS = [f"w{index}" for index in range(4_000)]


def text(words: list[str], number: int) -> Document:
    return Document(f"x/{number}", "x", f"x/{number}", None, (Turn("text", " ".join(words), True),))


def texts() -> list[Document]:
    """200 texts of 120 words, each followed by itself with 0 to 30 words replaced."""
    rng = random.Random(0)
    made: list[Document] = []
    for _ in range(200):
        words = rng.choices(WORDS, k=120)
        made.append(text(words, len(made)))
        start, count = rng.randrange(90), rng.randrange(31)
        twin = [*words[:start], *rng.choices(WORDS, k=count), *words[start + count :]]
        made.append(text(twin, len(made)))
    return made


def jaccard(a: Document, b: Document) -> float:
    def runs(document: Document) -> set[tuple[str, ...]]:
        words = document.turns[0].text.split()
        return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}

    return len(runs(a) & runs(b)) / len(runs(a) | runs(b))


def found(documents: list[Document], folder: Path) -> np.ndarray:
    signatures = Signatures(folder / "signatures")
    for document in documents:
        signatures.add(document)
    return signatures.near_duplicates()


def test_the_later_of_two_similar_texts_is_found(tmp_path: Path) -> None:
    documents = texts()
    near = found(documents, tmp_path)
    assert not near[::2].any()
    similarities = np.array([jaccard(a, b) for a, b in zip(documents[::2], documents[1::2], strict=True)])
    # The estimate of 0.8 from 128 hashes has a deviation of 0.035.
    assert near[1::2][similarities >= 0.9].all()
    assert not near[1::2][similarities < 0.68].any()
    assert (similarities >= 0.9).sum() > 20
    assert (similarities < 0.68).sum() > 20


def test_bands_are_those_of_datasketch(tmp_path: Path) -> None:
    """Its index has the same candidates, and its estimate the same verdict."""
    documents = texts()
    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    expected = []
    hashes: dict[str, MinHash] = {}
    for document in documents:
        signature = MinHash(num_perm=BANDS * ROWS, scheme="affine32", hashfunc=_hash)
        signature.update_batch(shingles(document))
        expected.append(any(hashes[name].jaccard(signature) >= 0.8 for name in index.query(signature)))
        index.insert(document.id, signature)
        hashes[document.id] = signature
    assert found(documents, tmp_path).tolist() == expected
    assert 30 < sum(expected) < 170


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "little")


def test_short_texts_are_equal_or_not(tmp_path: Path) -> None:
    documents = [
        text(words.split(), number) for number, words in enumerate(["yes", "no", "Yes!", "a b", "a b c"])
    ]
    assert found(documents, tmp_path).tolist() == [False, False, True, False, False]
    assert found([], tmp_path).tolist() == []


@pytest.mark.parametrize("key", [exact_key, lambda document: sorted(shingles(document))])
def test_a_perspective_makes_another_document_and_what_is_offered_does_not(key: object) -> None:
    def chat(perspective: str | None, tools: str, answer: str = "Down.") -> Document:
        turns = (Turn("tools", tools, False), Turn("user", "Where?", False), Turn("assistant", answer, True))
        return Document("x", "x", "x", perspective, turns)  # type: ignore[arg-type]

    assert callable(key)
    assert key(chat("newton", "a")) == key(chat("newton", "b"))
    assert key(chat("newton", "a")) != key(chat("davinci", "a"))
    assert key(chat("newton", "a")) != key(chat("newton", "a", "Up."))
