"""`pt parity` of a character predictor: what is broken on purpose must be named."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from device_sim.parity import character_verdict
from device_sim.parity.character import character_parity
from device_sim.parity.cli import parity as command
from device_sim.parity.config import ParityConfig
from device_sim.parity.report import Report
from personality_common.bundle.manifest import read_manifest
from personality_common.coreml.proto import Model_pb2
from personality_common.errors import ConfigError, DataError, MismatchError
from personality_common.files.atomic import file_sha256
from personality_common.terminal.progress import Silent
from pretrain.character.config import DataConfig, ExportConfig, TrainConfig
from pretrain.character.export.bundle import export
from pretrain.character.generation import generate_data
from pretrain.character.pipeline import train_character

onnx = pytest.importorskip("onnx", reason="needs the package onnx (extra: character)")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime (extra: character)")

WEIGHTS = "Character.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
MODEL = "Character.mlpackage/Data/com.apple.CoreML/model.mlmodel"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`run` and `folder`."""
    here = tmp_path_factory.mktemp("parity")
    generate_data(DataConfig(here / "data", examples=150), Silent())
    train_character(TrainConfig(here / "data", here / "run", epochs=2, batch_size=64), Silent())
    export(ExportConfig(here / "run", here / "folder"), Silent())
    return here


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(character_verdict, "CHARACTERS", 40)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "folder", tmp_path / "folder"))


def report_of(folder: Path, **options: Any) -> Report:
    return character_parity(ParityConfig(folder, **options), Silent())


def failed(report: Report) -> dict[str, str]:
    """Id and package -> detail."""
    return {f"{check.id} {check.package}": check.detail for check in report.failures}


def change_onnx(folder: Path, change: Callable[[Any], None]) -> None:
    model = onnx.load(folder / "character.onnx")
    change(model)
    (folder / "character.onnx").write_bytes(model.SerializeToString())


