"""An adapter's file: what is written is read, by others too, and nothing else is."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from device_sim.adapters.adapter import MAX_RANK, Adapter, check_adapter
from device_sim.adapters.codec import ADAPTERS
from device_sim.adapters.gguf import (
    from_llama_order,
    read_gguf_adapter,
    require_adapter_of,
    to_llama_order,
    write_gguf,
)
from personality_common.errors import DataError, MismatchError, ToolkitError

Make = Callable[..., Adapter]
Q = "model.layers.0.self_attn.q_proj.lora_B"


def written(adapter: Adapter, path: Path) -> Path:
    write_gguf(adapter, path)
    return path


def forged(base: Path, path: Path, tensors: dict[str, Any], **changes: Any) -> Path:
    """A file that `write_gguf` would not write."""
    adapter = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 8.0, **changes}
    writer = gguf.GGUFWriter(path, adapter.pop("architecture", "llama"))
    for key, value in adapter.items():
        if isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_string(key, value)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def pair(rank: int, out: int = 64, into: int = 64, name: str = "blk.0.attn_q.weight") -> dict[str, Any]:
    a, b = np.ones((rank, into), np.float32), np.ones((out, rank), np.float32)
    return {f"{name}.lora_a": a, f"{name}.lora_b": b}


def test_rows_of_a_head_by_hand() -> None:
    """Two heads of four rows: PyTorch turns row 0 with row 2, llama.cpp neighbours."""
    rows = np.arange(8, dtype=np.float32)[:, None]
    ordered = to_llama_order(rows, 2)
    assert ordered[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    np.testing.assert_array_equal(from_llama_order(ordered, 2), rows)


def test_what_is_written_is_read(make_adapter: Make, tmp_path: Path) -> None:
    adapter = make_adapter()
    path = written(adapter, tmp_path / "a.gguf")
    found = read_gguf_adapter(path)
    assert dataclasses.replace(found, tensors={}) == dataclasses.replace(adapter, tensors={})
    assert found.tensors.keys() == adapter.tensors.keys()
    for name, values in adapter.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], values)
    again = written(
        dataclasses.replace(found, tensors=dict(reversed(list(found.tensors.items())))), tmp_path / "b"
    )
    assert again.read_bytes() == path.read_bytes()
    assert (
        ADAPTERS.fingerprint(found) == ADAPTERS.fingerprint(adapter) != ADAPTERS.fingerprint(make_adapter(2))
    )


def test_others_read_it(make_adapter: Make, tmp_path: Path) -> None:
    """By the package's own reader: names, types, and rows of q in llama.cpp's order."""
    adapter = make_adapter()
    reader = gguf.GGUFReader(written(adapter, tmp_path / "a.gguf"))
    found = {tensor.name: tensor.data for tensor in reader.tensors}
    assert len(found) == len(adapter.tensors)
    heads = adapter.tensors[Q].reshape(4, 2, 8, 4)
    np.testing.assert_array_equal(
        found["blk.0.attn_q.weight.lora_b"].reshape(4, 8, 2, 4), heads.transpose(0, 2, 1, 3)
    )
    np.testing.assert_array_equal(
        found["blk.1.ffn_down.weight.lora_a"], adapter.tensors["model.layers.1.mlp.down_proj.lora_A"]
    )
    assert reader.fields["adapter.lora.alpha"].contents() == 8.0


def test_no_adapter_is_a_file_too(tiny_llama: Path, make_adapter: Make, tmp_path: Path) -> None:
    none = dataclasses.replace(make_adapter(), tensors={})
    assert read_gguf_adapter(written(none, tmp_path / "none.gguf")).tensors == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: {"rank": MAX_RANK + 1}, "rank from 1 to"),
        (lambda a: {"rank": 3}, "3 wide"),
        (lambda a: {"alpha": float("nan")}, "finite alpha"),
        (lambda a: {"architecture": "gemma"}, "architecture"),
        (lambda a: {"base_sha256": "../x"}, "SHA-256"),
        (lambda a: {"heads": 0}, "head counts"),
        (lambda a: {"heads": 5}, "rows for 5 heads"),
        (lambda a: {"tensors": {Q: a.tensors[Q]}}, "must come with"),
        (lambda a: {"tensors": {**a.tensors, "model.embed_tokens.lora_A": a.tensors[Q]}}, "linear layer's"),
        (lambda a: {"tensors": {**a.tensors, Q: a.tensors[Q].astype(np.float64)}}, "float32"),
        (lambda a: {"tensors": {**a.tensors, Q: a.tensors[Q] / np.float32(0)}}, "must be finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_is_no_adapter_is_not_kept(make_adapter: Make, change: Any, words: str) -> None:
    adapter = make_adapter()
    with pytest.raises(DataError, match=words):
        check_adapter(dataclasses.replace(adapter, **change(adapter)), "it")


@pytest.mark.parametrize(
    ("tensors", "changes", "words"),
    [
        (pair(4), {"general.type": "model"}, "must be an adapter"),
        (pair(4), {"adapter.lora.alpha": "8"}, "alpha must be a finite number"),
        (pair(4), {"adapter.lora.alpha": float("inf")}, "alpha must be a finite number"),
        (pair(4), {"architecture": "gemma"}, "of the architecture"),
        (pair(4), {"adapter.base.sha256": "0" * 64}, "is of '000000000000'"),
        (pair(MAX_RANK + 1), {}, "rank from 1 to 256"),
        (pair(4, out=32), {}, "must fit tiny.gguf"),
        (pair(4, name="blk.7.attn_q.weight"), {}, "which has none"),
        ({"blk.0.attn_q.weight.lora_a": np.ones((4, 64), np.float32)}, {}, "one of a pair"),
        ({"blk.0.attn_q.weight": np.ones((4, 64), np.float32)}, {}, "one of a pair"),
        ({k: v * np.float32("nan") for k, v in pair(4).items()}, {}, "must be finite"),
    ],
)
def test_llama_cpp_is_given_nothing_that_does_not_fit(
    tiny_llama: Path, tmp_path: Path, tensors: Any, changes: Any, words: str
) -> None:
    path = forged(tiny_llama, tmp_path / "a.gguf", tensors, **changes)
    with pytest.raises(ToolkitError, match=words):
        require_adapter_of(path, tiny_llama)


def test_a_strangers_lora_that_fits_is_taken(tiny_llama: Path, tmp_path: Path) -> None:
    """One that names no base, in float16, as `convert_lora_to_gguf.py` writes it."""
    tensors = {name: values.astype(np.float16) for name, values in pair(4).items()}
    path = forged(tiny_llama, tmp_path / "a.gguf", tensors)
    require_adapter_of(path, tiny_llama)
    with pytest.raises(DataError, match=r"must be an adapter of this toolkit, lacks adapter\.lora\.rank"):
        read_gguf_adapter(path)


def test_another_base_is_refused_by_name(make_tiny_llama: Any, make_adapter: Make, tmp_path: Path) -> None:
    other = make_tiny_llama(tmp_path / "other.gguf", seed=1)
    path = written(make_adapter(), tmp_path / "a.gguf")
    with pytest.raises(MismatchError, match=r"must be of the base that it is served with, other\.gguf"):
        require_adapter_of(path, other)


@pytest.mark.parametrize("changes", [{"heads": 1 << 30}, {"rank": 1 << 31}, {"kv_heads": 0}])
def test_numbers_that_a_file_claims_cost_nothing(
    tiny_llama: Path, tmp_path: Path, changes: dict[str, int]
) -> None:
    numbers = {"rank": 4, "heads": 4, "kv_heads": 2, **changes}
    path = forged(
        tiny_llama, tmp_path / "a.gguf", pair(4),
        **{
            "adapter.lora.rank": numbers["rank"], "adapter.base.sha256": "0" * 64,
            "adapter.base.head_count": numbers["heads"], "adapter.base.head_count_kv": numbers["kv_heads"],
        },
    )  # fmt: skip
    with pytest.raises(DataError, match=r"rank from 1|rows for|head counts"):
        read_gguf_adapter(path)


def test_damage_and_truncation(make_adapter: Make, tmp_path: Path) -> None:
    path = written(make_adapter(), tmp_path / "a.gguf")
    data = path.read_bytes()
    for size in (0, 3, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(DataError):
            read_gguf_adapter(path)


def test_without_the_package_one_line_says_how_to_get_it(
    make_adapter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(
        ToolkitError, match=r"^adapters need the package gguf; pip install '[\w-]+\[night\]'$"
    ):
        write_gguf(make_adapter(), tmp_path / "a.gguf")
