"""Feedback files: JSONL, one interaction a line, refused as a whole if any of it is wrong.

    {"id": "7f3a", "text": "…", "candidates": [{"tokens": ["curious", "calm"], "reward": 0.7, "logp": -31.2}]}

A line has an id (distinct in the file), one of text, base_embedding and latent, and its candidates: tokens
in the order drawn, a reward (null or NaN: no feedback), and, if known, the log-probability of the set under
the policy that drew it. `time` (seconds, or ISO 8601) is optional; if all interactions have one, it gives the
order.

    {"event": "copied", "of": "7f3a", "candidate": 0}

A line with an event says what the user did with a candidate of an interaction further up, whose reward must
be null: what happened to it is its reward (`events`). It may come nights later; it is credited to the
interaction, and so to that one's night.

Errors name file, line and field, and never quote what a user may have written.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

import torch
from torch import Tensor

from grpo.events import EVENT_REWARDS, RATED, EventRewards, reward_of
from grpo.groups import Groups
from grpo.policies import PADDING
from personality_common.contract import LATENT_DIM
from personality_common.errors import DataError, MismatchError
from personality_common.printable import is_unicode

MAX_FILE_BYTES: Final = 256 << 20
MAX_LINE_BYTES: Final = 1 << 20
MAX_CANDIDATES: Final = 1024
REWARD: Final = "reward"
"""Name of the file's reward among reward functions."""

_INPUTS: Final = ("text", "base_embedding", "latent")
_EVENT_FIELDS: Final = frozenset({"event", "of", "candidate", "value", "time"})
_FIELDS: Final = frozenset({"id", *_INPUTS, "candidates", "time"})
_CANDIDATE_FIELDS: Final = frozenset({"tokens", "reward", "logp"})


@dataclass(frozen=True)
class Candidate:
    """Token indices in the order drawn; None where there is no feedback, or no log-probability."""

    tokens: tuple[int, ...]
    reward: float | None
    logp: float | None


@dataclass(frozen=True)
class Interaction:
    """One text with its candidates. Exactly one of text, base_embedding (d,) and latent (d,) is set."""

    id: str
    candidates: tuple[Candidate, ...]
    text: str | None = None
    base_embedding: Tensor | None = None
    latent: Tensor | None = None
    time: float | None = None


@dataclass(frozen=True)
class Feedback:
    """A feedback file.

    Attributes:
        interactions: in order of time if every line has one, else of the file.
        fingerprint: SHA-256 of the file's bytes, in hex.
    """

    interactions: tuple[Interaction, ...]
    fingerprint: str

    def groups(self) -> Groups:
        """A row per interaction, in order; the reward function is called "reward"."""
        group = max(len(i.candidates) for i in self.interactions)
        width = max(len(c.tokens) for i in self.interactions for c in i.candidates)
        shape = (len(self.interactions), group)
        actions = torch.full((*shape, width), PADDING, dtype=torch.int64)
        rewards = torch.full(shape, torch.nan, dtype=torch.float64)
        behaviour = torch.full(shape, torch.nan, dtype=torch.float64)
        for row, interaction in enumerate(self.interactions):
            for column, candidate in enumerate(interaction.candidates):
                actions[row, column, : len(candidate.tokens)] = torch.tensor(candidate.tokens)
                if candidate.reward is not None:
                    rewards[row, column] = candidate.reward
                if candidate.logp is not None:
                    behaviour[row, column] = candidate.logp
        return Groups(actions, {REWARD: rewards}, behaviour)


