"""The packages hold the run's parameters, where the manifest says, and compute what the run computes."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from personality_common.coreml.package import Package
from personality_common.coreml.patching import patched_copy
from personality_common.coreml.program import find_linear, require_own_blob
from personality_common.coreml.writing import write_package
from personality_common.errors import ToolkitError
from pretrain.personality.export.packages import build_package
from pretrain.personality.rules.checks import check_head_blobs, check_tensors, check_weight_file

PROGRAMS = ("model", "updatable", "stateful")
UNUSED = {f"encoder.{i}.attention.{n}.{p}" for i in (0, 1) for n in "qk" for p in ("weight", "bias")}
HEAD = {"projection.weight", "output_bias"}


def weight_file(bundle: Any, entry: Any) -> Any:
    return bundle / entry["file"] / "Data/com.apple.CoreML/weights/weight.bin"


@pytest.fixture(scope="module")
def storage(ct: Any) -> Any:
    """Apple's own reader of weight files."""
    from coremltools.libmilstoragepython import _BlobStorageReader

    return lambda path: _BlobStorageReader(str(path))


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Any:
    def build(part: Any, values: Any, precision: Any = "float32") -> Any:
        folder = tmp_path_factory.mktemp("build")
        built = build_package(part, values, {}, precision, folder)
        write_package(folder / built.file_name, built.model, built.weights)
        return built, Package.open(folder / built.file_name)

    return build


@pytest.mark.parametrize("part", PROGRAMS)
def test_every_parameter_is_in_the_weight_file_byte_for_byte(
    bundle: Any, read_manifest: Any, values: Any, storage: Any, part: Any
) -> None:
    entry = read_manifest(bundle)["packages"][part]
    reader = storage(weight_file(bundle, entry))
    stored = {t["name"]: t for t in entry["tensors"] if t["metadata_offset"] is not None}
    expected = values.keys() - UNUSED - (set() if part == "model" else HEAD)
    assert stored.keys() == expected
    for name, tensor in stored.items():
        theirs = np.asarray(reader.read_float_data(tensor["metadata_offset"]))
        assert theirs.dtype == np.float32
        assert theirs.tobytes() == values[name].tobytes(), name


@pytest.mark.parametrize("part", ["updatable", "head"])
def test_head_of_updatable_packages_is_the_runs(
    bundle: Any, read_manifest: Any, values: Any, ct: Any, part: Any, tmp_path: Path
) -> None:
    entry = read_manifest(bundle)["packages"][part]
    copy = shutil.copytree(
        bundle / entry["file"], tmp_path / entry["file"]
    )  # whose Manifest.json is rewritten
    spec = ct.utils.load_spec(str(copy))
    layer = (spec.pipeline.models[1] if part == "updatable" else spec).neuralNetwork.layers[0].innerProduct
    for name, weights in (("projection.weight", layer.weights), ("output_bias", layer.bias)):
        np.testing.assert_array_equal(np.array(weights.floatValue, np.float32), values[name].ravel())
        tensor = next(t for t in entry["tensors"] if t["name"] == name)
        data = (bundle / entry["file"] / tensor["file"]).read_bytes()
        assert data[tensor["offset"] : tensor["offset"] + tensor["size"]] == values[name].tobytes()


def test_patching_at_the_manifests_offsets_reads_back(
    bundle: Any, read_manifest: Any, storage: Any, tmp_path: Path
) -> None:
    entry = read_manifest(bundle)["packages"]["model"]
    copy = tmp_path / "copy.bin"
    shutil.copyfile(weight_file(bundle, entry), copy)
    draw = np.random.default_rng(1)
    news = {t["name"]: draw.standard_normal(t["shape"]).astype("<f4") for t in entry["tensors"]}
    with copy.open("r+b") as file:
        for t in entry["tensors"]:
            file.seek(t["offset"])
            assert file.write(news[t["name"]].tobytes()) == t["size"]
    reader = storage(copy)
    for t in entry["tensors"]:
        read = np.asarray(reader.read_float_data(t["metadata_offset"])).reshape(t["shape"])
        np.testing.assert_array_equal(read, news[t["name"]])


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_program_computes_what_the_run_computes(bundle: Any, run: Any, evaluate: Any, rows: Any) -> None:
    torch.manual_seed(rows)
    x = torch.nn.functional.normalize(torch.randn(rows, 1536), dim=-1)
    outputs = evaluate(Package.open(bundle / "PersonalityModel.mlpackage"), x)
    with torch.inference_mode():
        latent, logits = run.model.backbone(x), run.model(x)
    assert outputs["latent"].shape == (rows, 512)
    assert outputs["logits"].shape == (rows, 325)
    # The same float32 operations in the same library; only the last addition may be fused.
    torch.testing.assert_close(outputs["latent"], latent, rtol=0, atol=1e-6)
    torch.testing.assert_close(outputs["logits"], logits, rtol=0, atol=1e-6)


def test_stateful_program_reads_the_head_from_its_states(
    bundle: Any, run: Any, evaluate: Any, read_manifest: Any
) -> None:
    states = {}
    for state in read_manifest(bundle)["packages"]["stateful"]["states"]:
        data = (bundle / state["initial"]["file"]).read_bytes()
        assert len(data) == state["initial"]["size"]
        array = np.frombuffer(data, "<f2").reshape(state["shape"])
        states[state["name"]] = torch.from_numpy(array.copy())
        half = run.model.get_parameter(state["parameter"]).detach().half()
        assert torch.equal(states[state["name"]], half)
    x = torch.nn.functional.normalize(torch.randn(5, 1536), dim=-1)
    package = Package.open(bundle / "PersonalityModelStateful.mlpackage")
    with torch.inference_mode():
        latent = run.model.backbone(x)
        logits = latent @ states["projection_weight"].float().T + states["output_bias"].float()
    torch.testing.assert_close(evaluate(package, x, states)["logits"], logits, rtol=0, atol=1e-6)
    zeros = {name: torch.zeros_like(state) for name, state in states.items()}
    assert not evaluate(package, x, zeros)["logits"].any()


def test_pipeline_computes_what_the_run_computes(bundle: Any, run: Any, evaluate: Any, ct: Any) -> None:
    package = Package.open(bundle / "PersonalityModelUpdatable.mlpackage")
    backbone, head = package.submodels
    x = torch.nn.functional.normalize(torch.randn(1, 1536), dim=-1)
    latent = evaluate(backbone, x)["latent"]
    product = head.spec.neuralNetwork.layers[0].innerProduct
    weight = np.array(product.weights.floatValue, np.float32).reshape(
        product.outputChannels, product.inputChannels
    )
    logits = latent.numpy() @ weight.T + np.array(product.bias.floatValue, np.float32)
    with torch.inference_mode():
        np.testing.assert_allclose(logits, run.model(x).numpy(), rtol=0, atol=1e-5)


AWKWARD = {
    "zero bias": {"output_bias": 0.0},
    "constant bias": {"output_bias": -3.25},
    "negative zero bias": {"output_bias": -0.0},
    "all parameters zero": None,
    "all parameters one": None,
    "two layers close but not equal": None,
}


@pytest.mark.parametrize("case", AWKWARD)
def test_head_has_bytes_of_its_own_whatever_its_values(values: Any, build: Any, case: Any) -> None:
    awkward = dict(values)
    for name, number in (AWKWARD[case] or {}).items():
        awkward[name] = np.full_like(values[name], number)
    if case.startswith("all parameters"):
        awkward = {n: np.full_like(v, float(case.endswith("one"))) for n, v in values.items()}
    if case.startswith("two layers"):
        for name in values:
            if name.startswith("encoder.1."):
                awkward[name] = values[name.replace("encoder.1.", "encoder.0.")] + np.float32(1e-9)
    built, package = build("model", awkward)
    check_tensors("model", package.path, built.tensors, awkward)
    check_weight_file(package, built.tensors)
    check_head_blobs(package, built.tensors)
    linear = find_linear(package, "logits")
    assert linear.bias
    locations = [require_own_blob(package, constant) for constant in (linear.weight, linear.bias)]
    assert linear.weight.read().tobytes() == awkward["projection.weight"].tobytes()
    assert linear.bias.read().tobytes() == awkward["output_bias"].tobytes()
    assert len({location.offset for location in locations}) == 2


def test_program_does_not_depend_on_the_values(values: Any, build: Any) -> None:
    first, _ = build("model", values)
    second, _ = build("model", {n: np.zeros_like(v) for n, v in values.items()})
    assert first.model == second.model
    assert len(first.weights) == len(second.weights)
    assert first.weights != second.weights


