"""Malformed records and broken files: named by file and line, or left out and counted."""

import contextlib
import gzip
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pretrain.data.json_records
from personality_common.errors import DataError
from pretrain.data.conversations import DataConfig, read_texts


def config(source: Path, skip_bad_records: bool = False) -> DataConfig:
    return DataConfig(str(source), max_samples=None, skip_bad_records=skip_bad_records)


def write_jsonl(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def write_json(path: Path, records: list[Any]) -> Path:
    path.write_text("[" + ",\n".join(json.dumps(record) for record in records) + "]")
    return path


def write_parquet(path: Path, records: list[Any]) -> Path:
    pq.write_table(pa.Table.from_pylist(records), path)
    return path


GOOD = b'{"text": "fine"}\n'
SECRET = "my secret diary"
BAD_LINES = {
    "cut short": (b'{"text": "my secret diary\n', "not JSON: .* at column"),
    "not JSON": (b"my secret diary\n", "not JSON: Expecting value at column 1"),
    "control character": (b'{"text": "my secret diary\t"}\n', "not JSON: Invalid control character"),
    "not UTF-8": (b'{"text": "my secret diary\xff"}\n', "not UTF-8 at byte 26 of the line"),
    "UTF-16": ('{"text": "my secret diary"}\n'.encode("utf-16"), "not UTF-8 at byte 1"),
    "surrogate": (
        b'{"text": "my secret diary\\ud800"}\n',
        "text is not Unicode: a lone surrogate at character 15",
    ),
    "null": (b"null\n", "must be an object, this is null"),
    "unknown schema": (
        b'{"my secret diary": "my secret diary"}\n',
        "must have conversations, messages or text",
    ),
    "deep": (b"[" * 200_000 + b"]" * 200_000 + b"\n", "nested too deeply"),
    "digits": (b'{"text": ' + b"9" * 5000 + b"}\n", "a number has too many digits"),
    "long": (b'{"text": "' + b"x" * 5000 + b'"}\n', "the line is longer than"),
}


@pytest.mark.parametrize("case", BAD_LINES)
@pytest.mark.parametrize("extension", [".jsonl", ".jsonl.gz", ".json"])
def test_a_bad_line_is_named_or_skipped(
    case: str, extension: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, why = BAD_LINES[case]
    if case == "long":
        monkeypatch.setattr(pretrain.data.json_records, "MAX_RECORD_BYTES", 2000)
    path = tmp_path / ("a" + extension)
    data = GOOD + b"\n" + line + b'{"text": "after"}\n'
    path.write_bytes(gzip.compress(data) if extension.endswith("gz") else data)
    with pytest.raises(DataError, match=why) as caught:
        read_texts(config(path))
    message = str(caught.value)
    assert message.startswith(f"{path}:3: ")
    assert "--skip-bad-records" in message
    assert SECRET not in message
    assert "\n" not in message
    texts, summary = read_texts(config(path, skip_bad_records=True))
    bad = 2 if case == "UTF-16" else 1  # its newline is two bytes: the second starts the next line
    assert summary.bad_records == bad
    assert texts == (["fine", "after"] if bad == 1 else ["fine"])
    assert summary.bad_positions[0].startswith(f"{path}:3: ")


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ('[{"text": "a"},\n {"text": "my secret diary"\n', 3, "not JSON: Expecting ',' delimiter"),
        ('[{"text": "a"},\n {"text": "b"}\n', 3, "the array must go on with a comma or end with ]"),
        ('[{"text": "a"}\n\n {"text": "b"}]', 3, "the array must go on with a comma or end with ]"),
        ('[{"text": "a"},\n]', 2, "a comma before the end"),
        ('[{"text": "a"}]\n{"text": "b"}', 2, "something follows the array"),
        ('[{"text": "a"},\n\n3\n]', 3, "a record must be an object, this is a number"),
        ('{\n"text": "a"\n}\nmy secret diary', 4, "not JSON: Expecting value"),
        ('[{"text": "a"},\n' + "[" * 200_000, 2, "nested too deeply"),
        ('[{"text": "a"},\n{"text":\n' + "9" * 5000 + "}]", 2, "too many digits"),
    ],
)
def test_a_bad_record_in_a_json_file_is_named_by_line(text: str, line: int, why: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_texts(config(path))
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert why in str(caught.value)
    assert SECRET not in str(caught.value)
    texts, summary = read_texts(config(path, skip_bad_records=True))
    assert (texts[0], summary.bad_records) == ("a", 1)


@pytest.mark.parametrize("chunk", [1, 20, 1000])
def test_a_json_file_that_is_not_utf8_is_named_by_line(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain.data.json_records, "CHUNK_BYTES", chunk)
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"text": "a"},\n\n{\n"text":\n "\xff"}]')
    with pytest.raises(DataError, match=r"a\.json:5: not UTF-8"):
        read_texts(config(path))


