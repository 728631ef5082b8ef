"""The model as transformers keeps it: a folder for `AutoModelForCausalLM` and `AutoTokenizer`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from personality_common.files.atomic import write_json
from pretrain.lm.bundle.manifest import TEMPLATE_FILE
from pretrain.lm.bundle.names import tensor_names
from pretrain.lm.chat import END, END_ID, PAD, PAD_ID
from pretrain.lm.chat_template import CHAT_TEMPLATE
from pretrain.lm.config import ModelConfig
from pretrain.lm.model import Decoder
from pretrain.lm.tokenizer import Tokenizer


def hugging_face_config(config: ModelConfig) -> dict[str, Any]:
    """`config.json` of a Starcoder2ForCausalLM."""
    return {
        "architectures": ["Starcoder2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "dtype": "float32",
        "embedding_dropout": 0.0,
        "eos_token_id": END_ID,
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
        "pad_token_id": PAD_ID,
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


def write_hugging_face(folder: Path, model: Decoder, tokenizer: Tokenizer) -> None:
    """Write a folder that transformers and mlx-lm load; the same model gives the same bytes.

    The weights are the checkpoint's, bit for bit. mlx-lm has another GELU (erf), which costs 1e-3 in
    log-probabilities.
    """
    folder.mkdir()
    weights = model.state_dict()
    theirs = {n.hugging_face: weights[n.ours].detach().cpu().contiguous() for n in tensor_names(model.config)}
    save_file(theirs, folder / "model.safetensors", {"format": "pt"})
    write_json(folder / "config.json", hugging_face_config(model.config))
    write_json(
        folder / "generation_config.json",
        {"do_sample": False, "eos_token_id": END_ID, "pad_token_id": PAD_ID},
    )
    tokenizer.save(folder)
    (folder / TEMPLATE_FILE).write_text(CHAT_TEMPLATE, encoding="utf-8")
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "eos_token": END,
            "model_max_length": model.config.context_length,
            "pad_token": PAD,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )
