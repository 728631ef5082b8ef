"""Programs and values against coremltools' own loader, and heads made to be confusing."""

import errno
import shutil
import warnings
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from personality_common.coreml import network, program
from personality_common.coreml.package import Package
from personality_common.coreml.patching import edited_copy, patched_copy
from personality_common.coreml.proto import MIL_pb2, Model_pb2
from personality_common.coreml.values import BlobLocation, read_value
from personality_common.errors import DataError, MismatchError
from personality_common.files import staging


def by_coremltools(ct: ModuleType, package: Path) -> dict[str, np.ndarray]:
    """Constants of a program as coremltools itself loads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from coremltools.converters.mil.frontend.milproto.load import load

        model = ct.models.MLModel(str(package), skip_model_load=True)
        spec = model.get_spec()
        loaded = load(spec, spec.specificationVersion, file_weights_dir=model.weights_dir)
    return {
        op.outputs[0].name: np.asarray(op.outputs[0].val)
        for op in loaded.functions["main"].operations
        if op.op_type == "const"
    }


@pytest.mark.parametrize("name", ["mlp", "int8"])
def test_constants_are_what_coremltools_loads(ct: ModuleType, packages: dict[str, Path], name: str) -> None:
    path = packages[f"{name}.mlpackage"]
    expected = by_coremltools(ct, path)
    got = {c.name: c.read() for c in program.constants(Package.open(path))}
    common = expected.keys() & got.keys()
    assert len(common) >= 5
    for key in common:
        assert (got[key].shape, got[key].dtype) == (expected[key].shape, expected[key].dtype)
        np.testing.assert_array_equal(got[key], expected[key])


def test_head_is_found_with_its_values(packages: dict[str, Path]) -> None:
    import torch

    torch.manual_seed(0)
    torch.nn.Linear(16, 32)
    projection = torch.nn.Linear(32, 16, bias=False)
    bias = torch.randn(16)
    package = Package.open(packages["mlp.mlpackage"])
    head = program.find_linear(package, "logits")
    assert head.bias is not None
    np.testing.assert_array_equal(head.weight.read(), projection.weight.detach().numpy())
    np.testing.assert_array_equal(head.bias.read(), bias.numpy())
    for constant in (head.weight, head.bias):
        assert program.require_own_blob(package, constant) == constant.location
    counts = Counter(operation.type for operation in program.operations(package, "main"))
    assert counts["linear"] == 2
    assert counts["layer_norm"] == counts["relu"] == 1


def test_a_quantized_head_is_refused(packages: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="must be a constant stored as it is, it is made by 'constexpr_"):
        program.find_linear(Package.open(packages["int8.mlpackage"]), "logits")


def test_a_program_without_what_is_asked(packages: dict[str, Path]) -> None:
    package = Package.open(packages["mlp.mlpackage"])
    with pytest.raises(DataError, match="no operation of the program produces 'nothing'"):
        program.find_linear(package, "nothing")
    with pytest.raises(DataError, match="no function 'other', only"):
        program.main_block(package, "other")
    with pytest.raises(DataError, match="an mlProgram is expected, got neuralNetwork"):
        program.find_linear(Package.open(packages["head.mlmodel"]), "logits")


def test_shared_bytes_are_noticed(packages: dict[str, Path]) -> None:
    package = Package.open(packages["mlp.mlpackage"])
    head = program.find_linear(package, "logits")
    block = program.main_block(package)
    twin = block.operations.add()
    twin.CopyFrom(next(op for op in block.operations if op.outputs[0].name == head.weight.name))
    twin.outputs[0].name = "twin"
    with pytest.raises(MismatchError, match=r"must have bytes of its own, they are shared by .*'twin'"):
        program.require_own_blob(package, head.weight)
    del block.operations[-1]
    second = block.operations.add()
    second.CopyFrom(head.operation)
    second.outputs[0].name = "again"
    with pytest.raises(MismatchError, match="must be read by one operation, these read it"):
        program.require_own_blob(package, head.weight)


def test_head_through_reshapes_and_an_unfolded_add(packages: dict[str, Path]) -> None:
    package = Package.open(packages["mlp.mlpackage"])
    block = program.main_block(package)
    linear = program.find_producer(block, "logits")
    bias = linear.inputs["bias"].arguments[0].name
    del linear.inputs["bias"]
    linear.outputs[0].name = "product"
    add = block.operations.add(type="add")
    add.inputs["x"].arguments.add(name=bias)
    add.inputs["y"].arguments.add(name="product")
    add.outputs.add(name="sum")
    reshape = block.operations.add(type="reshape")
    reshape.inputs["x"].arguments.add(name="sum")
    reshape.outputs.add(name="logits")
    head = program.find_linear(package, "logits")
    assert head.bias is not None
    assert (head.bias.name, head.weight.type.shape) == (bias, (16, 32))


def inline(dtype: int, shape: list[int], field: str, values: Any) -> Any:
    value = MIL_pb2.Value()
    value.type.tensorType.dataType = dtype
    for size in shape:
        value.type.tensorType.dimensions.add().constant.size = size
    holder = getattr(value.immediateValue.tensor, field)
    if field == "bytes":
        holder.values = values
    else:
        holder.values.extend(values)
    return value


def test_inline_values_of_every_field(packages: dict[str, Path]) -> None:
    package = Package.open(packages["head.mlmodel"])
    number = {name.lower(): code for name, code in MIL_pb2.DataType.items()}
    for dtype, field, values, expected in [
        ("float32", "floats", [1.5, 2], np.array([1.5, 2], np.float32)),
        ("float64", "doubles", [1.5, 2], np.array([1.5, 2])),
        ("int32", "ints", [-1, 2], np.array([-1, 2], np.int32)),
        ("int16", "ints", [-1, 2], np.array([-1, 2], np.int16)),
        ("int64", "longInts", [-(2**40), 2], np.array([-(2**40), 2])),
        ("bool", "bools", [True, False], np.array([True, False])),
        ("string", "strings", ["a", "bcd"], np.array(["a", "bcd"], object)),
        ("float16", "bytes", b"\x00\x3c\x00\x40", np.array([1, 2], np.float16)),
        ("int8", "bytes", b"\xff\x02", np.array([-1, 2], np.int8)),
        ("int4", "bytes", b"\x2f", np.array([-1, 2], np.int8)),
        ("bfloat16", "bytes", b"\x80\x3f\x00\x40", np.array([1, 2], np.float32)),
        ("uint64", "bytes", b"\x01" + bytes(7) + b"\x02" + bytes(7), np.array([1, 2], np.uint64)),
    ]:
        got = read_value(package, inline(number[dtype], [2], field, values))
        assert got.dtype == expected.dtype, dtype
        np.testing.assert_array_equal(got, expected)
    for dtype, shape, field, values in [
        ("float32", [3], "floats", [1.0]),
        ("float32", [1], "ints", [1]),
        ("int32", [1], "floats", [1.0]),
        ("bfloat16", [1], "floats", [1.0]),
        ("float16", [3], "bytes", b"\0\0"),
        ("float8e5m2", [1], "bytes", b"\0"),
        ("string", [1], "bytes", b"\0"),
    ]:
        with pytest.raises(DataError):
            read_value(package, inline(number[dtype], shape, field, values))
    scalar = read_value(package, inline(number["float32"], [], "floats", [3.0]))
    assert (scalar.shape, scalar.item()) == ((), 3.0)


def test_network_weights_are_the_protobufs(packages: dict[str, Path]) -> None:
    head = Package.open(packages["head.mlmodel"])
    weight, bias = network.weights(network.network(head))
    assert (weight.name, weight.dtype, weight.shape) == ("projection.weights", "float32", (8, 32))
    assert (bias.name, bias.shape) == ("projection.bias", (8,))
    assert weight.updatable
    expected = np.arange(256, dtype=np.float32)
    np.testing.assert_array_equal(np.frombuffer(weight.data(), "<f4"), expected)
    (kernel,) = network.weights(network.network(Package.open(packages["classifier.mlmodel"])))
    assert (kernel.name, kernel.dtype, kernel.shape) == ("conv.weights", "uint8", (4, 3, 3, 3))
    assert len(kernel.data()) == kernel.size == 108


def test_patched_copy_changes_one_tensor_and_nothing_else(
    ct: ModuleType, packages: dict[str, Path], tmp_path: Path, weights_of: Any
) -> None:
    source, target = packages["mlp.mlpackage"], tmp_path / "new.mlpackage"
    before = {p: p.read_bytes() for p in source.rglob("*") if p.is_file()}
    old = by_coremltools(ct, source)
    head = program.find_linear(Package.open(source), "logits")
    assert head.weight.location is not None
    values = np.random.default_rng(0).normal(size=(16, 32)).astype(np.float32)
    bias = np.arange(16, dtype=np.float32)
    assert head.bias is not None
    patched = patched_copy(source, target, {head.weight.location.offset: values, head.bias.name: bias})
    assert patched.path == target
    new = by_coremltools(ct, target)
    np.testing.assert_array_equal(new.pop(head.weight.name), values)
    np.testing.assert_array_equal(new.pop(head.bias.name), bias)
    assert len(new) > 4
    for name, value in new.items():
        np.testing.assert_array_equal(value, old[name])
    reader = ct.libmilstoragepython._BlobStorageReader(str(weights_of(target)))
    np.testing.assert_array_equal(reader.read_float_data(head.weight.location.offset), values.ravel())
    assert {p: p.read_bytes() for p in source.rglob("*") if p.is_file()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["new.mlpackage"]
    patched_copy(source, target, {})
    assert weights_of(target).read_bytes() == weights_of(source).read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["new.mlpackage"]


def test_a_refused_patch_leaves_the_target_as_it_was(packages: dict[str, Path], tmp_path: Path) -> None:
    source, target = packages["mlp.mlpackage"], tmp_path / "new.mlpackage"
    package = patched_copy(source, target, {})
    weight = program.find_linear(package, "logits").weight
    inode = target.stat().st_ino
    wrong: list[tuple[Any, Any, str]] = [
        (weight.name, np.zeros((32, 16), np.float32), r"has shape \(16, 32\), the patch \(32, 16\)"),
        (
            weight.name,
            np.zeros((16, 32), np.float16),
            "is float32, the patch is float32 in an array of float16",
        ),
        (7, np.zeros((16, 32), np.float32), "no entry has its metadata at offset 7"),
        ("nothing", np.zeros(1, np.float32), "no constant is named 'nothing'"),
    ]
    for key, array, message in wrong:
        with pytest.raises((DataError, MismatchError), match=message):
            patched_copy(source, target, {key: array})
    for place in (source, source / "inside.mlpackage", source.parent):
        with pytest.raises(MismatchError, match="must lie outside of its source"):
            patched_copy(source, place, {})
    (tmp_path / "precious").mkdir()
    with pytest.raises(MismatchError, match="only a Core ML package is replaced"):
        patched_copy(source, tmp_path / "precious", {})
    assert target.stat().st_ino == inode
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.mlpackage", "precious"]


def test_a_failed_rename_puts_the_old_package_back(
    packages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "new.mlpackage"
    patched_copy(packages["mlp.mlpackage"], target, {})
    inode, rename = target.stat().st_ino, Path.rename
    monkeypatch.setattr(staging, "_exchange", lambda *_: False)

    def fail(self: Path, other: Path) -> Path:
        if self.name == "new":
            raise OSError("no")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no"):
        patched_copy(packages["mlp.mlpackage"], target, {})
    assert target.stat().st_ino == inode
    assert [p.name for p in tmp_path.iterdir()] == ["new.mlpackage"]


def test_what_a_killed_patch_leaves_is_mended(packages: dict[str, Path], tmp_path: Path) -> None:
    """Killed between two renames, where the file system cannot swap: the old one waits beside its place."""
    source, target = packages["mlp.mlpackage"], tmp_path / "new.mlpackage"
    patched_copy(source, target, {})
    (tmp_path / ".new.mlpackage.partial" / "new").mkdir(parents=True)
    target.rename(tmp_path / ".new.mlpackage.partial" / "old")
    weight = program.find_linear(Package.open(source), "logits").weight

    def fail(_copy: Path) -> None:
        assert target.is_dir(), "it is back before anything else happens"
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        edited_copy(source, target, fail)
    assert program.find_linear(Package.open(target), "logits").weight.name == weight.name
    assert [p.name for p in tmp_path.iterdir()] == ["new.mlpackage"]


def test_links_are_not_copied_out_of_a_package(packages: dict[str, Path], tmp_path: Path) -> None:
    source = Path(shutil.copytree(packages["mlp.mlpackage"], tmp_path / "source.mlpackage"))
    (source / "Data" / "passwords").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="lead through no link"):
        patched_copy(source, tmp_path / "new.mlpackage", {})
    assert not (tmp_path / "new.mlpackage").exists()


def test_ambiguous_and_shared_patches_are_refused(packages: dict[str, Path], tmp_path: Path) -> None:
    target, array = tmp_path / "new.mlpackage", np.zeros((16, 32), np.float32)
    with pytest.raises(MismatchError, match="an offset needs one weight file"):
        patched_copy(packages["two.mlpackage"], target, {64: array})
    first = Package.open(packages["two.mlpackage"]).submodels[0]
    name = next(c.name for c in program.constants(first) if c.type.shape == (32, 16))
    with pytest.raises(MismatchError, match="several constants are named"):
        patched_copy(packages["two.mlpackage"], target, {name: array})
    shared = Path(shutil.copytree(packages["mlp.mlpackage"], tmp_path / "shared.mlpackage"))
    model = shared / "Data/com.apple.CoreML/model.mlmodel"
    spec = Model_pb2.Model.FromString(model.read_bytes())
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    twin = block.operations.add()
    twin.CopyFrom(block.operations[0])
    twin.outputs[0].name = "twin"
    model.write_bytes(spec.SerializeToString())
    with pytest.raises(MismatchError, match="are shared by"):
        patched_copy(shared, target, {"twin": np.zeros(32, np.float32)})
    assert not target.exists()


def test_locations_compare_by_value() -> None:
    assert BlobLocation("a", 64) == BlobLocation("a", 64) != BlobLocation("b", 64)
