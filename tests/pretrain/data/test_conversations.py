"""Files in each schema and container -> distinct human texts, counts and errors."""

import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personality_common.errors import ConfigError, DataError, ToolkitError
from pretrain.data.conversations import (
    DataConfig,
    ReadSummary,
    iter_distinct_texts,
    read_texts,
)

Record = dict[str, Any]
Conversation = list[tuple[bool, str]]  # (by the human, text)


def config(source: Path | str, **options: Any) -> DataConfig:
    return DataConfig(str(source), **{"max_samples": None, **options})


def write_jsonl(path: Path, records: list[Record]) -> Path:
    # With a byte order mark, as some editors leave it.
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), "utf-8-sig")
    return path


def write_jsonl_gz(path: Path, records: list[Record]) -> Path:
    path.write_bytes(gzip.compress("\r\n\n".join(map(json.dumps, records)).encode()))
    return path


def write_json(path: Path, records: list[Record]) -> Path:
    path.write_text(json.dumps(records, indent=1, ensure_ascii=False), "utf-8-sig")
    return path


def write_json_gz(path: Path, records: list[Record]) -> Path:
    path.write_bytes(gzip.compress(json.dumps(records).encode()))
    return path


def write_json_lines(path: Path, records: list[Record]) -> Path:
    return write_jsonl(path, records)


def write_json_pretty(path: Path, records: list[Record]) -> Path:
    path.write_text("\n".join(json.dumps(record, indent=2) for record in records))
    return path


def write_parquet(path: Path, records: list[Record]) -> Path:
    pq.write_table(pa.Table.from_pylist(records), path, row_group_size=3)
    return path


CONTAINERS: dict[str, tuple[str, Callable[[Path, list[Record]], Path]]] = {
    "jsonl": (".jsonl", write_jsonl),
    "jsonl.gz": (".jsonl.gz", write_jsonl_gz),
    "json array": (".json", write_json),
    "json.gz": (".json.gz", write_json_gz),
    "json lines": (".json", write_json_lines),
    "json pretty": (".json", write_json_pretty),
    "parquet": (".parquet", write_parquet),
}


def sharegpt(conversation: Conversation) -> Record:
    return {"conversations": [{"from": "human" if me else "gpt", "value": t} for me, t in conversation]}


def openai(conversation: Conversation) -> Record:
    return {"messages": [{"role": "user" if me else "assistant", "content": t} for me, t in conversation]}


def openai_parts(conversation: Conversation) -> Record:
    image = {"type": "image_url", "text": None}
    return {
        "messages": [
            {"role": "user" if me else "assistant", "content": [image, {"type": "text", "text": text}]}
            for me, text in conversation
        ]
    }


SCHEMAS = {"sharegpt": sharegpt, "openai": openai, "openai parts": openai_parts}

# Few distinct texts, so that repeats are common.
TEXTS = st.one_of(
    st.sampled_from(["", " ", "Hi!", " Hi!", "\u3000é", "a\nb", '"]}', "\u2028"]), st.text(max_size=20)
)
CONVERSATIONS = st.lists(st.lists(st.tuples(st.booleans(), TEXTS), max_size=4), min_size=1, max_size=6)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("schema", SCHEMAS)
@settings(max_examples=15, deadline=None)
@given(conversations=CONVERSATIONS)
def test_every_schema_in_every_container_gives_the_same_texts(
    schema: str, container: str, conversations: list[Conversation]
) -> None:
    stripped = [[text.strip() for me, text in turns if me] for turns in conversations]
    turns = [text for human in stripped for text in human if text]
    joined = ["\n".join(filter(None, human)) for human in stripped if any(human)]
    blank = sum(not text for human in stripped for text in human)
    extension, write = CONTAINERS[container]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "data" + extension), list(map(SCHEMAS[schema], conversations)))
        for unit, expected in (("turn", turns), ("conversation", joined)):
            summary = ReadSummary()
            texts = list(iter_distinct_texts(config(path, unit=unit), summary))
            assert texts == list(dict.fromkeys(expected))
            assert (summary.records, summary.bad_records) == (len(conversations), 0)
            assert summary.blank_texts == blank
            assert (summary.texts, summary.repeats) == (len(texts), len(expected) - len(texts))


@pytest.mark.parametrize("container", CONTAINERS)
def test_plain_texts(container: str, tmp_path: Path) -> None:
    extension, write = CONTAINERS[container]
    path = write(
        tmp_path / ("data" + extension), [{"text": " a "}, {"text": "b"}, {"text": ""}, {"text": "a"}]
    )
    texts, summary = read_texts(config(path))
    assert texts == ["a", "b"]
    assert (summary.records, summary.texts, summary.blank_texts, summary.repeats) == (4, 2, 1, 1)


def test_one_json_file_may_hold_one_record(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text('\n\n{"text":\n "alone"}\n')
    assert read_texts(config(path))[0] == ["alone"]
    path.write_text("[]")
    with pytest.raises(DataError, match=r"no human text in .*one\.json: 0 records"):
        read_texts(config(path))


def test_a_folder_is_read_in_order_of_paths_and_counted_by_file(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    write_jsonl(tmp_path / "z.JSONL", [{"text": "last"}, {"text": "first"}])
    write_parquet(tmp_path / "b" / "m.parquet", [{"text": "middle"}])
    write_json(tmp_path / "a.json", [{"text": "first"}])
    write_jsonl(tmp_path / ".hidden" / "x.jsonl", [{"text": "no"}])
    write_jsonl(tmp_path / "._a.json", [{"text": "no"}])
    (tmp_path / "notes.txt").write_text("not data")
    texts, summary = read_texts(config(tmp_path))
    assert texts == ["first", "middle", "last"]
    assert [(Path(p.name).name, p.records, p.texts, p.repeats) for p in summary.parts] == [
        ("a.json", 1, 1, 0),
        ("m.parquet", 1, 1, 0),
        ("z.JSONL", 2, 1, 1),
    ]


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("not data")
    known = r"\.jsonl, \.jsonl\.gz, \.json, \.json\.gz or \.parquet"
    named = r"\.parquet, \.txt, \.csv or \.tsv"
    for source, why in (
        (tmp_path / "missing", "no such file or folder: .*missing"),
        (tmp_path / "notes.md", f"must end in .*{named}"),
        (tmp_path, f"no {known} file in"),
        ("hf:no-owner", "written hf:OWNER/NAME, got 'hf:no-owner'"),
        ("hf:../../etc", "written hf:OWNER/NAME"),
    ):
        with pytest.raises(ConfigError if why.startswith("no such") else DataError, match=why):
            read_texts(config(source))


def test_options_are_checked() -> None:
    for options, why in (
        ({"source": ""}, "--data"),
        ({"unit": "word"}, "--unit must be turn or conversation, got 'word'"),
        ({"max_samples": 0}, "--max-samples must be 1 or more, got 0"),
    ):
        with pytest.raises(ToolkitError, match=why):
            DataConfig(**{"source": "x", **options})  # type: ignore[arg-type]


def test_reading_stops_at_max_samples(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": f"t{i // 2}"} for i in range(100)])
    with path.open("a") as file:
        file.write("broken\n")
    texts, summary = read_texts(config(path, max_samples=10))
    assert texts == [f"t{i}" for i in range(10)]
    assert (summary.records, summary.repeats) == (19, 9)
