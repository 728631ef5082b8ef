"""Checks of a language model's folder that need no runtime: whose bytes, which tokens, which template."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from device_sim.parity.difference import told
from personality_common.bundle.files import changed_files
from personality_common.evidence.claims import Check
from personality_common.files.atomic import read_json_object
from personality_common.files.bounded import read_bounded
from personality_common.files.inside import inside
from pretrain.lm.bundle.comparison import compare
from pretrain.lm.bundle.folder import Folder
from pretrain.lm.bundle.gguf_model import PRE, read_model
from pretrain.lm.bundle.manifest import HUGGING_FACE_DIR, MODELFILE, TEMPLATE_FILE
from pretrain.lm.chat_template import CHAT_TEMPLATE, GO_TEMPLATE
from pretrain.lm.model import Decoder
from pretrain.lm.tokenizer import Tokenizer

MAX_TEXT_BYTES: Final = 1 << 20
MODEL: Final = "model"
STALE: Final = "it is another: what is rendered is not what the model learned; export again"
CONFIG_KEYS: Final = {
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "embedding_size": "hidden_size",
    "feed_forward_size": "intermediate_size",
    "rope_base": "rope_theta",
    "layer_norm_eps": "norm_epsilon",
}
"""Of transformers' `config.json`."""
CONFIG_VALUES: Final = {
    "model_type": "starcoder2",
    "hidden_act": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "use_bias": True,
    "sliding_window": None,
    # What would have transformers load something else, and mlx-lm run a file of the folder.
    "auto_map": None,
    "quantization_config": None,
    "quantization": None,
    "model_file": None,
}


def file_checks(folder: Folder, model: Decoder | None, tokenizer: Tokenizer | None) -> Iterator[Check]:
    """All of them.

    Args:
        model: with the weights that every file is held to; None where there are none.
        tokenizer: that every file is held to; None where there is none.
    """
    changed = changed_files(folder.path, folder.manifest.files)
    yield told("", "files", "files have the sizes and SHA-256 of the manifest", changed)
    template = ("template", "chat template is this toolkit's")
    yield told("", *template, _stated_template(folder))
    if folder.manifest.hugging_face:
        yield told(HUGGING_FACE_DIR, *template, _jinja(folder))
        yield told(HUGGING_FACE_DIR, MODEL, "config.json is of the manifest's model", _config(folder))
    if folder.manifest.modelfile:
        yield told(MODELFILE, *template, _go(folder))
    for name in (entry.file for entry in folder.manifest.gguf):
        check = told(name, MODEL, "shape, tensors and tokenizer belong together", _model(folder, name))
        yield check
        if check.failed:
            continue
        yield told(name, *template, _gguf_template(folder, name))
        if tokenizer is not None:
            text = "tokens and merges are the tokenizer's"
            yield told(name, "tokenizer", text, _tokens(folder, name, tokenizer))
        if model is not None:
            text = "every weight is PyTorch's, rounded to its type"
            yield told(name, "tensors", text, _tensors(folder, name, model))


def _stated_template(folder: Folder) -> Iterator[str]:
    if hashlib.sha256(CHAT_TEMPLATE.encode()).hexdigest() != folder.manifest.chat_template_sha256:
        yield STALE


def _jinja(folder: Folder) -> Iterator[str]:
    path = inside(folder.path, f"{HUGGING_FACE_DIR}/{TEMPLATE_FILE}")
    if read_bounded(path, MAX_TEXT_BYTES, "a template") != CHAT_TEMPLATE.encode():
        yield STALE


def _config(folder: Folder) -> Iterator[str]:
    found = read_json_object(inside(folder.path, f"{HUGGING_FACE_DIR}/config.json"))
    wanted = {theirs: getattr(folder.manifest.model, ours) for ours, theirs in CONFIG_KEYS.items()}
    wanted |= {"num_key_value_heads": folder.manifest.model.heads, **CONFIG_VALUES}
    for key, value in wanted.items():
        if found.get(key) != value:
            yield f"{key} must be {value}, is {found.get(key)!r:.80}"


def _go(folder: Folder) -> Iterator[str]:
    path = inside(folder.path, MODELFILE)
    text = read_bounded(path, MAX_TEXT_BYTES, "a Modelfile").decode(errors="replace")
    first = text.partition("\n")[0]
    if first not in {f"FROM ./{entry.file}" for entry in folder.manifest.gguf}:
        yield f"its first line must be FROM and a GGUF file of the folder, is {first[:80]!r}"
    if f'TEMPLATE """{GO_TEMPLATE}"""' not in text:
        yield STALE


def _model(folder: Folder, name: str) -> Iterator[str]:
    _, config = read_model(inside(folder.path, name))
    if config != folder.manifest.model:
        yield f"it is {config}, not {folder.manifest.model}"


def _gguf_template(folder: Folder, name: str) -> Iterator[str]:
    file, _ = read_model(inside(folder.path, name))
    if file.metadata.get("tokenizer.chat_template") != CHAT_TEMPLATE:
        yield STALE


def _tokens(folder: Folder, name: str, tokenizer: Tokenizer) -> Iterator[str]:
    metadata = read_model(inside(folder.path, name))[0].metadata
    if (found := metadata["tokenizer.ggml.pre"]) != (wanted := PRE[tokenizer.digits]):
        yield f"pre must be {wanted}, is {found}: text is split otherwise"
    for index, (ours, theirs) in enumerate(
        zip(tokenizer.tokens, metadata["tokenizer.ggml.tokens"], strict=True)
    ):
        if ours != theirs:
            yield f"token {index} must be {ours!r}, is {theirs!r:.80}"
    if metadata["tokenizer.ggml.merges"] != [f"{left} {right}" for left, right in tokenizer.merges]:
        yield "merges must be the tokenizer's"


def _tensors(folder: Folder, name: str, model: Decoder) -> Iterator[str]:
    compare(read_model(inside(folder.path, name))[0], model)
    yield from ()
