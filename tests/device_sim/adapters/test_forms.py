"""An adapter in the forms of others: peft, mlx-lm, and in its base's weights."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from device_sim.adapters.adapter import Adapter
from device_sim.adapters.folders import write_mlx, write_peft
from device_sim.adapters.merging import write_merged
from personality_common.errors import ConfigError, MismatchError
from pretrain.lm.bundle.gguf_file import read_gguf

Make = Callable[..., Adapter]
K = "model.layers.1.self_attn.k_proj"


def test_mlx_lm_multiplies_to_the_same(make_adapter: Make, tmp_path: Path) -> None:
    """Its layer adds scale * (x A) B, with what lies in the file; mlx_lm/tuner/lora.py."""
    adapter = make_adapter(rank=4, alpha=12.0)
    write_mlx(adapter, tmp_path / "mlx")
    tensors = load_file(tmp_path / "mlx" / "adapters.safetensors")
    config = json.loads((tmp_path / "mlx" / "adapter_config.json").read_text())
    assert config["fine_tune_type"] == "lora"
    assert config["num_layers"] == 2
    assert {k: config["lora_parameters"][k] for k in ("rank", "scale", "dropout")} == {
        "rank": 4, "scale": 3.0, "dropout": 0.0,
    }  # fmt: skip
    assert len(config["lora_parameters"]["keys"]) == 7
    x = np.ones(64, np.float32)
    theirs = config["lora_parameters"]["scale"] * (x @ tensors[f"{K}.lora_a"]) @ tensors[f"{K}.lora_b"]
    ours = 12.0 / 4 * adapter.tensors[f"{K}.lora_B"] @ (adapter.tensors[f"{K}.lora_A"] @ x)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)
    assert tensors[f"{K}.lora_a"].shape == (64, 4)


def test_the_same_adapter_gives_the_same_bytes(make_adapter: Make, tmp_path: Path) -> None:
    adapter = make_adapter()
    turned = dataclasses.replace(adapter, tensors=dict(reversed(list(adapter.tensors.items()))))
    for write in (write_mlx, write_peft):
        for name, one in (("a", adapter), ("b", turned)):
            write(one, tmp_path / f"{write.__name__}-{name}")
        for file in (tmp_path / f"{write.__name__}-a").iterdir():
            assert file.read_bytes() == (tmp_path / f"{write.__name__}-b" / file.name).read_bytes()


def test_merged_weights_by_numpy(tiny_llama: Path, make_adapter: Make, tmp_path: Path) -> None:
    """Row 1 of a head of q lies after row 0's partner, which is row 8 of 16 in PyTorch."""
    adapter = make_adapter(rank=4, alpha=8.0)
    write_merged(tiny_llama, adapter, "f32", tmp_path / "m.gguf")
    base, merged = read_gguf(tiny_llama), read_gguf(tmp_path / "m.gguf")
    assert merged.metadata == base.metadata
    name = "model.layers.0.self_attn.q_proj"
    added = 2.0 * adapter.tensors[f"{name}.lora_B"] @ adapter.tensors[f"{name}.lora_A"]
    change = merged.values("blk.0.attn_q.weight") - base.values("blk.0.attn_q.weight")
    np.testing.assert_allclose(change[0], added[0], atol=1e-5)
    np.testing.assert_allclose(change[1], added[8], atol=1e-5)
    np.testing.assert_allclose(change[16 + 2], added[16 + 1], atol=1e-5)
    np.testing.assert_array_equal(merged.values("token_embd.weight"), base.values("token_embd.weight"))
    np.testing.assert_array_equal(merged.values("output_norm.weight"), base.values("output_norm.weight"))


def test_what_merging_keeps_of_a_night(make_tiny_llama: Any, make_adapter: Make, tmp_path: Path) -> None:
    """As large as a night's changes are: Q8_0 keeps them, Q4_1 rounds most of them away, and is refused."""
    base = make_tiny_llama(tmp_path / "q4_1.gguf", kind="Q4_1")
    adapter = make_adapter(base=base, size=0.04)
    name = "model.layers.0.mlp.up_proj"
    night = 2.0 * adapter.tensors[f"{name}.lora_B"] @ adapter.tensors[f"{name}.lora_A"]
    before = read_gguf(base).values("blk.0.ffn_up.weight")
    write_merged(base, adapter, "q8_0", tmp_path / "q8_0.gguf")
    kept = read_gguf(tmp_path / "q8_0.gguf").values("blk.0.ffn_up.weight") - before
    assert np.corrcoef(kept.ravel(), night.ravel())[0, 1] > 0.9
    q4_1 = gguf.GGMLQuantizationType.Q4_1
    narrow = gguf.quants.dequantize(gguf.quants.quantize(before + night, q4_1), q4_1) - before
    assert np.corrcoef(narrow.ravel(), night.ravel())[0, 1] < 0.2
    for kind in ("q4_1", "Q4_1", "q4_k_m", "q6_k", "../x"):
        with pytest.raises(ConfigError, match="rounded away; serve it beside its base"):
            write_merged(base, adapter, kind, tmp_path / "no.gguf")
    assert not (tmp_path / "no.gguf").exists()


def test_merging_into_another_base_is_refused(
    make_tiny_llama: Any, make_adapter: Make, tmp_path: Path
) -> None:
    other = make_tiny_llama(tmp_path / "other.gguf", seed=1)
    with pytest.raises(MismatchError, match="must be the base of the adapter"):
        write_merged(other, make_adapter(), "f32", tmp_path / "m.gguf")
