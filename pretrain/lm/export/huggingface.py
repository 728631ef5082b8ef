"""The model as transformers keeps it: a folder for `AutoModelForCausalLM` and `AutoTokenizer`."""

from __future__ import annotations

from typing import Any

from pretrain.lm.config import ModelConfig


def hugging_face_config(config: ModelConfig, pad_id: int, end_id: int) -> dict[str, Any]:
    """`config.json` of a Starcoder2ForCausalLM."""
    return {
        "architectures": ["Starcoder2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "dtype": "float32",
        "embedding_dropout": 0.0,
        "eos_token_id": end_id,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": config.embedding_size,
        "initializer_range": 0.02,
        "intermediate_size": config.feed_forward_size,
        "max_position_embeddings": config.context_length,
        "model_type": "starcoder2",
        "norm_epsilon": config.layer_norm_eps,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.heads,
        "pad_token_id": pad_id,
        "residual_dropout": 0.0,
        # Both ways of saying it: mlx-lm reads the first, and takes 10,000 where it finds none.
        "rope_theta": config.rope_base,
        "rope_parameters": {"rope_theta": config.rope_base, "rope_type": "default"},
        "sliding_window": None,
        "tie_word_embeddings": True,
        "use_bias": True,
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }
