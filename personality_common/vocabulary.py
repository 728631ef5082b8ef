"""The vocabulary: personality tokens in the order of the model's outputs."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Final

from personality_common.contract import TOKENS_FILE, VOCAB_SIZE
from personality_common.errors import DataError, MismatchError
from personality_common.lookalikes import hidden, mixed_scripts, skeleton
from personality_common.printable import described

DEFAULT_TOKENS_PATH: Final = Path(__file__).with_name(TOKENS_FILE)
MAX_FILE_BYTES: Final = 1 << 20

# Control, lone surrogate, line separator, paragraph separator: each would break a line of a log, the
# UTF-8 of the fingerprint, or the metadata of a package.
_FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})


@dataclass(frozen=True)
class Vocabulary:
    """Personality tokens; a token's index is its output dimension.

    The constructor takes any tokens: `load_vocabulary` is what checks a file.

    Attributes:
        tokens: in output order.
    """

    tokens: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the tokens in order, as the UTF-8 bytes of a JSON array.

        The array has no spaces, and escapes only what JSON must (`"`, the backslash and control
        characters): `["calm","self pitying"]`. Tokens are taken as they are, with no Unicode
        normalization.
        """
        canonical = json.dumps(self.tokens, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Token -> index, for looking up many; read-only."""
        return MappingProxyType({token: index for index, token in enumerate(self.tokens)})

    def index(self, token: str) -> int:
        """The output dimension of a token.

        Raises:
            DataError: no such token.
        """
        try:
            return self.positions[token]
        except KeyError:
            raise DataError(
                f"a token must be one of the vocabulary's {len(self.tokens)}, got {described(token)}"
            ) from None

    def joined(self) -> str:
        """The tokens joined by commas: the form that a Core ML package carries in its metadata."""
        return ",".join(self.tokens)


def load_vocabulary(path: Path | None = None) -> Vocabulary:
    """Read and check a vocabulary file: a JSON object whose "tokens" lists the tokens in output order.

    Other keys are left alone, so that an app can keep notes or a version there; only the tokens
    enter the fingerprint. A token may have several words.

    Args:
        path: the file; None for the vocabulary that ships with this package.

    Raises:
        DataError: over 1 MiB; not UTF-8; not JSON; not an object with one list "tokens"; an entry
            that is not a string, is empty, has a space around it, a comma, a control character, one that
            cannot be seen, or letters of scripts that look alike; two entries
            that look alike; not 325 entries.
        OSError: the file cannot be read.
    """
    path = DEFAULT_TOKENS_PATH if path is None else path
    entries = _read_entries(path)
    tokens = tuple(_checked_token(entry, f"{path}: tokens[{i}]") for i, entry in enumerate(entries))
    _check_distinct(tokens, path)
    if len(tokens) != VOCAB_SIZE:
        raise DataError(
            f'{path}: "tokens" must have {VOCAB_SIZE} entries, one for each output, got {len(tokens)}'
        )
    return Vocabulary(tokens)


def require_same_vocabulary(ours: str, theirs: str, what: str) -> None:
    """Refuse an artifact that was made with another vocabulary: its outputs mean other tokens.

    Args:
        ours: fingerprint of the vocabulary in use.
        theirs: fingerprint that the artifact carries.
        what: names the artifact in the message, e.g. its path.

    Raises:
        MismatchError: the fingerprints differ.
    """
    if ours != theirs:
        raise MismatchError(
            f"{what}: must have the vocabulary in use (fingerprint {ours[:12]}…), has another one"
            f" ({theirs[:12]}…); use artifacts made with one {TOKENS_FILE}"
        )


def _read_entries(path: Path) -> Sequence[object]:
    with path.open("rb") as file:
        raw = file.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise DataError(f"{path}: a vocabulary file must not exceed {MAX_FILE_BYTES} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: must be UTF-8, got byte 0x{raw[error.start]:02x} at offset {error.start}"
        ) from error
    try:
        document = json.loads(text, object_pairs_hook=_object_with_distinct_keys)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: must be JSON, line {error.lineno} column {error.colno}: {error.msg}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: must be plain JSON: {error}") from error
    entries = document.get("tokens") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise DataError(f'{path}: must be {{"tokens": [...]}}, got {described(document)}')
    return entries


def _object_with_distinct_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # Readers differ on which of two equal keys counts; the app's must not see other tokens than ours.
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"a key is given twice: {described(next(k for k in keys if keys.count(k) > 1))}")
    return result


def _checked_token(entry: object, where: str) -> str:
    if not isinstance(entry, str):
        raise DataError(f"{where}: a token must be a string, got {described(entry)}")
    if not entry.strip():
        raise DataError(f"{where}: a token must not be empty, got {described(entry)}")
    if entry != entry.strip():
        raise DataError(f"{where}: a token must have no space around it, got {described(entry)}")
    if "," in entry:
        raise DataError(
            f"{where}: a token must have no comma (tokens are comma-joined in Core ML metadata),"
            f" got {described(entry)}"
        )
    for character in entry:
        if unicodedata.category(character) in _FORBIDDEN_CATEGORIES:
            raise DataError(
                f"{where}: a token must have no control character (U+{ord(character):04X}),"
                f" got {described(entry)}"
            )
    if (unseen := hidden(entry)) is not None:
        raise DataError(
            f"{where}: a token must have no character that cannot be seen or turns others around"
            f" (U+{ord(unseen):04X}), got {described(entry)}"
        )
    if scripts := mixed_scripts(entry):
        raise DataError(
            f"{where}: a token must have letters of one script, has {scripts} ones, which look alike,"
            f" got {described(entry)}"
        )
    return entry


def _check_distinct(tokens: Sequence[str], path: Path) -> None:
    seen: dict[str, int] = {}
    for index, token in enumerate(tokens):
        first = seen.setdefault(skeleton(token), index)
        if first != index:
            same = unicodedata.normalize("NFC", tokens[first]) == unicodedata.normalize("NFC", token)
            raise DataError(
                f"{path}: tokens must be distinct, tokens[{first}] and tokens[{index}]"
                f" {'are both' if same else 'look alike, and are both like'} {described(token)}"
            )
