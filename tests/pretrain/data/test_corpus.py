"""Reading by one process and by several: the same texts, and each text one process's."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from personality_common.errors import DataError
from personality_common.runs.processes import ALONE
from pretrain.data.conversations import DataConfig, ReadSummary, distinct_texts
from pretrain.data.corpus import read_corpus
from pretrain.data.keys import text_keys
from pretrain.data.sources import FILES_PER_PROCESS, open_source, stream_part
from pretrain.data.split import is_validation
from pretrain.data.spool import TextSpool

TEXTS = [f"text {i}" for i in range(300)]


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "a.jsonl", TEXTS[:200])
    write(tmp_path / "data" / "b.jsonl", TEXTS[100:])
    return DataConfig(str(tmp_path / "data"))


@pytest.mark.parametrize("max_samples", [None, 300, 301])
def test_corpus_of_one(max_samples: int | None, data: DataConfig, tmp_path: Path) -> None:
    with read_corpus(dataclasses.replace(data, max_samples=max_samples), 0.3, tmp_path, ALONE) as corpus:
        assert corpus.keys.own.tolist() == sorted(text_keys(TEXTS).tolist())
        where = dict(zip(text_keys(TEXTS).tolist(), TEXTS, strict=True))
        held_out = [is_validation(where[key], 0.3) for key in corpus.keys.own.tolist()]
        assert corpus.held_out.own.tolist() == held_out
        assert corpus.own_keys.tolist() == corpus.keys.own.tolist()
        by_key = [where[key] for key in corpus.keys.own.tolist()]
        assert list(corpus.own_texts(np.ones(300, np.bool_))) == by_key
        odd = np.arange(300) % 2 == 1
        assert list(corpus.own_texts(odd)) == by_key[1::2]
        counts = [(part.records, part.texts, part.repeats) for part in corpus.summary.parts]
        assert counts == [(200, 200, 0), (200, 100, 100)]
    assert not [path for path in tmp_path.iterdir() if path.name != "data"]


def test_the_set_of_texts_counts_and_not_their_order(tmp_path: Path) -> None:
    found, embedded = [], []
    for name, texts in (("a", TEXTS), ("b", TEXTS[::-1] + TEXTS), ("c", TEXTS[1:])):
        with read_corpus(
            DataConfig(str(write(tmp_path / f"{name}.jsonl", texts))), 0.3, tmp_path, ALONE
        ) as corpus:
            found.append(corpus)
            # Bits of embeddings depend on the batch, so that has to be the same, too.
            embedded.append(list(corpus.own_texts(np.ones(len(corpus.own_keys), np.bool_))))
    assert found[0].fingerprint == found[1].fingerprint != found[2].fingerprint
    assert np.array_equal(found[0].keys.own, found[1].keys.own)
    assert embedded[0] == embedded[1] != embedded[2]


def test_max_samples_keeps_the_first(data: DataConfig, tmp_path: Path) -> None:
    with read_corpus(dataclasses.replace(data, max_samples=7), 0.3, tmp_path, ALONE) as corpus:
        assert sorted(corpus.own_texts(np.ones(7, np.bool_))) == TEXTS[:7]


def test_no_text_at_all(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [" "])
    with (
        pytest.raises(DataError, match="no human text in"),
        read_corpus(DataConfig(str(path)), 0.3, tmp_path, ALONE),
    ):
        pass


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("files", [1, 2, 3 * FILES_PER_PROCESS])
def test_shares_are_disjoint_and_whole(tmp_path: Path, size: int, files: int) -> None:
    for i in range(files):
        write(tmp_path / f"{i:02}.jsonl", TEXTS[i::files])
    config = DataConfig(str(tmp_path), max_samples=None)
    alone = [
        (one.text, one.place) for one in distinct_texts(open_source(str(tmp_path)), config, ReadSummary())
    ]
    shares = [
        [
            (one.text, one.place)
            for one in distinct_texts(open_source(str(tmp_path), rank, size), config, ReadSummary())
        ]
        for rank in range(size)
    ]
    assert sum(len(share) for share in shares) == len(TEXTS)
    # Places order what several processes read as one would have read it.
    assert sorted((pair for share in shares for pair in share), key=lambda pair: pair[1]) == alone
    most = max(map(len, shares))
    assert most <= len(TEXTS) / size + 2 * len(TEXTS) / files + 1


def test_a_shared_stream_has_places_of_the_whole(tmp_path: Path) -> None:
    import datasets
    from datasets.distributed import split_dataset_by_node

    path = write(tmp_path / "a.jsonl", TEXTS)
    stream = datasets.load_dataset(
        "json", data_files=str(path), split="train", streaming=True, cache_dir=str(tmp_path / "cache")
    )
    found = []
    for rank in range(3):
        part = stream_part("hf:a/b", partial(split_dataset_by_node, stream, rank, 3), rank, 3)
        found += list(distinct_texts([part], DataConfig("hf:a/b", max_samples=None), ReadSummary()))
    assert [text for text, _, _ in sorted(found, key=lambda one: one.place)] == TEXTS
    assert sorted(one.place for one in found) == list(range(300))


def test_spool_holds_any_text(tmp_path: Path) -> None:
    spool = TextSpool(tmp_path)
    texts = ["", "é\n", "\0", "x" * 100_000, "last"]
    for place, text in enumerate(texts):
        spool.add(text, b"%016d" % (5 - place), place, text == "last")
    assert len(spool) == 5
    assert spool.sort(np.array([b"", b"%016d" % 3, b"%016d" % 9])) == [0, 2, 5, 5]
    assert list(spool.texts(np.ones(5, np.bool_))) == texts[::-1]
    some = np.array([True, False, False, True, False])
    assert list(spool.texts(some)) == ["last", "é\n"]
    assert spool.field("key", some).tolist() == [b"%016d" % 1, b"%016d" % 4]
    assert spool.entries(0, 5)[["place", "held_out"]].tolist() == [(i, i == 4) for i in range(4, -1, -1)]
    assert not list(tmp_path.iterdir())
    spool.close()
