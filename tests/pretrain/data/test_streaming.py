"""The hub's road, on `datasets`' own streaming loader: from local files, and from a server of ours
that speaks as much of the hub's protocol as streaming needs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pretrain
from personality_common.errors import DataError, ToolkitError
from pretrain.data.conversations import DataConfig, ReadSummary, distinct_texts, read_texts
from pretrain.data.sources import open_hub_stream, stream_part

NAME = "hf:someone/something"
SECRET = "my secret diary"
SHAREGPT = [
    {"conversations": [{"from": "human", "value": f" q{i % 700} "}, {"from": "gpt", "value": "a"}]}
    for i in range(1000)
]
MIXED = [
    {"text": "plain"},
    SHAREGPT[3],
    {"messages": [{"role": "user", "content": "string"}, {"role": "assistant", "content": None}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "part"}, {"type": "image_url"}]}]},
    {"conversations": []},
]


def local_stream(path: Path, **options: Any) -> Iterable[object]:
    kind = "parquet" if path.suffix == ".parquet" else "json"
    stream: Iterable[object] = datasets.load_dataset(
        kind,
        data_files=str(path),
        split="train",
        streaming=True,
        cache_dir=str(path.parent / "cache"),
        **options,
    )
    return stream


def stream_texts(stream: Iterable[object], **options: Any) -> tuple[list[str], ReadSummary]:
    summary = ReadSummary()
    config = DataConfig(NAME, **{"max_samples": None, **options})
    found = distinct_texts([stream_part(NAME, lambda: stream)], config, summary)
    return [one.text for one in found], summary


def write(path: Path, records: list[Any]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path, row_group_size=100)
    elif path.suffix == ".json":
        path.write_text(json.dumps(records))
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("unit", ["turn", "conversation"])
@pytest.mark.parametrize(
    ("file", "records"),
    [("a.jsonl", SHAREGPT), ("a.json", SHAREGPT), ("a.parquet", SHAREGPT), ("mixed.jsonl", MIXED)],
)
def test_a_stream_gives_what_the_file_gives(file: str, records: list[Any], unit: Any, tmp_path: Path) -> None:
    path = write(tmp_path / file, records)
    texts, summary = stream_texts(local_stream(path), unit=unit)
    expected, of_file = read_texts(DataConfig(str(path), unit=unit, max_samples=None))
    assert texts == expected
    assert len(texts) == (700 if records is SHAREGPT else 4)
    for count in ("records", "bad_records", "blank_texts", "repeats", "texts"):
        assert getattr(summary, count) == getattr(of_file, count)


def test_a_stream_is_pulled_no_further_than_needed(tmp_path: Path) -> None:
    stream = local_stream(write(tmp_path / "a.parquet", SHAREGPT))
    pulled = 0

    def counted() -> Iterator[object]:
        nonlocal pulled
        for record in stream:
            pulled += 1
            yield record

    texts, summary = stream_texts(counted(), max_samples=10)
    assert (len(texts), pulled, summary.records) == (10, 10, 10)


def test_a_malformed_record_of_a_stream_is_named_or_skipped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": "a"}, {"text": None}, {"text": "b"}])
    with pytest.raises(DataError, match=r"^hf:someone/something: record 2: text must not be null"):
        stream_texts(local_stream(path))
    texts, summary = stream_texts(local_stream(path), skip_bad_records=True)
    assert (texts, summary.bad_records) == (["a", "b"], 1)


def test_a_stream_that_breaks_off_says_where_and_quotes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", SHAREGPT)
    with path.open("a") as file:
        file.write(f'{{"conversations": [{{"from": "human", "value": 1, {SECRET}\n')
    # skip_bad_records must not hide it: the records behind it are lost.
    with pytest.raises(ToolkitError, match=r"^hf:someone/something broke off after record [1-9]") as caught:
        stream_texts(local_stream(path, chunksize=10_000), skip_bad_records=True)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConnectionResetError("reset by peer\nmore"), "record 1: ConnectionResetError: reset by peer; if"),
        (ValueError(f"cannot parse {SECRET!r}"), "record 1: ValueError; if"),
    ],
)
def test_only_errors_of_the_network_are_quoted(error: Exception, why: str) -> None:
    def breaking() -> Iterator[object]:
        yield {"text": "a"}
        raise error

    with pytest.raises(ToolkitError) as caught:
        stream_texts(breaking())
    assert why in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_local_folder_is_not_taken_for_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "someone" / "something").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"a local someone/something hides hf:someone/something"):
        open_hub_stream("someone/something")


# huggingface_hub reads its settings at import, so what follows runs in processes of its own.

READ = """
import json, sys
from personality_common.errors import ToolkitError
from pretrain.data.conversations import DataConfig, read_texts
try:
    texts, summary = read_texts(DataConfig(sys.argv[1], max_samples=20))
    print(json.dumps([texts, summary.records]))