def test_head_is_found_and_patched_by_the_name_that_the_manifest_gives(
    bundle: Any, read_manifest: Any, tmp_path: Path
) -> None:
    entry = read_manifest(bundle)["packages"]["model"]
    constants = {t["name"]: t["constant"] for t in entry["tensors"]}
    bias = np.arange(325, dtype=np.float32)
    source = bundle / entry["file"]
    patched = patched_copy(source, tmp_path / "new.mlpackage", {constants["output_bias"]: bias})
    found = find_linear(patched, "logits").bias
    assert found
    np.testing.assert_array_equal(found.read(), bias)


@pytest.mark.parametrize("part", PROGRAMS)
def test_float16_is_correctly_rounded(
    values: Any, build: Any, storage: Any, evaluate: Any, run: Any, part: Any
) -> None:
    # Halfway cases, subnormals of float16, and what becomes the greatest float16.
    special = [1 + 2**-11, 1 + 3 * 2**-11, 2**-24, 2**-25, 3 * 2**-25, 65504.0, 65519.0, -0.0]
    rounded = [1.0, 1 + 2**-9, 2**-24, 0.0, 2**-23, 65504.0, 65504.0, -0.0]
    awkward = dict(values) | {"input_projection.bias": values["input_projection.bias"].copy()}
    awkward["input_projection.bias"][:8] = special
    built, package = build(part, awkward, "float16")
    reader = storage(package.path / "Data/com.apple.CoreML/weights/weight.bin")
    for tensor in built.tensors:
        if tensor.metadata_offset is None:
            assert tensor.name in HEAD  # the updatable head stays float32
            assert tensor.dtype == "float32"
            continue
        bits = np.asarray(reader.read_fp16_data(tensor.metadata_offset))
        half = torch.from_numpy(awkward[tensor.name]).half().numpy()
        assert bits.tobytes() == half.tobytes(), tensor.name
        if tensor.name == "input_projection.bias":
            assert half[:8].tobytes() == np.array(rounded, np.float16).tobytes()


def test_float16_program_reads_its_head_from_blobs_of_its_own(
    values: Any, build: Any, evaluate: Any, run: Any
) -> None:
    built, package = build("model", values, "float16")
    check_head_blobs(package, built.tensors)
    x = torch.nn.functional.normalize(torch.randn(64, 1536), dim=-1)
    outputs = evaluate(package, x)
    assert outputs["logits"].dtype == torch.float32
    with torch.inference_mode():
        # About 10 roundings to 11 bits of mantissa on logits of size 1.
        torch.testing.assert_close(outputs["logits"], run.model(x), rtol=0, atol=0.01)


@pytest.mark.parametrize("number", [65520.0, np.inf, np.nan])
def test_values_that_float16_cannot_hold_are_refused(values: Any, build: Any, number: Any) -> None:
    bad = dict(values) | {"output_bias": np.full(325, number, np.float32)}
    with pytest.raises(ToolkitError, match="output_bias: must be finite in float16"):
        build("model", bad, "float16")


def test_values_that_are_not_finite_are_refused(values: Any, build: Any) -> None:
    bad = dict(values) | {"output_bias": np.full(325, np.nan, np.float32)}
    with pytest.raises(ToolkitError, match="output_bias: must be finite in float32"):
        build("head", bad)


def test_coremltools_opens_every_package(bundle: Any, read_manifest: Any, ct: Any, tmp_path: Path) -> None:
    """Copies, since it writes each Manifest.json anew."""
    for entry in read_manifest(bundle)["packages"].values():
        path = str(shutil.copytree(bundle / entry["file"], tmp_path / entry["file"]))
        assert ct.libmodelpackage.ModelPackage.isValid(path)
        model = ct.models.MLModel(path, skip_model_load=True)
        spec = model.get_spec()
        assert spec.WhichOneof("Type") == entry["kind"]
        assert [f.name for f in spec.description.input] == [f["name"] for f in entry["inputs"]]
        assert model.user_defined_metadata["updatable_parameters"] == "projection.weight,output_bias"


def test_converter_that_fails_is_one_line(
    values: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pretrain.coreml.converter as converter

    def fail(*_: object) -> None:
        raise RuntimeError("no space\nmore of it")

    monkeypatch.setattr(converter, "_convert", fail)
    with pytest.raises(ToolkitError, match=r"could not convert _Whole: no space$"):
        build_package("model", values, {}, "float32", tmp_path)
    assert list(Path(tmp_path).iterdir()) == []
