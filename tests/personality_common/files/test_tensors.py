"""Tensors come back bit for bit, or not at all."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from personality_common.errors import DataError, MismatchError
from personality_common.files.tensors import load_into, load_tensors, save_tensors


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


def test_only_the_right_tensors_go_into_a_module() -> None:
    module = nn.Linear(2, 3)
    good = {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}
    load_into(module, good, Path("f"))
    assert torch.equal(module.weight, torch.ones(3, 2))
    with pytest.raises(MismatchError, match=r"f: must hold the tensors of Linear; differs in \['bias'\]"):
        load_into(module, {"weight": good["weight"]}, Path("f"))
    with pytest.raises(MismatchError, match=r"weight must be \(3, 2\) torch.float32, is \(2, 3\)"):
        load_into(module, good | {"weight": torch.ones(2, 3)}, Path("f"))
    with pytest.raises(MismatchError, match="float64"):
        load_into(module, good | {"bias": torch.zeros(3, dtype=torch.float64)}, Path("f"))
