"""A spoiled bundle is refused, and the message says what is wrong."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from personality_common.bundle.files import file_table
from personality_common.coreml.package import Package
from personality_common.coreml.program import constants
from personality_common.coreml.writing import serialize
from personality_common.errors import DataError, MismatchError
from pretrain.personality.export.manifest import package_metadata
from pretrain.personality.rules.checks import check_bundle

MODEL = "PersonalityModel.mlpackage"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
SPEC = "Data/com.apple.CoreML/model.mlmodel"


@pytest.fixture
def check(copied: Any, run: Any, values: Any) -> Any:
    """Check the copy after the manifest's file table has been made to fit, so that the next check decides."""

    def check(manifest: Any = None) -> None:
        path = copied / "manifest.json"
        manifest = manifest or json.loads(path.read_text())
        manifest["files"] = {name: vars(file) for name, file in file_table(copied).items()}
        path.write_text(json.dumps(manifest))
        check_bundle(copied, values, package_metadata(run))

    return check


@pytest.fixture
def manifest(copied: Any) -> Any:
    return json.loads((copied / "manifest.json").read_text())


def tensor(manifest: Any, name: Any, part: Any = "model") -> Any:
    return next(t for t in manifest["packages"][part]["tensors"] if t["name"] == name)


def flip(path: Any, offset: Any) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def edit_spec(copied: Any, change: Any, package: Any = MODEL) -> None:
    spec = Package.open(copied / package).spec
    change(spec)
    (copied / package / SPEC).write_bytes(serialize(spec))


def block(spec: Any) -> Any:
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def const(spec: Any, name: Any) -> Any:
    return next(op for op in block(spec).operations if op.type == "const" and op.outputs[0].name == name)


def test_whole_bundle_passes(check: Any) -> None:
    check()


@pytest.mark.parametrize("part", ["model", "updatable", "head", "stateful"])
def test_one_bit_of_a_parameter(copied: Any, check: Any, manifest: Any, part: Any) -> None:
    entry = manifest["packages"][part]
    t = entry["tensors"][-1]
    flip(copied / entry["file"] / t["file"], t["offset"] + t["size"] - 1)
    with pytest.raises(MismatchError, match=rf"{t['name']} must be the run's, bit for bit"):
        check()


def test_one_byte_between_parameters_is_seen_by_the_file_table(copied: Any, values: Any, run: Any) -> None:
    flip(copied / MODEL / WEIGHTS, 8)
    with pytest.raises(MismatchError, match="SHA-256"):
        check_bundle(copied, values, package_metadata(run))


def test_file_that_nobody_listed(copied: Any, values: Any, run: Any) -> None:
    (copied / "stray.txt").write_text("x")
    with pytest.raises(MismatchError, match="files must be those of"):
        check_bundle(copied, values, package_metadata(run))


@pytest.mark.parametrize(
    ("key", "by", "error", "words"),
    [
        ("offset", -4, MismatchError, "output_bias must be the run's"),
        ("offset", 4, DataError, r"output_bias lies at \d+, 1300 bytes, the file has"),
        ("size", 4, DataError, r"tensors\[\d+\]: output_bias must have 1300 bytes, has 1304"),
    ],
)
def test_wrong_place_in_the_manifest(
    check: Any, manifest: Any, key: Any, by: Any, error: Any, words: Any
) -> None:
    tensor(manifest, "output_bias")[key] += by
    with pytest.raises(error, match=words):
        check(manifest)


def test_wrong_metadata_offset_in_the_manifest(check: Any, manifest: Any) -> None:
    tensor(manifest, "output_bias")["metadata_offset"] += 64
    with pytest.raises(MismatchError, match="its entries must be the parameters"):
        check(manifest)


@pytest.mark.parametrize(("key", "value"), [("fingerprint", "0" * 64), ("shape", [325, 1])])
def test_wrong_record_in_the_manifest(check: Any, manifest: Any, key: Any, value: Any) -> None:
    tensor(manifest, "output_bias")[key] = value
    with pytest.raises(MismatchError, match="wrong shape or fingerprint for output_bias"):
        check(manifest)


def test_parameter_missing_from_the_manifest(check: Any, manifest: Any) -> None:
    manifest["packages"]["model"]["tensors"].pop()
    with pytest.raises(MismatchError, match="must have each of its parameters once"):
        check(manifest)


def test_wrong_constant_in_the_manifest(check: Any, manifest: Any) -> None:
    tensor(manifest, "output_bias")["constant"] = "other"
    with pytest.raises(MismatchError, match="one constant must refer to output_bias"):
        check(manifest)


def test_head_bias_that_shares_its_bytes(copied: Any, check: Any, manifest: Any) -> None:
    """Another constant refers to the bias: as if the converter had found them equal."""
    bias = tensor(manifest, "output_bias")

    def share(spec: Any) -> None:
        twin = block(spec).operations.add()
        twin.CopyFrom(const(spec, bias["constant"]))
        twin.outputs[0].name = "twin"

    edit_spec(copied, share)
    with pytest.raises(MismatchError, match="one constant must refer to output_bias"):
        check()


