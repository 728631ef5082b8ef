"""A GGUF file's model in PyTorch, float32: its weights dequantised, its prompts in llama.cpp's token ids.

What is trained on are the weights that llama.cpp computes with, rounding and all, and the tokens it reads.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from device_sim.adapters.adapter import ARCHITECTURE, LAYERS, Adapter
from device_sim.adapters.gguf import from_llama_order
from device_sim.adapters.learned import read_head_counts
from device_sim.adapters.packages import night_package
from device_sim.companion.models.llama import LlamaModel
from device_sim.finetuning.examples import Example, Row, make_row
from personality_common.errors import DataError, MismatchError
from personality_common.files.atomic import file_sha256
from pretrain.lm.bundle.gguf_file import GgufFile, read_gguf

LORA: Final = "default"
"""What peft calls the one adapter that is in."""
_BATCH_TOKENS: Final = 2048
"""Of a batch that is only looked at; with its padding."""
_NAMES: Final = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER_NAMES: Final = {theirs: ours for ours, theirs in LAYERS.items()} | {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


class TorchBase:
    """Opened once, for a training and all that is measured around it.

    Attributes:
        path: the GGUF file.
        sha256: of the file.
        heads, kv_heads: of its attention.
        model: transformers' LlamaForCausalLM; nothing but `adapted` changes it.
    """

    def __init__(self, path: Path) -> None:
        """Dequantise a file.

        Raises:
            DataError: no GGUF file, or of an architecture other than llama.
            ToolkitError: a package of the extra `night` is not installed.
        """
        for package in ("peft", "gguf"):
            night_package(package)
        self.path = path
        self.heads, self.kv_heads = read_head_counts(path)
        self.sha256 = file_sha256(path)
        self.model = _load(read_gguf(path), self.heads, self.kv_heads)
        self._served: LlamaModel | None = None

    def rows(self, examples: Sequence[Example]) -> list[Row]:
        """Examples in the token ids that llama.cpp would be given.

        Raises:
            DataError: the model's chat template does not show an answer as it was given.
        """
        self._served = self._served or LlamaModel(self.path)
        return [make_row(self._served, example) for example in examples]

    @contextlib.contextmanager
    def adapted(self, adapter: Adapter | None) -> Iterator[Any]:
        """The model with an adapter in it, for as long as the block takes.

        Raises:
            MismatchError: it is another base's, or does not fit.
        """
        if adapter is None or not adapter.tensors:
            yield self.model
            return
        if adapter.base_sha256 != self.sha256:
            raise MismatchError(
                f"the adapter must be of {self.path.name} ({self.sha256[:12]}),"
                f" is of {adapter.base_sha256[:12]!r}; a night trains one for each model"
            )
        with self.lora(adapter.rank, adapter.alpha) as model:
            put_tensors(model, adapter)
            yield model

    @contextlib.contextmanager
    def lora(self, rank: int, alpha: float) -> Iterator[Any]:
        """The model with peft's LoRA in all linear layers, A drawn by torch's generator and B zero."""
        peft = night_package("peft")
        config = peft.LoraConfig(
            r=rank, lora_alpha=alpha, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
            target_modules=[layer.rsplit(".", 1)[-1] for layer in LAYERS],
        )  # fmt: skip
        with warnings.catch_warnings():
            # peft asks transformers by a name that is about to go.
            warnings.simplefilter("ignore", FutureWarning)
            model = peft.get_peft_model(self.model, config)
        try:
            yield model
        finally:
            model.unload()


def lora_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """The parameters of peft's LoRA, by the names of an `Adapter`'s tensors."""
    end = f".{LORA}.weight"
    return {
        name.removeprefix("base_model.model.").removesuffix(end): parameter
        for name, parameter in model.named_parameters()
        if name.endswith(end)
    }


def put_tensors(model: Any, adapter: Adapter) -> None:
    """Give peft's LoRA an adapter's values; MismatchError where it has others."""
    parameters = lora_parameters(model)
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    found = {name: values.shape for name, values in adapter.tensors.items()}
    if shapes != found:
        name = next(name for name in {**shapes, **found} if shapes.get(name) != found.get(name))
        raise MismatchError(
            f"the adapter must have {name} of shape {shapes.get(name)}, has {found.get(name)}"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(adapter.tensors[name]))


def token_losses(model: Any, rows: Sequence[Row], *, whole: bool = False) -> tuple[Tensor, Tensor]:
    """Nats of each token that bears the loss.

    Args:
        whole: all tokens but the first, instead of the answer's.

    Returns:
        (tokens,) losses, and the row of each.
    """
    hidden, ids, of = token_states(model, rows, whole=whole)
    logits = _decoder(model).lm_head(hidden)
    return torch.nn.functional.cross_entropy(logits.float(), ids, reduction="none"), of


def token_states(model: Any, rows: Sequence[Row], *, whole: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """What tokens are predicted from: logits of all the others would take most of the memory.

    Rows are padded on the right with whatever: what is real is told by the rows' lengths, so that the token
    that pads may be the one that ends a turn.

    Returns:
        (tokens, width) the last hidden state before each, (tokens,) the token, (tokens,) the row.
    """
    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    real = torch.zeros_like(ids)
    bears = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        real[i, : len(row.ids)] = 1
        bears[i, 1 if whole else row.prompt : len(row.ids)] = True
    hidden = _decoder(model).model(input_ids=ids, attention_mask=real).last_hidden_state
    at = bears[:, 1:]
    return hidden[:, :-1][at], ids[:, 1:][at], at.nonzero()[:, 0]


def divergences(model: Any, hidden: Tensor, before: Tensor) -> Tensor:
    """(tokens,) nats by which the next token's distribution differs from what it was: KL(before || now).

    The layer that makes logits of hidden states is never adapted, so states are all that has to be kept.

    Args:
        hidden, before: (tokens, width) from `token_states`, with the adapter and without.
    """
    head = _decoder(model).lm_head
    with torch.no_grad():
        was = head(before).float().log_softmax(-1)
    now = head(hidden).float().log_softmax(-1)
    return torch.nn.functional.kl_div(now, was, reduction="none", log_target=True).sum(-1)


def _decoder(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def row_losses(model: Any, rows: Sequence[Row]) -> list[float]:
    """Mean nats per answer token of each row."""
    found: dict[int, float] = {}
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    while order:
        size = max(1, _BATCH_TOKENS // len(rows[order[-1]].ids))
        batch = [order.pop() for _ in range(min(size, len(order)))]
        with torch.no_grad():
            losses, of = token_losses(model, [rows[i] for i in batch])
        for j, i in enumerate(batch):
            found[i] = float(losses[of == j].double().mean())
    return [found[i] for i in range(len(rows))]


def example_losses(base: TorchBase, adapter: Adapter | None, examples: Sequence[Example]) -> list[float]:
    """Mean nats per answer token of each example, the end of its turn among them; in float32.

    Raises:
        MismatchError: the adapter is another base's.
    """
    rows = base.rows(examples)
    with base.adapted(adapter) as model:
        return row_losses(model, rows)


def _load(file: GgufFile, heads: int, kv_heads: int) -> Any:
    import transformers
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = transformers.LlamaConfig(**_config(file, heads, kv_heads))
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        del wanted["lm_head.weight"]
    tensors: dict[str, Tensor] = {}
    for name in file.tensors:
        ours = _ours(name)
        values = file.values(name)
        if ours is None or wanted.get(ours) != values.shape:
            raise DataError(
                f"{file.path}: {name!r:.100} must be a tensor of a plain llama, of shape"
                f" {wanted.get(ours or '', 'none')}, is of {values.shape}"
            )
        count = {"q_proj": heads, "k_proj": kv_heads}.get(ours.split(".")[-2])
        tensors[ours] = torch.from_numpy(from_llama_order(values, count) if count else values)
    if missing := sorted(wanted.keys() - tensors.keys()):
        raise DataError(f"{file.path}: lacks {missing[0]}, and perhaps more")
    model.load_state_dict(tensors, strict=False, assign=True)
    model.tie_weights()
    model.model.rotary_emb = LlamaRotaryEmbedding(config)
    model.requires_grad_(False)
    return model.eval()


def _ours(name: str) -> str | None:
    """`blk.3.attn_q.weight` as `model.layers.3.self_attn.q_proj.weight`."""
    match name.split("."):
        case [part, "weight"] if part in _NAMES:
            return f"{_NAMES[part]}.weight"
        case ["blk", number, part, "weight"] if part in _LAYER_NAMES:
            return f"model.layers.{number}.{_LAYER_NAMES[part]}.weight"
    return None


def _config(file: GgufFile, heads: int, kv_heads: int) -> Mapping[str, Any]:
    def number(key: str, kind: type[Any], most: float, default: Any = None) -> Any:
        value: Any = file.metadata.get(f"{ARCHITECTURE}.{key}", default)
        if type(value) is not kind or not 0 < value <= most:
            raise DataError(f"{file.path}: {key} must be above 0, up to {most:g}, is {str(value)!r:.40}")
        return value

    scaling = file.metadata.get(f"{ARCHITECTURE}.rope.scaling.type", "none")
    if scaling != "none":
        raise DataError(f"{file.path}: must rotate without scaling to be trained, has {str(scaling)!r:.40}")
    width = number("embedding_length", int, 1 << 16)
    head_size = number("attention.key_length", int, 1 << 10, width // heads)
    if number("rope.dimension_count", int, 1 << 10, head_size) != head_size or head_size % 2:
        raise DataError(f"{file.path}: must rotate whole heads of {head_size} to be trained, does not")
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise DataError(f"{file.path}: lacks token_embd.weight")
    return {
        "vocab_size": embedding.shape[0],
        "hidden_size": width,
        "intermediate_size": number("feed_forward_length", int, 1 << 18),
        "num_hidden_layers": number("block_count", int, 1 << 10),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_size,
        "max_position_embeddings": number("context_length", int, 1 << 24),
        "rms_norm_eps": number("attention.layer_norm_rms_epsilon", float, 1.0),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": number("rope.freq_base", float, 1e12, 10_000.0),
        },
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "attention_bias": False,
        "use_cache": False,
    }
