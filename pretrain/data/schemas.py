"""One record of a conversation file -> what the human in it wrote. Pure: no files here.

Three schemas, told apart by the first of these keys that is there and not null (columnar
readers fill absent columns with null):

- ``conversations``: ShareGPT, ``[{"from": "human", "value": "..."}, ...]``
- ``messages``: OpenAI, ``[{"role": "user", "content": "..." or [{"type": "text", "text": "..."}]}, ...]``
- ``text``: one plain text

A human turn, and a record with ``text``, may have ``tokens``: a list of labels, see `text_labels`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Final, Literal, NamedTuple

Speaker = Literal["text", "system", "user", "assistant"]
Unit = Literal["turn", "conversation"]

SCHEMA_KEYS: Final = ("conversations", "messages", "text")
LABELS_KEY: Final = "tokens"
HUMAN_ROLES: Final = frozenset({"human", "user"})
SPEAKERS: Final[Mapping[str, Speaker]] = {
    **dict.fromkeys(HUMAN_ROLES, "user"),
    **dict.fromkeys(("assistant", "gpt", "model"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
"""What the schemas call who speaks."""


class BadRecord(Exception):
    """Why a record cannot be used. Names fields and types, and never quotes what a user wrote."""


class Truncated(BadRecord):
    """The same, of all that follows in the file: it cannot be left out as one record can."""


class Turn(NamedTuple):
    """What somebody wrote, the object that holds its labels, if any, and who it was, in the record's word."""

    text: str
    holder: dict[str, object]
    role: str


def human_texts(record: object, unit: Unit) -> tuple[list[str], int]:
    """What the human wrote in one record.

    Every turn must say who speaks; beyond that only human turns are looked into, since nothing
    else is used. A conversation without any (an empty one, too) gives no text and is no error.

    Args:
        record: a decoded JSON value.
        unit: ``turn``: each human turn is a text; ``conversation``: the record's human turns,
            joined with newlines, are one. A plain ``text`` is one text either way.

    Returns:
        The texts in order, stripped, none of them blank; and how many blank ones were dropped.

    Raises:
        BadRecord: no known schema, a wrong type, a null, or a text that UTF-8 cannot encode.
    """
    turns, blank = human_turns(record)
    texts = [turn.text for turn in turns]
    return (["\n".join(texts)] if unit == "conversation" and texts else texts), blank


def text_labels(record: object, unit: Unit) -> list[list[str]]:
    """Labels of each of the texts that `human_texts` gives for the same record.

    A conversation that is one text has those of all its turns.

    Raises:
        BadRecord: as `human_texts`; or labels are no list of strings, or stand beside the turns.
    """
    turns, _ = human_turns(record)
    labels = [_labels(turn.holder) for turn in turns]
    assert isinstance(record, dict)
    if record.get(LABELS_KEY) is not None and any(record.get(key) is not None for key in SCHEMA_KEYS[:2]):
        raise BadRecord(f"{LABELS_KEY} must stand in the human turns, not beside them")
    return [list(chain.from_iterable(labels))] if unit == "conversation" and labels else labels


def _labels(holder: dict[str, object]) -> list[str]:
    labels = holder.get(LABELS_KEY)
    if labels is None:
        return []
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise BadRecord(f"{LABELS_KEY} must be a list of strings, this is {_kind(labels)}")
    return labels


def human_turns(record: object) -> tuple[list[Turn], int]:
    """The human turns of one record that are not blank, stripped; and how many were blank.

    Raises:
        BadRecord: as `human_texts`.
    """
    written = _written(record, lambda role: role in HUMAN_ROLES)
    turns = [turn._replace(text=stripped) for turn in written if (stripped := turn.text.strip())]
    return turns, len(written) - len(turns)


def dialogue(record: object) -> list[tuple[Speaker, str]]:
    """Who says what in one record, stripped, without what is blank; a plain `text` is one turn.

    Raises:
        BadRecord: as `human_texts`; or somebody speaks who is neither human, assistant nor system.
    """
    turns = _written(record, _known_speaker)
    return [
        ("text" if turn.role == "text" else SPEAKERS[turn.role], stripped)
        for turn in turns
        if (stripped := turn.text.strip())
    ]


def _known_speaker(role: str) -> bool:
    if role not in SPEAKERS:
        raise BadRecord(f" must be one of {', '.join(sorted(SPEAKERS))}, this is another")
    return True


def _written(record: object, wanted: Callable[[str], bool]) -> list[Turn]:
    """The turns of those who are wanted, as they stand."""
    if not isinstance(record, dict):
        raise BadRecord(f"a record must be an object, this is {_kind(record)}")
    if record.get("conversations") is not None:
        return _turns(record["conversations"], ("conversations", "from", "value"), _string, wanted)
    if record.get("messages") is not None:
        return _turns(record["messages"], ("messages", "role", "content"), _string_or_parts, wanted)
    if record.get("text") is not None:
        try:
            return [Turn(_string(record["text"]), record, "text")]
        except BadRecord as bad:
            raise BadRecord(f"text{bad}") from None
    nulls = [key for key in SCHEMA_KEYS if key in record]
    raise BadRecord(
        f"{' and '.join(nulls)} must not be null"
        if nulls
        else "a record must have conversations, messages or text"
    )


def _turns(
    turns: object, keys: tuple[str, str, str], read: Callable[[object], str], wanted: Callable[[str], bool]
) -> list[Turn]:
    """Of a list of turns; `keys` are its own in the record, and those of speaker and content in a turn."""
    key, speaker, content = keys
    if not isinstance(turns, list):
        raise BadRecord(f"{key} must be a list of turns, this is {_kind(turns)}")
    written = []
    for index, turn in enumerate(turns):
        if not isinstance(turn, dict):
            raise BadRecord(f"{key}[{index}] must be an object, this is {_kind(turn)}")
        role = turn.get(speaker)
        if not isinstance(role, str):
            raise BadRecord(f"{key}[{index}].{speaker} must be a string, this is {_kind_of(turn, speaker)}")
        try:
            if not wanted(role):
                continue
        except BadRecord as bad:
            raise BadRecord(f"{key}[{index}].{speaker}{bad}") from None
        if content not in turn:
            raise BadRecord(f"{key}[{index}].{content} is missing")
        try:
            written.append(Turn(read(turn[content]), turn, role))
        except BadRecord as bad:
            raise BadRecord(f"{key}[{index}].{content}{bad}") from None
    return written


# The readers of a value raise with what is to stand after the value's name.


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise BadRecord(f" must be a string, this is {_kind(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadRecord(f" is not Unicode: a lone surrogate at character {error.start}") from None
    return value


def _string_or_parts(value: object) -> str:
    """The text parts joined with newlines; parts of other types (images, audio, files) are left out."""
    if isinstance(value, str):
        return _string(value)
    if not isinstance(value, list):
        raise BadRecord(f" must be a string or a list of parts, this is {_kind(value)}")
    texts = []
    for index, part in enumerate(value):
        if not isinstance(part, dict):
            raise BadRecord(f"[{index}] must be an object, this is {_kind(part)}")
        if not isinstance(part.get("type"), str):
            raise BadRecord(f"[{index}].type must be a string, this is {_kind_of(part, 'type')}")
        if part["type"] == "text":
            try:
                texts.append(_string(part.get("text")))
            except BadRecord as bad:
                raise BadRecord(f"[{index}].text{bad}") from None
    return "\n".join(texts)


def _kind_of(record: dict[str, object], key: str) -> str:
    return _kind(record[key]) if key in record else "missing"


def _kind(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "an object" if isinstance(value, dict) else f"a {type(value).__name__}")
