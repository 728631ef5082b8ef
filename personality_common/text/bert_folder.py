"""The folder of a saved SentenceTransformer that is BERT: configuration, weights, WordPiece."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import DataError, ToolkitError
from personality_common.files.bounded import read_bounded
from personality_common.text.wordpiece import MAX_TOKENS, SPECIAL_TOKENS

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

T = TypeVar("T", "Tensor", NDArray[np.float32])
_STEPS: Final = (
    "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense",
    "output.LayerNorm",
)  # fmt: skip
"""Of a layer behind its attention."""
_MAX_JSON_BYTES: Final = 32 << 20
_MAX_DIMENSION: Final = 1 << 20
_MAX_LAYERS: Final = 100


@dataclass(frozen=True)
class BertShape:
    """Dimensions of a BERT encoder.

    Attributes:
        vocabulary: rows of the word embeddings.
        positions: rows of the position embeddings.
        token_types: rows of the token type embeddings; a single text uses the first.
        hidden: length of a token's vector.
        layers: number of blocks.
        heads: of attention; they divide `hidden`.
        intermediate: width of the feed-forward part.
        layer_norm_eps: added to the variance.
    """

    vocabulary: int
    positions: int
    token_types: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    layer_norm_eps: float


def read_bert_shape(folder: Path) -> BertShape:
    """The dimensions, after a check that this is BERT, the one architecture that can be exported.

    Raises:
        ToolkitError: not BERT with absolute positions and GELU, mean pooling, and normalization,
            cut off at 256 tokens, without a prompt.
        DataError: a file is missing or malformed.
    """
    modules = _read_json(folder / "modules.json", list)
    kinds = [str(m.get("type")).rsplit(".", 1)[-1] if isinstance(m, dict) else "?" for m in modules]
    _require(folder, "modules", kinds, ["Transformer", "Pooling", "Normalize"])
    bert_folder, pooling_folder = (_module_folder(folder, m) for m in modules[:2])
    _require(folder, "pooling", _pooling(_read_json(pooling_folder / "config.json", dict)), ["mean"])
    config = _read_json(bert_folder / "config.json", dict)
    for key, allowed in {
        "model_type": ("bert",),
        "hidden_act": ("gelu",),
        "position_embedding_type": (None, "absolute"),
        "is_decoder": (None, False),
    }.items():
        if config.get(key) not in allowed:
            _require(folder, key, config.get(key), allowed[-1])
    _require(folder, "maximum length", _max_length(bert_folder), MAX_TOKENS)
    prompts = folder / "config_sentence_transformers.json"
    if prompts.exists():
        _require(folder, "prompt", _read_json(prompts, dict).get("default_prompt_name"), None)
    return _shape(bert_folder / "config.json", config)


def read_bert_tensors(folder: Path, shape: BertShape) -> dict[str, Tensor]:
    """The weights that embeddings depend on, by the names of `TextEncoder`, float32.

    Raises:
        DataError: not a safetensors file, or a tensor is missing or has another shape.
    """
    import torch

    held = _read_stored(
        folder, shape, "pt", lambda file, name: file.get_tensor(name).to(torch.float32, copy=True)
    )
    return held | {name: held[name].clone() for name in ("position_embeddings", "token_type_embedding")}


def read_bert_arrays(folder: Path, shape: BertShape) -> dict[str, NDArray[np.float32]]:
    """As `read_bert_tensors`, without PyTorch.

    Raises:
        ToolkitError: a tensor is not stored as float32.
        DataError: as there.
    """

    def read(file: Any, name: str) -> NDArray[np.float32]:
        if (dtype := file.get_slice(name).get_dtype()) != "F32":
            raise ToolkitError(f"{folder}: {name!r} must be stored as F32, is {dtype}")
        return np.asarray(file.get_tensor(name))

    return _read_stored(folder, shape, "np", read)


def bert_layers(
    held: Mapping[str, T], shape: BertShape, concatenate: Callable[[list[T]], T]
) -> list[tuple[tuple[T, T], ...]]:
    """Weight and bias of each layer's steps, in the order of use; query, key and value are one product.

    Args:
        held: as `read_bert_arrays`, or in another library's arrays.
        concatenate: joins those along their first axis.
    """
    layers: list[tuple[tuple[T, T], ...]] = []
    for i in range(shape.layers):
        parts = [f"layer.{i}.attention.self.{name}" for name in ("query", "key", "value")]
        weight, bias = (
            concatenate([held[f"{part}.{kind}"] for part in parts]) for kind in ("weight", "bias")
        )
        steps: list[tuple[T, T]] = [(weight, bias)]
        for name in _STEPS:
            steps.append((held[f"layer.{i}.{name}.weight"], held[f"layer.{i}.{name}.bias"]))
        layers.append(tuple(steps))
    return layers


def _read_stored(
    folder: Path, shape: BertShape, framework: str, read: Callable[[Any, str], T]
) -> dict[str, T]:
    import safetensors

    path = folder / "model.safetensors"
    tensors: dict[str, T] = {}
    try:
        with safetensors.safe_open(path, framework=framework) as file:
            stored = set(file.keys())
            for name, dims in _stored_tensors(shape).items():
                if name not in stored:
                    raise DataError(f"{path}: must hold the tensor {name!r}; has none of that name")
                found = tuple(file.get_slice(name).get_shape())
                if found != dims:
                    raise DataError(f"{path}: {name!r} must have the shape {dims}, has {found}")
                tensors[name] = read(file, name)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except safetensors.SafetensorError as error:
        raise DataError(f"{path}: not a safetensors file: {error}") from None
    words, positions, token_types = (
        tensors.pop(f"embeddings.{name}_embeddings.weight") for name in ("word", "position", "token_type")
    )
    renamed = {
        name.removeprefix("encoder.").removeprefix("embeddings."): tensor for name, tensor in tensors.items()
    }
    return renamed | {
        "word_embeddings": words,
        "position_embeddings": positions[:MAX_TOKENS],
        "token_type_embedding": token_types[0],
    }


def read_wordpiece_vocabulary(folder: Path) -> tuple[str, ...]:
    """The tokens in the order of their ids, after a check that plain WordPiece reproduces the tokenizer.

    Raises:
        ToolkitError: the tokenizer is another one than uncased BERT's.
        DataError: `tokenizer.json` is missing or malformed.
    """
    path = folder / "tokenizer.json"
    tokenizer = _read_json(path, dict)
    model = _part(tokenizer, "model")
    normalizer = _part(tokenizer, "normalizer")
    for what, found, wanted in [
        ("model", model.get("type"), "WordPiece"),
        ("unk_token", model.get("unk_token"), "[UNK]"),
        ("continuing_subword_prefix", model.get("continuing_subword_prefix"), "##"),
        ("max_input_chars_per_word", model.get("max_input_chars_per_word"), 100),
        ("normalizer", normalizer.get("type"), "BertNormalizer"),
        ("clean_text", normalizer.get("clean_text"), True),
        ("handle_chinese_chars", normalizer.get("handle_chinese_chars"), True),
        ("lowercase", normalizer.get("lowercase"), True),
        ("strip_accents", normalizer.get("strip_accents") is not False, True),
        ("pre_tokenizer", _part(tokenizer, "pre_tokenizer").get("type"), "BertPreTokenizer"),
    ]:
        _require(path, what, found, wanted)
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or not _counts_up(list(vocabulary.values())):
        raise DataError(f"{path}: the vocabulary must be an object with the ids 0, 1, 2, …; it is not")
    if any("\n" in token for token in vocabulary):
        raise DataError(f"{path}: the vocabulary must hold no line breaks, to fit into a text file; it does")
    added = [t.get("content") for t in tokenizer.get("added_tokens") or [] if isinstance(t, dict)]
    _require(path, "special tokens", sorted(map(str, added)), sorted(SPECIAL_TOKENS))
    if missing := [token for token in SPECIAL_TOKENS if token not in vocabulary]:
        raise DataError(f"{path}: the vocabulary must hold {missing[0]}; it does not")
    return tuple(sorted(vocabulary, key=vocabulary.__getitem__))


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer itself; whether it is uncased BERT's, `read_wordpiece_vocabulary` says.

    Raises:
        DataError: `tokenizer.json` is missing or malformed.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_str(read_bounded(path, _MAX_JSON_BYTES, "tokenizer.json").decode())
    except Exception as error:  # the library raises no narrower class
        raise DataError(f"{path}: not a tokenizer: {str(error)[:200]}") from None


def wordpiece_vocabulary(encoder_folder: Path) -> bytes:
    """`vocab.txt`: one token a line, in the order of the ids, UTF-8.

    Raises:
        ToolkitError: the encoder has another tokenizer than uncased BERT's.
        DataError: its `tokenizer.json` is missing or malformed.
    """
    return "".join(f"{token}\n" for token in read_wordpiece_vocabulary(encoder_folder)).encode()


def tokenizer_file(encoder_folder: Path) -> bytes:
    """`tokenizer.json` as the encoder reads: cut off at `MAX_TOKENS`, special tokens included, no padding.

    Raises:
        DataError: the encoder's own is missing or malformed.
    """
    tokenizer = read_tokenizer(encoder_folder)
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return f"{tokenizer.to_str()}\n".encode()


def _shape(path: Path, config: Mapping[str, Any]) -> BertShape:
    def integer(key: str, limit: int = _MAX_DIMENSION) -> int:
        value = config.get(key)
        if type(value) is not int or not 1 <= value <= limit:
            raise DataError(f'{path}: "{key}" must be an integer from 1 to {limit}, is {str(value)[:80]!r}')
        return value

    eps = config.get("layer_norm_eps")
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise DataError(f'{path}: "layer_norm_eps" must be between 0 and 1, is {eps!r}')
    shape = BertShape(
        vocabulary=integer("vocab_size"),
        positions=integer("max_position_embeddings"),
        token_types=integer("type_vocab_size"),
        hidden=integer("hidden_size"),
        layers=integer("num_hidden_layers", _MAX_LAYERS),
        heads=integer("num_attention_heads"),
        intermediate=integer("intermediate_size"),
        layer_norm_eps=eps,
    )
    if shape.hidden % shape.heads:
        raise DataError(f"{path}: {shape.heads} heads must divide the hidden size, which is {shape.hidden}")
    if shape.positions < MAX_TOKENS:
        raise DataError(f"{path}: must have {MAX_TOKENS} positions at least, has {shape.positions}")
    return shape


def _stored_tensors(shape: BertShape) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the file, as transformers' BertModel writes them."""
    hidden, inner = shape.hidden, shape.intermediate

    def norm(name: str) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}

    def linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}

    tensors: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (shape.vocabulary, hidden),
        "embeddings.position_embeddings.weight": (shape.positions, hidden),
        "embeddings.token_type_embeddings.weight": (shape.token_types, hidden),
        **norm("embeddings.LayerNorm"),
    }
    for i in range(shape.layers):
        layer = f"encoder.layer.{i}"
        for name in ("query", "key", "value"):
            tensors |= linear(f"{layer}.attention.self.{name}", hidden, hidden)
        tensors |= linear(f"{layer}.attention.output.dense", hidden, hidden)
        tensors |= norm(f"{layer}.attention.output.LayerNorm")
        tensors |= linear(f"{layer}.intermediate.dense", inner, hidden)
        tensors |= linear(f"{layer}.output.dense", hidden, inner)
        tensors |= norm(f"{layer}.output.LayerNorm")
    return tensors


def _module_folder(folder: Path, module: Mapping[str, Any]) -> Path:
    path = module.get("path")
    if not isinstance(path, str) or Path(path).is_absolute() or ".." in Path(path).parts:
        raise DataError(f"{folder / 'modules.json'}: a module's path must lie in the folder, is {path!r}")
    return folder / path


def _pooling(config: Mapping[str, Any]) -> list[str]:
    """The pooling modes in use, from the old layout (a flag for each) or the new one."""
    if (mode := config.get("pooling_mode")) is not None:
        return [mode] if isinstance(mode, str) else list(mode)
    prefix = "pooling_mode_"
    modes = [
        key.removeprefix(prefix) for key, used in config.items() if key.startswith(prefix) and used is True
    ]
    return [mode.removesuffix("_tokens") for mode in modes]


def _max_length(folder: Path) -> Any:
    """Where sentence-transformers before 5.0 wrote it, or else where later ones do."""
    old = _read_json(folder / "sentence_bert_config.json", dict)
    if "max_seq_length" in old:
        return old["max_seq_length"]
    return _read_json(folder / "tokenizer_config.json", dict).get("model_max_length")


def _counts_up(ids: list[Any]) -> bool:
    return all(type(i) is int for i in ids) and sorted(ids) == list(range(len(ids)))


def _part(tokenizer: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = tokenizer.get(name)
    return part if isinstance(part, dict) else {}


def _require(path: Path, what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise ToolkitError(
            f"{path}: an encoder can be exported if its {what} is {wanted!r}, "
            f"this one's is {str(found)[:80]!r}; train with such an encoder"
        )


def _read_json(path: Path, kind: type[Any]) -> Any:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise DataError(f"{path}: must be at most {_MAX_JSON_BYTES} bytes, has {path.stat().st_size}")
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; a saved SentenceTransformer has it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: must be JSON; {type(error).__name__}") from None
    if not isinstance(value, kind):
        raise DataError(f"{path}: must be a JSON {kind.__name__}, is {type(value).__name__}")
    return value
