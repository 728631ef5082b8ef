"""Documents as JSON lines: what a folder of data holds, and how it is read again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from personality_common.errors import DataError
from personality_common.files.typed import from_json
from pretrain.data.json_records import read_json_lines
from pretrain.data.schemas import BadRecord
from pretrain.lm.chat import PERSPECTIVES, ROLES, Document, Turn

GIVEN: Final = frozenset({"system", "tools"})
"""Roles of what is told beforehand. It is the same in many documents, so nothing is compared by it."""


def document_line(document: Document) -> bytes:
    """One line of JSON, UTF-8, with its end; the same document gives the same bytes."""
    value = {
        "id": document.id,
        "source": document.source,
        "group": document.group,
        "perspective": document.perspective,
        "turns": [{"role": turn.role, "text": turn.text, "loss": turn.loss} for turn in document.turns],
        "held_out": document.held_out,
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def parse_document(value: object, where: str) -> Document:
    """A document of a decoded line.

    Args:
        where: names file and line in the message.

    Raises:
        DataError: a field is missing or of another type; a name or text is empty, or no Unicode; there is no
            turn, none that bears loss, or one of a text beside others; a perspective without a user.
    """
    document = _well_typed(value) or from_json(Document, value, where)
    for name, text in (("id", document.id), ("source", document.source), ("group", document.group)):
        if not text:
            raise DataError(f"{where}: {name} must not be empty")
    for index, turn in enumerate(document.turns):
        if not turn.text:
            raise DataError(f"{where}: turns[{index}].text must not be empty")
        if not turn.text.isascii() and not _is_unicode(turn.text):
            raise DataError(f"{where}: turns[{index}].text must be Unicode, has a lone surrogate")
    roles = [turn.role for turn in document.turns]
    if "text" in roles and len(roles) > 1:
        raise DataError(f"{where}: a turn of a text must be alone, is beside {len(roles) - 1} others")
    if document.perspective and "user" not in roles:
        raise DataError(f"{where}: a perspective must have a user's turn, there is none")
    if not any(turn.loss for turn in document.turns):
        raise DataError(f"{where}: a turn must bear loss, none does; leave the document out")
    return document


def _well_typed(value: Any) -> Document | None:
    """The document of a value in which everything has its type; else None, and `from_json` says what has not.

    That one takes several times as long, and nearly all documents are well-typed.
    """
    try:
        document: Any = restored(value)
    except (AttributeError, KeyError, TypeError):
        return None
    names = (document.id, document.source, document.group)
    typed = all(type(name) is str for name in names) and type(value["turns"]) is list
    typed = typed and all(
        type(turn.role) is str and turn.role in ROLES and type(turn.text) is str and type(turn.loss) is bool
        for turn in document.turns
    )
    typed = typed and (document.perspective is None or document.perspective in PERSPECTIVES)
    return document if typed and document.held_out in (None, "value", "phrasing") else None


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of a JSONL file, one at a time.

    Raises:
        DataError: a line is malformed; the message has file and line.
    """
    for number, record in read_json_lines(path):
        if isinstance(record, BadRecord):
            raise DataError(f"{path}:{number}: {record}")
        yield parse_document(record, f"{path}:{number}")


def restored(value: dict[str, Any]) -> Document:
    """A document of a line that `document_line` wrote in this very process: nothing is checked."""
    turns = tuple(Turn(turn["role"], turn["text"], turn["loss"]) for turn in value["turns"])
    return Document(**{**value, "turns": turns})


def said(document: Document) -> str:
    """What makes a document itself: the words of its turns but for what is told beforehand.

    Where tools are offered and how, or who the assistant is to be, is the same in many documents, and not
    learned: two that differ in nothing else are one.
    """
    words = [
        turn.text.translate(_JSON_MARKS) if turn.role in ("call", "result") else turn.text
        for turn in document.turns
        if turn.role not in GIVEN
    ]
    return "\n".join(words)


_JSON_MARKS: Final = str.maketrans(dict.fromkeys('{}[]":,', " "))
"""Between the words of a call."""


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
