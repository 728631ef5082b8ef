"""Array files: round trips against NumPy's own reader and writer, and files that lie."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from device_sim.runtimes.arrays import read_arrays, write_arrays
from personality_common.coreml.features import Feature
from personality_common.errors import DataError, ToolkitError

X = Feature("x", "multiArray", "float32", (2, 3))
IDS = Feature("ids", "multiArray", "int32", (2,))


def npz(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path: Path, save: object) -> None:
    x = np.arange(6, dtype=np.float64).reshape(2, 3)
    for array in (x, np.asfortranarray(x), x.astype(">f4"), x.astype(np.float16), x[:0], x[0, 0]):
        save(tmp_path / "a.npz", x=array, other=np.zeros(3))  # type: ignore[operator]
        read = read_arrays(tmp_path / "a.npz", [X])
        assert set(read) == {"x"}
        assert (read["x"].shape, read["x"].dtype) == (array.shape, array.dtype.newbyteorder("="))
        np.testing.assert_array_equal(read["x"], array)


def test_numpy_reads_what_is_written(tmp_path: Path) -> None:
    arrays = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "file": np.array([1, 2], np.int32)}
    write_arrays(tmp_path / "a.npz", arrays)
    write_arrays(tmp_path / "b.npz", arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as read:
        assert set(read) == set(arrays)
        for name, array in arrays.items():
            assert read[name].dtype == array.dtype
            np.testing.assert_array_equal(read[name], array)


def test_a_failed_write_leaves_the_file(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", {"x": np.zeros(3)})
    before = (tmp_path / "a.npz").read_bytes()
    with pytest.raises(ValueError):
        write_arrays(tmp_path / "a.npz", {"x": np.zeros(3), "y": np.array([object()])})
    assert (tmp_path / "a.npz").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    with pytest.raises(ToolkitError, match=r"a\.bin: .*\.npz"):
        write_arrays(tmp_path / "a.bin", {})


def test_json_takes_the_types_of_the_features(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"x": [[1, 2.5, 3]], "ids": [7, 8], "note": "not read"}')
    read = read_arrays(path, [X, IDS])
    assert read["x"].dtype == np.float32
    assert read["x"].tolist() == [[1, 2.5, 3]]
    assert read["ids"].tolist() == [7, 8]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[1, 2], [3]], "equally long"),
        (["a"], 'lists of numbers, got \\["a"\\]'),
        ([True], "lists of numbers"),
        (None, "lists of numbers"),
        ([10**30], "lists of numbers"),
        ({"a": 1}, "lists of numbers"),
    ],
)
def test_json_that_is_no_array(tmp_path: Path, value: object, words: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"x": value}))
    with pytest.raises(DataError, match=f"'x': .*{words}"):
        read_arrays(tmp_path / "a.json", [X])


def test_json_floats_are_no_integers(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"ids": [1.5]}')
    with pytest.raises(DataError, match="'ids': must be lists of integers, got"):
        read_arrays(tmp_path / "a.json", [IDS])


def test_files_that_lie(tmp_path: Path) -> None:
    good = npy(np.zeros((2, 3), np.float32))
    huge = npy(np.zeros((9, 9), np.float32)).replace(b"(9, 9)", b"(9**9", 1)
    longer = good.replace(b"(2, 3)", b"(8, 3)", 1)
    pickled = npy(np.array([{}], dtype=object), allow_pickle=True)
    path = tmp_path / "a.npz"
    for members, words in [
        ({"y.npy": good}, r"must hold 'x'; it holds y"),
        ({"x.npy": huge}, "'x': not an array"),
        ({"x.npy": longer}, r"float32\[8, 3\] does not take the 24 bytes"),
        ({"x.npy": good[:-1]}, "does not take the 23 bytes"),
        ({"x.npy": b""}, "'x': not an array"),
        ({"x.npy": pickled}, "'x': must hold numbers, holds object"),
        ({"x.npy": npy(np.array(["a"]))}, "'x': must hold numbers"),
    ]:
        with pytest.raises(DataError, match=words):
            read_arrays(npz(path, members), [X])


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "a.json").write_text("[1]")
    for name, words in [
        ("absent.npz", "there is no such file"),
        ("absent.json", "there is no such file"),
        ("a.npz", "not a readable .npz file"),
        ("a.json", "must hold a JSON object"),
        ("a.txt", ".npz or .json"),
    ]:
        with pytest.raises(DataError, match=words):
            read_arrays(tmp_path / name, [X])


def test_a_damaged_byte_is_an_error(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", {"x": np.arange(6.0)})
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.index(np.float64(5).tobytes()) + 6] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"not a readable \.npz file: Bad CRC-32"):
        read_arrays(tmp_path / "a.npz", [X])


def test_a_bomb_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", {"x.npy": npy(np.zeros((1000, 1000), np.float32))})
    assert path.stat().st_size < 10_000
    with pytest.raises(DataError, match=r"at most 1,000,000 bytes, have 4,000,128"):
        read_arrays(path, [X], max_bytes=1_000_000)


def test_flipped_bits_give_an_array_or_an_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez_compressed(tmp_path / "a.npz", x=rng.normal(size=(2, 3)))
    good = (tmp_path / "a.npz").read_bytes()
    refused = 0
    for _ in range(500):
        content = bytearray(good)
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        (tmp_path / "b.npz").write_bytes(content)
        try:
            read_arrays(tmp_path / "b.npz", [X])
        except DataError:
            refused += 1
    assert refused > 250


@pytest.mark.parametrize("name", ["a.npz", "a.json"])
def test_optional_arrays(tmp_path: Path, name: str) -> None:
    x, ids = np.zeros((2, 3), np.float32), np.array([1, 2], np.int32)
    path = tmp_path / name

    def write(**arrays: np.ndarray) -> None:
        if path.suffix == ".npz":
            np.savez(path, **arrays)  # type: ignore[arg-type]
        else:
            path.write_text(json.dumps({key: array.tolist() for key, array in arrays.items()}))

    write(x=x, ids=ids)
    assert set(read_arrays(path, [X])) == {"x"}
    assert read_arrays(path, [X], [IDS])["ids"].tolist() == [1, 2]
    write(x=x)
    assert set(read_arrays(path, [X], [IDS])) == {"x"}
