"""`pt heads`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personality_common.terminal.json_output import JsonPlace, emitted
from personality_common.terminal.options import GIVEN, PRINT_JSON

if TYPE_CHECKING:
    from grpo.head import Head
    from personality_common.registry.registry import Registry

_store = click.argument("store", type=GIVEN)
_version = click.argument("version")


@click.group()
def heads() -> None:
    """Versions of the head in a STORE: what is active, where each comes from, what it changed.

    A version may be named by any beginning of its id that no other has: h0007.
    """


@heads.command("list")
@_store
@PRINT_JSON
def list_(store: Path, as_json: JsonPlace | None) -> None:
    """All versions, oldest first.

    reward: mean of the night that a version learned from; overlap: share of the shipped head's top 8 that it
    keeps on those texts.
    """
    from device_sim.heads.rendering import stored_json, versions_table
    from personality_common.terminal.console import output

    versions = _open(store).versions()
    lines = [vars(v) | {"stored": v.stored and stored_json(v.stored)} for v in versions]
    if not emitted(as_json, lines):
        output.print(versions_table(versions))


@heads.command()
@_store
@_version
@PRINT_JSON
def show(store: Path, version: str, as_json: JsonPlace | None) -> None:
    """Where VERSION comes from, its gates and its metrics; its checksums are verified."""
    from device_sim.heads.rendering import record_tables, stored_json
    from personality_common.terminal.console import output

    opened = _open(store)
    version = opened.resolve(version)
    opened.load(version)
    stored = opened.show(version)
    if not emitted(as_json, stored_json(stored)):
        output.print(*record_tables(stored), sep="\n")


@heads.command()
@_store
@click.argument("before")
@click.argument("after")
@click.option("--tokens", type=GIVEN, help="The app's own vocabulary; one ships with the toolkit.")
@PRINT_JSON
def diff(store: Path, before: str, after: str, tokens: Path | None, as_json: JsonPlace | None) -> None:
    """What changed from version BEFORE to version AFTER."""
    from device_sim.heads.difference import difference
    from device_sim.heads.rendering import difference_tables
    from personality_common.errors import MismatchError
    from personality_common.terminal.console import output
    from personality_common.vocabulary import load_vocabulary

    opened, vocabulary = _open(store), load_vocabulary(tokens)
    if opened.pointers().identity.get("vocabulary") != vocabulary.fingerprint:
        raise MismatchError(
            f"{store}: its heads must have the vocabulary of {tokens or 'the toolkit'}, have another one;"
            " name the personality-tokens.json of their bundle with --tokens"
        )
    before, after = opened.resolve(before), opened.resolve(after)
    found = difference(opened.load(before), opened.load(after), vocabulary.tokens)
    if not emitted(as_json, {"before": before, "after": after, **asdict(found)}):
        output.print(*difference_tables(found), sep="\n")


@heads.command()
@_store
@PRINT_JSON
def audit(store: Path, as_json: JsonPlace | None) -> int:
    """Verify every byte of every version, and tell which was active when."""
    from device_sim.heads.rendering import audit_tables
    from personality_common.terminal.console import output

    found = _open(store).audit()
    if not emitted(as_json, asdict(found)):
        output.print(*audit_tables(found), sep="\n")
    return int(any(found.damage.values()))


@heads.command()
@_store
@_version
@PRINT_JSON
def activate(store: Path, version: str, as_json: JsonPlace | None) -> None:
    """Make VERSION the active one; refused unless checksums hold and its gates passed."""
    with _changed(store) as opened:
        version = opened.resolve(version)
        opened.activate(version)
    _say(as_json, {"active": version}, f"active: {version}")


@heads.command()
@_store
@PRINT_JSON
def rollback(store: Path, as_json: JsonPlace | None) -> None:
    """Go back to the version that was active before."""
    with _changed(store) as opened:
        version = opened.rollback()
    _say(as_json, {"active": version}, f"active: {version}")


@heads.command()
@_store
@_version
@click.option("--off", is_flag=True, help="Let it be pruned again.")
@PRINT_JSON
def pin(store: Path, version: str, off: bool, as_json: JsonPlace | None) -> None:
    """Keep VERSION whatever is pruned."""
    with _changed(store) as opened:
        version = opened.resolve(version)
        (opened.unpin if off else opened.pin)(version)
    _say(as_json, {"version": version, "pinned": not off}, f"{'unpinned' if off else 'pinned'}: {version}")


@heads.command()
@_store
@click.option("--keep", type=click.IntRange(min=1), required=True, help="How many of the last to keep.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@PRINT_JSON
def prune(store: Path, keep: int, dry_run: bool, as_json: JsonPlace | None) -> None:
    """Remove old versions; never one that is pinned, active, or was active before.

    Copies of one head count once for --keep, so that nights that changed nothing drive nothing out.
    """
    if dry_run:
        removable = _open(store).prunable(keep)
        _say(as_json, {"would_remove": removable}, f"would remove: {', '.join(removable) or 'none'}")
        return
    with _changed(store) as opened:
        removed = opened.prune(keep)
    _say(as_json, {"removed": removed}, f"removed: {', '.join(removed) or 'none'}")


def _open(store: Path) -> Registry[Head]:
    from device_sim.heads.heads import open_heads

    return open_heads(store)


@contextlib.contextmanager
def _changed(store: Path) -> Iterator[Registry[Head]]:
    """A store to change; says so if that brought it to another schema."""
    from personality_common.terminal.console import ConsoleReporter

    opened = _open(store)
    older = opened.older
    yield opened
    if older and not opened.older:
        ConsoleReporter().say(f"{store}: brought to the present schema; an earlier pt cannot open it now")


def _say(as_json: JsonPlace | None, value: dict[str, Any], line: str) -> None:
    from personality_common.terminal.console import output

    if not emitted(as_json, value):
        output.print(line, soft_wrap=True)
