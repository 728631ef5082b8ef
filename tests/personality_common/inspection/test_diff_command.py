"""`pt diff` as it is called: exit codes, JSON, what it prints, what it refuses, bundles."""

import json
import math
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import mil_protobufs as mil
import mil_specs
import pytest

from personality_common.files.atomic import read_json_object
from personality_common.inspection import comparing
from personality_common.inspection.comparing import compare_paths
from personality_common.inspection.difference import Change

SCHEMA = read_json_object(Path(comparing.__file__).with_name("diff.schema.json"))
FLOAT32 = 2
"""Code of weight files."""
EVIL = "[bold]x[/]\x1b[31m\x1b]0;t\x07\n\u202e" + "Q" * 5_000
PtDiff = Callable[..., tuple[int, str, str]]


def bundle(path: Path, manifest: dict[str, Any], **models: Any) -> Path:
    path.mkdir()
    (path / "manifest.json").write_text(json.dumps(manifest))
    for name, model in models.items():
        mil_specs.save(path / f"{name}.mlmodel", model)
    return path


def test_bundles(tmp_path: Path, pt_diff: PtDiff) -> None:
    dense = mil.network({"d": mil.dense([[1, 2]])})
    a = bundle(tmp_path / "a", {"run": {"seed": 1}, "tokens": ["x", "y"]}, one=mil.trees(), two=dense)
    b = bundle(tmp_path / "b", {"run": {"seed": 2}, "tokens": ["x", "y"]}, one=mil.trees(), three=dense)
    found = compare_paths(a, b)
    assert (found.type, found.same, [model.name for model in found.models]) == (
        "bundle",
        False,
        ["one.mlmodel"],
    )
    assert found.bundle == (
        Change("package two.mlmodel", "there", None),
        Change("package three.mlmodel", None, "there"),
        Change("run.seed", "1", "2"),
    )
    assert pt_diff(a, a)[:2] == (
        0,
        f"A  {a}\nB  {a}\nsame: features, graphs, weights, metadata and every other field\n",
    )
    code, out, _ = pt_diff(a, b)
    assert (code, "package three.mlmodel" in out) == (1, True)
    (a / "manifest.json").write_text(json.dumps({"files": {"one.mlmodel": {"sha256": "0" * 64}}}))
    code, out, said = pt_diff(a, b)
    assert (code, out) == (3, "")
    assert "damaged" in said


def test_json_follows_its_schema(tmp_path: Path, pt_diff: PtDiff) -> None:
    a = mil.network({"d": mil.dense([[1, 2]]), "e": mil.dense([[1, 1], [2, 2]]), "f": mil.dense([[0, 9]])})
    b = mil.network({"d": mil.dense([[1, math.nan]]), "e": mil.dense([[1, 1]]), "g": mil.dense([[0, 9]])})
    b.description.metadata.author = EVIL
    b.neuralNetwork.arrayInputShapeMapping = 1
    a, b = (mil_specs.save(tmp_path / f"{i}.mlmodel", model) for i, model in enumerate((a, b)))
    code, out, err = pt_diff(a, b, "--json")
    assert (code, err) == (1, "")
    document = json.loads(out)
    jsonschema.validate(document, SCHEMA)
    (model,) = document["models"]
    assert model["weights"]["changed"][0]["max_difference"] == "nan"
    assert model["metadata"] == [{"what": "author", "a": None, "b": EVIL}]
    assert model["weights"]["renamed"] == [["f.weights", "g.weights"]]
    code, out, _ = pt_diff(a, a, "--json")
    assert (code, json.loads(out)["same"]) == (0, True)


