"""A base with an adapter in its weights, as one GGUF file; and the base alone, in another type.

Never in fewer bits than Q8_0: what a night changes is smaller than the steps between a 4-bit type's numbers,
so that rounding back to them gives the weights of before the night.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sim.adapters.adapter import Adapter
from device_sim.adapters.gguf import gguf_layer, to_llama_order
from device_sim.adapters.packages import night_package
from personality_common.errors import ConfigError, MismatchError, ToolkitError
from personality_common.files.atomic import file_sha256
from pretrain.lm.bundle.gguf_file import read_gguf

WIDE: Final = {"q8_0": 7, "f16": 1, "bf16": 32, "f32": 0}
"""Types that keep what a night changed, and their `general.file_type`."""


def require_wide(kind: str) -> str:
    """Refuse a type that would round the night away; returns the name that is known."""
    if kind.lower() not in WIDE:
        raise ConfigError(
            f"an adapter is merged to {', '.join(WIDE)}, not to {kind!r:.40}: a night changes less than a"
            " step between the numbers of a narrower type, and is rounded away; serve it beside its base"
        )
    return kind.lower()


def write_merged(base: Path, adapter: Adapter | None, kind: str, path: Path) -> None:
    """Write a base with an adapter in it. The folder is for the caller to stage.

    Args:
        adapter: None rewrites the base alone.
        kind: of the matrices; vectors stay in float32, and rows that are no whole blocks get float16.

    Raises:
        ConfigError: the type is too narrow.
        MismatchError: the adapter is another base's, or does not fit.
        ToolkitError: a sum is not finite in that type; the package `gguf` is not installed.
    """
    gguf = night_package("gguf")
    kind = require_wide(kind)
    changes = _changes(base, adapter) if adapter else {}
    file = read_gguf(base)
    writer = gguf.GGUFWriter(path, file.metadata["general.architecture"])
    _copy_entries(gguf.GGUFReader(base), writer, WIDE[kind])
    for name, tensor in file.tensors.items():
        values = file.values(name)
        if name in changes:
            a, b, scale = changes.pop(name)
            if (b.shape[0], a.shape[1]) != values.shape:
                raise MismatchError(f"{base}: {name} must fit the adapter, {b.shape} and {a.shape}; does not")
            values = values + scale * (b @ a)
        if len(tensor.shape) < 2:
            writer.add_tensor(name, values)
            continue
        number = gguf.GGMLQuantizationType[kind.upper()]
        if values.shape[-1] % gguf.GGML_QUANT_SIZES[number][0]:
            number = gguf.GGMLQuantizationType.F16
        with np.errstate(over="ignore", invalid="ignore"):
            stored = gguf.quants.quantize(values, number)
            whole = np.isfinite(gguf.quants.dequantize(stored, number)).all()
        if not whole:
            raise ToolkitError(f"{base}: {name} must be finite in {number.name}, is not; take a wider type")
        writer.add_tensor(name, stored, raw_dtype=number)
    if changes:
        raise MismatchError(f"{base}: must have all that the adapter changes, lacks {next(iter(changes))}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _changes(
    base: Path, adapter: Adapter
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32], np.float32]]:
    """A, B in llama.cpp's order, and their scale, by the tensor that they are added to."""
    if adapter.base_sha256 != (found := file_sha256(base)):
        raise MismatchError(
            f"{base}: must be the base of the adapter, {adapter.base_sha256[:12]}, is {found[:12]}"
        )
    changes = {}
    for layer, a, b in adapter.pairs():
        heads = adapter.head_count(layer)
        scale = np.float32(adapter.alpha / adapter.rank)
        changes[f"{gguf_layer(layer)}.weight"] = a, to_llama_order(b, heads) if heads else b, scale
    return changes


def _copy_entries(reader: Any, writer: Any, file_type: int) -> None:
    """All that a file says of itself, but for what another type changes."""
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind, inner = field.types[0], field.types[-1] if len(field.types) > 1 else None
        value = file_type if name == "general.file_type" else field.contents()
        writer.add_key_value(name, value, kind, sub_type=inner)
