"""`pt run`, and the files that it reads."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_sim.runtimes.arrays import read_arrays_file, write_npz
from device_sim.runtimes.config import RunConfig
from device_sim.runtimes.running import run_package
from personality_common.coreml.features import Feature
from personality_common.errors import ConfigError, DataError, ToolkitError
from personality_common.progress import Silent
from personality_common.run import load_run

FEATURES = {
    "x": Feature("x", "multiArray", "float32", (1, 2)),
    "ids": Feature("ids", "multiArray", "int32", (1, 2)),
}


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def read(path: Path) -> dict[str, np.ndarray]:
    return read_arrays_file(path, FEATURES)


def test_npz_keeps_and_widens(tmp_path: Path) -> None:
    half = np.array([[0.1, 2]], np.float16)
    found = read(save(tmp_path / "a.npz", x=half, ids=np.array([[1, 2]], np.int32)))
    assert found["x"].dtype == np.float32
    np.testing.assert_array_equal(found["x"], [[np.float32(np.float16(0.1)), 2]])
    assert found["ids"].dtype == np.int32
    fortran = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(read(save(tmp_path / "f.npz", x=fortran))["x"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("dtype", ["float64", "int32", "bool"])
def test_npz_is_never_rounded(tmp_path: Path, dtype: str) -> None:
    path = save(tmp_path / "a.npz", x=np.ones((1, 2), dtype))
    if dtype == "bool":  # fits without loss
        assert read(path)["x"].dtype == np.float32
        return
    with pytest.raises(
        DataError, match=rf"'x' must be float32, .* it is {dtype} \(array\.astype\(np\.float32\)"
    ):
        read(path)


def test_npz_is_not_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("unpickled",))

    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([Bomb()], object), allow_pickle=True)
    with pytest.raises(DataError, match="array of numbers"):
        read(path)


def npz(path: Path, header: dict[str, Any], data: bytes = b"") -> Path:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, header)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", buffer.getvalue() + data)
    return path


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1 << 50,), "announces"),
        ((1 << 40, 1 << 40), "announces"),
        ((3,), "cut off"),
        ((-1,), "not an array"),
    ],
)
def test_npz_headers_are_not_believed(tmp_path: Path, shape: tuple[int, ...], says: str) -> None:
    path = npz(tmp_path / "a.npz", {"shape": shape, "fortran_order": False, "descr": "<f4"}, b"\0" * 8)
    with pytest.raises(DataError, match=says):
        read(path)


def test_npz_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_sim.runtimes.arrays.MAX_BYTES", 1000)
    with pytest.raises(DataError, match="1,000 bytes"):
        read(save(tmp_path / "a.npz", x=np.zeros((1, 300), np.float32)))


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"hello"])
def test_npz_malformed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz: not a \.npz file"):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"x": [[1, 2], [3]]}', "equal lengths"),
        ('{"x": [["a"]]}', "lists of numbers"),
        ('{"x": null}', "lists of numbers"),
        ('{"ids": [[1.5, 2]]}', "lists of integers"),
        ('{"ids": [[3000000000, 2]]}', "must fit int32, goes to 3000000000"),
        ('{"y": [1]}', "arrays must be named"),
        ("[1]", "nested lists"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_json_malformed(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=says) as raised:
        read(tmp_path / "a.json")
    assert "\n" not in str(raised.value)


def test_json_numbers_become_the_features(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"x": [[1, 0.1]], "ids": [[7, -8]]}')
    found = read(tmp_path / "a.json")
    assert {name: array.dtype.name for name, array in found.items()} == {"x": "float32", "ids": "int32"}
    np.testing.assert_array_equal(found["x"], np.array([[1, 0.1]], np.float32))


def test_write_npz_leaves_no_half(tmp_path: Path) -> None:
    write_npz(tmp_path / "out.npz", {"a": np.arange(3, dtype=np.int32)})
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["a"], [0, 1, 2])
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


def test_head(bundle: Path, run_folder: Path, tmp_path: Path) -> None:
    latent = np.random.default_rng(0).standard_normal((1, 512)).astype(np.float32)
    package = bundle / "PersonalityHead.mlpackage"
    config = RunConfig(package, save(tmp_path / "in.npz", latent=latent), tmp_path / "out.npz")
    run_package(config, Silent())
    model = load_run(run_folder).model
    wanted = latent @ model.projection.weight.detach().numpy().T + model.output_bias.detach().numpy()
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        np.testing.assert_allclose(found["logits"], wanted, rtol=0, atol=1e-5)  # 512 float32 terms


def test_states_come_with_the_inputs(bundle: Path, tmp_path: Path) -> None:
    embedding = np.full((1, 1536), 0.02, np.float32)
    bias = np.arange(325, dtype=np.float16) / np.float16(8)
    path = save(tmp_path / "in.npz", embedding=embedding, output_bias=bias)
    config = RunConfig(bundle / "PersonalityModelStateful.mlpackage", path, tmp_path / "out.npz")
    result = run_package(config, Silent())
    assert result.zero_states == ("projection_weight",)
    np.testing.assert_array_equal(result.outputs["logits"][0], bias)


def test_config() -> None:
    with pytest.raises(ConfigError, match=r"--output must be a \.npz"):
        RunConfig(Path("a"), Path("b.npz"), Path("c.txt"))
    with pytest.raises(ConfigError, match="--runtime must be one of"):
        RunConfig(Path("a"), Path("b.npz"), Path("c.npz"), "onnx")


def test_no_coreml_here(bundle: Path, tmp_path: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("Core ML is available here")
    config = RunConfig(bundle / "PersonalityHead.mlpackage", tmp_path / "a.npz", tmp_path / "b.npz", "coreml")
    with pytest.raises(ToolkitError, match="--runtime coreml is not available here"):
        run_package(config, Silent())


def test_command(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(json.dumps({"latent": [[0.0] * 511]}))
    arguments = [
        str(bundle / "PersonalityHead.mlpackage"),
        *("--input", str(tmp_path / "in.json"), "--output", str(tmp_path / "out.npz")),
    ]
    command = [sys.executable, "-m", "personality_common.cli", "run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "input 'latent' must have shape (1, 512), got (1, 511)" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out.npz").exists()
