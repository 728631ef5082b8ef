"""Weight files against coremltools' own reader and writer, and against files that lie."""

import os
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from personality_common.coreml.blob_types import BlobType, unpack, widen_bfloat16
from personality_common.coreml.limits import Limits
from personality_common.coreml.weights import WeightFile, patch
from personality_common.errors import DataError

FIXTURES_ONCE = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Every type that coremltools can write -> name of its method, NumPy type it takes, least and greatest.
COREMLTOOLS = {
    BlobType.FLOAT16: ("fp16", np.uint16, 0, 0x7BFF),
    BlobType.FLOAT32: ("float", np.float32, -1000, 1000),
    BlobType.UINT8: ("uint8", np.uint8, 0, 255),
    BlobType.INT8: ("int8", np.int8, -128, 127),
    BlobType.INT16: ("int16", np.int16, -(2**15), 2**15 - 1),
    BlobType.UINT16: ("uint16", np.uint16, 0, 2**16 - 1),
    BlobType.INT4: ("int4", np.int8, -8, 7),
    BlobType.UINT1: ("uint1", np.uint8, 0, 1),
    BlobType.UINT2: ("uint2", np.uint8, 0, 3),
    BlobType.UINT4: ("uint4", np.uint8, 0, 15),
    BlobType.UINT3: ("uint3", np.uint8, 0, 7),
    BlobType.UINT6: ("uint6", np.uint8, 0, 63),
    BlobType.INT32: ("int32", np.int32, -(2**31), 2**31 - 1),
    BlobType.UINT32: ("uint32", np.uint32, 0, 2**32 - 1),
}


def random_values(dtype: BlobType, count: int, seed: int) -> np.ndarray:
    _, kind, low, high = COREMLTOOLS[dtype]
    return np.random.default_rng(seed).integers(low, high, count, dtype=np.int64, endpoint=True).astype(kind)


