"""Leaks, against sets of words, and the three traps."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from personality_common.errors import DataError
from personality_common.terminal.progress import Silent
from pretrain.lm.chat import Document, Turn
from pretrain.lm.config import DataConfig
from pretrain.lm.data.build import build_data
from pretrain.lm.data.documents import said
from pretrain.lm.data.leaks import HeldOut
from pretrain.lm.data.tools import tool_documents

WORDS = [f"w{index}" for index in range(3_000)]


def prose(rng: random.Random, words: int) -> str:
    """Sentences of 9 to 16 words that nobody said before."""
    text: list[str] = []
    while len(text) < words:
        sentence = rng.choices(WORDS, k=rng.randint(9, 16))
        text += [sentence[0].capitalize(), *sentence[1:-1], sentence[-1] + "."]
    return " ".join(text)


def document(text: str, name: str, source: str = "x") -> Document:
    return Document(name, source, name, None, (Turn("text", text, True),))


def grams(document: Document) -> set[tuple[str, ...]]:
    words = said(document).lower().split()
    return {tuple(words[i : i + 13]) for i in range(len(words) - 12)} or {tuple(words)}


def compared(held_out: list[Document], training: list[Document]) -> HeldOut:
    index = HeldOut()
    for one in held_out:
        index.add(one)
    for one in training:
        index.scan(one)
    return index


def test_shares_and_twins_are_those_of_sets_of_words() -> None:
    rng = random.Random(0)
    held_out = [document(prose(rng, 200), f"h{i}") for i in range(20)]
    training: list[Document] = []
    for index in range(60):
        words = held_out[index % 20].turns[0].text.split()
        start, count = rng.randrange(150), rng.choice((0, 5, 15, 22))
        training.append(
            document(" ".join([prose(rng, 50), *words[start : start + count], prose(rng, 50)]), f"t{index}")
        )
    # Those that have most in common come first: the twin is the best one, not the last.
    training.sort(key=lambda one: -sum(len(grams(one) & grams(other)) for other in held_out))
    nearest = compared(held_out, training).nearest()["x"]
    seen = set().union(*map(grams, training))
    shares = {d.id: len(grams(d) & seen) / len(grams(d)) for d in held_out}
    best = max(shares, key=lambda name: shares[name])
    assert 0.05 < shares[best] < 0.2
    assert nearest.document == best
    assert nearest.share == pytest.approx(shares[best], abs=1e-4)
    hits = {t.id: len(grams(t) & grams(held_out[int(best[1:])])) for t in training}
    assert hits[nearest.twin] == max(hits.values())


@pytest.mark.parametrize(("copied", "refused"), [(40, False), (60, True)])
def test_a_fifth_is_the_limit(copied: int, refused: bool) -> None:
    rng = random.Random(1)
    text = prose(rng, 200).split()[:200]  # 188 runs; of 40 words 28 are copied, of 60 words 48
    training = [document(" ".join([prose(rng, 90), *text[:copied]]), "t")]
    index = compared([document(" ".join(text), "h")], training)
    if refused:
        with pytest.raises(DataError, match="h has 26% in common with training, most with t; put twins"):
            index.nearest()
    else:
        assert index.nearest()["x"].share == round(28 / 188, 4)


def test_nothing_held_out_or_no_training_leaks_nothing() -> None:
    assert compared([], [document("a b c", "t")]).nearest() == {}
    assert compared([document("a b c", "h")], []).nearest() == {}


def test_a_short_document_leaks_only_as_a_whole() -> None:
    assert compared([document("a b c d", "h")], [document("a b c d e", "t")]).nearest() == {}
    with pytest.raises(DataError, match="h has 100% in common"):
        compared([document("a b c d", "h")], [document("A b  c\nd", "t")]).nearest()


def test_generated_calls_do_not_leak_at_any_size() -> None:
    made = list(tool_documents("tools", 3_000, 3, 0.2))
    held_out, train = ([d for d in made if bool(d.held_out) == side] for side in (True, False))
    nearest = compared(held_out, train).nearest().get("tools")
    assert nearest is None or nearest.share < 0.2
    # What is there would be seen.
    with pytest.raises(DataError, match="100% in common"):
        compared(held_out, [*train[:9], held_out[0]]).nearest()


# The traps, through the whole build.


def build(folder: Path, source: dict[str, Any]) -> None:
    keys = {"name": "x", "kind": "corpus", "licence": "CC0-1.0", **source}
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    (folder / "mix.toml").write_text("\n".join(["version = 1", "[[sources]]", *lines]))
    build_data(DataConfig(folder / "mix.toml", folder / "data"), Silent())


def refused(folder: Path, source: dict[str, Any]) -> str:
    with pytest.raises(DataError, match=r"^leak: ") as caught:
        build(folder, source)
    assert not (folder / "data").exists()
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []
    return str(caught.value)


def write_rows(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def test_honest_rows_pass(tmp_path: Path) -> None:
    rng = random.Random(0)
    write_rows(tmp_path / "rows.jsonl", [prose(rng, 60) for _ in range(300)])
    build(tmp_path, {"path": "rows.jsonl"})
    assert (tmp_path / "data" / "data.json").is_file()


def test_planted_twins_are_refused_and_named(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [prose(rng, 60) for _ in range(300)]
    twins = [f"{row} {prose(rng, 60)}" for row in rows[:150]]  # half of each stands in another record
    write_rows(tmp_path / "rows.jsonl", rows + twins)
    message = refused(tmp_path, {"path": "rows.jsonl"})
    first, second = message.split(": ", 2)[2].split(";")[0].split(" has ")
    number, twin = int(first.rsplit(":", 1)[1]), int(second.rsplit(":", 1)[1])
    assert abs(number - twin) == 300
    assert "exclude" in message


def test_a_book_beside_its_chapters_is_refused(tmp_path: Path) -> None:
    rng = random.Random(0)
    folder = tmp_path / "book"
    folder.mkdir()
    chapters = ["\n\n".join(prose(rng, 80) for _ in range(12)) for _ in range(40)]
    for index, chapter in enumerate(chapters):
        (folder / f"chapter-{index:02}.txt").write_text(chapter)
    (folder / "whole.txt").write_text("\n\n\n".join(chapters))
    message = refused(tmp_path, {"path": "book", "group": "file"})
    assert "whole.txt" in message
    (folder / "whole.txt").unlink()
    build(tmp_path, {"path": "book", "group": "file"})


@pytest.mark.parametrize("words", [20, 9], ids=["long", "short"])
def test_a_corpus_made_from_templates_is_refused(words: int, tmp_path: Path) -> None:
    """Rows of three sentences out of 1,500: short ones come again where runs of 13 words do not."""
    rng = random.Random(0)
    sentences = [" ".join(rng.choices(WORDS, k=words)) + "." for _ in range(1_500)]
    write_rows(tmp_path / "rows.jsonl", [" ".join(rng.sample(sentences, 3)) for _ in range(800)])
    message = refused(tmp_path, {"path": "rows.jsonl"})
    assert ("it is made from templates" in message) == (words == 9)
