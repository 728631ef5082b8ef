"""How a conversation is written in tokens: the special ones, and the order of turns.

    plain text     <|text|>…<|end|>
    conversation   <|system|>…<|end|> <|tools|>a signature per line<|end|>, each if there is any, then turns:
                   <|user|>…<|end|>             the last: <|user|><|newton|>…<|end|> if a perspective is asked
                   <|assistant|>…<|end|>
                   <|assistant|><|invoke|>{"arguments":{…},"name":"…"}<|end|>
                   <|assistant|><|none|>…<|end|>  where tools are offered and none fits
                   <|result|>…<|end|>                  of a call

Nothing stands between the parts, and no text can make a special token. JSON is written as Go writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from personality_common.errors import DataError

Role = Literal["text", "system", "tools", "user", "assistant", "call", "none", "result"]
ROLES: Final = get_args(Role)
Perspective = Literal["newton", "davinci", "quantum", "philosophy", "empathy", "systems"]
PERSPECTIVES: Final = get_args(Perspective)

PAD: Final = "<|pad|>"
END: Final = "<|end|>"
ROLE_TOKENS: Final[dict[Role, str]] = {role: f"<|{role}|>" for role in ROLES} | {"call": "<|invoke|>"}
"""llama.cpp ends generation at any token that is called `<|call|>`: other models end a call with it."""
PERSPECTIVE_TOKENS: Final[dict[Perspective, str]] = {name: f"<|{name}|>" for name in PERSPECTIVES}
SPECIAL_TOKENS: Final = (PAD, END, *ROLE_TOKENS.values(), *PERSPECTIVE_TOKENS.values())
"""In the order of their ids, which start at 0."""
SPECIAL_IDS: Final = {token: index for index, token in enumerate(SPECIAL_TOKENS)}
PAD_ID: Final = SPECIAL_IDS[PAD]
END_ID: Final = SPECIAL_IDS[END]
MOST_LOSS: Final = 10.0


@dataclass(frozen=True)
class Turn:
    """A part of a document.

    Attributes:
        role: who says it; call, none: the assistant, too.
        text: what is said; of a call, its JSON; of tools, a signature per line.
        loss: the model is to learn to say it.
    """

    role: Role
    text: str
    loss: bool


@dataclass(frozen=True)
class Document:
    """What is learned from as one: turns that may look back at one another, and at nothing else.

    Attributes:
        id: no other document has it.
        source: which part of the mix.
        group: documents of one group are never on both sides of a split.
        perspective: the tag after the last user's.
        turns: in order.
        held_out: of an example of a tool: what about it training has not seen.
    """

    id: str
    source: str
    group: str
    perspective: Perspective | None
    turns: tuple[Turn, ...]
    held_out: Literal["value", "phrasing"] | None = None


@dataclass(frozen=True)
class LossConfig:
    """How much a token counts in training, where one of an answer counts 1.

    Attributes:
        asked: of what users say; 0: it is not learned.
        first: the first of a call, or of an answer that no tool fits, which decides between the two.
    """

    asked: float = 0.0
    first: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.asked <= MOST_LOSS:
            raise ValueError(f"asked must be 0 or more and at most {MOST_LOSS:g}, is {self.asked:g}")
        if not 0 < self.first <= MOST_LOSS:
            raise ValueError(f"first must be above 0 and at most {MOST_LOSS:g}, is {self.first:g}")


@dataclass(frozen=True)
class Part:
    """A stretch of a rendered document: a special token, or text that holds none.

    Attributes:
        text: the token's name, or plain text.
        special: which of the two.
        loss: the model is to learn to say it.
        role: of the turn that it is of.
    """

    text: str
    special: bool
    loss: bool
    role: Role


def render(document: Document) -> Iterator[Part]:
    """A document's parts in order. The assistant's mark is given, so it bears no loss; `<|end|>` does where
    the turn does.

    Raises:
        DataError: no turn bears the perspective, or a role is none of ours.
    """
    users = [index for index, turn in enumerate(document.turns) if turn.role == "user"]
    if document.perspective and not users:
        raise DataError(f"document {document.id!r}: a perspective needs a user's turn, there is none")
    for index, turn in enumerate(document.turns):
        if turn.role not in ROLES:
            raise DataError(
                f"document {document.id!r}: a role must be one of {', '.join(ROLES)}, got {turn.role!r}"
            )
        if turn.role in ("call", "none"):
            yield Part(ROLE_TOKENS["assistant"], True, False, turn.role)
            yield Part(ROLE_TOKENS[turn.role], True, turn.loss, turn.role)
        else:
            yield Part(ROLE_TOKENS[turn.role], True, False, turn.role)
        if document.perspective and index == users[-1]:
            yield Part(PERSPECTIVE_TOKENS[document.perspective], True, False, turn.role)
        yield Part(turn.text, False, turn.loss, turn.role)
        yield Part(END, True, turn.loss, turn.role)


def go_json(value: Any) -> str:
    """JSON as Go's `json.Marshal` writes it: keys sorted, no spaces, `<`, `>` and `&` escaped.

    Ollama renders with Go, so all else writes as it does. Numbers that are whole are written without a point;
    for others Python and Go agree from 0.0001 on.
    """
    text = json.dumps(
        _whole(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, Mapping):
        return {key: _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list | tuple) else value


def signature_text(name: str, description: str, arguments: Mapping[str, str | Sequence[str]]) -> str:
    """A tool's line: `{"arguments":{"city":"string","unit":["c","f"]},"description":"…","name":"…"}`.

    Args:
        description: "" for none; the key is then left out.
        arguments: of each, its type as JSON Schema calls it, or the strings that it may be.
    """
    entry = {"arguments": arguments, "name": name}
    return go_json(entry | ({"description": description} if description else {}))


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """What a call says: `{"arguments":{…},"name":"…"}`."""
    return go_json({"arguments": arguments, "name": name})
