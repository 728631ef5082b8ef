"""`pt inspect` on packages that are whole, broken, foreign and hostile."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from personality_common.coreml.proto import Model_pb2
from personality_common.errors import DataError
from personality_common.inspection.cli import inspect
from personality_common.inspection.layout import human_bytes
from personality_common.printable import excerpt

MODEL = "Data/com.apple.CoreML/model.mlmodel"


def run(*arguments: object) -> Result:
    # The width is set, or what folds would depend on the terminal that runs the tests.
    runner = CliRunner(env={"COLUMNS": "200"})
    return runner.invoke(inspect, [str(a) for a in arguments], catch_exceptions=False)


def report(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


@pytest.fixture
def mlp(packages: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(packages["mlp.mlpackage"], tmp_path / "mlp.mlpackage"))


def test_an_ml_program(ct: ModuleType, packages: dict[str, Path], weights_of: Any) -> None:
    path = packages["mlp.mlpackage"]
    found = report(path, "--weights")
    model = found["model"]
    assert found["bytes"] == sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    assert (model["kind"], model["specification_version"], model["minimum_os"]) == (
        "mlProgram",
        8,
        "iOS 17, macOS 14",
    )
    (feature,) = model["inputs"]
    assert (feature["name"], feature["dtype"], feature["shape"]) == ("embedding", "float32", [1, 16])
    assert feature["ranges"] == [[1, 64], [16, 16]]
    (function,) = model["functions"]
    assert function["opset"] == "CoreML7"
    assert function["operations"] == {"const": 8, "linear": 2, "layer_norm": 1, "relu": 1}
    # 16*32 + 32, two of 32 for the norm, 32*16 + 16.
    assert model["parameters"] == [{"dtype": "float32", "tensors": 6, "elements": 1136, "bytes": 4544}]
    assert model["weight_files"] == {"@model_path/weights/weight.bin": weights_of(path).stat().st_size}
    reader = ct.libmilstoragepython._BlobStorageReader(str(weights_of(path)))
    for tensor in model["tensors"]:
        data = reader.read_float_data(tensor["offset"]).tobytes()
        head = f"float32\0{','.join(map(str, tensor['shape']))}\0".encode()
        assert tensor["fingerprint"] == hashlib.sha256(head + data).hexdigest()
        assert weights_of(path).read_bytes()[tensor["data_offset"] :][: tensor["bytes"]] == data
    assert model["problems"] == []
    assert all(t["fingerprint"] is None for t in report(path)["model"]["tensors"])


def test_updatable_network(packages: dict[str, Path]) -> None:
    for name in ("head.mlpackage", "head.mlmodel"):
        model = report(packages[name])["model"]
        assert model["updatable"]
        assert model["functions"][0]["operations"] == {"innerProduct": 1}
        update = model["update"]
        assert (update["layers"], update["optimizer"]) == (["projection"], "sgd")
        assert [loss["type"] for loss in update["losses"]] == ["meanSquaredError"]
        assert update["parameters"]["learningRate"] == {
            "default": 0.01,
            "minimum": 0.0,
            "maximum": 10.0,
            "allowed": [],
        }
        assert update["parameters"]["epochs"]["allowed"] == [10]
        assert [f["name"] for f in model["training_inputs"]] == ["latent", "logits_true"]
    text = run(packages["head.mlmodel"]).stdout
    assert "learningRate   0.01 (0 to 10)" in text
    assert "meanSquaredError: logits against logits_true" in text


def test_other_kinds(packages: dict[str, Path]) -> None:
    classifier = report(packages["classifier.mlmodel"], "--weights")["model"]
    assert (classifier["predicted_feature"], classifier["class_labels"]) == ("label", 4)
    assert classifier["parameters"] == [{"dtype": "uint8", "tensors": 1, "elements": 108, "bytes": 108}]
    trees = report(packages["trees.mlmodel"])["model"]
    assert trees["kind"] == "treeEnsembleRegressor"
    assert trees["details"]["treeEnsemble.nodes"] == "3 entries"
    assert "treeEnsembleRegressor" in run(packages["trees.mlmodel"]).stdout
    quantized = report(packages["int8.mlpackage"])["model"]
    assert {c["dtype"] for c in quantized["parameters"]} == {"int8", "float32"}
    assert "constexpr_affine_dequantize" in quantized["functions"][0]["operations"]


def test_pipelines_describe_their_submodels(packages: dict[str, Path]) -> None:
    model = report(packages["two.mlpackage"], "--weights")["model"]
    assert [s["kind"] for s in model["submodels"]] == ["mlProgram", "mlProgram"]
    first, second = ([t["fingerprint"] for t in s["tensors"]] for s in model["submodels"])
    # Both were made with the same seed.
    assert first == second != []
    text = run(packages["pipeline.mlpackage"]).stdout
    assert "submodel 1 of 2: 0\nmlProgram" in text
    assert "submodel 2 of 2: 1\nneuralNetwork" in text


def test_missing_and_broken_weights_are_problems_not_failures(
    mlp: Path, weights_of: Any, milblob: Any
) -> None:
    for spoil, message in [
        (lambda p: p.write_bytes(milblob([])), "no entry has its metadata at offset 64"),
        (lambda p: p.write_bytes(b""), "header of 64 bytes, this has 0"),
        (lambda p: p.unlink(), "there is no such file"),
    ]:
        spoil(weights_of(mlp))
        model = report(mlp, "--weights")["model"]
        assert model["tensors"] == []
        assert message in model["problems"][0]
        result = run(mlp, "--weights")
        assert result.exit_code == 1
        assert "problem: " in result.stdout
        assert "linear 2" in result.stdout


def test_a_model_without_anything(tmp_path: Path) -> None:
    path = tmp_path / "empty.mlmodel"
    for spec in (Model_pb2.Model(specificationVersion=99), Model_pb2.Model(specificationVersion=8)):
        path.write_bytes(spec.SerializeToString())
        assert report(path)["model"]["kind"] == "unknown"
        assert "unknown, specification version" in run(path).stdout
    spec.mlProgram.version = 1
    path.write_bytes(spec.SerializeToString())
    assert report(path)["model"]["functions"] == []


def test_names_from_a_file_are_not_obeyed(mlp: Path) -> None:
    spec = Model_pb2.Model.FromString((mlp / MODEL).read_bytes())
    spec.description.input[0].name = "[bold red]x[/]\x1b[31m\x1b]0;title\x07\n\u202e"
    spec.description.metadata.userDefined["vocabulary"] = "curious," * 400
    (mlp / MODEL).write_bytes(spec.SerializeToString())
    text = run(mlp).stdout
    assert "[bold red]x[/]\\x1b[31m\\x1b]0;title\\x07\\x0a\\x202e" in text
    assert "\x1b" not in text
    assert "(3,200 characters)" in text
    assert report(mlp)["model"]["metadata"]["vocabulary"] == "curious," * 400


def test_bundle_and_run(packages: dict[str, Path], tmp_path: Path) -> None:
    for name in ("mlp.mlpackage", "head.mlpackage"):
        shutil.copytree(packages[name], tmp_path / name)
    (tmp_path / "broken.mlmodel").write_bytes(b"no")
    (tmp_path / "manifest.json").write_text('{"schema_version": 1, "encoder": {"name": "minilm"}}')
    found = report(tmp_path)
    assert found["type"] == "bundle"
    assert [p["model"]["kind"] for p in found["packages"]] == ["neuralNetwork", "mlProgram"]
    assert "broken.mlmodel: not a Core ML model" in found["problems"][0]
    text = run(tmp_path).stdout
    assert "mlp.mlpackage   mlProgram" in text
    assert "encoder.name    minilm" in text
    (tmp_path / "manifest.json").rename(tmp_path / "run.json")
    assert report(tmp_path)["type"] == "run"
    for text in ("[]", "{", "[" * 100_000):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(DataError, match=r"run.json: (must hold a JSON object|not valid JSON)"):
            run(tmp_path)


def test_numbers_that_json_lacks(packages: dict[str, Path], tmp_path: Path) -> None:
    spec = Model_pb2.Model.FromString(packages["head.mlmodel"].read_bytes())
    spec.neuralNetwork.updateParams.optimizer.sgdOptimizer.learningRate.range.maxValue = float("inf")
    (tmp_path / "x.mlmodel").write_bytes(spec.SerializeToString())
    update = report(tmp_path / "x.mlmodel")["model"]["update"]
    assert update["parameters"]["learningRate"]["maximum"] == "inf"


def test_command_line(packages: dict[str, Path], tmp_path: Path) -> None:
    """In a process of its own: exit codes, streams, and that no converter is loaded."""
    code = (
        "import sys; from personality_common import cli\n"
        "sys.argv = ['pt', 'inspect', *sys.argv[1:]]\n"
        "try: cli.main()\n"
        "finally: assert not {'coremltools', 'torch'} & sys.modules.keys()"
    )

    def pt(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    good = pt(packages["mlp.mlpackage"], "--weights")
    assert (good.returncode, good.stderr) == (0, "")
    assert "\x1b" not in good.stdout
    (tmp_path / "bad.mlmodel").write_bytes(b"no")
    bad = pt(tmp_path / "bad.mlmodel", "--json")
    assert (bad.returncode, bad.stdout) == (3, "")
    assert bad.stderr.count("\n") == 1
    assert "not a Core ML model" in bad.stderr
    assert pt(tmp_path / "missing").returncode == 2


def test_text_helpers() -> None:
    assert [human_bytes(n) for n in (0, 999, 1000, 999_949, 999_951, 29_033_748, 10**18)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "999.9 kB",
        "1.0 MB",
        "29.0 MB",
        "1000000.0 TB",
    ]
    assert excerpt("a\tb", 10) == "a\\x09b"
    assert excerpt("x" * 11, 10) == "x" * 10 + "… (11 characters)"
