"""Packages that are honest, and manifests and protobufs that are not."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from personality_common.coreml import package as package_module
from personality_common.coreml.describe import describe
from personality_common.coreml.limits import Limits
from personality_common.coreml.package import Package
from personality_common.coreml.proto import Model_pb2
from personality_common.errors import DataError

FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WEIGHTS = "@model_path/weights/weight.bin"


@pytest.fixture
def mlp(packages: dict[str, Path], tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(packages["mlp.mlpackage"], tmp_path / "mlp.mlpackage"))


def rewrite(package: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((package / "Manifest.json").read_text())
    change(manifest)
    (package / "Manifest.json").write_text(json.dumps(manifest))


def root_path(value: object) -> Callable[[dict[str, Any]], object]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = value

    return change


def test_kinds_and_submodels(packages: dict[str, Path]) -> None:
    kinds = {name: Package.open(path).kind for name, path in packages.items()}
    assert kinds == {
        "mlp.mlpackage": "mlProgram",
        "int8.mlpackage": "mlProgram",
        "head.mlpackage": "neuralNetwork",
        "head.mlmodel": "neuralNetwork",
        "classifier.mlmodel": "neuralNetworkClassifier",
        "trees.mlmodel": "treeEnsembleRegressor",
        "pipeline.mlpackage": "pipeline",
        "two.mlpackage": "pipeline",
    }
    submodels = Package.open(packages["pipeline.mlpackage"]).submodels
    assert [(s.name, s.kind) for s in submodels] == [("0", "mlProgram"), ("1", "neuralNetwork")]
    assert Package.open(packages["mlp.mlpackage"]).submodels == ()


def test_submodels_find_and_share_weight_files(packages: dict[str, Path]) -> None:
    package = Package.open(packages["two.mlpackage"])
    first, second = package.submodels
    # coremltools gives each submodel's file a number when it joins them.
    for submodel, name in ((first, "0-weight.bin"), (second, "1-weight.bin")):
        assert submodel.weights(f"@model_path/weights/{name}").entries
    assert first.weights("@model_path/weights/0-weight.bin") is package.weights(
        "@model_path/weights/0-weight.bin"
    )


def test_the_protobuf_alone_finds_its_weights(mlp: Path) -> None:
    package = Package.open(mlp / "Data" / "com.apple.CoreML" / "model.mlmodel")
    assert package.weights(WEIGHTS).entries == Package.open(mlp).weights(WEIGHTS).entries


@pytest.fixture
def unlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if links and pipes came only after `refuse_links` had looked."""
    monkeypatch.setattr(package_module, "refuse_links", lambda *_: None)


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_and_pipes_are_refused_wherever_they_are(mlp: Path, kind: str) -> None:
    if kind == "link":
        (mlp / "Data" / "unnamed").symlink_to("Manifest.json")
    else:
        os.mkfifo(mlp / "Data" / "unnamed")
    with pytest.raises(DataError, match=r"a path must .*, 'Data/unnamed' is (one|something else)"):
        Package.open(mlp)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../../../secret.mlmodel", "must stay inside of it"),
        ("com.apple.CoreML/../../../secret.mlmodel", "must stay inside of it"),
        ("{tmp}/secret.mlmodel", "must stay inside of it"),
        ("", "must stay inside of it"),
        ("a\0b", "must stay inside of it"),
        ("link.mlmodel", "must lead through no link"),
        ("folder/secret.mlmodel", "must lead through no link"),
        ("loop", "must lead through no link"),
        ("pipe", "a regular file is expected"),
        ("zero", "must lead through no link"),
        ("com.apple.CoreML", "a regular file is expected"),
        ("inside.mlmodel", "must lead through no link"),
        ("missing.mlmodel", "there is no such file"),
        ("x" * 5000, "a name must have at most 255 characters"),
        ("\ud800", "cannot be read"),
        (None, "path must be a string, is None"),
        (["a"], r"path must be a string, is \['a'\]"),
    ],
)
def test_hostile_root_paths(
    packages: dict[str, Path], mlp: Path, tmp_path: Path, path: Any, message: str, unlooked: None
) -> None:
    shutil.copy(packages["head.mlmodel"], tmp_path / "secret.mlmodel")
    data = mlp / "Data"
    (data / "link.mlmodel").symlink_to(tmp_path / "secret.mlmodel")
    (data / "folder").symlink_to(tmp_path)
    (data / "loop").symlink_to(data / "loop")
    (data / "zero").symlink_to("/dev/zero")
    (data / "inside.mlmodel").symlink_to("com.apple.CoreML/model.mlmodel")
    os.mkfifo(data / "pipe")
    rewrite(mlp, root_path(path.replace("{tmp}", str(tmp_path)) if isinstance(path, str) else path))
    with pytest.raises(DataError, match=message) as error:
        Package.open(mlp)
    assert "\n" not in str(error.value)


def test_a_package_may_itself_be_behind_a_link(mlp: Path, tmp_path: Path) -> None:
    (tmp_path / "alias.mlpackage").symlink_to(mlp)
    package = Package.open(tmp_path / "alias.mlpackage")
    assert package.weights(WEIGHTS).entries == Package.open(mlp).weights(WEIGHTS).entries


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a":' * 100_000, "not valid JSON"),
        ("9" * 10_000, "not valid JSON"),
        ("[]", "must hold a JSON object, holds a list"),
        ("{}", "it must have 'itemInfoEntries'"),
        ('{"itemInfoEntries": {}, "rootModelIdentifier": 1}', "rootModelIdentifier must be a string, is 1"),
        ('{"itemInfoEntries": {}}', "it must have 'rootModelIdentifier'"),
        (
            '{"rootModelIdentifier": "a", "itemInfoEntries": {}}',
            r"itemInfoEntries must have the root model 'a'",
        ),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": 3}}', "must be an object, is 3"),
        (" " * (1 << 20) + "{}", "a file of JSON may have 1,048,576 bytes, this has 1,048,578"),
    ],
)
def test_hostile_manifests(mlp: Path, text: str, message: str) -> None:
    (mlp / "Manifest.json").write_text(text)
    with pytest.raises(DataError, match=message):
        Package.open(mlp)


def test_manifest_that_is_no_file(mlp: Path, tmp_path: Path) -> None:
    manifest = mlp / "Manifest.json"
    manifest.rename(tmp_path / "Manifest.json")
    with pytest.raises(DataError, match=r"has a Manifest.json, this has none: not a package"):
        Package.open(mlp)
    (mlp / "coremldata.bin").touch()
    with pytest.raises(DataError, match="a compiled model"):
        Package.open(mlp)
    manifest.symlink_to(tmp_path / "Manifest.json")
    with pytest.raises(DataError, match="must lead through no link"):
        Package.open(mlp)
    manifest.unlink()
    os.mkfifo(manifest)
    with pytest.raises(DataError, match="must be of a file or a folder"):
        Package.open(mlp)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/etc/passwd", "begins with @model_path/"),
        ("@model_path//etc/passwd", "must stay inside"),
        ("@model_path/../../../Manifest.json", "must stay inside"),
        ("@model_path/weights/none.bin", "there is no such file"),
        ("@model_path/weights/out.bin", "must lead through no link"),
        ("@model_path/weights", "a regular file is expected"),
    ],
)
def test_hostile_weight_file_names(
    mlp: Path, tmp_path: Path, name: str, message: str, unlooked: None
) -> None:
    (tmp_path / "out.bin").write_bytes(b"\0" * 64)
    (mlp / "Data/com.apple.CoreML/weights/out.bin").symlink_to(tmp_path / "out.bin")
    with pytest.raises(DataError, match=message):
        Package.open(mlp).weights(name)


