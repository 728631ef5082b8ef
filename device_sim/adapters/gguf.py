"""An adapter as llama.cpp reads it: one GGUF file, that says which base it is of.

`adapter.base.sha256` and the head counts are ours; llama.cpp does not look at them.

Source: llama.cpp, `src/llama-adapter.cpp` and `convert_lora_to_gguf.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sim.adapters.adapter import ARCHITECTURE, LAYERS, MAX_RANK, Adapter, check_adapter
from device_sim.adapters.packages import night_package
from personality_common.errors import DataError, MismatchError
from personality_common.files.atomic import file_sha256
from pretrain.lm.bundle.gguf_file import GgufFile, read_gguf, read_metadata, read_shapes

MAX_BYTES: Final = 1 << 30
"""Rank 256 of a model of some 3 billion parameters."""
BASE: Final = "adapter.base.sha256"
_HEADS: Final = "adapter.base.head_count"
_KV_HEADS: Final = "adapter.base.head_count_kv"
_RANK: Final = "adapter.lora.rank"
_ALPHA: Final = "adapter.lora.alpha"
_OURS: Final = {theirs: ours for ours, theirs in LAYERS.items()}


def to_llama_order(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of q or k, (heads * d, …), as llama.cpp has them: the halves that rotate together interleaved.

    Source: `LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py.
    """
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def from_llama_order(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """The inverse of `to_llama_order`."""
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def gguf_layer(layer: str) -> str:
    """`model.layers.3.self_attn.q_proj` as `blk.3.attn_q`."""
    _, _, number, *part = layer.split(".")
    return f"blk.{number}.{LAYERS['.'.join(part)]}"


def write_gguf(adapter: Adapter, path: Path) -> None:
    """Write one file; the same adapter gives the same bytes. The folder is for the caller to stage.

    Raises:
        DataError: see `check_adapter`.
        ToolkitError: the package `gguf` is not installed.
    """
    check_adapter(adapter, "the adapter")
    writer = night_package("gguf").GGUFWriter(path, adapter.architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32(_ALPHA, adapter.alpha)
    writer.add_uint32(_RANK, adapter.rank)
    writer.add_string(BASE, adapter.base_sha256)
    writer.add_uint32(_HEADS, adapter.heads)
    writer.add_uint32(_KV_HEADS, adapter.kv_heads)
    for layer, a, b in adapter.pairs():
        heads = adapter.head_count(layer)
        name = f"{gguf_layer(layer)}.weight"
        writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(a))
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(to_llama_order(b, heads) if heads else b))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf_adapter(path: Path) -> Adapter:
    """Read what `write_gguf` wrote.

    Raises:
        DataError: anything else; see `check_adapter`.
    """
    file = _read(path)
    entries = file.metadata
    kinds = {_RANK: int, _ALPHA: float, BASE: str, "general.architecture": str, _HEADS: int, _KV_HEADS: int}
    if wrong := [key for key, kind in kinds.items() if type(entries.get(key)) is not kind]:
        raise DataError(f"{path}: must be an adapter of this toolkit, lacks {wrong[0]}")
    adapter = Adapter(*(entries[key] for key in kinds))
    check_adapter(adapter, str(path))
    tensors: dict[str, NDArray[np.float32]] = {}
    for name in file.tensors:
        layer, side = _layer(name, path)
        values = file.values(name)
        heads = adapter.head_count(layer) if side == "B" else None
        if heads and values.shape[0] % (2 * heads):
            raise DataError(f"{path}: {name} must have rows for {heads} heads, has {values.shape[0]}")
        tensors[f"{layer}.lora_{side}"] = from_llama_order(values, heads) if heads else values
    adapter = replace(adapter, tensors=tensors)
    check_adapter(adapter, str(path))
    return adapter


def _layer(name: str, path: Path) -> tuple[str, str]:
    """`blk.3.attn_q.weight.lora_b` as (`model.layers.3.self_attn.q_proj`, `B`)."""
    match name.split("."):
        case ["blk", number, part, "weight", ("lora_a" | "lora_b") as side] if part in _OURS:
            if number.isdecimal() and number == str(int(number[:4])):
                return f"model.layers.{number}.{_OURS[part]}", side[-1].upper()
    raise DataError(f"{path}: {name!r:.100} must be a linear layer's of {ARCHITECTURE}")


def require_adapter_of(adapter: Path, base: Path) -> None:
    """Refuse what llama.cpp should not be given beside a base; anybody's LoRA may be, if it fits.

    llama.cpp ends over some files, and takes an adapter of another base of the same shape in silence.

    Raises:
        DataError: no LoRA in GGUF, too large, not in pairs, of too high a rank, or not finite.
        MismatchError: it names another base, or has another architecture or shape.
    """
    file = _read(adapter)
    ours, theirs = read_metadata(base).get("general.architecture"), file.metadata.get("general.architecture")
    if ours != theirs:
        raise MismatchError(
            f"{adapter}: must be of the architecture of {base}, {str(ours)!r:.40}, is of {str(theirs)!r:.40}"
        )
    named = file.metadata.get(BASE)
    if named is not None and named != (found := file_sha256(base)):
        raise MismatchError(
            f"{adapter}: must be of the base that it is served with, {base.name} ({found[:12]}),"
            f" is of {str(named)[:12]!r}; a night trains one for each model"
        )
    alpha = file.metadata.get(_ALPHA)
    if not isinstance(alpha, float) or not math.isfinite(alpha):
        raise DataError(f"{adapter}: {_ALPHA} must be a finite number, is {str(alpha)!r:.40}")
    _require_shapes(file, read_shapes(base), base)


def _require_shapes(file: GgufFile, shapes: Mapping[str, tuple[int, ...]], base: Path) -> None:
    for name in file.tensors:
        weight, _, side = name.rpartition(".lora_")
        a, b = (file.tensors.get(f"{weight}.lora_{one}") for one in "ab")
        if side not in ("a", "b") or a is None or b is None:
            raise DataError(f"{file.path}: {name!r:.100} must be one of a pair, lora_a and lora_b")
        if len(a.shape) != 2 or len(b.shape) != 2 or not 1 <= a.shape[0] <= MAX_RANK:
            raise DataError(
                f"{file.path}: {weight!r:.100} must have a rank from 1 to {MAX_RANK},"
                f" has {a.shape} and {b.shape}"
            )
        # Rows of an embedding are looked up, so that its pair lies otherwise; llama.cpp looks at it.
        if not weight.startswith("token_embd") and (
            a.shape[0] != b.shape[1] or (b.shape[0], a.shape[1]) != shapes.get(weight)
        ):
            raise MismatchError(
                f"{file.path}: {weight!r:.100} must fit {base.name}, {shapes.get(weight, 'which has none')},"
                f" has {b.shape} and {a.shape}"
            )
        if not np.isfinite(file.values(name)).all():
            raise DataError(f"{file.path}: {name!r:.100} must be finite, is not")


def _read(path: Path) -> GgufFile:
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: an adapter may have {MAX_BYTES:,} bytes, has {path.stat().st_size:,}")
    entries: Mapping[str, Any] = read_metadata(path)
    if entries.get("general.type") != "adapter" or entries.get("adapter.type") != "lora":
        raise DataError(f"{path}: must be an adapter, a LoRA in GGUF, is not")
    return read_gguf(path)