def test_reads_what_coremltools_writes(ct: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "weight.bin"
    writer = ct.libmilstoragepython._BlobStorageWriter(str(path))
    written = []
    for dtype, (method, *_) in COREMLTOOLS.items():
        for count in (0, 1, 3, 5, 8, 64, 129):
            values = random_values(dtype, count, seed=count)
            written.append((getattr(writer, f"write_{method}_data")(values), dtype, values))
    del writer
    file = WeightFile.open(path)
    assert [e.metadata_offset for e in file.entries] == [offset for offset, _, _ in written]
    for offset, dtype, values in written:
        entry = file.entry(offset)
        assert (entry.dtype, entry.count) == (dtype, len(values))
        got = file.values(offset, (len(values),), dtype)
        expected = values.view(np.float16) if dtype is BlobType.FLOAT16 else values
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", COREMLTOOLS)
def test_coremltools_reads_what_is_patched(ct: ModuleType, tmp_path: Path, dtype: BlobType) -> None:
    path, method = tmp_path / "weight.bin", COREMLTOOLS[dtype][0]
    writer = ct.libmilstoragepython._BlobStorageWriter(str(path))
    neighbours = [
        getattr(writer, f"write_{method}_data")(random_values(dtype, 40, seed)) for seed in (1, 2, 3)
    ]
    del writer
    target = tmp_path / "donor.bin"
    writer = ct.libmilstoragepython._BlobStorageWriter(str(target))
    new = random_values(dtype, 40, seed=9)
    donor = getattr(writer, f"write_{method}_data")(new)
    del writer
    patch(path, neighbours[1], WeightFile.open(target).array(donor, (40,)))
    reader = ct.libmilstoragepython._BlobStorageReader(str(path))
    for offset, expected in zip(
        neighbours, (random_values(dtype, 40, 1), new, random_values(dtype, 40, 3)), strict=True
    ):
        np.testing.assert_array_equal(getattr(reader, f"read_{method}_data")(offset), expected)


def test_arrays_are_views_that_cannot_be_written(tmp_path: Path, milblob: Any) -> None:
    path = tmp_path / "weight.bin"
    path.write_bytes(milblob([(2, np.arange(6, dtype="<f4").tobytes(), 0)]))
    file = WeightFile.open(path)
    array = file.array(64, (2, 3))
    assert array.shape == (2, 3)
    assert not array.flags.writeable
    # A view of the shared map sees what is written to the file; a copy would not.
    with path.open("r+b") as raw:
        raw.seek(file.entry(64).data_offset)
        raw.write(struct.pack("<f", 42))
    assert array[0, 0] == 42
    del file
    assert array[1, 2] == 5


def test_bfloat16_and_float8(tmp_path: Path, milblob: Any) -> None:
    exact = torch.tensor([1.0, -2.5, 3.140625, float("inf"), 1e-30]).to(torch.bfloat16)
    bits = exact.view(torch.uint16).numpy()
    np.testing.assert_array_equal(widen_bfloat16(bits), exact.float().numpy())
    path = tmp_path / "weight.bin"
    path.write_bytes(milblob([(5, bits.tobytes(), 0), (16, b"\x38\x40", 0)]))
    file = WeightFile.open(path)
    np.testing.assert_array_equal(file.values(64, (5,)), exact.float().numpy())
    assert file.array(file.entries[1].metadata_offset, (2,)).tolist() == [0x38, 0x40]
    with pytest.raises(DataError, match="float8e4m3fn, not supported"):
        file.values(file.entries[1].metadata_offset, (2,))


def test_unpack_by_hand() -> None:
    # 0b10_1_011 … three bits each from the lowest: 3, 5, 2 (crossing no byte), then 6 across bytes.
    assert unpack(np.array([0b10101011, 0b00001101], np.uint8), BlobType.UINT3, 4).tolist() == [3, 5, 6, 6]
    assert unpack(np.array([0x8F, 0x07], np.uint8), BlobType.INT4, 3).tolist() == [-1, -8, 7]
    with pytest.raises(ValueError, match="do not fit"):
        unpack(np.zeros(1, np.uint8), BlobType.INT4, 3)


def test_empty_file(tmp_path: Path, milblob: Any) -> None:
    path = tmp_path / "weight.bin"
    path.write_bytes(milblob([]))
    assert WeightFile.open(path).entries == ()


def edit(data: bytes, offset: int, form: str, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, offset, value)
    return bytes(changed)


LIES = {
    "empty": (lambda d: b"", "header of 64 bytes, this has 0"),
    "short header": (lambda d: d[:63], "truncated"),
    "version": (lambda d: edit(d, 4, "<I", 1), "version 2 is expected at offset 4, got 1"),
    "count of billions": (lambda d: edit(d, 0, "<I", 2**32 - 1), "claims 4294967295 entries"),
    "count too high": (lambda d: edit(d, 0, "<I", 3), "metadata lies beyond the end"),
    "count too low": (lambda d: edit(d, 0, "<I", 1), "claims 1 entries, which end at"),
    "sentinel": (lambda d: edit(d, 192, "<I", 0xDEADBEEE), "offset 192: sentinel 0xdeadbeef is expected"),
    "dtype": (lambda d: edit(d, 68, "<I", 99), "offset 64: unknown dtype 99"),
    "size of terabytes": (lambda d: edit(d, 72, "<Q", 1 << 42), "ends beyond the end"),
    "size that wraps": (lambda d: edit(d, 72, "<Q", 2**64 - 1), "ends beyond the end"),
    "odd size": (lambda d: edit(d, 72, "<Q", 13), "no whole number of float32"),
    "misaligned": (lambda d: edit(d, 80, "<Q", 130), "not a multiple of 64"),
    "outside": (lambda d: edit(d, 80, "<Q", 1 << 40), "ends beyond the end"),
    "overlap": (lambda d: edit(d, 80, "<Q", 64), "overlaps"),
    "before the entry": (lambda d: edit(d, 208, "<Q", 128), "overlaps"),
    "truncated data": (lambda d: d[:-1], "truncated"),
    "padding": (lambda d: edit(d, 216, "<Q", 8), "8 bits of padding"),
    "padding within a byte": (lambda d: edit(d, 216, "<Q", 3), "3 bits of padding"),
    "trailing bytes": (lambda d: d + b"\0" * 300, "but the file has"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_lies_is_refused(tmp_path: Path, milblob: Any, lie: str) -> None:
    path = tmp_path / "weight.bin"
    honest = milblob([(2, np.arange(3, dtype="<f4").tobytes(), 0), (8, b"\x21\x03", 4)])
    path.write_bytes(honest)
    assert len(WeightFile.open(path).entries) == 2
    change, message = LIES[lie]
    path.write_bytes(change(honest))
    with pytest.raises(DataError, match=message) as error:
        WeightFile.open(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_asked_must_be_what_is_stored(tmp_path: Path, milblob: Any) -> None:
    path = tmp_path / "weight.bin"
    path.write_bytes(milblob([(2, np.arange(6, dtype="<f4").tobytes(), 0)]))
    file = WeightFile.open(path)
    with pytest.raises(DataError, match="is float32, asked for as float16"):
        file.array(64, (6,), BlobType.FLOAT16)
    for shape in ((5,), (2, 4), (-2, -3), (6,) + (1,) * 40):
        with pytest.raises(DataError, match="has 6 elements of float32, asked for with shape"):
            file.array(64, shape)
    with pytest.raises(DataError, match="no entry has its metadata at offset 128"):
        file.array(128, (6,))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(6, np.float64), "is float32, the patch is float64"),
        (np.zeros(6, np.int32), "is float32, the patch is int32"),
        (np.zeros(5, np.float32), "has 24 bytes, the patch has 20"),
        (np.zeros((0, 6), np.float32), "has 24 bytes, the patch has 0"),
    ],
)
def test_patch_keeps_dtype_and_size(tmp_path: Path, milblob: Any, array: np.ndarray, message: str) -> None:
    path = tmp_path / "weight.bin"
    path.write_bytes(data := milblob([(2, np.arange(6, dtype="<f4").tobytes(), 0)]))
    with pytest.raises(DataError, match=message):
        patch(path, 64, array)
    assert path.read_bytes() == data


def test_patch_normalises_byte_order_and_strides(tmp_path: Path, milblob: Any) -> None:
    path = tmp_path / "weight.bin"
    path.write_bytes(milblob([(2, bytes(24), 0)]))
    patch(path, 64, np.arange(6, dtype=">f4").reshape(2, 3).T, BlobType.FLOAT32)
    assert path.read_bytes()[128:] == struct.pack("<6f", 0, 3, 1, 4, 2, 5)


def test_pipes_folders_and_limits(tmp_path: Path, milblob: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(DataError, match="a regular file is expected"):
            WeightFile.open(path)
    with pytest.raises(DataError, match="there is no such file"):
        WeightFile.open(tmp_path / "missing")
    (tmp_path / "two").write_bytes(milblob([(3, b"a", 0)] * 2))
    with pytest.raises(DataError, match="limit of 1 is passed"):
        WeightFile.open(tmp_path / "two", Limits(weight_entries=1))


@st.composite
def blobs(draw: st.DrawFn) -> tuple[int, bytes, int]:
    dtype = draw(st.sampled_from(list(BlobType)))
    count = draw(st.integers(0, 70))
    size = -(-count * dtype.bits // 8)
    data = draw(st.binary(min_size=size, max_size=size))
    return int(dtype), data, size * 8 - count * dtype.bits


@given(st.lists(blobs(), max_size=6))
@FIXTURES_ONCE
def test_any_valid_file_round_trips(
    tmp_path: Path, milblob: Any, entries: list[tuple[int, bytes, int]]
) -> None:
    path = tmp_path / "weight.bin"
    path.write_bytes(milblob(entries))
    file = WeightFile.open(path)
    assert [
        (int(e.dtype), bytes(file.raw(e.metadata_offset)), e.padding_bits) for e in file.entries
    ] == entries
    for entry in file.entries:
        if entry.dtype.bits < 8:
            bits = np.unpackbits(
                file.array(entry.metadata_offset, (entry.count,)), bitorder="little"
            ).tolist()
            n = entry.dtype.bits
            expected = [
                sum(b << i for i, b in enumerate(bits[k * n : k * n + n])) for k in range(entry.count)
            ]
            got = file.values(entry.metadata_offset, (entry.count,))
            assert (got.astype(int) % 2**n).tolist() == expected


@given(st.lists(blobs(), min_size=1, max_size=4), st.data())
@FIXTURES_ONCE
def test_a_mutated_file_is_refused_or_consistent(
    tmp_path: Path, milblob: Any, entries: list[tuple[int, bytes, int]], data: st.DataObject
) -> None:
    path = tmp_path / "weight.bin"
    mutated = bytearray(milblob(entries))
    for _ in range(data.draw(st.integers(1, 3))):
        # Mostly fields of the header and the metadata, where lies matter.
        near = data.draw(st.sampled_from([0, 4, 64, 68, 72, 80, 88, len(mutated) - 1]))
        position = data.draw(
            st.one_of(st.just(min(near, len(mutated) - 1)), st.integers(0, len(mutated) - 1))
        )
        mutated[position] = data.draw(st.integers(0, 255))
    mutated = mutated[: data.draw(st.one_of(st.just(len(mutated)), st.integers(0, len(mutated))))]
    path.write_bytes(mutated)
    try:
        file = WeightFile.open(path)
    except DataError:
        return
    end = 64
    assert len(file.entries) == int.from_bytes(mutated[:4], "little")
    for entry in file.entries:
        assert entry.metadata_offset >= end
        assert entry.data_offset >= entry.metadata_offset + 64
        end = entry.data_offset + entry.size
        assert end <= len(mutated)
        stored = file.array(entry.metadata_offset, (entry.count,))
        assert stored.tobytes() == bytes(mutated[entry.data_offset : end])
