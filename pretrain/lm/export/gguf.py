"""The model as one GGUF file, for llama.cpp and Ollama: architecture `starcoder2`, tokenizer `gpt2`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.lm.bundle.gguf_model import ARCHITECTURE, PRE
from pretrain.lm.bundle.names import tensor_names
from pretrain.lm.chat import END_ID, PAD_ID, SPECIAL_TOKENS
from pretrain.lm.chat_template import CHAT_TEMPLATE
from pretrain.lm.config import Quantization
from pretrain.lm.export.quantization import FILE_TYPES, choose_type, quantize
from pretrain.lm.model import Decoder
from pretrain.lm.tokenizer import Tokenizer, import_extra


def write_gguf(
    path: Path, model: Decoder, tokenizer: Tokenizer, quantization: Quantization, metadata: Mapping[str, str]
) -> None:
    """Write one file; the same model gives the same bytes.

    Args:
        metadata: further entries, by key.

    Raises:
        ToolkitError: a weight is not finite in that type, or a package is not installed.
        OSError: no space, no permission.
    """
    gguf = import_extra("gguf")
    config = model.config
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    writer.add_type("model")
    writer.add_file_type(FILE_TYPES[quantization])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in metadata.items():
        writer.add_string(key, value)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.embedding_size)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.feed_forward_size)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_rope_freq_base(config.rope_base)
    writer.add_rope_dimension_count(config.head_size)
    _add_tokenizer(writer, tokenizer)
    weights = model.state_dict()
    for names in tensor_names(config):
        values = weights[names.ours].detach().float().cpu().numpy()
        kind = choose_type(names.gguf, values.shape, quantization, config.layers)
        number = gguf.GGMLQuantizationType(kind.number)
        # The writer takes bytes of a row for the length of a row.
        writer.add_tensor(names.gguf, np.atleast_1d(quantize(values, kind)), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: Any, tokenizer: Tokenizer) -> None:
    gguf = import_extra("gguf")
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    special = len(SPECIAL_TOKENS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE[tokenizer.digits])
    writer.add_token_list(list(tokenizer.tokens))
    writer.add_token_types([control] * special + [normal] * (tokenizer.vocab_size - special))
    writer.add_token_merges([f"{left} {right}" for left, right in tokenizer.merges])
    # GPT-2's would be 11, an ordinary token of ours; none is put before a text.
    writer.add_bos_token_id(END_ID)
    writer.add_eos_token_id(END_ID)
    writer.add_pad_token_id(PAD_ID)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
