"""`pt run` on rows of CSV and JSON, as tabular models take them, against scikit-learn."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from mil_specs import classifier, pipeline, save, spec
from sklearn.linear_model import LogisticRegression

from device_sim.runtimes import rows as rows_module
from device_sim.runtimes.cli import run
from device_sim.runtimes.config import RunConfig
from device_sim.runtimes.rows import read_rows
from device_sim.runtimes.running import run_package
from personality_common.coreml.features import Feature
from personality_common.errors import DataError

COLUMNS = {"length": "double", "width": "double", "color": "string", "legs": "int64"}
COLORS = ("red", "blue", 'pale, "green"\nor\u2028none')
HEADER = "length,width,color,legs\n"


def flowers() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "length": float(rng.normal(5, 2)),
            "width": float(rng.normal(2, 1)),
            "color": COLORS[rng.integers(3)],
            "legs": int(rng.integers(9)),
        }
        for _ in range(60)
    ]


def vector(row: dict[str, Any]) -> list[float]:
    hot = [float(row["color"] == color) for color in COLORS]
    return [row["length"], row["width"], *hot, row["legs"]]


FLOWERS = flowers()
TRAINED = LogisticRegression(max_iter=1000).fit(
    [vector(row) for row in FLOWERS], [row["length"] + row["legs"] / 2 > 7 for row in FLOWERS]
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbers and a word to a vector, and that to a label: as converters write a tabular model."""
    hot = spec({"color": "string"}, {"hot": "dict:int64"})
    hot.oneHotEncoder.stringCategories.vector.extend(COLORS)
    hot.oneHotEncoder.outputSparse = True
    joined = spec(COLUMNS | {"hot": "dict:int64"}, {"x": "array:6"})
    for name, size in {"length": 1, "width": 1, "hot": 3, "legs": 1}.items():
        joined.featureVectorizer.inputList.add(inputColumn=name, inputDimensions=size)
    last = classifier({"x": "array:6"}, ["small", "large"], "glmClassifier")
    last.glmClassifier.weights.add(value=TRAINED.coef_[0])
    last.glmClassifier.offset.extend(TRAINED.intercept_)
    outputs = {"label": "string", "scores": "dict:string"}
    model = pipeline(COLUMNS, outputs, hot, joined, last, kind="pipelineClassifier")
    return save(tmp_path_factory.mktemp("tabular") / "flowers.mlmodel", model)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix.lower() == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows))
    return path


def results(package: Path, given: Path) -> list[dict[str, Any]]:
    run_package(RunConfig(package, given, given.with_name("out.jsonl")))
    return [json.loads(line) for line in given.with_name("out.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["in.csv", "IN.CSV", "in.json", "in.jsonl"])
def test_every_row_is_scored_as_scikit_learn_does(package: Path, tmp_path: Path, name: str) -> None:
    found = results(package, write(tmp_path / name, FLOWERS))
    wanted = TRAINED.predict_proba([vector(row) for row in FLOWERS])
    got = [[row["scores"]["small"], row["scores"]["large"]] for row in found]
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-15)  # one of the two is 1 - p
    assert [row["label"] for row in found] == [["small", "large"][row.argmax()] for row in wanted]


def test_command(package: Path, tmp_path: Path) -> None:
    given = str(write(tmp_path / "in.csv", FLOWERS[:2]))
    done = CliRunner().invoke(run, [str(package), "--input", given, "--output", str(tmp_path / "out.json")])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out.json").read_text())
    assert [set(row) for row in found] == [{"label", "scores"}] * 2
    assert f"label  '{found[1]['label']}'" in done.output
    assert "2 rows, the last one above" in done.output


def test_a_csv_as_spreadsheets_write_it(package: Path, tmp_path: Path) -> None:
    """A byte order mark, CRLF, columns in another order, one too many, and empty lines."""
    row = FLOWERS[0] | {"color": "blue"}
    text = "legs,color,width,length,note;\r\n\r\n" + ",".join(
        map(str, (row["legs"], "blue", row["width"], row["length"], ""))
    )
    (tmp_path / "in.csv").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n\r\n")
    (found,) = results(package, tmp_path / "in.csv")
    (wanted,) = TRAINED.predict_proba([vector(row)])
    assert found["scores"]["large"] == pytest.approx(wanted[1], rel=1e-12)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "must hold an object, or rows of them, holds none"),
        (HEADER, "must hold an object, or rows of them, holds none"),
        ("length,width,colour,legs\n1,2,red,3\n", "row 1: must hold 'color'; it holds length, width, colour"),
        ("length;width;color;legs\n1;2;red;3\n", "row 1: must hold 'length'; it holds length;width;color"),
        (HEADER + "1,2,red,3\n1,,red,3\n", "row 2: 'width' is empty; write nan for a missing number"),
        (HEADER + "1,2,red,3\n1,2,red\n", "row 2: must be an object, or have a cell for each column"),
        (HEADER + "1,2,red,3,4\n", "row 1: must be an object, or have a cell for each column"),
        (HEADER + "1,2,red,3\none,2,red,3\n", "row 2: 'length' must be a number, got 'one'"),
        (HEADER + "1_0,2,red,3\n", "row 1: 'length' must be a number, got '1_0'"),
        (HEADER + "1,2,red,3.5\n", "row 1: 'legs' must be a whole number, got '3.5'"),
        (HEADER + f"1,2,red,{'9' * 5000}\n", "row 1: 'legs' must be a whole number, got '9{60}'"),
        (HEADER + f"1,2,red,{'9' * 30}\n", "input 'legs' must be a whole number of 64 bits"),
        (HEADER + "1,2,violet,3\n", "violet"),
        ("length,length,width,color,legs\n1,2,3,red,4\n", "two columns are called 'length'"),
        (HEADER + '1,2,"red,3\n', "not readable as .csv: unexpected end of data"),
        (HEADER + f"1,2,{'x' * 200_000},3\n", "not readable as .csv: field larger than field limit"),
    ],
)
def test_rows_that_are_none(package: Path, tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "in.csv").write_text(content)
    (tmp_path / "out.json").write_text("before")
    with pytest.raises(DataError, match=words) as raised:
        run_package(RunConfig(package, tmp_path / "in.csv", tmp_path / "out.json"))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500 + len(str(tmp_path))
    assert (tmp_path / "out.json").read_text() == "before"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "must hold an object, or rows of them, holds none"),
        (3, "must hold an object, or rows of them, holds none"),
        ([3], "row 1: must be an object"),
        ([{"length": 1}], "row 1: must hold 'width'; it holds length"),
        ([{"length": 1, "width": None}], "row 1: 'width' is null; write NaN for a missing number"),
        ({"length": 1, "width": "2", "color": "red", "legs": 3}, "input 'width' must be a number, got '2'"),
        ([{"length": 1, "width": 2, "color": 7, "legs": 3}], "'color' must be a string, got 7"),
        ([{"length": 1, "width": 2, "color": "red", "legs": True}], "'legs' must be a whole number"),
        ([{"length": 1, "width": 2, "color": "red", "legs": 1.5}], "'legs' must be a whole number"),
    ],
)
def test_json_that_is_no_row(package: Path, tmp_path: Path, value: Any, words: str) -> None:
    (tmp_path / "in.json").write_text(json.dumps(value))
    with pytest.raises(DataError, match=words):
        run_package(RunConfig(package, tmp_path / "in.json", tmp_path / "out.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["in.json"]


def test_files_that_are_no_rows(package: Path, tmp_path: Path) -> None:
    nested = "[" * 200_000
    for name, content, words in [
        ("a.csv", HEADER.encode("utf-16"), "not readable as .csv: 'utf-8' codec"),
        ("a.json", nested.encode(), "not readable as .json: "),
        ("a.json", b'{"length": ', "not readable as .json: "),
        ("a.jsonl", b"{}\n{\n", "row 1: must hold 'length'; it holds nothing"),
        ("a.jsonl", b"\n\n", "holds none"),
        ("a.txt", b"", "inputs are read from FILE.npz, .json, .jsonl, .csv, .png or .jpg, got '.txt'"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=words):
            run_package(RunConfig(package, tmp_path / name, tmp_path / "out.json"))
    with pytest.raises(DataError, match=r"in\.csv: there is no such file"):
        run_package(RunConfig(package, tmp_path / "in.csv", tmp_path / "out.json"))
    with pytest.raises(DataError, match=r"a=b/in\.csv: there is no such file"):
        run_package(RunConfig(package, tmp_path / "a=b/in.csv", tmp_path / "out.json"))
    with pytest.raises(DataError, match="an image is for a model with one image input, this has 0"):
        run_package(RunConfig(package, tmp_path / "cat.png", tmp_path / "out.json"))


def test_more_rows_than_fit_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte or two of a file are a row, and a row takes hundreds."""
    monkeypatch.setattr(rows_module, "MAX_ROWS", 3)
    feature = Feature("x", "double", None, ())
    (tmp_path / "a.csv").write_text("x\n" + "1\n" * 3)
    assert read_rows(tmp_path / "a.csv", [feature]) == [{"x": 1.0}] * 3
    for name, content in [
        ("a.csv", "x\n" + "1\n" * 4),
        ("a.jsonl", '{"x": 1}\n' * 4),
        ("a.json", json.dumps([{"x": 1}] * 4)),
    ]:
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match="may have 3 rows"):
            read_rows(tmp_path / name, [feature])


def test_arrays_dictionaries_and_sequences_in_cells(tmp_path: Path) -> None:
    features = [
        Feature("x", "multiArray", "float32", (2,)),
        Feature("one", "multiArray", "float64", (1,)),
        Feature("d", "dictionary", "int64", ()),
        Feature("s", "sequence", "string", ()),
        Feature("k", "int64", None, (), optional=True),
    ]
    (tmp_path / "a.csv").write_text('x,one,d,s,k\n"[1, 2.5]",3,"{""7"": 2}","[""a""]",\n')
    (row,) = read_rows(tmp_path / "a.csv", features)
    assert row["x"].tolist() == [1, 2.5]
    assert row["x"].dtype == np.float32
    assert row["one"].tolist() == [3]
    assert (row["d"], row["s"], "k" in row) == ({7: 2}, ["a"], False)
    for at, cell, words in [
        (0, "[1", "'x' must be JSON: lists, or an object, got"),
        (0, "[[1], [2, 3]]", "lists on one level must be equally long"),
        (0, '["a"]', "must be lists of numbers"),
        (2, '{"a": 1}', "'d' must have whole numbers as keys"),
        (2, "[" * 100_000, "'d' must be JSON"),
    ]:
        cells = ["[1, 2]", "3", "{}", "[]", "1"]
        cells[at] = cell
        with (tmp_path / "a.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["x", "one", "d", "s", "k"], cells])
        with pytest.raises(DataError, match=f"row 1: {words}|row 1: 'x'.*{words}"):
            read_rows(tmp_path / "a.csv", features)


def test_elements_of_an_unknown_type_are_no_crash(tmp_path: Path) -> None:
    """What the description of a package says is not checked yet when its rows are read."""
    (tmp_path / "a.json").write_text('{"x": [1]}')
    with pytest.raises(DataError, match="'x' has elements of type7, not supported"):
        read_rows(tmp_path / "a.json", [Feature("x", "multiArray", "type7", (1,))])
