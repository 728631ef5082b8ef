"""`pt heads`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

_store = click.argument("store", type=click.Path(path_type=Path))
_version = click.argument("version")
_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group()
def heads() -> None:
    """Versions of the head in a STORE: what is active, where each comes from, what it changed."""


@heads.command("list")
@_store
@_json
def list_(store: Path, as_json: bool) -> None:
    """All versions, oldest first."""
    from device_sim.heads.rendering import versions_table
    from device_sim.heads.store import HeadStore
    from personality_common.terminal.console import output

    versions = HeadStore(store).versions()
    if as_json:
        click.echo(json.dumps([asdict(version) for version in versions]))
    else:
        output.print(versions_table(versions))


@heads.command()
@_store
@_version
@_json
def show(store: Path, version: str, as_json: bool) -> None:
    """Where VERSION comes from, its gates and its metrics; its checksums are verified."""
    from device_sim.heads.rendering import record_tables
    from device_sim.heads.store import HeadStore
    from personality_common.terminal.console import output

    opened = HeadStore(store)
    opened.load(version)
    stored = opened.show(version)
    if as_json:
        click.echo(json.dumps(asdict(stored)))
    else:
        output.print(*record_tables(stored), sep="\n")


@heads.command()
@_store
@click.argument("before")
@click.argument("after")
@_json
def diff(store: Path, before: str, after: str, as_json: bool) -> None:
    """What changed from version BEFORE to version AFTER."""
    from device_sim.heads.difference import difference
    from device_sim.heads.rendering import difference_tables
    from device_sim.heads.store import HeadStore
    from personality_common.terminal.console import output
    from personality_common.vocabulary import load_vocabulary, require_same_vocabulary

    opened, vocabulary = HeadStore(store), load_vocabulary()
    require_same_vocabulary(opened.pointers().identity.vocabulary, vocabulary.fingerprint, str(store))
    found = difference(opened.load(before), opened.load(after), vocabulary.tokens)
    if as_json:
        click.echo(json.dumps({"before": before, "after": after, **asdict(found)}))
    else:
        output.print(*difference_tables(found), sep="\n")


@heads.command()
@_store
@_version
@_json
def activate(store: Path, version: str, as_json: bool) -> None:
    """Make VERSION the active one; refused unless checksums hold and its gates passed."""
    opened = _open(store)
    opened.activate(version)
    _say(as_json, {"active": version}, f"active: {version}")


@heads.command()
@_store
@_json
def rollback(store: Path, as_json: bool) -> None:
    """Go back to the version that was active before."""
    version = _open(store).rollback()
    _say(as_json, {"active": version}, f"active: {version}")


@heads.command()
@_store
@_version
@click.option("--off", is_flag=True, help="Let it be pruned again.")
@_json
def pin(store: Path, version: str, off: bool, as_json: bool) -> None:
    """Keep VERSION whatever is pruned."""
    opened = _open(store)
    (opened.unpin if off else opened.pin)(version)
    _say(as_json, {"version": version, "pinned": not off}, f"{'unpinned' if off else 'pinned'}: {version}")


@heads.command()
@_store
@click.option("--keep", type=click.IntRange(min=1), required=True, help="How many of the last to keep.")
@_json
def prune(store: Path, keep: int, as_json: bool) -> None:
    """Remove old versions; never one that is pinned, active, or was active before."""
    removed = _open(store).prune(keep)
    _say(as_json, {"removed": removed}, f"removed: {', '.join(removed) or 'none'}")


def _open(store: Path) -> Any:
    from device_sim.heads.store import HeadStore

    return HeadStore(store)


def _say(as_json: bool, value: dict[str, Any], line: str) -> None:
    click.echo(json.dumps(value) if as_json else line)
