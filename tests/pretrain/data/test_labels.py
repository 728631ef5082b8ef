"""Labels beside texts: which text they belong to, whoever reads it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from personality_common.errors import DataError
from personality_common.runs.processes import ALONE
from pretrain.data.conversations import DataConfig
from pretrain.data.corpus import read_corpus
from pretrain.data.keys import text_key
from pretrain.data.schemas import BadRecord, text_labels

KNOWN = {"calm": (0,), "sad": (1,), "upset": (1, 2), "other": ()}
RECORDS: list[dict[str, Any]] = [
    {"text": "one", "tokens": ["calm"]},
    {"text": " one ", "tokens": ["sad", "calm"]},
    {"text": "two"},
    {
        "messages": [
            {"role": "user", "content": "three", "tokens": ["upset"]},
            {"role": "user", "content": "two"},
        ]
    },
    {"conversations": [{"from": "human", "value": "four", "tokens": ["other"]}], "tokens": None},
]


def labels_of(tmp_path: Path, records: list[dict[str, Any]], **options: Any) -> dict[str, set[int]]:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with read_corpus(DataConfig(str(path), **options), 0.5, tmp_path, ALONE, KNOWN) as corpus:
        texts = dict.fromkeys(corpus.keys.own.tolist(), None)
        names = {text_key(word): word for word in ("one", "two", "three", "four", "three\ntwo")}
        found: dict[str, set[int]] = {names[key]: set() for key in texts}
        for row, token in corpus.labels.tolist():
            found[names[corpus.keys.own.tolist()[row]]].add(token)
        return found


def test_a_text_has_the_labels_of_every_time_it_comes(tmp_path: Path) -> None:
    assert labels_of(tmp_path, RECORDS) == {"one": {0, 1}, "two": set(), "three": {1, 2}, "four": set()}
    assert labels_of(tmp_path, RECORDS[::-1]) == labels_of(tmp_path, RECORDS)
    together = labels_of(tmp_path, RECORDS, unit="conversation")
    assert together["three\ntwo"] == {1, 2}


def test_labels_after_the_last_text_that_is_read_do_not_count(tmp_path: Path) -> None:
    late = [*RECORDS[:3], {"text": "three"}, {"text": "two", "tokens": ["sad"]}]
    assert labels_of(tmp_path, late, max_samples=2) == {"one": {0, 1}, "two": set()}
    assert labels_of(tmp_path, late)["two"] == {1}


def test_parquet_has_them_too(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"text": ["one", "two"], "tokens": [["sad"], None]}), path)
    with read_corpus(DataConfig(str(path)), 0.5, tmp_path, ALONE, KNOWN) as corpus:
        assert corpus.labels[:, 1].tolist() == [1]
        assert corpus.keys.own[corpus.labels[0, 0]] == text_key("one")


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"text": "one", "tokens": ["calm", "clam"]}, "tokens must be of the 4 known, not 'clam'"),
        ({"text": "one", "tokens": "calm"}, "tokens must be a list of strings, this is a string"),
        ({"text": "one", "tokens": [1]}, "tokens must be a list of strings"),
        ({"messages": [], "tokens": ["calm"]}, "tokens must stand in the human turns"),
    ],
)  # fmt: skip
def test_what_is_no_label_is_refused_with_file_and_line(
    tmp_path: Path, record: dict[str, Any], why: str
) -> None:
    with pytest.raises(DataError, match=r"data\.jsonl:2: ") as caught:
        labels_of(tmp_path, [{"text": "one"}, record])
    assert why in str(caught.value)


def test_without_labels_whatever_is_called_tokens_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"text": "one", "tokens": 512}) + "\n")
    with read_corpus(DataConfig(str(path)), 0.5, tmp_path, ALONE) as corpus:
        assert len(corpus.keys) == 1
        assert len(corpus.labels) == 0
    with pytest.raises(BadRecord, match="a number"):
        text_labels({"text": "one", "tokens": 512}, "turn")
