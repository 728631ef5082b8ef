"""What a hostile protobuf may cost: it is counted before there is an object for each thing in it."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from personality_common.cli import main
from personality_common.coreml import network, program
from personality_common.coreml.describe import describe
from personality_common.coreml.features import MAX_FEATURES
from personality_common.coreml.limits import Limits
from personality_common.coreml.package import Package
from personality_common.coreml.proto import MIL_pb2, Model_pb2
from personality_common.coreml.wire import count_objects
from personality_common.errors import DataError
from personality_common.inspection.cli import inspect

MODEL = Model_pb2.Model.DESCRIPTOR
VERSION = b"\x08\x04"


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def embed(message: Any, field: str, content: bytes) -> bytes:
    """A field of this message type that holds `content`."""
    number = message.DESCRIPTOR.fields_by_name[field].number
    return varint(number << 3 | 2) + varint(len(content)) + content


def empty(message: Any, field: str, size: int) -> bytes:
    """So many bytes of empty messages in a repeated field, two each."""
    unit = embed(message, field, b"")
    return unit * (size // len(unit))


def protobuf(package: Path) -> bytes:
    return (package / "Data/com.apple.CoreML/model.mlmodel" if package.is_dir() else package).read_bytes()


def reflected(message: Any) -> int:
    """Messages and strings of a parsed message, by protobuf's own reflection."""
    count = 0
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key in value:
                count += 1 + isinstance(key, str)
                item = value[key]
                count += 1 + reflected(item) if hasattr(item, "ListFields") else isinstance(item, str | bytes)
            continue
        if isinstance(value, str | bytes) or hasattr(value, "ListFields"):
            value = [value]
        elif not hasattr(value, "__len__"):
            continue
        for item in value:
            if hasattr(item, "ListFields"):
                count += 1 + reflected(item)
            else:
                count += isinstance(item, str | bytes)
    return count


def test_objects_are_counted_as_protobuf_has_them(packages: dict[str, Path]) -> None:
    for name, path in packages.items():
        data = protobuf(path)
        expected = reflected(Model_pb2.Model.FromString(data))
        assert count_objects(data, MODEL, 10**6) == expected > 10, name
        assert 0 < count_objects(data, MODEL, expected // 2) <= expected // 2 + 1


@given(data=st.binary(max_size=200), edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255))))
@settings(max_examples=300, deadline=None)
def test_counting_ends_whatever_the_bytes_are(data: bytes, edits: list[tuple[float, int]]) -> None:
    spec = Model_pb2.Model(specificationVersion=8)
    spec.description.input.add(name="x").type.multiArrayType.shape.extend([1, 300])
    spec.mlProgram.functions["main"].block_specializations["a"].operations.add(type="b")
    mutated = bytearray(spec.SerializeToString())
    for where, value in edits:
        mutated[int(where * (len(mutated) - 1))] = value
    for content in (data, bytes(mutated), data + bytes(mutated)):
        count = count_objects(content, MODEL, 10**6)
        assert 0 <= count <= len(content) // 2 + 1
        try:
            parsed = Model_pb2.Model.FromString(content)
        except Exception:
            continue
        # No byte stands for the value that a map's entry lacks.
        assert 2 * count >= reflected(parsed)


def test_a_protobuf_of_many_objects_needs_trust(tmp_path: Path, packages: dict[str, Path]) -> None:
    path = tmp_path / "m.mlmodel"
    layers = empty(Model_pb2.NeuralNetwork__pb2.NeuralNetwork, "layers", 1 << 18)
    path.write_bytes(VERSION + embed(Model_pb2.Model, "neuralNetwork", layers))
    limits = Limits(model_bytes=1 << 20)
    expected = "may have 65,536 messages and strings, this has more; raise --max-model-mib for a file"
    with pytest.raises(DataError, match=expected):
        Package.open(path, limits)
    assert len(Package.open(path, Limits(model_bytes=1 << 22)).spec.neuralNetwork.layers) == 1 << 17
    path.write_bytes(protobuf(packages["mlp.mlpackage"]) + bytes(1))
    with pytest.raises(DataError, match=r"not a Core ML model"):
        Package.open(path)


def models(size: int) -> bytes:
    number = Model_pb2.Model.DESCRIPTOR.fields_by_name["pipeline"].message_type
    one = varint(number.fields_by_name["models"].number << 3 | 2) + varint(len(VERSION)) + VERSION
    return embed(Model_pb2.Model, "pipeline", one * size)


def functions(count: int) -> bytes:
    spec = Model_pb2.Model()
    for i in range(count):
        spec.mlProgram.functions[f"f{i}"].opset = "a"
    data: bytes = spec.SerializeToString()
    return data


def operations(count: int) -> bytes:
    spec = Model_pb2.Model()
    block = spec.mlProgram.functions["main"].block_specializations["a"]
    for i in range(count):
        block.operations.add(type=f"t{i}")
    data: bytes = spec.SerializeToString()
    return data


