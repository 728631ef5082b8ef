"""Several sources, patterns, standard input, and data that are named: text, CSV and TSV."""

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from personality_common.errors import ConfigError, DataError
from pretrain.data.conversations import DataConfig, read_texts


def texts(*sources: Path | str, **options: str) -> list[str]:
    return read_texts(DataConfig(tuple(map(str, sources)), **options))[0]  # type: ignore[arg-type]


def jsonl(path: Path, *said: str) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in said))
    return path


def test_several_sources_and_patterns(tmp_path: Path) -> None:
    one, two = jsonl(tmp_path / "b.jsonl", "one", "both"), jsonl(tmp_path / "a.jsonl", "two", "both")
    assert texts(one, two) == ["one", "both", "two"]
    # In the order of paths, and a file that is named twice is read once.
    assert texts(tmp_path / "*.jsonl", one) == ["two", "both", "one"]
    with pytest.raises(ConfigError, match=r"no .*\.tsv file is like .*\*\.csv"):
        texts(tmp_path / "*.csv")
    with pytest.raises(ConfigError, match="it is empty"):
        DataConfig(())


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    given = io.BytesIO(b'{"text": "a"}\n\n{"text": "b"}\n')
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=given))
    assert texts("-") == ["a", "b"]


def test_a_text_a_line(tmp_path: Path) -> None:
    file = tmp_path / "said.txt"
    file.write_bytes("\ufeffgrüße\r\n\n  two words \n".encode())
    assert texts(file) == ["grüße", "two words"]
    file.write_bytes(b"fine\n\xff\n")
    with pytest.raises(DataError, match=r"said\.txt:2: not UTF-8 at byte 1 of the line"):
        texts(file)
    # In a folder of conversations a text is about something else.
    jsonl(tmp_path / "c.jsonl", "c")
    assert texts(tmp_path) == ["c"]


@pytest.mark.parametrize(("name", "dialect"), [("t.csv", "excel"), ("t.tsv", "excel-tab")])
def test_tables(tmp_path: Path, name: str, dialect: str) -> None:
    said = ['with "quotes", and a comma', "two\nlines", "tab\there"]
    with (tmp_path / name).open("w", newline="") as file:
        csv.writer(file, dialect).writerows([["id", "said"], *enumerate(said)])
    assert texts(tmp_path / name, text_column="said") == said
    with pytest.raises(DataError, match=r"the header must name a column 'text'; --text-column says which"):
        texts(tmp_path / name)


def test_what_is_lost_to_the_end_is_not_to_be_skipped(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('text\nfine\n"open\n')
    (tmp_path / "t.json").write_text('[{"text": "fine"}, {"text": "br')
    (tmp_path / "t.jsonl").write_text('{"text": "fine"}\n{"text": "br')
    for name in ("t.csv", "t.json", "t.jsonl"):
        with pytest.raises(DataError, match="what follows cannot be read: get the file again") as refused:
            texts(tmp_path / name)
        assert "--skip-bad-records" not in str(refused.value)


def test_a_bad_last_line_is_one_like_others(tmp_path: Path) -> None:
    for number, last in enumerate(('{"text": "br\n', "no record")):
        (tmp_path / f"{number}.jsonl").write_text(f'{{"text": "fine"}}\n{last}')
        with pytest.raises(DataError, match="--skip-bad-records"):
            texts(tmp_path / f"{number}.jsonl")