@pytest.mark.parametrize("columns", [80, 200])
def test_what_is_printed(tmp_path: Path, pt_diff: PtDiff, columns: int) -> None:
    a = mil.network({"d": mil.dense([[3, 4], [0, 0]]), "e": mil.activation("tanh"), "f": mil.dense([[1, 2]])})
    b = mil.network(
        {"d": mil.dense([[3, 4.5], [0, 0]]), "e": mil.activation("ReLU"), "g": mil.dense([[2, 1]])}
    )
    b.description.metadata.author = "Ada"
    paths = [mil_specs.save(tmp_path / f"{side}.mlmodel", model) for side, model in (("a", a), ("b", b))]
    code, out, _ = pt_diff(*paths, columns=columns)
    print_a, print_b = (
        mil.print_of("float32", "2,2", struct.pack("<4f", *row)) for row in ((3, 4, 0, 0), (3, 4.5, 0, 0))
    )
    rows = [" ".join(line.split()) for line in out.splitlines()]
    shown = f" {print_a[:12]} {print_b[:12]}" if columns == 200 else ""
    wanted = [
        "different: metadata 1, graph 2, weights 3",
        "Metadata",
        "author - Ada",
        "Graph of layers: 3 -> 3 operations; 1 place differs; 1 renamed",
        "changed activation e tanh: set -> -; ReLU: - -> set",
        "Weights that changed: 1, with 0 the same",
        f"d.weights float32 2x2 1 0.5 0.1{shown}",
        "Weights only in A: 1",
        "f.weights float32 1x2 2.24",
        "Weights only in B: 1",
    ]
    found = iter(rows)
    assert all(any(row.startswith(want) for row in found) for want in wanted), out
    assert code == 1


@pytest.mark.parametrize("columns", [80, 200])
def test_names_from_a_file_are_not_obeyed(tmp_path: Path, pt_diff: PtDiff, columns: int) -> None:
    def model(number: float, name: str) -> Any:
        made = mil.network({name: mil.dense([[number, 1]]), "end": mil.dense([[number]])})
        made.description.input[0].name = name
        made.description.metadata.userDefined[name] = name * 2
        return made

    paths = [
        mil_specs.save(tmp_path / f"{side}.mlmodel", model(number, side + EVIL))
        for side, number in (("a", 1.0), ("b", 2.0))
    ]
    code, out, _ = pt_diff(*paths, columns=columns)
    assert code == 1
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert re.search(r"\[bold\]x\[/\s*\]\\x1b\[31m", out)  # a long name is broken after a /
    lines = [line for line in out.splitlines() if str(tmp_path) not in line]
    assert max(map(len, lines)) <= columns
    assert len(lines) < 250


def test_what_cannot_be_compared_is_one_line_and_3(tmp_path: Path, pt_diff: PtDiff, milblob: Any) -> None:
    good = mil_specs.save(tmp_path / "good.mlmodel", mil.trees())
    (tmp_path / "text.txt").write_text("hello, I am a text\n" * 9)
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.onnx").write_bytes(b"")
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    weights = mil.program(mil.const("w", mil.blob("float32", (2,), 64)), mil.op("add", "y", x="x", y="w"))
    whole = mil.save_package(
        tmp_path / "w.mlpackage", weights, milblob([(FLOAT32, struct.pack("<2f", 1, 2), 0)])
    )
    lacking = Path(shutil.copytree(whole, tmp_path / "lacking.mlpackage"))
    (lacking / "Data/com.apple.CoreML/weights/weight.bin").unlink()
    assert pt_diff(whole, whole)[0] == 0
    for path, message in {
        tmp_path / "text.txt": "not a Core ML model",
        tmp_path / "empty": "Manifest.json",
        tmp_path / "x.onnx": "this is an ONNX file",
        run: "this is a run",
        lacking: "weight.bin: there is no such file",
        bundle(tmp_path / "bundle", {}): "is a bundle",
        tmp_path / "missing": "does not exist",
    }.items():
        for arguments in ((path, good), (good, path), (path, good, "--json")):
            code, out, err = pt_diff(*arguments)
            assert (code, out) == (3 if path.exists() else 2, ""), path
            assert message in err
            assert err.count("\n") == 1
    assert pt_diff(good, good, "--max-model-mib", 0)[0] == 2
    assert pt_diff(good)[0] == 2