def test_layer_that_reads_an_inline_bias(copied: Any, check: Any, manifest: Any) -> None:
    """The bias is still in the weight file, but patching it there would change nothing."""

    def misread(spec: Any) -> None:
        name = tensor(manifest, "output_bias")["constant"]
        operations = block(spec).operations
        operation = next(
            op for op in operations if op.type == "linear" and op.inputs["bias"].arguments[0].name == name
        )
        extra = operations.add()
        extra.CopyFrom(const(spec, name))
        extra.outputs[0].name = "inline_bias"
        value = extra.attributes["val"]
        value.ClearField("blobFileValue")
        value.immediateValue.tensor.floats.values.extend([0.0] * 325)
        operation.inputs["bias"].arguments[0].name = "inline_bias"

    edit_spec(copied, misread)
    with pytest.raises(MismatchError, match="must be in a weight file, it is inline"):
        check()


def test_head_that_a_second_operation_reads(copied: Any, check: Any, manifest: Any) -> None:
    bias = tensor(manifest, "output_bias")["constant"]

    def read_again(spec: Any) -> None:
        operations = block(spec).operations
        linear = next(
            op for op in operations if op.type == "linear" and op.inputs["bias"].arguments[0].name == bias
        )
        again = operations.add()
        again.CopyFrom(linear)
        again.outputs[0].name = "again"

    edit_spec(copied, read_again)
    with pytest.raises(MismatchError, match="must be read by one operation"):
        check()


def test_weight_and_bias_of_another_layer(copied: Any, check: Any, manifest: Any) -> None:
    """Two constants change places: every blob is there, and the program is wrong."""
    first, second = (tensor(manifest, f"encoder.{i}.ffn_in.bias")["constant"] for i in (0, 1))

    def swap(spec: Any) -> None:
        values = [const(spec, name).attributes["val"].blobFileValue for name in (first, second)]
        values[0].offset, values[1].offset = values[1].offset, values[0].offset

    edit_spec(copied, swap)
    with pytest.raises(MismatchError, match="one constant must refer to"):
        check()


def test_deduplication_left_on(
    copied: Any, check: Any, manifest: Any, values: Any, ct: Any, tmp_path: Path
) -> None:
    """What the converter does by itself to a model whose layers are close to one another."""
    from pretrain.coreml.converter import quiet
    from pretrain.personality.export.packages import _Whole
    from pretrain.personality.model import PersonalityModel

    model = PersonalityModel().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(values[name.replace("encoder.1.", "encoder.0.")]))
            if name.startswith("encoder.1."):
                parameter.mul_(1 + 1e-6)
    with quiet():
        ct.convert(
            torch.jit.trace(_Whole(model), torch.zeros(2, 1536)),
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT32,
            inputs=[ct.TensorType("embedding", (ct.RangeDim(1, 64, 1), 1536))],
            outputs=[ct.TensorType("latent"), ct.TensorType("logits")],
            skip_model_load=True,
            package_dir=str(tmp_path / "naive.mlpackage"),
        )
    naive = Package.open(tmp_path / "naive.mlpackage")
    stored = {c.location.offset for c in constants(naive) if c.location}
    assert len(stored) < len(manifest["packages"]["model"]["tensors"])
    metadata = Package.open(copied / MODEL).spec.description.metadata
    naive.spec.description.metadata.CopyFrom(metadata)
    (copied / MODEL / SPEC).write_bytes(serialize(naive.spec))
    (copied / MODEL / WEIGHTS).write_bytes((tmp_path / "naive.mlpackage" / WEIGHTS).read_bytes())
    # The file is the shorter for it: what is read in place of a parameter is another, or there is nothing.
    with pytest.raises((MismatchError, DataError), match=r"must be the run's, bit for bit|the file has"):
        check()


def test_weight_file_with_a_tensor_too_many(copied: Any, check: Any) -> None:
    path = copied / MODEL / WEIGHTS
    data = bytearray(path.read_bytes())
    data += b"\0" * (-len(data) % 64)
    data += struct.pack("<IIQQQ", 0xDEADBEEF, 2, 4, len(data) + 64, 0).ljust(64, b"\0") + b"\0\0\0\0"
    data[0] += 1
    path.write_bytes(data)
    with pytest.raises(MismatchError, match="its entries must be the parameters; it has 29"):
        check()


def test_truncated_weight_file(copied: Any, check: Any) -> None:
    path = copied / MODEL / WEIGHTS
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4)
    with pytest.raises((MismatchError, DataError), match=r"must be the run's|the file has"):
        check()


def test_package_of_another_vocabulary(copied: Any, check: Any) -> None:
    edit_spec(
        copied,
        lambda spec: spec.description.metadata.userDefined.update({"vocabulary": "a,b"}),
        "PersonalityHead.mlpackage",
    )
    with pytest.raises(MismatchError, match="metadata vocabulary must be"):
        check()


def test_transposed_head(copied: Any, check: Any, manifest: Any, values: Any) -> None:
    t = tensor(manifest, "projection.weight", "head")
    with (copied / "PersonalityHead.mlpackage" / t["file"]).open("r+b") as file:
        file.seek(t["offset"])
        file.write(np.ascontiguousarray(values["projection.weight"].T).tobytes())
    with pytest.raises(MismatchError, match=r"projection.weight must be the run's"):
        check()