except ToolkitError as error:
    print(json.dumps(str(error)))
"""


def read_in_new_process(source: str, home: Path, **environment: str) -> Any:
    unset = ("HF_", "HUGGING", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    kept = {key: value for key, value in os.environ.items() if not key.upper().startswith(unset)}
    root = str(Path(pretrain.__file__).parents[2])
    environment = {**kept, "HF_HOME": str(home), "PYTHONPATH": root, **environment}
    # The time limit only ends a hang; retries of half a minute would not fit in it.
    done = subprocess.run(
        [sys.executable, "-c", READ, source],
        env=environment, cwd=home, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Retrying" not in done.stderr
    return json.loads(done.stdout)


class Hub(BaseHTTPRequestHandler):
    """One dataset, someone/something, with one file of 48 MB; range requests are what streaming uses."""

    protocol_version = "HTTP/1.1"
    data = "".join(
        json.dumps({"conversations": [{"from": "human", "value": f"{i} " + "x" * 4000}]}) + "\n"
        for i in range(12_000)
    ).encode()
    commit = "0" * 40
    sent = 0

    def do_GET(self) -> None:
        status, headers, body = self.answer()
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            Hub.sent += len(body)

    do_HEAD = do_GET

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        if self.path.endswith("/train.jsonl"):
            headers = {"ETag": '"1"', "X-Repo-Commit": self.commit, "Accept-Ranges": "bytes"}
            if "Range" not in self.headers:
                return 200, headers, self.data
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            body = self.data[int(first) : int(last) + 1]
            end = int(first) + len(body) - 1
            return 206, {**headers, "Content-Range": f"bytes {first}-{end}/{len(self.data)}"}, body
        if "/resolve/" in self.path:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        if "/tree/" in self.path:
            file = {"type": "file", "path": "train.jsonl", "size": len(self.data), "oid": "1"}
            return 200, {}, json.dumps([file]).encode()
        if self.path.startswith("/api/datasets/someone/something"):
            about = {"id": "someone/something", "sha": self.commit, "private": False, "gated": False,
                     "disabled": False, "tags": [], "downloads": 0, "likes": 0,
                     "siblings": [{"rfilename": "train.jsonl"}]}  # fmt: skip
            return 200, {}, json.dumps(about).encode()
        return 404, {"X-Error-Code": "RepoNotFound"}, b""

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_hub_dataset_is_streamed_and_never_fully_downloaded(hub: str, tmp_path: Path) -> None:
    Hub.sent = 0
    texts, records = read_in_new_process(NAME, tmp_path, HF_ENDPOINT=hub)
    assert records == 20
    assert texts == [f"{i} " + "x" * 4000 for i in range(20)]
    # Blocks of the loader, once to learn the fields and once to read.
    assert 0 < Hub.sent < 0.7 * len(Hub.data)
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 100_000


def test_a_dataset_that_the_hub_does_not_have_is_one_clear_line(hub: str, tmp_path: Path) -> None:
    error = read_in_new_process("hf:no/such", tmp_path, HF_ENDPOINT=hub)
    assert error.startswith("cannot stream the train split of hf:no/such: RepositoryNotFoundError: 404")
    assert "\n" not in error


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "offline mode is enabled"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "Connection refused"),
    ],
)
def test_no_network_is_one_clear_line(environment: dict[str, str], why: str, tmp_path: Path) -> None:
    error = read_in_new_process(NAME, tmp_path, **environment)
    assert error.startswith(f"cannot stream the train split of {NAME}: ")
    assert why in error
    assert "check the name and the network, or pass --data a local copy" in error
    assert "\n" not in error
