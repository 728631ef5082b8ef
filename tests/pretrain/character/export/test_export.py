"""Exported files, in every runtime that is here."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from device_sim.runtimes.mil import MilRuntime
from personality_common.coreml.package import Package
from personality_common.errors import ConfigError, ToolkitError
from personality_common.terminal.progress import Silent
from pretrain.character.config import ExportConfig
from pretrain.character.decoding import decode
from pretrain.character.export.bundle import export
from pretrain.character.export.onnx import build_onnx, int8_choices, quantize
from pretrain.character.features import encode
from pretrain.character.model import build_model
from pretrain.character.run import Run, load_run, outputs
from pretrain.character.schema import HEADS, load_schema

onnx = pytest.importorskip("onnx", reason="needs the package onnx (extra: character)")
ort = pytest.importorskip("onnxruntime", reason="needs the package onnxruntime (extra: character)")

SIZES = {"action": 14, "speech": 6, "thought": 13, "emotion": 16}
TOLERANCE = 1e-4
"""Between float32 runtimes, on features with extremes: sums of 549 products in another order."""


@pytest.fixture(scope="module")
def folder(character_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "mira"
    export(ExportConfig(character_run, out), Silent())
    return out


@pytest.fixture(scope="module")
def run(character_run: Path) -> Run:
    return load_run(character_run)


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """(1000, 453): ordinary ones, all zeros, all ones, the largest numbers, and beyond what is allowed."""
    draw = np.random.default_rng(0)
    rows = draw.uniform(-1, 1, (1000, 453)).astype(np.float32)
    rows[0], rows[1], rows[2], rows[3] = 0, 1, -1, 255
    rows[4:100, [387, 404]] = 255
    rows[100:110] *= 1e6
    return rows


def by_head(flat: np.ndarray) -> dict[str, np.ndarray]:
    return {head: flat[:, place] for head, place in load_schema("v2").heads.items()}


def assert_same(found: dict[str, np.ndarray], flat: np.ndarray, tolerance: float) -> None:
    for head, expected in by_head(flat).items():
        assert found[head].dtype == np.float32
        assert found[head].shape == expected.shape
        np.testing.assert_allclose(found[head], expected, atol=tolerance, rtol=0)
    schema, whole = load_schema("v2"), np.concatenate([found[head] for head in HEADS], axis=1)
    for output in schema.of_kind("class"):
        place = schema.places[output.key]
        np.testing.assert_array_equal(whole[:, place].argmax(axis=1), flat[:, place].argmax(axis=1))


def session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options)


def test_onnxruntime_agrees_with_torch(folder: Path, run: Run, features: np.ndarray, tmp_path: Path) -> None:
    # Alone in an empty folder: its weights are inside.
    alone = Path(shutil.copy(folder / "character.onnx", tmp_path))
    model = session(alone)
    assert [(i.name, i.type, i.shape) for i in model.get_inputs()] == [
        ("features", "tensor(float)", ["batch", 453])
    ]
    assert {o.name: o.shape for o in model.get_outputs()} == {h: ["batch", s] for h, s in SIZES.items()}
    found = model.run(list(HEADS), {"features": features})
    assert_same(dict(zip(HEADS, found, strict=True)), outputs(run.model, features), TOLERANCE)
    one = model.run(list(HEADS), {"features": features[5:6]})
    np.testing.assert_allclose(one[0], found[0][5:6], atol=1e-5)


def test_onnxs_own_evaluator_agrees_with_torch(folder: Path, run: Run, features: np.ndarray) -> None:
    from onnx.reference import ReferenceEvaluator

    found = ReferenceEvaluator(str(folder / "character.onnx")).run(list(HEADS), {"features": features})
    assert_same(dict(zip(HEADS, found, strict=True)), outputs(run.model, features), TOLERANCE)


def test_the_interpreter_of_core_ml_agrees_with_torch(folder: Path, run: Run, features: np.ndarray) -> None:
    model = MilRuntime().load(folder / "Character.mlpackage")
    parts = [model.predict({"features": features[at : at + 50]}) for at in range(0, len(features), 50)]
    found = {head: np.concatenate([part[head] for part in parts]) for head in HEADS}
    assert_same(found, outputs(run.model, features), TOLERANCE)
    assert {o.name: (o.shape, o.ranges) for o in model.outputs} == {
        head: ((1, size), ((1, 64), (size, size))) for head, size in SIZES.items()
    }


@pytest.fixture(scope="module")
def node() -> str:
    program = shutil.which("node")
    if program is None:
        pytest.skip("needs Node")
    here = Path(__file__).parent
    asked = [program, "-e", "require('onnxruntime-node')"]
    if subprocess.run(asked, cwd=here, capture_output=True, check=False).returncode:
        pytest.skip("needs onnxruntime-node: npm install --no-save --ignore-scripts onnxruntime-node")
    return program


def test_node_agrees_with_torch(
    folder: Path, run: Run, features: np.ndarray, node: str, tmp_path: Path
) -> None:
    (tmp_path / "features.bin").write_bytes(features.astype("<f4").tobytes())
    script = Path(__file__).with_name("consume.cjs")
    command = [node, str(script), str(folder / "character.onnx"), str(tmp_path / "features.bin")]
    said = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert said["inputs"] == ["features"]
    found = {
        name: np.array(value["data"], np.float32).reshape(value["dims"])
        for name, value in said["outputs"].items()
    }
    assert_same(found, outputs(run.model, features), TOLERANCE)


def test_the_file_is_one_that_old_runtimes_load(folder: Path) -> None:
    model = onnx.load(folder / "character.onnx", load_external_data=False)
    assert model.ir_version == 8
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    assert all(i.data_location == onnx.TensorProto.DEFAULT for i in model.graph.initializer)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    assert {node.op_type for node in inferred.graph.node} == {
        "Sub", "Mul", "Clip", "Gemm", "Relu", "Add", "Split",
    }  # fmt: skip


def test_the_file_says_what_it_is_and_nothing_of_this_machine(folder: Path, run: Run) -> None:
    model = onnx.load(folder / "character.onnx")
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["pt.schema"] == "v2"
    assert said["pt.schema_sha256"] == run.schema.fingerprint
    assert said["pt.weights_sha256"] == run.weights_sha256
    assert said["pt.data_sha256"] == run.data_fingerprint
    assert json.loads(said["pt.labels"])["thought.dominant"][4] == "sadness"
    for key, value in run.temperatures.items():
        assert float(said[f"pt.temperature.{key}"]) == value
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    content = (folder / "character.onnx").read_bytes()
    assert not any(word in content for word in (b"/home", b"/tmp", b".py", str(folder).encode()))


def test_core_ml_says_the_same(folder: Path, run: Run) -> None:
    said = Package.open(folder / "Character.mlpackage").spec.description.metadata.userDefined
    assert said["pt.schema_sha256"] == run.schema.fingerprint
    assert said["pt.weights_sha256"] == run.weights_sha256


def test_exporting_twice_gives_the_same_bytes(folder: Path, character_run: Path, tmp_path: Path) -> None:
    export(ExportConfig(character_run, tmp_path / "again"), Silent())
    for file in folder.rglob("*"):
        if file.is_file():
            assert file.read_bytes() == (tmp_path / "again" / file.relative_to(folder)).read_bytes(), file


def test_golden_rows_can_be_worked_through_by_hand(folder: Path, run: Run) -> None:
    golden = json.loads((folder / "golden.json").read_text())
    assert golden["schema_sha256"] == run.schema.fingerprint
    model = session(folder / "character.onnx")
    for row in golden["rows"]:
        features = np.array(row["features"], np.float32)
        np.testing.assert_array_equal(encode(row["description"], run.schema), features)
        found = np.concatenate(model.run(list(HEADS), {"features": features[None]}), axis=1)[0]
        np.testing.assert_allclose(found, row["outputs"], atol=1e-5)
        answer = decode(np.array(row["outputs"], np.float32), run.schema, run.temperatures, None)
        assert answer.action.type == row["likeliest"]["action"]["type"]
        assert row["prompt"].startswith(f"[{row['description']['name']} now]\ndoes: ")


@pytest.mark.parametrize("schema", ["v1", "v2"])
@pytest.mark.parametrize("name", ["skip", "seed"])
def test_every_network_and_schema(name: Any, schema: str, features: np.ndarray) -> None:
    torch.manual_seed(1)
    model = build_model(name, load_schema(schema), 0.1)
    values = {key: p.detach().numpy() for key, p in model.named_parameters()}
    data = build_onnx(values, name, load_schema(schema), "float32", {})
    ordinary = features[110:210]
    found = np.concatenate(ort.InferenceSession(data).run(list(HEADS), {"features": ordinary}), axis=1)
    np.testing.assert_allclose(found, outputs(model, ordinary), atol=1e-5)
    if name == "seed":
        assert len(onnx.load_from_string(data).graph.node) == 18


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 5e-2), ("int8", 0.5)])
def test_smaller_files(precision: Any, tolerance: float, run: Run, folder: Path) -> None:
    values = {key: p.detach().numpy() for key, p in run.model.named_parameters()}
    most = int8_choices(values)[0]
    data = build_onnx(values, run.model_name, run.schema, precision, {}, most)
    assert len(data) < 0.6 * (folder / "character.onnx").stat().st_size
    golden = json.loads((folder / "golden.json").read_text())["rows"]
    features = np.array([row["features"] for row in golden], np.float32)
    parts: list[Any] = ort.InferenceSession(data).run(list(HEADS), {"features": features})
    wanted = np.array([row["outputs"] for row in golden])
    np.testing.assert_allclose(np.concatenate(parts, axis=1), wanted, atol=tolerance)


def test_int8_is_for_what_reads_the_input(run: Run) -> None:
    values = {key: p.detach().numpy() for key, p in run.model.named_parameters()}
    found = []
    for choice in int8_choices(values):
        data = build_onnx(values, run.model_name, run.schema, "int8", {}, choice)
        stored = onnx.load_from_string(data).graph.initializer
        found.append(
            {t.name for t in stored if t.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.FLOAT16)}
        )
    rest = {"second.weight.float16", "heads.weight.float16"}
    assert found == [
        {"first.weight.int8", "skip.weight.int8"} | rest,
        {"first.weight.int8", "skip.weight.float16"} | rest,
        {"first.weight.float16", "skip.weight.int8"} | rest,
    ]


def test_int8_rounds_each_row_to_its_own_scale() -> None:
    matrix = np.array([[1.0, -0.5, 0.004], [0, 0, 0], [-127, 63.4, 1]], np.float32)
    whole, scale = quantize(matrix)
    assert whole.tolist() == [[127, -64, 1], [0, 0, 0], [-127, 63, 1]]
    np.testing.assert_allclose(scale, np.array([[1 / 127], [1], [1]]), rtol=1e-6)


def test_int8_goes_through_a_gate(character_run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("pretrain.character.export.bundle.GATE_ROWS", 300)
    config = ExportConfig(character_run, tmp_path / "small", ("onnx",), "int8")
    manifest = export(config, Silent()).manifest
    assert manifest.int8_agreement is not None
    assert min(manifest.int8_agreement.values()) >= 0.98

    def stored() -> set[str]:
        model = onnx.load(tmp_path / "small" / "character.onnx")
        return {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8}

    assert stored() == {"first.weight.int8", "skip.weight.int8"}
    # A skip that int8 would spoil stays in float16.
    monkeypatch.setattr(
        "pretrain.character.export.bundle.quantize",
        lambda m: (np.rint(m).astype(np.int8), np.float32(1)) if len(m) == 49 else quantize(m),
    )
    export(config, Silent())
    assert stored() == {"first.weight.int8"}
    monkeypatch.setattr(
        "pretrain.character.export.bundle.quantize", lambda m: (np.rint(m).astype(np.int8), np.float32(1))
    )
    with pytest.raises(ToolkitError, match=r"must leave 98% of all answers as they are, leaves .*float16"):
        export(replace(config, out=tmp_path / "refused"), Silent())
    assert not (tmp_path / "refused").exists()


def test_what_cannot_be_asked_for(character_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--formats must be one of onnx, coreml, got tflite"):
        ExportConfig(character_run, tmp_path / "x", ("tflite",))
    with pytest.raises(ConfigError, match="int8 is for ONNX alone"):
        ExportConfig(character_run, tmp_path / "x", precision="int8")
    (tmp_path / "precious").touch()
    with pytest.raises(ConfigError, match=r"has no manifest\.json"):
        export(ExportConfig(character_run, tmp_path), Silent())
