"""A llama of a hundred thousand random weights that speaks bytes, as GGUF.

Two heads of queries for one of keys and values, so that the orders of their rows differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from device_sim.adapters.adapter import Adapter
from personality_common.files.atomic import file_sha256

LAYERS, WIDTH, HEADS, KV_HEADS, INNER = 2, 64, 4, 2, 96
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def alphabet() -> list[str]:
    """What GPT-2 writes for each byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + i) for i in range(len(others))]


def write_tiny_llama(
    path: Path, *, seed: int = 0, kind: str = "F32", changes: dict[str, Any] | None = None
) -> Path:
    """Write one.

    Args:
        kind: of the matrices: F32, Q8_0, …
        changes: metadata instead of what would be there, by key.
    """
    changes = changes or {}
    number = gguf.GGMLQuantizationType[kind]
    tokens = [*SPECIAL, *alphabet(), "th"]
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in {
        "block_count": LAYERS,
        "context_length": 512,
        "embedding_length": WIDTH,
        "feed_forward_length": INNER,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "rope.dimension_count": WIDTH // HEADS,
        "vocab_size": len(tokens),
        **{key: value for key, value in changes.items() if isinstance(value, int)},
    }.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.rope.freq_base", 10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    for key, value in changes.items():
        if isinstance(value, str):
            writer.add_string(f"llama.{key}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(tokens) - 3)
    )
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(changes.get("chat_template", TEMPLATE))
    draw = np.random.default_rng(seed)
    shapes = {"token_embd": (len(tokens), WIDTH), "output_norm": (WIDTH,)}
    for i in range(LAYERS):
        shapes |= {
            f"blk.{i}.attn_norm": (WIDTH,),
            f"blk.{i}.attn_q": (WIDTH, WIDTH),
            f"blk.{i}.attn_k": (WIDTH * KV_HEADS // HEADS, WIDTH),
            f"blk.{i}.attn_v": (WIDTH * KV_HEADS // HEADS, WIDTH),
            f"blk.{i}.attn_output": (WIDTH, WIDTH),
            f"blk.{i}.ffn_norm": (WIDTH,),
            f"blk.{i}.ffn_gate": (INNER, WIDTH),
            f"blk.{i}.ffn_up": (INNER, WIDTH),
            f"blk.{i}.ffn_down": (WIDTH, INNER),
        }
    for name, shape in shapes.items():
        vector = len(shape) == 1
        values = draw.normal(1.0 if vector else 0.0, 0.3, shape).astype(np.float32)
        if vector or number == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(f"{name}.weight", values)
        else:
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, number), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def random_adapter(base: Path, seed: int, *, rank: int = 4, alpha: float = 8.0, size: float = 0.2) -> Adapter:
    """In all linear layers of a tiny llama, with nothing small in it."""
    inner = WIDTH * KV_HEADS // HEADS
    shapes = {
        "self_attn.q_proj": (WIDTH, WIDTH),
        "self_attn.k_proj": (inner, WIDTH),
        "self_attn.v_proj": (inner, WIDTH),
        "self_attn.o_proj": (WIDTH, WIDTH),
        "mlp.gate_proj": (INNER, WIDTH),
        "mlp.up_proj": (INNER, WIDTH),
        "mlp.down_proj": (WIDTH, INNER),
    }
    draw = np.random.default_rng(seed)
    tensors = {}
    for layer in range(LAYERS):
        for part, (out, into) in shapes.items():
            name = f"model.layers.{layer}.{part}"
            tensors[f"{name}.lora_A"] = draw.normal(0, size, (rank, into)).astype(np.float32)
            tensors[f"{name}.lora_B"] = draw.normal(0, size, (out, rank)).astype(np.float32)
    return Adapter(rank, alpha, file_sha256(base), "llama", HEADS, KV_HEADS, tensors)