@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
def test_json_arrays_are_read_in_chunks_of_any_size(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain.data.json_records, "CHUNK_BYTES", chunk)
    records = [{"text": f"é{i}\n\u3042", "n": 10**i, "x": [{}, 1.5e10, None]} for i in range(30)]
    path = write_json(tmp_path / "a.json", records)
    assert read_texts(config(path))[0] == [record["text"] for record in records]
    # The chunks must not move the line numbers either.
    with path.open("ab") as file:
        file.write(b"\nx")
    lines = path.read_bytes().count(b"\n") + 1
    with pytest.raises(DataError, match=rf"a\.json:{lines}: not JSON: something follows"):
        read_texts(config(path))


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_a_number_is_not_cut_in_two_where_a_chunk_ends(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain.data.json_records, "CHUNK_BYTES", chunk)
    path = tmp_path / "a.json"
    path.write_text('[1234567, 1234567, {"text": "a"}]')
    texts, summary = read_texts(config(path, skip_bad_records=True))
    assert (texts, summary.bad_records) == (["a"], 2)


def test_a_record_of_a_json_array_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain.data.json_records, "MAX_RECORD_BYTES", 2000)
    monkeypatch.setattr(pretrain.data.json_records, "CHUNK_BYTES", 100)
    path = write_json(tmp_path / "a.json", [{"text": "a"}, {"text": "x" * 50_000}])
    with pytest.raises(
        DataError, match=r"a\.json:2: the record is broken, or longer than .* write .* as JSONL"
    ):
        read_texts(config(path))


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9, 0.999])
def test_a_truncated_gzip_file_is_named(keep: float, tmp_path: Path) -> None:
    rng = random.Random(0)  # texts that does not compress, so that some lines come out whole
    lines = [json.dumps({"text": f"{rng.getrandbits(400):x}"}) + "\n" for _ in range(2000)]
    whole = gzip.compress("".join(lines).encode())
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz:\d+: the gzip data are truncated or corrupt"):
        read_texts(config(path))
    texts, summary = read_texts(config(path, skip_bad_records=True))
    assert summary.bad_records == 1
    assert 0 < len(texts) == summary.records - 1
    assert texts == [json.loads(line)["text"] for line in lines[: len(texts)]]


def test_gzip_files_that_are_none_or_damaged_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    whole = gzip.compress(GOOD * 1000)
    for data in (GOOD, whole[:-8] + b"\0" * 8, whole[:20] + b"\xff" * 20 + whole[40:]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"a\.json\.gz:\d+: the gzip data are truncated or corrupt"):
            read_texts(config(path))


