"""`pt lm data`: what is written, whole."""

import gzip
import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from personality_common.errors import ConfigError, DataError
from personality_common.files.atomic import read_json_object
from personality_common.terminal.progress import Silent
from pretrain.lm.cli import lm
from pretrain.lm.config import DataConfig
from pretrain.lm.data import build as build_module
from pretrain.lm.data import shards
from pretrain.lm.data.build import build_data
from pretrain.lm.data.folder import SPLIT_NAMES, Data, open_data
from pretrain.lm.data.sources import pieces

SCHEMA = read_json_object(Path(build_module.__file__).with_name("data.schema.json"))
GENERATED = """
version = 1
seed = {seed}
[[sources]]
name = "tools"
kind = "tools"
documents = 300
[[sources]]
name = "perspectives"
kind = "perspectives"
documents = 120
[[sources]]
name = "reasoning"
kind = "reasoning"
documents = 80
[[sources]]
name = "self"
kind = "self-description"
documents = 60
weight = 2.5
assistant = "Ada"
"""
WORDS = [f"w{index}" for index in range(3_000)]


def build(folder: Path, mix: str, out: str = "data") -> Data:
    (folder / "mix.toml").write_text(mix)
    build_data(DataConfig(folder / "mix.toml", folder / out), Silent())
    return open_data(folder / out)


def corpus(folder: Path, **keys: Any) -> Data:
    keys = {"name": "x", "kind": "corpus", "path": "x.jsonl", "licence": "CC0-1.0", **keys}
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return build(folder, "\n".join(["version = 1", "[[sources]]", *lines]))


