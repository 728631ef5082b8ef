"""`pt inspect` on ONNX files that are whole, broken, foreign and hostile."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from personality_common.errors import DataError, ToolkitError
from personality_common.inspection.cli import inspect

onnx = pytest.importorskip("onnx", reason="needs the package onnx (extra: character)")

FLOAT, INT64 = 1, 7


def run(*arguments: object) -> Result:
    runner = CliRunner(env={"COLUMNS": "200"})
    return runner.invoke(inspect, [str(a) for a in arguments], catch_exceptions=False)


def report(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def model() -> Any:
    """`x` (batch, 3) -> `y` (batch, 2), with a branch that has operators of its own."""
    helper = onnx.helper
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    branch = helper.make_graph(
        [helper.make_node("Relu", ["h"], ["z"]), helper.make_node("Neg", ["z"], ["b"])],
        "branch",
        [],
        [helper.make_tensor_value_info("b", FLOAT, None)],
    )
    made = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Gemm", ["x", "w"], ["h"], transB=1),
                helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
            ],
            "main",
            [
                helper.make_tensor_value_info("x", FLOAT, ["batch", 3]),
                helper.make_tensor_value_info("w", FLOAT, [2, 3]),
                helper.make_tensor_value_info("yes", 9, []),
            ],
            [helper.make_tensor_value_info("y", FLOAT, [None, 2])],
            [onnx.numpy_helper.from_array(weight, "w"), helper.make_tensor("k", INT64, [2], [4, 5])],
        ),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("com.example", 3)],
        ir_version=8,
        producer_name="somebody",
        producer_version="7",
    )
    helper.set_model_props(made, {"pt.schema": "v2"})
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(model(), tmp_path / "x.onnx")
    return tmp_path / "x.onnx"


def test_a_file(path: Path) -> None:
    found = report(path, "--weights")
    assert (found["type"], found["bytes"]) == ("onnx", path.stat().st_size)
    described = found["model"]
    assert (described["ir_version"], described["opsets"]) == (8, {"ai.onnx": 18, "com.example": 3})
    assert (described["producer"], described["metadata"]) == ("somebody 7", {"pt.schema": "v2"})
    assert described["inputs"] == [
        {"name": "x", "type": "tensor", "dtype": "float32", "shape": ["batch", 3]},
        {"name": "yes", "type": "tensor", "dtype": "bool", "shape": []},
    ]
    assert described["outputs"][0]["shape"] == [None, 2]
    assert described["operations"] == {"Relu": 2, "Neg": 2, "Gemm": 1, "If": 1}
    weight, whole = described["tensors"]
    digest = hashlib.sha256(b"float32\x002,3\0" + np.arange(6, dtype="<f4").tobytes()).hexdigest()
    assert (weight["dtype"], weight["shape"], weight["bytes"]) == ("float32", [2, 3], 24)
    assert weight["fingerprint"] == digest
    assert (whole["dtype"], whole["shape"]) == ("int64", [2])
    assert [count["elements"] for count in described["parameters"]] == [6, 2]
    assert described["problems"] == []
    assert report(path)["model"]["tensors"][0]["fingerprint"] is None


def test_as_text(path: Path) -> None:
    text = run(path, "--weights").stdout
    assert "ONNX, IR version 8, ai.onnx opset 18, com.example opset 3, by somebody 7" in text
    for line in ("input x tensor float32 batchx3", "output y tensor float32 ?x2", "pt.schema v2"):
        assert line in " ".join(text.split())
    assert "Operations (6)" in text
    assert "all" in text


def test_a_folder_has_its_files(path: Path) -> None:
    (path.parent / "manifest.json").write_text("{}")
    (path.parent / "cut.onnx").write_bytes(path.read_bytes()[:-30])
    found = report(path.parent)
    assert [Path(file["path"]).name for file in found["onnx"]] == ["x.onnx"]
    assert "cut.onnx: is no ONNX file, or cut" in found["problems"][0]
    result = run(path.parent)
    assert result.exit_code == 1
    assert "IR version 8" in result.stdout


def test_what_does_not_fit_together_is_said(path: Path) -> None:
    broken = model()
    broken.graph.initializer[0].dims[0] = 1 << 60
    onnx.save(broken, path)
    result = run(path, "--weights")
    assert result.exit_code == 1
    assert f"problem: {path}: 'w' of float32 (1152921504606846976, 3) has 24 bytes" in result.stdout


def test_weights_elsewhere_are_named_and_not_opened(path: Path) -> None:
    outside = model()
    tensor = outside.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/\x1b[31mpasswd")
    path.write_bytes(outside.SerializeToString())
    assert report(path, "--weights")["model"]["tensors"][0]["external"] == "/etc/\x1b[31mpasswd"
    text = run(path, "--weights").stdout
    assert "in /etc/\\x1b[31mpasswd" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no", "is no ONNX file, or cut"),
        (b"\x3a\xff\xff\xff\xff\x0f", "is no ONNX file, or cut"),
        # A graph of nodes, each of two bytes here, and of a hundred or more once it is parsed.
        (b"\x3a\x80\x80\x10" + b"\x0a\x00" * (1 << 17), "may have 65,536 parts, this has more"),
        (b"\x00" * ((1 << 20) + 1), "an ONNX file may have 1,048,576 bytes, this has 1,048,577"),
    ],
)
def test_a_hostile_file(path: Path, data: bytes, message: str) -> None:
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        run(path, "--max-model-mib", 1)


def test_many_dimensions(path: Path) -> None:
    wide = model()
    wide.graph.initializer[0].dims.extend([1] * 100)
    onnx.save(wide, path)
    with pytest.raises(DataError, match=r"102 dimensions of 'w'; the limit is 32"):
        run(path)


def test_without_the_package(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ToolkitError, match=r"need the package onnx; pip install 'personality-toolkit\[char"):
        run(path)