def restate(folder: Path, name: str) -> None:
    """Let the manifest name what is there, as a careless or hostile hand would."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][name] = {
        "bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name),
    }  # fmt: skip
    path.write_text(json.dumps(manifest))


def tensor(model: Any, name: str) -> Any:
    return next(t for t in model.graph.initializer if t.name == name)


def matrix(model: Any, name: str) -> np.ndarray:
    return np.array(onnx.numpy_helper.to_array(tensor(model, name)))


def put(model: Any, name: str, value: np.ndarray) -> None:
    tensor(model, name).CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))


def test_a_good_folder_passes_in_every_runtime(made: Path) -> None:
    report = report_of(made / "folder", run=made / "run")
    assert failed(report) == {}
    used = {status.name for status in report.runtimes if status.unavailable is None}
    assert used >= {"torch", "onnxruntime", "onnx", "mil"}
    pairs = {comparison.runtimes for comparison in report.comparisons}
    assert {"onnxruntime / torch", "onnx / onnxruntime", "mil / onnx", "mil / golden"} <= pairs
    assert {c.id for c in report.checks if c.runtimes == "mil / onnxruntime"} == {
        "action.max-abs", "speech.max-abs", "thought.max-abs", "emotion.max-abs", "answers",
    }  # fmt: skip


def swap_rows(model: Any) -> None:
    for name in ("heads.weight", "heads.bias", "skip.weight"):
        value = matrix(model, name)
        value[[0, 1]] = value[[1, 0]]
        put(model, name, value)


def test_swapped_classes_are_named(folder: Path) -> None:
    change_onnx(folder, swap_rows)
    found = failed(report_of(folder))
    assert "character.onnx has another SHA-256" in found["files "]
    words = "heads.weight is another: rows 0 and 1 are swapped: action.type Perform and action.type Speak"
    assert words in found["tensors character.onnx"]
    # PyTorch has the file's weights here; what it gave at export says that both are wrong.
    assert "golden, row" in found["action.max-abs character.onnx"]
    assert "action.type" in found["answers character.onnx"]


def test_swapped_labels_are_named(folder: Path) -> None:
    def swap(model: Any) -> None:
        entry = next(e for e in model.metadata_props if e.key == "pt.labels")
        entry.value = entry.value.replace('"Perform", "Speak"', '"Speak", "Perform"')

    change_onnx(folder, swap)
    restate(folder, "character.onnx")
    found = failed(report_of(folder))
    assert found.keys() == {"metadata character.onnx"}
    assert "pt.labels.action.type[0] is 'Speak', not 'Perform'" in found["metadata character.onnx"]


def test_swapped_labels_of_the_schema_file_are_named(folder: Path) -> None:
    path = folder / "schema.json"
    schema = json.loads(path.read_text())
    labels = schema["heads"]["thought"]["parts"][1]["labels"]
    labels[0], labels[1] = labels[1], labels[0]
    path.write_text(json.dumps(schema))
    restate(folder, "schema.json")
    found = failed(report_of(folder))
    assert found.keys() == {"schema "}
    assert "heads.thought.parts[1].labels[0] is 'trust', not 'joy'" in found["schema "]


@pytest.mark.parametrize("file", ["character.onnx", WEIGHTS])
def test_a_broken_byte_is_found(folder: Path, file: str) -> None:
    path, data = folder / file, bytearray((folder / file).read_bytes())
    bias = onnx.numpy_helper.to_array(tensor(onnx.load(folder / "character.onnx"), "heads.bias")).tobytes()
    data[data.index(bias) + 3] ^= 0x40  # the exponent of the first
    path.write_bytes(data)
    restate(folder, file)
    package = file.split("/")[0]
    found = failed(report_of(folder))
    assert "heads.bias is another: 1 of 49 values differ, first at [0]" in found[f"tensors {package}"]
    assert "action.type Perform" in found[f"action.max-abs {package}"]


def test_a_transposed_head_is_named(folder: Path) -> None:
    def transpose(model: Any) -> None:
        value = matrix(model, "heads.weight")
        put(model, "heads.weight", value.T)

    change_onnx(folder, transpose)
    report = report_of(folder)
    found = failed(report)
    assert found["tensors character.onnx"].startswith("heads.weight is another: it is transposed")
    stopped = {check.runtimes for check in report.failures if check.id == "predicts.golden"}
    assert stopped == {"onnxruntime", "onnx"}
    assert "heads.weight must have shape (49, 64), has (64, 49)" in found["loads golden.json"]


def test_values_in_the_order_of_the_transposed_matrix_are_named(folder: Path) -> None:
    def transpose(model: Any) -> None:
        value = matrix(model, "heads.weight")
        put(model, "heads.weight", value.T.reshape(value.shape))

    change_onnx(folder, transpose)
    words = "heads.weight is another: its values are those of the transposed matrix"
    assert failed(report_of(folder))["tensors character.onnx"].startswith(words)


def test_files_of_another_schema_are_named(folder: Path) -> None:
    def other(model: Any) -> None:
        next(e for e in model.metadata_props if e.key == "pt.schema_sha256").value = "0" * 64

    change_onnx(folder, other)
    spec = Model_pb2.Model()
    spec.ParseFromString((folder / MODEL).read_bytes())
    spec.description.metadata.userDefined["pt.schema"] = "v1"
    (folder / MODEL).write_bytes(spec.SerializeToString())
    found = failed(report_of(folder))
    assert "pt.schema_sha256 is '0000" in found["metadata character.onnx"]
    assert "pt.schema is 'v1', the manifest has 'v2'" in found["metadata Character.mlpackage"]


def test_a_folder_of_another_schema_is_refused(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"schema_sha256": "', '"schema_sha256": "f'))
    with pytest.raises(MismatchError, match="features and outputs mean something else there; export again"):
        report_of(folder)


def hostile() -> Iterator[tuple[str, Callable[[Any], None], str]]:
    def outside(model: Any) -> None:
        one = tensor(model, "first.weight")
        one.data_location = onnx.TensorProto.EXTERNAL
        one.external_data.add(key="location", value="/etc/passwd")

    def operator(model: Any) -> None:
        model.graph.node[0].op_type = "Loop"

    def huge(model: Any) -> None:
        tensor(model, "first.weight").dims[0] = 1 << 40

    def nodes(model: Any) -> None:
        for _ in range(200):
            model.graph.node.add().CopyFrom(model.graph.node[0])

    yield "weights outside", outside, "weights must be inside, those of 'first.weight' are in another file"
    yield "operator", operator, "must use Add, .* alone, with plain attributes, uses 'Loop'"
    yield "size", huge, "'first.weight' must be of two dimensions of 1024 at most"
    yield "nodes", nodes, "must have 100 nodes at most"


@pytest.mark.parametrize(("change", "words"), [pytest.param(c, w, id=name) for name, c, w in hostile()])
def test_a_hostile_onnx_file_is_not_run(folder: Path, change: Callable[[Any], None], words: str) -> None:
    change_onnx(folder, change)
    report = report_of(folder)
    loads = [check for check in report.failures if check.id == "loads"]
    assert {check.runtimes for check in loads} == {"torch", "onnxruntime", "onnx"}
    for check in loads:
        assert re.search(words, check.detail)


def test_a_cut_file_and_a_missing_one(folder: Path) -> None:
    (folder / "character.onnx").write_bytes((folder / "character.onnx").read_bytes()[:5000])
    (folder / "golden.json").unlink()
    found = failed(report_of(folder))
    assert "golden.json is missing" in found["files "]
    assert "no ONNX file, or cut" in found["loads character.onnx"]
    assert "golden-rows golden.json" in found


@pytest.mark.parametrize("key", ["features", "outputs"])
def test_a_worked_example_that_is_not_finite_is_named(folder: Path, key: str) -> None:
    path = folder / "golden.json"
    golden = json.loads(path.read_text())
    golden["rows"][2][key][31] = float("nan")
    path.write_text(json.dumps(golden))
    words = f"rows[2].{key}: must be finite, position 31 is nan"
    assert words in failed(report_of(folder))["golden-rows golden.json"]


def test_a_link_is_not_followed(folder: Path, made: Path) -> None:
    (folder / "character.onnx").unlink()
    (folder / "character.onnx").symlink_to(made / "folder" / "character.onnx")
    with pytest.raises(DataError, match="link"):
        report_of(folder)


def test_what_does_not_fit(made: Path) -> None:
    with pytest.raises(ConfigError, match="--data is for conversations"):
        report_of(made / "folder", run=made / "run", data="x.jsonl")
    with pytest.raises(ConfigError, match="can only be tightened"):
        report_of(made / "folder", tolerances=(("float32.outputs", 1.0),))
    with pytest.raises(ConfigError, match=r"must name one of float32\.outputs, float32\.answers"):
        report_of(made / "folder", tolerances=(("float32.logits", 1e-6),))
    assert failed(report_of(made / "folder", tolerances=(("float32.outputs", 0.0),)))


def test_formats_that_are_not_there_are_left_out(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    export(ExportConfig(made / "run", folder, formats=("coreml",), precision="float16"), Silent())
    report = report_of(folder)
    assert failed(report) == {}
    states = {status.name: status.unavailable for status in report.runtimes}
    assert states["onnxruntime"] == "the folder has no character.onnx"
    assert states["mil"] is None


def test_other_commands_do_not_take_it(made: Path) -> None:
    with pytest.raises(DataError, match="is of the family 'character'"):
        read_manifest(made / "folder")


def test_the_command(made: Path, tmp_path: Path) -> None:
    page, figures = tmp_path / "page.html", tmp_path / "parity.json"
    arguments = [
        str(made / "folder"),
        "--runtimes",
        "torch,onnx",
        "--html",
        str(page),
        "--json",
        str(figures),
    ]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert "parity holds" in result.output
    found = json.loads(figures.read_text())
    assert found["passed"] is True
    assert found["settings"]["family"] == "character"
    assert "Parity holds" in page.read_text()