def prose(rng: random.Random, words: int = 40) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def write(path: Path, records: list[object]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return build(tmp_path_factory.mktemp("generated"), GENERATED.format(seed=0))


def test_data_json_follows_its_schema_and_counts_what_is_there(generated: Data) -> None:
    written = read_json_object(generated.folder / "data.json")
    jsonschema.validate(written, SCHEMA)
    found: Counter[tuple[str, str]] = Counter()
    characters: Counter[tuple[str, str]] = Counter()
    held_out: Counter[tuple[str, str]] = Counter()
    for split in SPLIT_NAMES:
        for document in generated.documents(split):
            found[document.source, split] += 1
            characters[document.source, split] += sum(len(turn.text) for turn in document.turns)
            if document.held_out:
                assert split != "train"
                held_out[document.source, document.held_out] += 1
    for source in written["sources"]:
        for split in SPLIT_NAMES:
            assert source[split] == {
                "documents": found[source["name"], split],
                "characters": characters[source["name"], split],
            }
        for kind, count in source["held_out"].items():
            assert held_out[source["name"], kind] == count
    tools = written["sources"][0]
    assert tools["licence"] == "Apache-2.0"
    assert min(tools["held_out"].values()) > 5
    assert min(tools["validation"]["documents"], tools["test"]["documents"]) > 5
    assert sorted(p.name for p in generated.folder.iterdir()) == sorted([*written["files"], "data.json"])


def test_a_source_is_whole_or_accounted_for(generated: Data) -> None:
    for source in generated.record.sources:
        dropped = source.exact_duplicates + source.near_duplicates + source.excluded + source.over_limit
        if source.weight == 1:
            kept = source.train.documents + source.validation.documents + source.test.documents
            assert kept + dropped == source.read
    self_description = generated.record.sources[-1]
    assert self_description.validation.documents == self_description.test.documents == 0
    distinct = 60 - self_description.exact_duplicates - self_description.near_duplicates
    assert 2 * distinct <= self_description.train.documents <= 3 * distinct
    ids = [document.id for split in SPLIT_NAMES for document in generated.documents(split)]
    assert len(set(ids)) == len(ids)


def test_groups_are_on_one_side(generated: Data) -> None:
    sides = {split: {d.group for d in generated.documents(split)} for split in SPLIT_NAMES}
    assert not sides["train"] & (sides["validation"] | sides["test"])
    assert not sides["validation"] & sides["test"]


def test_the_same_mix_gives_the_same_bytes(generated: Data, tmp_path: Path) -> None:
    again = build(tmp_path, GENERATED.format(seed=0), "again")
    other = build(tmp_path, GENERATED.format(seed=1), "other")
    for path in generated.folder.iterdir():
        assert path.read_bytes() == (again.folder / path.name).read_bytes()
    assert other.fingerprint != generated.fingerprint == again.fingerprint


def test_training_is_in_a_drawn_order(generated: Data) -> None:
    sources = [document.source for document in generated.documents("train")]
    assert sum(a != b for a, b in pairwise(sources)) > len(sources) / 3


def test_many_files_are_one_order(generated: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 50_000)
    many = build(tmp_path, GENERATED.format(seed=0))
    assert len(many.record.files) > 5
    assert list(many.documents("train")) == list(generated.documents("train"))


def test_a_changed_or_missing_file_is_refused(tmp_path: Path) -> None:
    data = build(tmp_path, GENERATED.format(seed=0))
    path = data.folder / "train-00000.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"loss":true', b'"loss":none', 1))
    with pytest.raises(DataError, match=r"train-00000.jsonl: must be the file that data.json describes"):
        next(data.documents("train"))
    path.unlink()
    with pytest.raises(DataError, match="is missing or was changed"):
        next(data.documents("train"))
    with pytest.raises(DataError, match=r"must be a folder of data, has no data.json"):
        open_data(tmp_path)


def test_something_else_is_not_replaced_and_data_are(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    with pytest.raises(ConfigError, match="must be a new folder or one of pt lm data"):
        build(tmp_path, GENERATED.format(seed=0), "precious")
    first = build(tmp_path, GENERATED.format(seed=0)).fingerprint
    assert build(tmp_path, GENERATED.format(seed=1)).fingerprint != first


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = build(tmp_path, GENERATED.format(seed=0)).fingerprint

    def fail(*_: object) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(build_module, "write_json", fail)
    with pytest.raises(OSError, match="no space"):
        build(tmp_path, GENERATED.format(seed=1))
    assert open_data(tmp_path / "data").fingerprint == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "mix.toml"]


# Corpora.


def chats(rng: random.Random, count: int) -> list[object]:
    return [
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": prose(rng)},
                {"role": "assistant", "content": prose(rng)},
            ]
        }
        for _ in range(count)
    ]


def all_documents(data: Data) -> list[Any]:
    return [document for split in SPLIT_NAMES for document in data.documents(split)]


def test_all_schemas_are_read_and_only_the_assistant_is_learned_from(tmp_path: Path) -> None:
    rng = random.Random(0)
    folder = tmp_path / "x"
    folder.mkdir()
    write(folder / "openai.jsonl", chats(rng, 3))
    share = {"conversations": [{"from": "human", "value": prose(rng)}, {"from": "gpt", "value": prose(rng)}]}
    (folder / "sharegpt.json.gz").write_bytes(gzip.compress(json.dumps([share]).encode()))
    (folder / "plain.txt").write_text("\n" + prose(rng) + "\n")
    write(folder / "text.jsonl", [{"text": prose(rng)}])
    documents = {
        document.id: document for document in all_documents(corpus(tmp_path, path="x", held_out=False))
    }
    assert sorted(documents) == [
        "x/openai.jsonl:1", "x/openai.jsonl:2", "x/openai.jsonl:3", "x/plain.txt:1", "x/sharegpt.json.gz:1",
        "x/text.jsonl:1",
    ]  # fmt: skip

    def shape(name: str) -> list[tuple[str, bool]]:
        return [(turn.role, turn.loss) for turn in documents[name].turns]

    assert shape("x/openai.jsonl:1") == [("system", False), ("user", False), ("assistant", True)]
    assert shape("x/sharegpt.json.gz:1") == [("user", False), ("assistant", True)]
    assert shape("x/plain.txt:1") == [("text", True)]
    learned = all_documents(corpus(tmp_path, path="x", held_out=False, loss="all"))
    assert {(t.role, t.loss) for d in learned for t in d.turns} == {
        ("system", False), ("user", True), ("assistant", True), ("text", True),
    }  # fmt: skip


def test_a_hub_dataset_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    opened = []

    def stream(name: str, rank: int, size: int) -> list[object]:
        opened.append((name, rank, size))
        return chats(rng, 4)

    monkeypatch.setattr("pretrain.data.sources.open_hub_stream", stream)
    data = corpus(tmp_path, path="hf:owner/name", held_out=False, documents=3)
    assert sorted(document.id for document in all_documents(data)) == [
        "x/hf:owner/name:1", "x/hf:owner/name:2", "x/hf:owner/name:3",
    ]  # fmt: skip
    assert opened == [("owner/name", 0, 1)]


def test_records_without_an_answer_and_bad_ones_are_counted(tmp_path: Path) -> None:
    rng = random.Random(0)
    silent = {"messages": [{"role": "user", "content": "Hello?"}]}
    strange = {"messages": [{"role": "narrator", "content": "Once"}]}
    write(tmp_path / "x.jsonl", [*chats(rng, 5), silent, {"conversations": []}, strange])
    with pytest.raises(
        DataError, match=r"x.jsonl:8: messages\[0\].role must be one of .* \(skip_bad_records"
    ):
        corpus(tmp_path)
    (source,) = corpus(tmp_path, skip_bad_records=True, held_out=False).record.sources
    assert (source.bad_records, source.silent, source.read, source.train.documents) == (1, 2, 5, 5)


def test_duplicates_are_left_out_and_counted(tmp_path: Path) -> None:
    rng = random.Random(0)
    long = prose(rng, 200)
    texts = [*(prose(rng) for _ in range(20)), long, long, f"{long} and more", f"Well: {long}"]
    write(tmp_path / "x.jsonl", [{"text": text} for text in texts])
    data = corpus(tmp_path, held_out=False)
    (source,) = data.record.sources
    assert (source.exact_duplicates, source.near_duplicates, source.train.documents) == (1, 2, 21)
    assert long in [document.turns[0].text for document in data.documents("train")]


@pytest.mark.parametrize(("group", "parts"), [("record", 400), ("file", 20), ("field:speaker", 10)])
def test_a_group_is_a_record_a_file_or_a_field(group: str, parts: int, tmp_path: Path) -> None:
    rng = random.Random(0)
    (tmp_path / "x").mkdir()
    for file in range(20):
        rows: list[object] = [{"text": prose(rng), "speaker": (file + row) % 10} for row in range(20)]
        write(tmp_path / "x" / f"{file}.jsonl", rows)
    (tmp_path / "mix.toml").write_text("")
    data = corpus(tmp_path, path="x", group=group)
    groups = {split: {d.group for d in data.documents(split)} for split in SPLIT_NAMES}
    assert sum(map(len, groups.values())) == parts == len(set().union(*groups.values()))


def test_a_record_without_its_group_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", [{"text": "a b c", "speaker": None}])
    with pytest.raises(DataError, match=r"x.jsonl:1: speaker, which names the record's group, must be"):
        corpus(tmp_path, group="field:speaker")


def test_long_texts_are_divided_and_stay_together(tmp_path: Path) -> None:
    rng = random.Random(0)
    text = "\n\n".join(prose(rng, 300) for _ in range(20))
    write(tmp_path / "x.jsonl", [{"text": text}])
    documents = all_documents(corpus(tmp_path, held_out=False))
    assert len({document.group for document in documents}) == 1
    by_number = sorted(documents, key=lambda d: int(d.id.rsplit("/", 1)[1]))
    assert "\n\n".join(d.turns[0].text for d in by_number) == text
    assert max(len(d.turns[0].text) for d in documents) <= 8_000


