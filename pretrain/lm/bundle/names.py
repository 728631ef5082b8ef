"""What each tensor of the decoder is called in the files of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from pretrain.lm.config import ModelConfig


class Names(NamedTuple):
    """A tensor's name in the checkpoint, in GGUF, and in transformers' Starcoder2ForCausalLM; the shapes and
    the order of the numbers are the same in all three."""

    ours: str
    gguf: str
    hugging_face: str


_OUTER: Final = (
    ("embedding", "token_embd", "model.embed_tokens"),
    ("norm", "output_norm", "model.norm"),
)
_INNER: Final = (
    ("attention_norm", "attn_norm", "input_layernorm"),
    ("attention.query", "attn_q", "self_attn.q_proj"),
    ("attention.key", "attn_k", "self_attn.k_proj"),
    ("attention.value", "attn_v", "self_attn.v_proj"),
    ("attention.output", "attn_output", "self_attn.o_proj"),
    ("feed_forward_norm", "ffn_norm", "post_attention_layernorm"),
    ("feed_forward.up", "ffn_up", "mlp.c_fc"),
    ("feed_forward.down", "ffn_down", "mlp.c_proj"),
)


def tensor_names(config: ModelConfig) -> Iterator[Names]:
    """All tensors of a decoder, from the first layer to the last."""
    yield from _with_bias(*_OUTER[0], kinds=("weight",))
    for layer in range(config.layers):
        for ours, gguf, hugging_face in _INNER:
            yield from _with_bias(
                f"layers.{layer}.{ours}", f"blk.{layer}.{gguf}", f"model.layers.{layer}.{hugging_face}"
            )
    yield from _with_bias(*_OUTER[1])


def _with_bias(*names: str, kinds: tuple[str, ...] = ("weight", "bias")) -> Iterator[Names]:
    for kind in kinds:
        yield Names(*(f"{name}.{kind}" for name in names))
