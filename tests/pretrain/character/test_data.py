"""Generated examples, and files of them."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personality_common.errors import ConfigError, DataError, MismatchError
from personality_common.terminal.progress import Silent
from pretrain.character.config import DataConfig
from pretrain.character.descriptors import archetypes
from pretrain.character.generation import EXAMPLES_FILE, UNSEEN_FILE, generate_data
from pretrain.character.pipeline import read_data
from pretrain.character.records import Examples, content_hash, read_examples
from pretrain.character.schema import SchemaName, load_schema
from pretrain.character.split import split
from pretrain.character.synthesis import draw_cells, generate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "v2"
    generate_data(DataConfig(out, examples=600), Silent())
    return out


@pytest.fixture(scope="module")
def examples(folder: Path) -> Examples:
    return read_examples(folder / EXAMPLES_FILE)


@pytest.mark.parametrize("schema", ["v1", "v2"])
def test_the_same_seed_gives_the_same_bytes(schema: SchemaName, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        generate_data(DataConfig(folder, examples=30, seed=seed, schema=schema), Silent())
    for name in (EXAMPLES_FILE, UNSEEN_FILE):
        first, again, other = [(folder / name).read_bytes() for folder in folders]
        assert first == again
        assert first != other


def test_an_example_does_not_depend_on_how_many_there_are() -> None:
    people = sorted(archetypes())[:50]
    few, many = (list(generate(people, count, 0, load_schema("v2"))) for count in (10, 40))
    assert few == many[:10]


def test_cells_are_distinct_and_characters_equally_frequent() -> None:
    people = sorted(archetypes())[:20]
    cells = draw_cells(people, 70, 0)
    assert len({cell.key for cell in cells}) == 70
    assert set(Counter(cell.archetype_a for cell in cells).values()) == {3, 4}
    assert all(cell.archetype_a != cell.archetype_b for cell in cells)
    assert {cell.a_is_role_a for cell in cells} == {True, False}


def test_what_the_engine_lacks_in_training_is_there(examples: Examples) -> None:
    relations = (examples.features[:, 263:383].reshape(-1, 5, 24) != 0).any(axis=2).sum(axis=1)
    turns = (examples.features[:, 405:453].reshape(-1, 3, 16) != 0).any(axis=2).sum(axis=1)
    assert set(relations) == set(range(6))
    assert set(turns) == set(range(4))
    assert (examples.features[:, 404] == 1).mean() == pytest.approx(0.85, abs=0.1)


def test_unseen_archetypes_are_others(folder: Path, examples: Examples) -> None:
    _, unseen = read_data(folder)
    assert unseen is not None
    assert len(set(unseen.archetypes)) == 40
    assert not set(unseen.archetypes) & set(examples.archetypes)
    assert len(set(examples.archetypes)) == 200


def test_lines_and_manifest_are_the_engines(folder: Path) -> None:
    line = json.loads((folder / EXAMPLES_FILE).read_text().splitlines()[0])
    assert set(line) == {
        "id", "cell", "variation", "features", "labels", "expected", "coherence_score", "content_hash",
    }  # fmt: skip
    assert set(line["cell"]) == {
        "archetype_a", "archetype_b", "dynamic", "a_is_role_a", "profile", "genre",
    }  # fmt: skip
    assert line["id"][14] == "7"
    manifest = json.loads((folder / "examples.manifest.json").read_text())
    assert manifest["version"] == "0.1.0"
    assert (manifest["input_features"], manifest["output_features"]) == (453, 49)
    assert manifest["total_valid"] == manifest["total_generated"] - manifest["total_rejected"] == 600


def test_the_expectation_is_that_of_the_labels(examples: Examples) -> None:
    assert examples.expected is not None
    gap = (examples.labels - examples.expected).mean(axis=0)
    error = examples.labels.std(axis=0) / np.sqrt(len(examples)) + 0.003
    assert (abs(gap) < 5 * error).all()


def test_the_engines_own_files_are_read_as_v1(tmp_path: Path) -> None:
    generate_data(DataConfig(tmp_path / "d", examples=6, schema="v1"), Silent())
    path = tmp_path / "d" / EXAMPLES_FILE
    edit_manifest(path, lambda m: [m.pop(key) for key in ("schema", "schema_sha256")])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        del line["expected"]
    path.write_text("\n".join(map(json.dumps, lines)))
    found = read_examples(path)
    assert found.schema.name == "v1"
    assert found.expected is None
    assert found.labels.shape == (6, 42)


def edit_manifest(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    file = path.with_name("examples.manifest.json")
    manifest = json.loads(file.read_text())
    edit(manifest)
    file.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(schema="v3"), "schema must be one of v1, v2, is 'v3'"),
        (lambda m: m.update(schema="v1"), "schema v1 has 453 inputs and 42 outputs, the file 453 and 49"),
        (lambda m: m.update(schema_sha256="0" * 64), "is another than this toolkit's"),
    ],
)
def test_data_of_another_schema_are_refused(
    folder: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], None], message: str
) -> None:
    for file in folder.glob("examples.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    edit_manifest(tmp_path / EXAMPLES_FILE, edit)
    with pytest.raises(MismatchError, match=message):
        read_examples(tmp_path / EXAMPLES_FILE)


def changed(
    key: str, position: int, value: object, *, rehash: bool = True
) -> Callable[[dict[str, Any]], str]:
    def edit(line: dict[str, Any]) -> str:
        line[key][position] = value
        if rehash:
            line["content_hash"] = content_hash(line["features"], line["labels"])
        return json.dumps(line)

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda line: "{broken", "not JSON"),
        (lambda line: "[]", "must be an object, is a list"),
        (lambda line: json.dumps(line | {"cell": 3}), "cell must be an object of archetype_a, "),
        (lambda line: json.dumps({k: v for k, v in line.items() if k != "labels"}), "labels is missing"),
        (lambda line: json.dumps(line | {"features": [0.0] * 452}), "features must be 453 numbers, is 452"),
        (changed("features", 3, "1", rehash=False), r"features\[3\] must be a number, is '1'"),
        (changed("features", 3, True, rehash=False), r"features\[3\] must be a number, is True"),
        (changed("features", 3, float("nan")), r"features\[3\] must be finite, is nan"),
        (changed("labels", 48, float("inf")), r"labels\[48\] must be finite, is inf"),
        (changed("features", 3, 1e300, rehash=False), r"features\[3\] must be finite"),
        (changed("features", 3, 0.123, rehash=False), "content_hash must be .*: the line was changed"),
        (changed("labels", 0, 0.5), r"label action\.type must be what the schema allows"),
        (changed("labels", 14, 0.5), r"label speech\.occurs must be what the schema allows"),
        (changed("labels", 33, 3.0), r"label emotion\.delta must be what the schema allows, is \[3"),
        (changed("expected", 0, 0.9), r"expected action\.type must be probabilities"),
        (changed("expected", 14, -0.1), r"expected speech\.occurs must be probabilities"),
        (
            lambda line: json.dumps(line | {"expected": None}),
            "expected must be in all 600 lines or in none, .*599",
        ),
    ],
)
def test_a_malformed_line_stops_with_file_and_line(
    folder: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], str], message: str
) -> None:
    lines = (folder / EXAMPLES_FILE).read_text().splitlines()
    lines[6] = edit(json.loads(lines[6]))
    path = tmp_path / EXAMPLES_FILE
    path.write_text("\n".join(lines))
    (tmp_path / "examples.manifest.json").write_bytes((folder / "examples.manifest.json").read_bytes())
    with pytest.raises(DataError, match=message) as caught:
        read_examples(path)
    if "all 600 lines" not in message:
        assert str(caught.value).startswith(f"{path}:7: ")


def test_data_are_not_written_over_something_else(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(ConfigError, match="must be a new folder or one of pt character data"):
        generate_data(DataConfig(tmp_path, examples=3), Silent())
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize("by", ["group", "archetype", "random"])
def test_a_split_takes_every_row_once_and_divides_no_group(examples: Examples, by: Any) -> None:
    parts = split(examples, by, seed=3)
    rows = np.concatenate([parts.train, parts.val, parts.test])
    assert sorted(rows) == list(range(len(examples)))
    assert len(parts.val) == pytest.approx(60, abs=25)
    groups = {"group": examples.cells, "archetype": examples.archetypes, "random": rows}[by]
    sides = [set(groups[part]) for part in (parts.train, parts.val, parts.test)]
    if by != "random":
        assert sides[0].isdisjoint(sides[1] | sides[2])
        assert sides[1].isdisjoint(sides[2])
    assert split(examples, by, seed=3).fingerprint == parts.fingerprint != split(examples, by, 4).fingerprint


def test_a_split_is_stratified(examples: Examples) -> None:
    place = examples.schema.places["thought.awareness"]
    test = examples.labels[split(examples, "random", 0).test][:, place].mean(axis=0)
    np.testing.assert_allclose(test, examples.labels[:, place].mean(axis=0), atol=0.05)


def test_too_few_groups_are_refused(tmp_path: Path) -> None:
    generate_data(DataConfig(tmp_path / "d", examples=15), Silent())
    with pytest.raises(DataError, match="--split group needs 10 cells or more, the data have 5"):
        split(read_examples(tmp_path / "d" / EXAMPLES_FILE), "group", 0)