def metadata(count: int) -> bytes:
    spec = Model_pb2.Model()
    for i in range(count):
        spec.description.metadata.userDefined[f"k{i}"] = ""
    data: bytes = spec.SerializeToString()
    return data


def shape(count: int) -> bytes:
    spec = Model_pb2.Model()
    spec.description.input.add().type.multiArrayType.shape.extend([200] * count)
    data: bytes = spec.SerializeToString()
    return data


@pytest.mark.parametrize(
    ("make", "fits", "message"),
    [
        (models, 999, "a pipeline may have 1,000 models, this has more"),
        (functions, 10_000, "10,001 functions; the limit is 10,000"),
        (operations, 10_000, "10,001 types of operations; the limit is 10,000"),
        (metadata, 10_000, "10,001 entries of the metadata; the limit is 10,000"),
        (shape, 32, "33 sizes in the shape of a feature; the limit is 32"),
    ],
)
def test_counts_that_no_model_has(
    tmp_path: Path, make: Callable[[int], bytes], fits: int, message: str
) -> None:
    path = tmp_path / "m.mlmodel"
    path.write_bytes(VERSION + make(fits))
    describe(Package.open(path))
    path.write_bytes(VERSION + make(fits + 1))
    with pytest.raises(DataError, match=message):
        describe(Package.open(path))


def test_long_names_are_not_repeated(tmp_path: Path) -> None:
    """A name of a megabyte, in the names of a thousand tensors."""
    long = "n" * (1 << 20)
    spec = Model_pb2.Model(specificationVersion=8)
    layer = spec.neuralNetwork.layers.add(name=long)
    for _ in range(1000):
        layer.biDirectionalLSTM.weightParams.add().inputGateWeightMatrix.floatValue.append(1)
    assert max(len(w.name) for w in network.weights(spec.neuralNetwork)) < 2000
    spec = Model_pb2.Model(specificationVersion=8)
    block = spec.mlProgram.functions["main"].block_specializations["a"]
    operation = block.operations.add(type="x")
    operation.outputs.add(name=long)
    for i in range(1000):
        value = operation.inputs[f"p{i}"].arguments.add().value
        value.type.tensorType.dataType = MIL_pb2.FLOAT32
    path = tmp_path / "m.mlmodel"
    path.write_bytes(spec.SerializeToString())
    assert max(len(c.name) for c in program.constants(Package.open(path))) < 2000


def test_a_weight_file_is_opened_once_whatever_it_is_called(packages: dict[str, Path]) -> None:
    package = Package.open(packages["mlp.mlpackage"])
    first = package.weights("@model_path/weights/weight.bin")
    assert package.weights("@model_path/./weights//weight.bin") is first


PROCESSES = Path(__file__).parents[2] / "processes"
CHILD = """
import sys
from personality_common.coreml.describe import describe
from personality_common.coreml.package import Package
from personality_common.errors import DataError

sys.path.append(sys.argv[2])
from peak_memory import peak

before = peak()
try:
    describe(Package.open(sys.argv[1]))
    print("described")
except DataError as error:
    print(error)
print((peak() - before) >> 10)
"""


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("features", "messages and strings"),
        ("few features", f"the limit is {MAX_FEATURES:,}"),
        ("shape", "sizes"),
    ],
)
def test_memory_of_what_is_refused(tmp_path: Path, kind: str, message: str) -> None:
    """Features took 120 bytes of memory for each byte of the file."""
    description = Model_pb2.ModelDescription
    if kind == "shape":
        content = shape(8 << 20)
    else:
        size = (9 << 20) if kind == "features" else (1 << 20)
        content = embed(Model_pb2.Model, "description", empty(description, "input", size))
    path = tmp_path / "m.mlmodel"
    path.write_bytes(VERSION + content)
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(PROCESSES)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    said, grown = run.stdout.splitlines()
    assert message in said
    assert int(grown) < 8 * (path.stat().st_size >> 20) + 100  # MiB


def test_command(tmp_path: Path, packages: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    spec = Model_pb2.Model.FromString(protobuf(packages["head.mlmodel"]))
    spec.neuralNetwork.layers[0].innerProduct.weights.rawValue = bytes(1 << 20)
    path = tmp_path / "m.mlmodel"
    path.write_bytes(spec.SerializeToString())
    with pytest.raises(SystemExit) as end:
        main(["inspect", str(path), "--max-model-mib", "1"])
    assert end.value.code == 3
    line = capsys.readouterr().err
    assert re.fullmatch(
        r"error: .* may have 1,048,576 bytes, this has [\d,]+; raise --max-model-mib .*\n", line
    )
    assert CliRunner().invoke(inspect, [str(path)]).exit_code == 0
