"""Files of other tools -> conversations.

| format | file | a record is |
|---|---|---|
| `openai` | `conversations.json` of OpenAI's data export | a conversation, a tree of messages |
| `open-webui` | Open WebUI's export of chats | a chat, a tree of messages |
| `llm` | `llm logs -n 0 --json` | a prompt and its response |
| `sharegpt`, `messages` | JSON or JSONL, as `pt pretrain` reads them | a conversation |

Of a tree the branch that its tool shows is taken. What systems and tools say is left out, and so is
everything that is no text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from personality_common.errors import DataError
from personality_common.files.bounded import open_regular
from pretrain.data.json_records import read_json_lines, read_json_values
from pretrain.data.schemas import BadRecord, dialogue

Source: TypeAlias = Literal["openai", "open-webui", "llm", "sharegpt", "messages"]
Role: TypeAlias = Literal["user", "assistant"]
MOST_MESSAGES: Final = 100_000
"""Of one conversation."""


@dataclass(frozen=True)
class Said:
    """A message.

    Attributes:
        time: ISO 8601 in UTC, to the millisecond; None: the file does not say.
        model: which said it, as the file calls it.
    """

    role: Role
    text: str
    time: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class Conversation:
    """A conversation of a file.

    Attributes:
        name: by which its tool knows it, or its place in the file.
        said: not blank, oldest first.
    """

    source: Source
    name: str
    said: tuple[Said, ...]


def read_conversations(path: Path) -> Iterator[Conversation]:
    """The conversations of a file; what kind it is, its records say.

    Raises:
        DataError: a record is of none of the formats, or malformed; the message has file and line, and
            quotes nothing.
    """
    os.close(open_regular(path))
    if path.suffix.lower() == ".zip":
        raise DataError(f"{path}: must be the file with the conversations, is an archive; unpack it first")
    lines = path.name.removesuffix(".gz").lower().endswith((".jsonl", ".ndjson"))
    prompts: dict[str, list[tuple[str, list[Said]]]] = {}
    for number, (line, record) in enumerate((read_json_lines if lines else read_json_values)(path)):
        try:
            if isinstance(record, BadRecord):
                raise record
            if not isinstance(record, dict):
                raise BadRecord("a record must be an object, is none")
            if "prompt" in record and "response" in record:
                # Of a conversation, in any order and between those of others.
                name = record.get("conversation_id") or record.get("id") or f"{path.name}:{number}"
                prompts.setdefault(_name(name), []).append(_prompt(record))
            else:
                yield _conversation(record, f"{path.name}:{number}")
        except BadRecord as bad:
            raise DataError(f"{path}:{line}: {bad}") from None
    for name, exchanges in prompts.items():
        exchanges.sort(key=lambda exchange: exchange[0])
        yield Conversation("llm", name, tuple(said for _, pair in exchanges for said in pair))


def _conversation(record: Mapping[str, Any], place: str) -> Conversation:
    if isinstance(record.get("mapping"), dict):
        return _openai(record, place)
    if isinstance(record.get("chat"), dict):
        return _open_webui(record, place)
    source: Source = "sharegpt" if record.get("conversations") is not None else "messages"
    name = _name(record["id"]) if isinstance(record.get("id"), str) else place
    turns = dialogue(record)
    if any(speaker == "text" for speaker, _ in turns):
        raise BadRecord("a record must be a conversation, is one text, of which nobody knows who said it")
    return Conversation(
        source, name, tuple(Said(who, text) for who, text in turns if who in ("user", "assistant"))
    )


def _openai(record: Mapping[str, Any], place: str) -> Conversation:
    said = []
    for node in _branch(record["mapping"], record.get("current_node"), "parent"):
        message = _object(node.get("message"))
        author, content = _object(message.get("author")), _object(message.get("content"))
        metadata = _object(message.get("metadata"))
        # Of an assistant: not the code that it runs, what it thinks, what it asks a tool.
        shown = content.get("content_type") in ("text", "multimodal_text")
        if shown and not metadata.get("is_visually_hidden_from_conversation"):
            parts = content.get("parts")
            texts = [part for part in parts if isinstance(part, str)] if isinstance(parts, list) else []
            if message.get("recipient", "all") == "all":
                time, model = _seconds(message.get("create_time")), metadata.get("model_slug")
                said += _said(author.get("role"), "\n".join(texts), time, model)
    name = record.get("conversation_id") or record.get("id") or place
    return Conversation("openai", _name(name), tuple(said))


def _open_webui(record: Mapping[str, Any], place: str) -> Conversation:
    chat = record["chat"]
    history = chat.get("history")
    messages: Any = chat.get("messages")
    if isinstance(history, dict) and isinstance(history.get("messages"), dict) and history.get("currentId"):
        messages = _branch(history["messages"], history["currentId"], "parentId")
    if not isinstance(messages, list):
        raise BadRecord("chat must have history or messages, has none")
    said = []
    for message in messages:
        if isinstance(message, dict):
            content = message.get("content")
            text = content if isinstance(content, str) else ""
            said += _said(message.get("role"), text, _seconds(message.get("timestamp")), message.get("model"))
    return Conversation("open-webui", _name(record.get("id") or place), tuple(said))


def _prompt(record: Mapping[str, Any]) -> tuple[str, list[Said]]:
    """A prompt with its response, and the time to order them by."""
    stamp = record.get("datetime_utc")
    time = _iso(stamp) if isinstance(stamp, str) else None
    texts = [record[key] if isinstance(record[key], str) else "" for key in ("prompt", "response")]
    return time or "", [
        *_said("user", texts[0], time, None),
        *_said("assistant", texts[1], time, record.get("model")),
    ]


def _branch(nodes: Mapping[str, Any], last: object, parent: str) -> list[Mapping[str, Any]]:
    """The nodes from the root to `last`.

    Raises:
        BadRecord: there is a circle, or a node that is not there.
    """
    branch: list[Mapping[str, Any]] = []
    seen: set[object] = set()
    while last is not None:
        node = nodes.get(last) if isinstance(last, str) else None
        if not isinstance(node, dict) or last in seen or len(seen) >= MOST_MESSAGES:
            raise BadRecord("its messages must hang together as a tree, do not")
        seen.add(last)
        branch.append(node)
        last = node.get(parent)
    return branch[::-1]


def _said(role: object, text: str, time: str | None, model: object) -> list[Said]:
    """The message, if it is one to keep: none, or one.

    Raises:
        BadRecord: half a character.
    """
    if role not in ("user", "assistant") or not text.strip():
        return []
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRecord(f"a text is not Unicode: a lone surrogate at character {error.start}") from None
    named = model if isinstance(model, str) and role == "assistant" else None
    return [Said(role, text.strip(), time, named)]


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _name(name: object) -> str:
    return str(name)[:200]


def _seconds(stamp: object) -> str | None:
    """Seconds since 1970, as events have their time."""
    if isinstance(stamp, bool) or not isinstance(stamp, (int, float)):
        return None
    try:
        return _utc(datetime.fromtimestamp(stamp, UTC))
    except (OverflowError, OSError, ValueError):
        return None


def _iso(stamp: str) -> str | None:
    try:
        time = datetime.fromisoformat(stamp)
        return _utc(time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC))
    except (OverflowError, ValueError):
        return None


def _utc(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