def test_broken_parquet_files_are_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{"text": f"text {i} " * 20} for i in range(1000)])
    whole = path.read_bytes()
    for data in (b"", b"PAR1", whole[: len(whole) // 2], b"x" * 100):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"a\.parquet: row 1: the Parquet file is broken"):
            read_texts(config(path))
    write_jsonl(tmp_path / "b.jsonl", [{"text": "b"}])
    texts, summary = read_texts(config(tmp_path, skip_bad_records=True))
    assert (texts, summary.bad_records) == (["b"], 1)


def test_a_bad_parquet_row_is_named_or_skipped(tmp_path: Path) -> None:
    good, bad = {"from": "human", "value": "x"}, {"from": "human", "value": None}
    path = write_parquet(
        tmp_path / "a.parquet", [{"conversations": [good]}] * 600 + [{"conversations": [bad]}]
    )
    with pytest.raises(DataError, match=r"a\.parquet: row 601: conversations\[0\]\.value must be a string"):
        read_texts(config(path))
    pq.write_table(pa.table({"conversation": ["my secret diary"]}), path)
    with pytest.raises(DataError, match=r"a\.parquet: row 1: the file must have a column conversations"):
        read_texts(config(path))


def test_a_parquet_string_that_is_not_utf8_is_named_by_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    raw = pa.array([b"one", b"two", b"\xff\xfe", b"four"], pa.binary())
    pq.write_table(pa.table({"text": raw.cast(pa.string(), safe=False)}), path)
    with pytest.raises(DataError, match=r"a\.parquet: row 3: a string is not UTF-8"):
        read_texts(config(path))
    texts, summary = read_texts(config(path, skip_bad_records=True))
    assert (texts, summary.records, summary.bad_records) == (["one", "two", "four"], 4, 1)


@pytest.mark.parametrize("extension", [".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet"])
@settings(max_examples=60, deadline=None)
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3), st.integers(0, 30)), min_size=1))
def test_damaged_files_end_in_an_error_of_ours_or_in_texts(
    extension: str, edits: list[tuple[float, bytes, int]]
) -> None:
    records = [{"text": f"té{i}"} for i in range(30)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a" + extension)
        if extension == ".parquet":
            write_parquet(path, records)
        else:
            (write_jsonl if ".jsonl" in extension else write_json)(path, records)
        data = gzip.compress(path.read_bytes()) if extension.endswith("gz") else path.read_bytes()
        for place, inserted, removed in edits:
            at = int(place * len(data))
            data = data[:at] + inserted + data[at + removed :]
        path.write_bytes(data)
        try:
            texts, summary = read_texts(config(path, skip_bad_records=True))
        except DataError as error:
            message = str(error)
            assert str(path) in message
            assert "\n" not in message
        else:
            assert len("".join(texts).encode()) > 0
            assert len(texts) == summary.texts <= summary.records


def test_only_the_first_few_bad_records_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + b"bad\n" * 50)
    summary = read_texts(config(path, skip_bad_records=True))[1]
    assert summary.bad_records == 50
    assert [position.split(": ")[0] for position in summary.bad_positions] == [
        f"{path}:{i}" for i in range(2, 7)
    ]


def test_a_bad_record_takes_none_of_its_turns_along(tmp_path: Path) -> None:
    record = {"conversations": [{"from": "human", "value": "x"}, {"from": "human", "value": 3}]}
    path = write_jsonl(tmp_path / "a.jsonl", [record, {"text": "y"}])
    assert read_texts(config(path, skip_bad_records=True))[0] == ["y"]


def test_no_human_text_at_all_is_an_error(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "a.jsonl",
        [{"conversations": [{"from": "gpt", "value": "x"}, {"from": "human", "value": " "}]}, {"bad": 1}],
    )
    with pytest.raises(DataError, match=r"2 records, 1 of them malformed, 1 blank turns"):
        read_texts(config(path, skip_bad_records=True))


@pytest.mark.parametrize("name", ["blank.jsonl.gz", "blank.json.gz"])
@pytest.mark.parametrize("blank", [b"\n", b" \t\r\n"])
def test_a_bomb_of_blank_lines_is_not_passed_over_to_its_end(tmp_path: Path, name: str, blank: bytes) -> None:
    with gzip.open(tmp_path / name, "wb", compresslevel=1) as file:
        for _ in range(64):
            file.write(blank * (1 << 20))
        file.write(GOOD)
    started = time.monotonic()
    with pytest.raises(DataError, match=r"more than 4 MiB of blank lines: the rest of the file is not read"):
        read_texts(config(tmp_path / name))
    assert time.monotonic() - started < 20  # all of it takes minutes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"text": "' + b"a " * 5_000_000 + b'"}'),
        ("a.json", b'[{"text": "' + b"a " * 5_000_000 + b'"}]'),
        ("a.json", b"[" * 10_000_000),
        ("a.json", b'{"text": "' + b"\\u0041" * 1_700_000),
        ("a.jsonl", b"9" * 10_000_000),
    ],
    ids=["line", "record", "brackets", "escapes", "digits"],
)
def test_ten_megabytes_on_one_line_take_seconds(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    started = time.monotonic()
    with contextlib.suppress(DataError):
        texts, _ = read_texts(config(tmp_path / name))
        assert len(texts[0]) == 9_999_999
    assert time.monotonic() - started < 20
