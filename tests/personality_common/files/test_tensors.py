"""Tensors come back bit for bit, or not at all."""

import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from personality_common.errors import DataError, MismatchError
from personality_common.files.fingerprint import fingerprint
from personality_common.files.tensors import (
    load_into,
    load_tensors,
    save_tensors,
    tensor_fingerprints,
)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    tensors = {
        "weight": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
        "step": torch.tensor(7.0),
        "rng": torch.arange(5, dtype=torch.uint8),
    }
    save_tensors(tmp_path / "x.safetensors", tensors, {"vocabulary": "abc", "more": "é"})
    return tmp_path / "x.safetensors", tensors


def test_round_trip(saved: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, tensors = saved
    loaded, metadata = load_tensors(path)
    assert metadata == {"vocabulary": "abc", "more": "é"}
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in load_file(path).items())


def test_same_tensors_same_file(saved: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    path, tensors = saved
    for i in range(5):
        twin = tmp_path / f"{i}.safetensors"
        save_tensors(twin, dict(reversed(tensors.items())), {"more": "é", "vocabulary": "abc"})
        assert twin.read_bytes() == path.read_bytes()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_damage_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("d") / "x.safetensors"
    save_tensors(path, {"a": torch.arange(6.0), "b": torch.ones(2)}, {"k": "v"})
    whole = path.read_bytes()
    if data.draw(st.booleans()):
        damaged = bytearray(whole)
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(damaged)
    else:
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    try:
        tensors, metadata = load_tensors(path)
    except DataError:
        return
    # White space of the header may change without changing what is said.
    assert metadata == {"k": "v"}
    assert torch.equal(tensors["a"], torch.arange(6.0))
    assert torch.equal(tensors["b"], torch.ones(2))


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(DataError, match="must be a file of this toolkit"):
        load_tensors(path)
    path.write_bytes(b"\x80\x04\x95pickle")
    with pytest.raises(DataError, match="not a safetensors file"):
        load_tensors(path)
    with pytest.raises(DataError, match="no such file"):
        load_tensors(tmp_path / "absent")


def test_failed_write_keeps_what_was_there(
    saved: tuple[Path, dict[str, torch.Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = saved
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_tensors(path, {"weight": torch.zeros(1)})
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_only_the_right_tensors_go_into_a_module(tmp_path: Path) -> None:
    module = nn.Linear(2, 3)
    path = tmp_path / "f"
    good = {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}
    saved = save_tensors(path, good)
    assert load_into(module, path) == saved == tensor_fingerprints(good)
    assert torch.equal(module.weight, torch.ones(3, 2))
    for wrong, message in [
        ({"weight": good["weight"]}, r"f: must hold the tensors of Linear; differs in \['bias'\]"),
        (good | {"more": torch.ones(1)}, r"differs in \['more'\]"),
        (good | {"weight": torch.zeros(2, 3)}, r"weight must be \(3, 2\) float32, is \(2, 3\) F32"),
        (good | {"bias": torch.ones(3, dtype=torch.float64)}, r"bias must be \(3,\) float32, is \(3,\) F64"),
    ]:
        save_tensors(path, wrong)
        with pytest.raises(MismatchError, match=message):
            load_into(module, path)
    # Nor does anything of a damaged file.
    save_tensors(path, {name: tensor + 5 for name, tensor in good.items()})
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match="damaged"):
        load_into(module, path)
    assert torch.equal(module.weight, torch.ones(3, 2))
    assert torch.equal(module.bias, torch.zeros(3))


def test_values_are_read_only_where_there_is_room_for_them(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    size = 64 << 30  # of a file that takes a block on the disk
    header = json.dumps({"weight": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}})
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    os.truncate(path, 8 + len(header) + size)
    with pytest.raises(MismatchError, match=r"weight must be \(3, 2\) float32, is \(17179869184,\) F32"):
        load_into(nn.Linear(2, 3, bias=False), path)
    with pytest.raises(DataError, match=f"must be at most {4 << 30} bytes, has 687"):
        load_tensors(path)


def test_a_link_is_not_followed(saved: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, _ = saved
    link = path.with_name("link.safetensors")
    link.symlink_to(path)
    with pytest.raises(DataError, match="not a link"):
        load_tensors(link)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool]
)
@pytest.mark.parametrize("shape", [(), (0, 3), (4, 5)])
def test_fingerprints_are_those_of_numpy_s_arrays(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.randint(0, 2, shape).to(dtype).mT if len(shape) == 2 else torch.ones(shape).to(dtype)
    assert tensor_fingerprints({"a": tensor}) == {"a": fingerprint(tensor.numpy())}


def test_what_numpy_does_not_have_comes_back_too(tmp_path: Path) -> None:
    tensor = torch.tensor([[1.5, -0.0], [float("nan"), 3e38]], dtype=torch.bfloat16)
    save_tensors(tmp_path / "x", {"a": tensor})
    (loaded,) = load_tensors(tmp_path / "x")[0].values()
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(loaded.view(torch.int16), tensor.view(torch.int16))