def read_feedback(
    path: Path,
    tokens: Sequence[str],
    *,
    base_dim: int | None = None,
    latent_dim: int = LATENT_DIM,
    rewards: EventRewards = EVENT_REWARDS,
) -> Feedback:
    """Read and check a feedback file.

    Args:
        tokens: the vocabulary, in output order.
        base_dim: length of base embeddings; None: base embeddings are refused.
        latent_dim: length of latents.
        rewards: what events are worth.

    Raises:
        DataError: the file is too large, empty, not UTF-8, or a line is not as the module says.
        MismatchError: no token of a candidate is in the vocabulary: it is another app's, or another version.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        raw = file.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise DataError(f"{path}: a feedback file must not exceed {MAX_FILE_BYTES} bytes; split it")
    index = {token: i for i, token in enumerate(tokens)}
    dims = {"base_embedding": base_dim, "latent": latent_dim}
    interactions: list[Interaction] = []
    lines: dict[str, int] = {}
    rows: dict[str, int] = {}
    happened: dict[tuple[int, int], dict[str, float]] = {}
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        document = _document(line, where)
        if "event" in document:
            at, event, value = _event(document, where, rows, interactions)
            happened.setdefault(at, {})[event] = value
            continue
        interaction = _interaction(document, where, index, dims)
        first = lines.setdefault(interaction.id, number)
        if first != number:
            raise DataError(
                f"{where}: id: must be distinct, or feedback counts twice; line {first} has the same"
            )
        rows[interaction.id] = len(interactions)
        interactions.append(interaction)
    for (row, column), events in happened.items():
        candidates = list(interactions[row].candidates)
        candidates[column] = replace(candidates[column], reward=reward_of(events, rewards))
        interactions[row] = replace(interactions[row], candidates=tuple(candidates))
    if not interactions:
        raise DataError(f"{path}: must have at least one interaction, got none")
    times = [i.time for i in interactions]
    if None not in times:
        interactions.sort(key=lambda i: i.time or 0.0)
    return Feedback(tuple(interactions), hashlib.sha256(raw).hexdigest())


def _document(line: bytes, where: str) -> dict[str, object]:
    if len(line) > MAX_LINE_BYTES:
        raise DataError(f"{where}: a line must not exceed {MAX_LINE_BYTES} bytes, got {len(line)}")
    try:
        document = json.loads(line.decode("utf-8"), object_pairs_hook=_distinct)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: must be UTF-8, got byte 0x{line[error.start]:02x}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: must be JSON, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        # Messages of json on numbers and nesting do not quote the input; _distinct's does not either.
        raise DataError(f"{where}: must be plain JSON: {error}") from None
    if not isinstance(document, dict):
        _refuse(where, "", "an object", document)
    return document


def _interaction(
    document: dict[str, object], where: str, index: Mapping[str, int], dims: Mapping[str, int | None]
) -> Interaction:
    if "text_sha256" in document:
        raise DataError(f"{where}: must have the text, has its SHA-256; pt simulate --keep-texts logs texts")
    _known(document, _FIELDS, where, "")
    identity = document.get("id")
    if not isinstance(identity, str) or not identity or not is_unicode(identity):
        _refuse(where, "id", "a string that is not empty", identity)
    given = [name for name in _INPUTS if name in document]
    if len(given) != 1:
        raise DataError(
            f"{where}: must have one of {', '.join(_INPUTS)}, got {' and '.join(given) or 'none'}"
        )
    text, base, latent = (document.get(name) for name in _INPUTS)
    if given == ["text"] and (not isinstance(text, str) or not text.strip() or not is_unicode(text)):
        _refuse(where, "text", "Unicode that is not blank", text)
    candidates = document.get("candidates")
    if not isinstance(candidates, list) or not 1 <= len(candidates) <= MAX_CANDIDATES:
        _refuse(where, "candidates", f"a list of 1 to {MAX_CANDIDATES}", candidates)
    return Interaction(
        id=identity,
        candidates=tuple(_candidate(c, where, f"candidates[{i}]", index) for i, c in enumerate(candidates)),
        text=text if isinstance(text, str) else None,
        base_embedding=_vector(base, where, "base_embedding", dims) if "base_embedding" in given else None,
        latent=_vector(latent, where, "latent", dims) if "latent" in given else None,
        time=_time(document["time"], where) if document.get("time") is not None else None,
    )


def _event(
    document: dict[str, object], where: str, rows: Mapping[str, int], interactions: Sequence[Interaction]
) -> tuple[tuple[int, int], str, float]:
    """The (interaction, candidate) that it happened to, the event, and its value."""
    _known(document, _EVENT_FIELDS, where, "")
    event, of = document["event"], document.get("of")
    if not isinstance(event, str) or event not in EVENT_REWARDS:
        raise DataError(f"{where}: event: must be one of {', '.join(EVENT_REWARDS)}, is another")
    if not isinstance(of, str) or of not in rows:
        raise DataError(f"{where}: of: must be the id of an interaction further up in the file, is not")
    interaction = interactions[rows[of]]
    number, column = len(interaction.candidates), document.get("candidate")
    if column is None and number == 1:
        column = 0
    if isinstance(column, bool) or not isinstance(column, int) or not 0 <= column < number:
        raise DataError(f"{where}: candidate: must be the number of one of {number}, from 0")
    if interaction.candidates[column].reward is not None:
        raise DataError(f"{where}: candidate: must have a reward or events, and this one has a reward")
    if (event == RATED) != ("value" in document):
        raise DataError(f"{where}: value: must be there for {RATED}, and for no other event")
    value = _number(document["value"], where, "value") if event == RATED else 1.0
    if abs(value) > 1:
        raise DataError(f"{where}: value: must be from -1 to 1, got {value:g}")
    time = _time(document["time"], where) if document.get("time") is not None else None
    if time is not None and interaction.time is not None and time < interaction.time:
        raise DataError(f"{where}: time: must not be before that of the interaction, is")
    return (rows[of], column), event, value


def _candidate(value: object, where: str, field: str, index: Mapping[str, int]) -> Candidate:
    if not isinstance(value, dict):
        _refuse(where, field, "an object", value)
    _known(value, _CANDIDATE_FIELDS, where, f"{field}.")
    tokens = value.get("tokens")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(t, str) for t in tokens):
        _refuse(where, f"{field}.tokens", "a list of strings that is not empty", tokens)
    unknown = [i for i, token in enumerate(tokens) if token not in index]
    if len(unknown) == len(tokens):
        raise MismatchError(
            f"{where}: {field}.tokens: must be of the vocabulary in use, and none is; use the"
            " vocabulary that the feedback was collected with"
        )
    if unknown:
        raise DataError(f"{where}: {field}.tokens[{unknown[0]}]: must be a token of the vocabulary, is not")
    for i, token in enumerate(tokens):
        if token in tokens[:i]:
            raise DataError(f"{where}: {field}.tokens[{i}]: a candidate must have a token once, has it twice")
    if "reward" not in value:
        raise DataError(f"{where}: {field}.reward: must be a number, or null for no feedback; got none")
    reward, logp = value["reward"], value.get("logp")
    return Candidate(
        tokens=tuple(index[token] for token in tokens),
        reward=None
        if reward is None or (isinstance(reward, float) and math.isnan(reward))
        else _number(reward, where, f"{field}.reward"),
        logp=None if logp is None else _log_probability(logp, where, f"{field}.logp"),
    )


def _log_probability(value: object, where: str, field: str) -> float:
    number = _number(value, where, field)
    if number > 0:
        raise DataError(f"{where}: {field}: the log-probability of a set must be 0 or less, got {number:g}")
    return number


def _vector(value: object, where: str, field: str, dims: Mapping[str, int | None]) -> Tensor:
    length = dims[field]
    if length is None:
        raise DataError(f"{where}: {field}: is not taken here; give text or latent")
    if not isinstance(value, list) or len(value) != length:
        _refuse(where, field, f"a list of {length} numbers", value)
    vector = torch.tensor([_number(x, where, f"{field}[{i}]") for i, x in enumerate(value)])
    if not bool(vector.isfinite().all()):
        raise DataError(f"{where}: {field}: must fit float32, got a number beyond it")
    return vector


def _time(value: object, where: str) -> float:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            # Without an offset it is UTC: the order must not depend on where the file is read.
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            raise DataError(f"{where}: time: must be seconds or ISO 8601, got another string") from None
    return _number(value, where, "time")


def _number(value: object, where: str, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(where, field, "a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise DataError(f"{where}: {field}: must be a finite number, got {number}")
    return number


def _known(document: Mapping[str, object], fields: frozenset[str], where: str, prefix: str) -> None:
    if set(document) - fields:
        position = next(i for i, key in enumerate(document) if key not in fields)
        raise DataError(
            f"{where}: {prefix or 'the line'}: fields must be among {', '.join(sorted(fields))},"
            f" number {position + 1} is not"
        )


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a field is given twice")
    return result


def _refuse(where: str, field: str, invariant: str, value: object) -> NoReturn:
    kind = {dict: "an object", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value))
    if isinstance(value, list):
        kind = f"a list of {len(value)}"
    raise DataError(f"{where}: {field or 'the line'}: must be {invariant}, got {kind or 'a number'}")
