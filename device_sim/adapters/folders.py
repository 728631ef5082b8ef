"""An adapter as peft and mlx-lm read it: a folder each, of safetensors and a config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from device_sim.adapters.adapter import LAYERS, Adapter, layer_of
from personality_common.files.atomic import atomic_writer, write_json

CONFIG_FILE: Final = "adapter_config.json"
PEFT_FILE: Final = "adapter_model.safetensors"
MLX_FILE: Final = "adapters.safetensors"


def write_peft(adapter: Adapter, folder: Path) -> None:
    """Write what `PeftModel.from_pretrained` reads; the same adapter gives the same bytes.

    The base stands there by its checksum alone: where its PyTorch form lies, whoever loads it says.
    """
    tensors = {
        f"base_model.model.{layer}.lora_{side}.weight": values
        for layer, a, b in adapter.pairs()
        for side, values in (("A", a), ("B", b))
    }
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": f"gguf-sha256-{adapter.base_sha256}",
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [layer.rsplit(".", 1)[-1] for layer in _parts(adapter)],
        "inference_mode": True,
    }
    _write(folder, PEFT_FILE, tensors, config)


def write_mlx(adapter: Adapter, folder: Path) -> None:
    """Write what `mlx_lm.load(…, adapter_path=…)` reads; the same adapter gives the same bytes.

    Rank, scale and dropout stand there: mlx-lm's own defaults are 8, 20 and 0. Both tensors lie transposed.
    """
    tensors = {
        f"{layer}.lora_{side}": np.ascontiguousarray(values.T)
        for layer, a, b in adapter.pairs()
        for side, values in (("a", a), ("b", b))
    }
    numbers = [found[0] for name in adapter.tensors if (found := layer_of(name))]
    config = {
        "fine_tune_type": "lora",
        "num_layers": max(numbers, default=-1) + 1,
        "lora_parameters": {
            "rank": adapter.rank,
            "scale": adapter.alpha / adapter.rank,
            "dropout": 0.0,
            "keys": _parts(adapter),
        },
    }
    _write(folder, MLX_FILE, tensors, config)


def _parts(adapter: Adapter) -> list[str]:
    """The linear parts that it is in, as `self_attn.q_proj`."""
    found = {place[1] for name in adapter.tensors if (place := layer_of(name))}
    return [part for part in LAYERS if part in found]


def _write(
    folder: Path, name: str, tensors: Mapping[str, NDArray[np.float32]], config: Mapping[str, Any]
) -> None:
    folder.mkdir()
    with atomic_writer(folder / name) as file:
        file.write(save(dict(tensors)))
    write_json(folder / CONFIG_FILE, config)