def test_not_models(tmp_path: Path, packages: dict[str, Path]) -> None:
    path = tmp_path / "x.mlmodel"
    for content, message in [
        (b"", "states no specification version"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS, not the file itself"),
        (packages["head.mlmodel"].read_bytes()[:-1], "not a Core ML model"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            Package.open(path)
    with pytest.raises(DataError, match="a model's protobuf may have 100 bytes, this has"):
        Package.open(packages["head.mlmodel"], Limits(model_bytes=100))
    with pytest.raises(DataError, match="there is no such file"):
        Package.open(tmp_path / "none.mlpackage")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PATHS = st.lists(
    st.sampled_from(["..", ".", "", "com.apple.CoreML", "model.mlmodel", "weights", "~", "\0", "\n", "/"]),
    max_size=5,
).map("/".join)


@given(root=st.just("a") | JSON, item=JSON | st.fixed_dictionaries({"path": PATHS | JSON}), more=JSON)
@FUZZ
def test_any_manifest_opens_the_model_or_is_refused(
    packages: dict[str, Path], tmp_path: Path, root: Any, item: Any, more: Any
) -> None:
    package = tmp_path / "fuzz.mlpackage"
    if not package.exists():
        shutil.copytree(packages["mlp.mlpackage"], package)
    manifest = {"itemInfoEntries": {"a": item, "b": more}, "rootModelIdentifier": root}
    (package / "Manifest.json").write_text(json.dumps(manifest))
    try:
        opened = Package.open(package)
    except DataError:
        return
    assert opened.model_file == (package / "Data/com.apple.CoreML/model.mlmodel").resolve()


@given(
    name=st.sampled_from(["mlp", "head", "int8", "pipeline", "two"]),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
)
@FUZZ
def test_a_mutated_protobuf_is_described_or_refused(
    packages: dict[str, Path], tmp_path: Path, name: str, edits: list[tuple[float, int]]
) -> None:
    package = tmp_path / f"{name}.mlpackage"
    if not package.exists():
        shutil.copytree(packages[package.name], package)
    original = (packages[package.name] / "Data/com.apple.CoreML/model.mlmodel").read_bytes()
    mutated = bytearray(original)
    for where, value in edits:
        mutated[int(where * (len(mutated) - 1))] = value
    (package / "Data/com.apple.CoreML/model.mlmodel").write_bytes(mutated)
    try:
        description = describe(Package.open(package), fingerprints=True)
    except DataError:
        return
    assert description.kind == Package.open(package).kind


def bomb(depth: int) -> bytes:
    """A pipeline in a pipeline in a pipeline, …"""
    model = b"\x08\x04"
    number = Model_pb2.Model.DESCRIPTOR.fields_by_name["pipeline"].number
    for _ in range(depth):
        inner = b"\x0a" + varint(len(model)) + model
        model = b"\x08\x04" + varint(number << 3 | 2) + varint(len(inner)) + inner
    return model


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def huge_constant(shape: list[int], offset: int | None) -> bytes:
    spec = Model_pb2.Model(specificationVersion=8)
    function = spec.mlProgram.functions["main"]
    function.opset = "CoreML7"
    operation = function.block_specializations["CoreML7"].operations.add(type="const")
    value = operation.attributes["val"]
    operation.outputs.add(name="c")
    value.type.tensorType.dataType = 11
    for size in shape:
        value.type.tensorType.dimensions.add().constant.size = size
    if offset is None:
        value.immediateValue.tensor.floats.values.append(1)
    else:
        value.blobFileValue.fileName = "@model_path/weight.bin"
        value.blobFileValue.offset = offset
    data: bytes = spec.SerializeToString()
    return data


CHILD = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from personality_common.errors import DataError
from personality_common.coreml.describe import describe
from personality_common.coreml.package import Package
from personality_common.coreml.weights import WeightFile
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        if path.name.startswith("weight"):
            WeightFile.open(path)
        else:
            problems = describe(Package.open(path), fingerprints=True).problems
            print(path.name, "described" if not problems else "problem: " + problems[0])
    except DataError as error:
        print(path.name, "refused")
"""


def test_claims_of_terabytes_cost_nothing(tmp_path: Path, milblob: Any) -> None:
    """In a process that may have 1 GiB of address space, so that a big allocation fails."""
    folder = tmp_path / "claims"
    folder.mkdir()
    number = Model_pb2.Model.DESCRIPTOR.fields_by_name["neuralNetwork"].number
    (folder / "claim.mlmodel").write_bytes(
        b"\x08\x04" + varint(number << 3 | 2) + varint(1 << 42) + b"\0" * 9
    )
    (folder / "deep.mlmodel").write_bytes(bomb(5000))
    (folder / "inline.mlmodel").write_bytes(huge_constant([1 << 40, 1 << 40], None))
    (folder / "ranks.mlmodel").write_bytes(huge_constant([2**63] * 100_000, None))
    (folder / "stored.mlmodel").write_bytes(huge_constant([1 << 40], 1 << 60))
    for name, head in (("sparse.mlmodel", b"\x08\x04"), ("weight-sparse.bin", milblob([]))):
        (folder / name).write_bytes(head)
        os.truncate(folder / name, 1 << 42)
    (folder / "weight-claim.bin").write_bytes(b"\xff\xff\xff\xff\x02\0\0\0".ljust(64, b"\0"))
    (folder / "package.mlpackage").mkdir()
    (folder / "package.mlpackage/Manifest.json").touch()
    os.truncate(folder / "package.mlpackage/Manifest.json", 1 << 42)
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "claim.mlmodel refused",
        "deep.mlmodel refused",
        "inline.mlmodel problem",
        "package.mlpackage refused",
        "ranks.mlmodel refused",
        "sparse.mlmodel refused",
        "stored.mlmodel problem",
        "weight-claim.bin refused",
        "weight-sparse.bin refused",
    ]


def test_nesting_within_the_parsers_limit_is_described(tmp_path: Path) -> None:
    (tmp_path / "nested.mlmodel").write_bytes(bomb(40))
    description = describe(Package.open(tmp_path / "nested.mlmodel"))
    for _ in range(40):
        (description,) = description.submodels
    assert description.kind == "unknown"
