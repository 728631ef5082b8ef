"""A llama of some random numbers as a GGUF file: what llama.cpp is tried with where there is no other."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

_WIDTH: Final = 32
_TOKENS: Final = ("<|end|>", "Ċ", "Ġ", *(chr(code) for code in range(ord("!"), ord("~") + 1)), "th")


def write_tiny_gguf(path: Path) -> Path:
    """Write it: one layer, one head, a token for newline, space and each printable character of ASCII."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_WIDTH)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(_WIDTH)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(list(_TOKENS))
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(_TOKENS) - 1))
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    draw = np.random.default_rng(0)
    writer.add_tensor("token_embd.weight", draw.normal(size=(len(_TOKENS), _WIDTH)).astype(np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(_WIDTH, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        values = draw.normal(size=(_WIDTH, _WIDTH)).astype(np.float32)
        writer.add_tensor(f"blk.0.{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
