"""A source of the mix -> documents, one at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from personality_common.errors import DataError
from pretrain.data.schemas import BadRecord, Speaker, Truncated, dialogue
from pretrain.data.sources import HUB_PREFIX, Part, open_source
from pretrain.lm.chat import Document, Turn
from pretrain.lm.data.mix import Kind, MixFile, SourceConfig
from pretrain.lm.data.perspectives import perspective_documents
from pretrain.lm.data.reasoning import reasoning_documents
from pretrain.lm.data.self_description import self_documents
from pretrain.lm.data.tools import tool_documents

PIECE: Final = 8_000
"""Characters of a document of plain text, at most: a longer text is several, of one group."""
_BREAKS: Final = ("\n\n", "\n", ". ", " ")
"""Where a text is divided, the best first."""


class Found(NamedTuple):
    """A document, and on which side of the split it is: None leaves that to its group."""

    document: Document
    unseen: bool | None


@dataclass
class Reading:
    """What a source gave: records that were malformed, and documents without anything to learn."""

    bad_records: int = 0
    silent: int = 0


def read_source(source: SourceConfig, file: MixFile, reading: Reading) -> Iterator[Found]:
    """The documents of a source, in order; `reading` counts what is left out.

    Raises:
        DataError: a corpus is not there, or a record is malformed (unless the source skips them); the message
            has file and line.
        ToolkitError: the hub cannot be reached, or breaks off.
    """
    if source.kind == "corpus":
        return _corpus(source, file.place(source), reading)
    return _GENERATORS[source.kind](source, file)


def _tools(source: SourceConfig, file: MixFile) -> Iterator[Found]:
    for document in tool_documents(source.name, _count(source), file.mix.seed, _share(file)):
        yield Found(document, document.held_out is not None)


def _perspectives(source: SourceConfig, file: MixFile) -> Iterator[Found]:
    made = perspective_documents(source.name, _count(source), file.mix.seed, _share(file))
    return (Found(document, unseen) for document, unseen in made)


def _reasoning(source: SourceConfig, file: MixFile) -> Iterator[Found]:
    made = reasoning_documents(source.name, _count(source), file.mix.seed, _share(file))
    return (Found(document, unseen) for document, unseen in made)


def _self_description(source: SourceConfig, file: MixFile) -> Iterator[Found]:
    made = self_documents(source.name, _count(source), file.mix.seed, source.assistant)
    return (Found(document, False) for document in made)


_GENERATORS: Final[Mapping[Kind, Callable[[SourceConfig, MixFile], Iterator[Found]]]] = {
    "tools": _tools,
    "perspectives": _perspectives,
    "reasoning": _reasoning,
    "self-description": _self_description,
}


def _count(source: SourceConfig) -> int:
    assert source.documents is not None
    return source.documents


def _share(file: MixFile) -> float:
    return file.mix.split.validation + file.mix.split.test


def _corpus(source: SourceConfig, place: str, reading: Reading) -> Iterator[Found]:
    given = 0
    for part in open_source(place, prose=True):
        name = _part_name(part, place)
        for number, record in part.read():
            try:
                if isinstance(record, BadRecord):
                    raise record
                group = _group(record, f"{name}:{number}", name, source)
                turns = [_turn(speaker, text, source) for speaker, text in dialogue(record)]
            except BadRecord as bad:
                if not source.skip_bad_records:
                    raise DataError(f"{part.position(number)}: {bad}{_advice(bad, source)}") from None
                reading.bad_records += 1
                continue
            if not any(turn.loss for turn in turns):
                reading.silent += 1
                continue
            for document in _documents(source, f"{name}:{number}", group, turns):
                yield Found(document, None if source.held_out else False)
                given += 1
                if given == source.documents:
                    return


def _advice(bad: BadRecord, source: SourceConfig) -> str:
    if isinstance(bad, Truncated):
        return "; what follows cannot be read: get the file again, or mend it"
    return f" (skip_bad_records = true in source {source.name} leaves such records out and counts them)"


def _documents(source: SourceConfig, at: str, group: str, turns: list[Turn]) -> Iterator[Document]:
    name, group = f"{source.name}/{at}", f"{source.name}/{group}"
    if turns[0].role != "text" or len(turns[0].text) <= PIECE:
        yield Document(name, source.name, group, None, tuple(turns))
        return
    for number, text in enumerate(pieces(turns[0].text), 1):
        yield Document(f"{name}/{number}", source.name, group, None, (Turn("text", text, True),))


def pieces(text: str, most: int = PIECE) -> Iterator[str]:
    """A text in stretches of at most so many characters, divided between paragraphs, else lines, sentences,
    words; stripped, none blank."""
    start = 0
    while start < len(text):
        end = start + most
        if end < len(text):
            places = (text.rfind(mark, start + most // 2, end) + len(mark) for mark in _BREAKS)
            end = next((at for at in places if at > start + most // 2), end)
        if piece := text[start:end].strip():
            yield piece
        start = end


def _turn(speaker: Speaker, text: str, source: SourceConfig) -> Turn:
    learned = ("text", "assistant", "user") if source.loss == "all" else ("text", "assistant")
    return Turn(speaker, text, speaker in learned)


def _group(record: object, at: str, part: str, source: SourceConfig) -> str:
    """What a record is never parted from."""
    if source.group == "file":
        return part
    field = source.group_field
    if field is None:
        return at
    value = record.get(field) if isinstance(record, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise BadRecord(f"{field}, which names the record's group, must be a string or a whole number")
    return f"{field}={value}"


def _part_name(part: Part, place: str) -> str:
    """Of a file, below the corpus's folder: the same wherever the folder is."""
    if place.startswith(HUB_PREFIX):
        return place
    root, file = Path(place), Path(part.name)
    name = file.relative_to(root).as_posix() if root.is_dir() else file.name
    return os.fsencode(name).decode(errors="replace")
