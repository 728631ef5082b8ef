"""`pt memory`."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from device_sim.companion.config import ImportConfig
from personality_common.printable import counted
from personality_common.terminal.json_output import JsonPlace, emitted
from personality_common.terminal.options import FILE, FOLDER, GIVEN, PRINT_JSON, dataclass_options, take

if TYPE_CHECKING:
    from device_sim.companion.memory.memory import Memory
    from personality_common.text.identity import Encoder

SCHEMA: Final = 1
"""Of the results as JSON, after `memory.schema.json`."""

_store = click.argument("store", type=GIVEN)
_user = click.option("--user", default="default", show_default=True, help="Whose memories.")
_encoder = click.option(
    "--encoder",
    default="minilm",
    show_default=True,
    help="That made the vectors: minilm, openai, or a folder.",
)


@click.group()
def memory() -> None:
    """What the companion of a STORE remembers: find it, see why it is there, make it forget."""


@memory.command()
@_store
@click.argument("query")
@click.option(
    "-k", "count", type=click.IntRange(1, 100), default=5, show_default=True, help="How many chunks."
)
@_user
@_encoder
@PRINT_JSON
def search(store: Path, query: str, count: int, user: str, encoder: str, as_json: JsonPlace | None) -> None:
    """The chunks that are nearest to QUERY, the best first.

    score: dense + 0.03 lexical; dense: cosine of the embeddings; lexical: BM25 of the query's rare words,
    times their share of its words.
    """
    from device_sim.companion.memory.rendering import hits_table

    with _opened(store, encoder) as opened:
        hits = opened.search(query, user, count)
    _show(as_json, "hits", [asdict(hit) for hit in hits], lambda: hits_table(hits), "nothing is remembered")


@memory.command()
@_store
@click.argument("name")
@PRINT_JSON
def show(store: Path, name: str, as_json: JsonPlace | None) -> None:
    """The whole text of the chunk NAME, or of all chunks of the turn NAME, and why they are there."""
    from device_sim.companion.memory.rendering import chunk_table
    from personality_common.errors import ToolkitError
    from personality_common.terminal.console import output

    found = [chunk for chunk in _known(store, None) if name in chunk.names or name in chunk.turns]
    if not found:
        raise ToolkitError(
            f"{store}: a chunk or a turn must be remembered, {name!r} is not; see pt memory audit"
        )
    document = {"schema": SCHEMA, "chunks": [asdict(chunk) for chunk in found]}
    if not emitted(as_json, document, private=True):
        output.print(*map(chunk_table, found), sep="\n")


@memory.command()
@_store
@click.argument("names", nargs=-1)
@click.option("--matching", metavar="TEXT", help="All turns with this in their text, in whatever case.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@PRINT_JSON
def forget(
    store: Path, names: tuple[str, ...], matching: str | None, yes: bool, as_json: JsonPlace | None
) -> None:
    """Forget the turns NAMES, or all that said the chunks NAMES: from the log and the index.

    What is about to be forgotten is shown first.
    """
    from device_sim.companion.log import EventLog
    from device_sim.companion.memory.choosing import choose
    from device_sim.companion.memory.rendering import chosen_table
    from device_sim.companion.memory.upkeep import forget as forget_turns
    from device_sim.companion.memory.upkeep import open_to_forget
    from device_sim.companion.store import hold_store
    from personality_common.errors import ConfigError
    from personality_common.terminal.console import output

    if not names and matching is None:
        raise ConfigError("name turns or chunks, or say --matching TEXT")
    with hold_store(store) as held, EventLog(held.events) as log:
        opened = open_to_forget(held.memory, log)
        with opened or contextlib.nullcontext():
            chosen = choose(log.read(), opened.audit() if opened else [], names, matching)
            if chosen and (as_json is None or as_json.path is not None):
                output.print(chosen_table(chosen))
            question = f"Forget {counted(len(chosen), 'turn')} for good?"
            if chosen and not yes and not click.confirm(question, err=True):
                chosen = []
            turns, chunks = forget_turns(log, opened, [one.turn for one in chosen]) if chosen else (0, 0)
    forgotten = {"schema": SCHEMA, "turns": [one.turn for one in chosen], "chunks": chunks}
    if emitted(as_json, forgotten):
        return
    if turns or chunks:
        output.print(f"forgotten: {counted(turns, 'turn')}, {counted(chunks, 'chunk')}", soft_wrap=True)
    else:
        output.print("nothing forgotten")


@memory.command("import")
@click.argument("store", type=FOLDER)
@click.argument("file", type=GIVEN)
@dataclass_options(ImportConfig, skip=("store", "file"))
@PRINT_JSON
def import_(store: Path, file: Path, as_json: JsonPlace | None, **options: Any) -> None:
    """Put conversations of FILE into the log of STORE, as if they had been said here, and remember them.

    FILE: conversations.json of an OpenAI export, chats exported by Open WebUI, what llm logs -n 0 --json
    prints, or JSON or JSONL in the forms of ShareGPT or OpenAI. What is there already is not taken twice.
    """
    from device_sim.companion.memory.imports.importing import import_file
    from personality_common.terminal.console import ConsoleReporter, output

    config = take(ImportConfig, options, store=store, file=file)
    done = import_file(config, _load(config.encoder), ConsoleReporter())
    if not emitted(as_json, {"schema": SCHEMA, **done.as_json()}):
        output.print(str(done), soft_wrap=True)


@memory.command()
@_store
@click.option("--user", help="Of one user; all without it.")
@click.option("--out", type=FILE, help="Write here rather than to stdout.")
def export(store: Path, user: str | None, out: Path | None) -> None:
    """All that is remembered, a JSON object a line, the oldest first."""
    from personality_common.files.atomic import atomic_writer

    chunks = [asdict(chunk) for chunk in reversed(_known(store, user))]
    if out is None:
        for chunk in chunks:
            click.echo(json.dumps(chunk))
    else:
        with atomic_writer(out, private=True) as file:
            file.writelines(f"{json.dumps(chunk)}\n".encode() for chunk in chunks)


@memory.command()
@_store
@click.option("--user", help="Of one user; all without it.")
@PRINT_JSON
def audit(store: Path, user: str | None, as_json: JsonPlace | None) -> None:
    """What is known and why: by which turn, when, when last used; the whole file is read and checked."""
    from device_sim.companion.memory.rendering import known_table

    known = _known(store, user, checked=True)
    lines = [asdict(chunk) for chunk in known]
    _show(as_json, "chunks", lines, lambda: known_table(known), "nothing is remembered")


@memory.command()
@_store
@_encoder
@PRINT_JSON
def rebuild(store: Path, encoder: str, as_json: JsonPlace | None) -> None:
    """Make the memory anew from the log, as after a change of encoder; others read the old one meanwhile."""
    from device_sim.companion.log import EventLog
    from device_sim.companion.memory.memory import Memory, build
    from device_sim.companion.memory.sayings import remembered
    from device_sim.companion.store import hold_store
    from personality_common.terminal.console import output

    with hold_store(store) as held, EventLog(held.events) as log:
        build(held.memory, loaded := _load(encoder), remembered(log.read()))
        with Memory(held.memory, loaded) as opened:
            figures = {"turns": len(opened.turns()), "chunks": len(opened.audit())}
    if not emitted(as_json, {"schema": SCHEMA, **figures}):
        counts = f"{counted(figures['turns'], 'turn')}, {counted(figures['chunks'], 'chunk')}"
        output.print(f"rebuilt: {counts}", soft_wrap=True)


@memory.command("eval")
@_store
@click.option(
    "--questions", type=GIVEN, help='Lines of {"question": …, "turn": …}; else rare words of chunks.'
)
@_user
@_encoder
@PRINT_JSON
def eval_(store: Path, questions: Path | None, user: str, encoder: str, as_json: JsonPlace | None) -> None:
    """How often a search of this memory finds the turn that answers a question among its first five.

    Beside the search: cosine alone, BM25 over all words, and their reciprocal rank fusion.
    """
    from device_sim.companion.memory.evaluation import evaluate, keyword_questions, read_questions
    from device_sim.companion.memory.rendering import evaluation_table
    from personality_common.terminal.console import output

    with _opened(store, encoder) as opened:
        asked = read_questions(questions, user) if questions else keyword_questions(opened, user)
        found = evaluate(opened, asked)
    if not emitted(as_json, {"schema": SCHEMA, **asdict(found)}):
        output.print(evaluation_table(found))
        output.print(
            f"{counted(found.questions, 'question')}; a search: {found.ms[0]:.1f} ms, p95 {found.ms[1]:.1f}",
            soft_wrap=True,
        )


def _known(store: Path, user: str | None, *, checked: bool = False) -> list[Any]:
    from device_sim.companion.log import read_events
    from device_sim.companion.memory.sayings import last_uses
    from device_sim.companion.store import open_store

    with _opened(store, None) as opened:
        if checked:
            opened.check()
        return opened.audit(user, last_uses(read_events(open_store(store).events)))


@contextlib.contextmanager
def _opened(store: Path, encoder: str | None) -> Iterator[Memory]:
    """The memory of a store, brought level with its log; if somebody else has the store, as it is."""
    from device_sim.companion.log import EventLog
    from device_sim.companion.memory.memory import Memory
    from device_sim.companion.memory.upkeep import open_memory
    from device_sim.companion.store import hold_store, open_store
    from personality_common.errors import DataError, ToolkitError
    from personality_common.terminal.console import ConsoleReporter

    path = open_store(store).memory
    load = functools.cache(functools.partial(_load, encoder or "minilm"))
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(hold_store(store))
        except DataError:
            raise
        except ToolkitError:
            yield stack.enter_context(Memory(path, load() if encoder else None))
            return
        log = stack.enter_context(EventLog(held.events))
        opened, mended = open_memory(path, log, load, embeds=encoder is not None)
        stack.enter_context(opened)
        if str(mended):
            ConsoleReporter().say(f"{store}: memory: {mended}")
        yield opened


def _load(name: str) -> Encoder:
    from personality_common.text.encoder import load_encoder

    return load_encoder(name)


def _show(as_json: JsonPlace | None, key: str, lines: list[dict[str, Any]], table: Any, none: str) -> None:
    from personality_common.terminal.console import output

    if emitted(as_json, {"schema": SCHEMA, key: lines}, private=True):
        return
    if lines:
        output.print(table())
    else:
        output.print(none)