@pytest.mark.parametrize(
    "text", ["x" * 50, "ab " * 30, "One. Two. " * 9, "a\nb\n" * 20, "\n" * 40, "", "ä" * 11]
)
def test_pieces_lose_nothing_but_space(text: str) -> None:
    found = list(pieces(text, 10))
    assert all(0 < len(piece) <= 10 and piece == piece.strip() for piece in found)
    assert "".join("".join(found).split()) == "".join(text.split())


def test_a_weight_below_one_takes_a_share(tmp_path: Path) -> None:
    rng = random.Random(0)
    write(tmp_path / "x.jsonl", [{"text": prose(rng)} for _ in range(400)])
    count = corpus(tmp_path, weight=0.25, held_out=False).record.sources[0].train.documents
    assert 65 < count < 135
    assert corpus(tmp_path, documents=30, held_out=False).record.sources[0].train.documents == 30


def test_named_documents_are_left_out(tmp_path: Path) -> None:
    rng = random.Random(0)
    write(tmp_path / "x.jsonl", [{"text": prose(rng)} for _ in range(5)])
    data = corpus(tmp_path, exclude=["x/x.jsonl:2"], held_out=False)
    assert "x/x.jsonl:2" not in {document.id for document in all_documents(data)}
    assert data.record.sources[0].excluded == 1
    with pytest.raises(DataError, match=r"exclude must name documents of the source, '.*:9' is none"):
        corpus(tmp_path, exclude=["x/x.jsonl:9"])


def test_held_out_documents_are_limited(tmp_path: Path) -> None:
    rng = random.Random(0)
    write(tmp_path / "x.jsonl", [{"text": prose(rng)} for _ in range(300)])
    mix = (
        'version = 1\n[split]\nmost = 7\n[[sources]]\nname = "x"\nkind = "corpus"\npath = "x.jsonl"\n'
        'licence = "CC0-1.0"\n'
    )
    (source,) = build(tmp_path, mix).record.sources
    assert source.validation.documents == source.test.documents == 7
    assert source.over_limit == 300 - source.train.documents - 14 > 5


@pytest.mark.parametrize("records", [[], [{"messages": []}]])
def test_nothing_to_train_with_is_refused(records: list[object], tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", records)
    with pytest.raises(DataError, match="a mix must leave documents to train with, this one leaves none"):
        corpus(tmp_path)


def test_memory_does_not_grow_with_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four times the text, the peak is that of the largest file and of some bytes a document."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 400_000)
    peaks = []
    for count in (150, 600):
        rng = random.Random(0)
        # Long words: there are few to hash, and it is bytes that count here.
        texts = [" ".join(f"{word:x>150}" for word in prose(rng).split()) for _ in range(count)]
        write(tmp_path / "x.jsonl", [{"text": text} for text in texts])
        del texts
        tracemalloc.start()
        corpus(tmp_path, held_out=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    grown = (tmp_path / "x.jsonl").stat().st_size * 0.75
    assert grown > 2_500_000
    assert peaks[1] - peaks[0] < 0.25 * grown


def test_the_command_prints_what_it_wrote(tmp_path: Path) -> None:
    (tmp_path / "mix.toml").write_text(GENERATED.format(seed=0))
    arguments = ["data", str(tmp_path / "mix.toml"), "--out", str(tmp_path / "data")]
    run: Callable[[list[str]], Any] = lambda words: CliRunner().invoke(lm, words, catch_exceptions=False)  # noqa: E731
    lines = run(arguments).stdout.splitlines()
    assert lines[0].startswith("tools: ")
    assert lines[-1] == f"data  {tmp_path / 'data'}"
    assert json.loads(run([*arguments, "--json"]).stdout) == read_json_object(tmp_path / "data" / "data.json")
