"""Text <-> token ids: byte-level BPE, with special tokens that no text can make."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from personality_common.errors import DataError, ToolkitError
from personality_common.files.atomic import atomic_writer
from personality_common.files.bounded import read_bounded
from pretrain.lm.chat import END, ROLE_TOKENS, SPECIAL_IDS, SPECIAL_TOKENS, Document, LossConfig, Part, render
from pretrain.lm.config import TokenizerConfig

TOKENIZER_FILE: Final = "tokenizer.json"
MAX_FILE_BYTES: Final = 16 << 20
MISSING: Final = "language models need the package {}; pip install 'personality-toolkit[lm]'"


def import_extra(package: str) -> Any:
    """A package of the extra `lm`; ToolkitError where it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ToolkitError(MISSING.format(package)) from None


class Tokenizer:
    """A trained tokenizer.

    Attributes:
        vocab_size: ids are below it.
        digits: each digit is a token of its own.
    """

    def __init__(self, data: bytes, where: str) -> None:
        """Open the bytes of a `tokenizer.json`.

        Args:
            where: names the file in messages.

        Raises:
            DataError: it is no tokenizer that this module made.
        """
        tokenizers = import_extra("tokenizers")
        try:
            parsed = json.loads(data)
            self.digits = len(parsed["pre_tokenizer"].get("pretokenizers", ())) == 2
            special = tuple((token["id"], token["content"]) for token in parsed["added_tokens"])
            found = {key: value for key, value in parsed.items() if key not in ("added_tokens", "model")}
            self.merges = tuple((str(left), str(right)) for left, right in parsed["model"]["merges"])
            self._tokenizer = tokenizers.Tokenizer.from_str(data.decode())
        # tokenizers raises plain Exception for what it cannot read.
        except Exception as error:
            raise DataError(f"{where}: not a tokenizer: {error!r:.200}") from None
        if special != tuple(enumerate(SPECIAL_TOKENS)):
            raise DataError(
                f"{where}: special tokens must be {', '.join(SPECIAL_TOKENS)}, in this order, are others"
            )
        expected = json.loads(_untrained(self.digits).to_str())
        if found != {key: expected[key] for key in found}:
            raise DataError(f"{where}: must be byte-level BPE as pt lm tokenizer makes it; train it again")
        # Once: each special token in a text is then written in ordinary ones.
        self._tokenizer.encode_special_tokens = True
        self.vocab_size: int = self._tokenizer.get_vocab_size()
        self.tokens: tuple[str, ...] = tuple(self._tokenizer.id_to_token(i) for i in range(self.vocab_size))
        if None in self.tokens:
            raise DataError(f"{where}: ids must be 0 to {self.vocab_size - 1}, some are missing")
        self._data = data

    @property
    def data(self) -> bytes:
        """Of its `tokenizer.json`."""
        return self._data

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` into a folder."""
        with atomic_writer(folder / TOKENIZER_FILE) as file:
            file.write(self._data)

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; none of them is a special token's."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, special tokens by name; bytes that are no UTF-8 become U+FFFD."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def encode_parts(self, parts: Iterable[Part]) -> tuple[list[int], list[bool]]:
        """Ids, and for each whether the model is to learn to say it."""
        ids: list[int] = []
        loss: list[bool] = []
        for part in parts:
            some = [SPECIAL_IDS[part.text]] if part.special else self.encode(part.text)
            ids += some
            loss += [part.loss] * len(some)
        return ids, loss

    def encode_document(self, document: Document) -> tuple[list[int], list[bool]]:
        """Ids of a rendered document, and for each whether it bears loss; see `pretrain.lm.chat`."""
        return self.encode_parts(render(document))

    def encode_weighted(self, document: Document, loss: LossConfig) -> tuple[list[int], list[float]]:
        """The same, with how much each counts in training."""
        ids: list[int] = []
        weights: list[float] = []
        for part in render(document):
            some, _ = self.encode_parts([part])
            ids += some
            weights += [_weight(part, loss)] * len(some)
        return ids, weights

    def encode_prompt(self, document: Document) -> list[int]:
        """Ids of a conversation so far, with the assistant's mark after it: what generation goes on from."""
        return [*self.encode_document(document)[0], SPECIAL_IDS[ROLE_TOKENS["assistant"]]]


def _weight(part: Part, loss: LossConfig) -> float:
    if part.loss:
        return loss.first if part.special and part.text != END and part.role in ("call", "none") else 1.0
    said = not part.special or part.text == END
    return loss.asked if said and part.role == "user" else 0.0


def load_tokenizer(folder: Path) -> Tokenizer:
    """Open what `Tokenizer.save` wrote.

    Raises:
        DataError: missing, too large, or no tokenizer of ours.
    """
    path = folder / TOKENIZER_FILE
    return Tokenizer(read_bounded(path, MAX_FILE_BYTES, "a tokenizer"), str(path))


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Learn byte-level BPE from texts; the same texts give the same bytes.

    Args:
        texts: plain, without special tokens; one that has the name of one in it is ordinary text.

    With `config.spaces` whitespace is split off while pairs are counted, so that no pair holds any. That
    alone makes it tokens of its own: the file is like others, and who reads it needs to know nothing.

    Raises:
        ToolkitError: the texts are too few for a vocabulary of that size.
    """
    tokenizers = import_extra("tokenizers")
    tokenizer = _untrained(config.digits)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    written = tokenizer.pre_tokenizer
    if config.spaces:
        pre_tokenizers = tokenizers.pre_tokenizers
        apart = pre_tokenizers.Split(tokenizers.Regex(r"\s"), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([apart, written])
    tokenizer.train_from_iterator(_pieces(texts), trainer)
    tokenizer.pre_tokenizer = written
    found = tokenizer.get_vocab_size()
    if found != config.vocab_size:
        raise ToolkitError(
            f"--vocab-size must be what the texts can fill, is {config.vocab_size}; they give {found} tokens"
        )
    return Tokenizer(tokenizer.to_str().encode(), TOKENIZER_FILE)


def _untrained(digits: bool) -> Any:
    tokenizers = import_extra("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    first = tokenizers.pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = (
        tokenizers.pre_tokenizers.Sequence([first, byte_level]) if digits else byte_level
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer


def _pieces(texts: Iterable[str], size: int = 1 << 16) -> Iterator[str]:
    """Texts, long ones in pieces, so that none is in memory several times over."""
    for text in texts:
        for start in range(0, len(text), size):
            yield text[start : start + size]
