"""What `pt heads` and `pt adapters` have in common: list, show, audit, activate, roll back, pin, prune."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from personality_common.terminal.json_output import JsonPlace, emitted
from personality_common.terminal.options import GIVEN, PRINT_JSON

if TYPE_CHECKING:
    from personality_common.registry.record import Stored
    from personality_common.registry.registry import Registry
    from personality_common.registry.rendering import Figure

STORE: Final = click.argument("store", type=GIVEN)
VERSION: Final = click.argument("version")

SCHEMA: Final = 1
"""Of the results as JSON, after `versions.schema.json`."""

Open = Callable[[Path], "Registry[Any]"]


def add_version_commands(
    group: click.Group,
    open_: Open,
    figures: Callable[[], tuple[Figure, ...]],
    stored_json: Callable[[Stored], dict[str, Any]],
    list_help: str,
) -> None:
    """Add the commands of a kind's versions to its group.

    Args:
        open_: a store of them.
        figures: the list's columns.
        stored_json: a version as `--json` has it.
        list_help: what the figures are.
    """
    add_reading_commands(group, open_, figures, stored_json, list_help)
    add_changing_commands(group, open_)


def add_reading_commands(
    group: click.Group,
    open_: Open,
    figures: Callable[[], tuple[Figure, ...]],
    stored_json: Callable[[Stored], dict[str, Any]],
    list_help: str,
) -> None:
    """`list`, `show` and `audit`."""

    @group.command("list", help=f"All versions, oldest first.\n\n{list_help}")
    @STORE
    @PRINT_JSON
    def list_(store: Path, as_json: JsonPlace | None) -> None:
        from personality_common.registry.rendering import versions_table
        from personality_common.terminal.console import output

        versions = open_(store).versions()
        lines = [vars(v) | {"stored": v.stored and stored_json(v.stored)} for v in versions]
        if not emitted(as_json, {"schema": SCHEMA, "versions": lines}):
            output.print(versions_table(versions, figures()))

    @group.command()
    @STORE
    @VERSION
    @PRINT_JSON
    def show(store: Path, version: str, as_json: JsonPlace | None) -> None:
        """Where VERSION comes from, its gates and its metrics; its checksums are verified."""
        from personality_common.registry.rendering import record_tables
        from personality_common.terminal.console import output

        opened = open_(store)
        version = opened.resolve(version)
        opened.load(version)
        stored = opened.show(version)
        if not emitted(as_json, {"schema": SCHEMA, **stored_json(stored)}):
            output.print(*record_tables(stored), sep="\n")

    @group.command()
    @STORE
    @PRINT_JSON
    def audit(store: Path, as_json: JsonPlace | None) -> int:
        """Verify every byte of every version, and tell which was active when."""
        from personality_common.registry.rendering import audit_tables
        from personality_common.terminal.console import output

        found = open_(store).audit()
        if not emitted(as_json, {"schema": SCHEMA, **asdict(found)}):
            output.print(*audit_tables(found), sep="\n")
        return int(any(found.damage.values()))


def add_changing_commands(group: click.Group, open_: Open) -> None:
    """`activate`, `rollback`, `pin` and `prune`."""

    @group.command()
    @STORE
    @VERSION
    @PRINT_JSON
    def activate(store: Path, version: str, as_json: JsonPlace | None) -> None:
        """Make VERSION the active one; refused unless checksums hold and its gates passed."""
        with _changed(open_, store) as opened:
            version = opened.resolve(version)
            opened.activate(version)
        _say(as_json, {"active": version}, f"active: {version}")

    @group.command()
    @STORE
    @PRINT_JSON
    def rollback(store: Path, as_json: JsonPlace | None) -> None:
        """Go back to the version that was active before."""
        with _changed(open_, store) as opened:
            version = opened.rollback()
        _say(as_json, {"active": version}, f"active: {version}")

    @group.command()
    @STORE
    @VERSION
    @click.option("--off", is_flag=True, help="Let it be pruned again.")
    @PRINT_JSON
    def pin(store: Path, version: str, off: bool, as_json: JsonPlace | None) -> None:
        """Keep VERSION whatever is pruned."""
        with _changed(open_, store) as opened:
            version = opened.resolve(version)
            (opened.unpin if off else opened.pin)(version)
        said = f"{'unpinned' if off else 'pinned'}: {version}"
        _say(as_json, {"version": version, "pinned": not off}, said)

    @group.command()
    @STORE
    @click.option("--keep", type=click.IntRange(min=1), required=True, help="How many of the last to keep.")
    @click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @PRINT_JSON
    def prune(store: Path, keep: int, dry_run: bool, yes: bool, as_json: JsonPlace | None) -> None:
        """Remove old versions; never one that is pinned, active, or was active before.

        Copies count once for --keep, so that nights that changed nothing drive nothing out.
        """
        removable = open_(store).prunable(keep)
        if dry_run:
            _say(as_json, {"would_remove": removable}, f"would remove: {', '.join(removable) or 'none'}")
            return
        if removable and not yes:
            click.confirm(f"Remove {', '.join(removable)} for good?", abort=True, err=True)
        with _changed(open_, store) as opened:
            removed = opened.prune(keep)
        _say(as_json, {"removed": removed}, f"removed: {', '.join(removed) or 'none'}")


@contextlib.contextmanager
def _changed(open_: Open, store: Path) -> Iterator[Registry[Any]]:
    """A store to change; says so if that brought it to another schema."""
    from personality_common.terminal.console import ConsoleReporter

    opened = open_(store)
    older = opened.older
    yield opened
    if older and not opened.older:
        ConsoleReporter().say(f"{store}: brought to the present schema; an earlier pt cannot open it now")


def _say(as_json: JsonPlace | None, value: dict[str, Any], line: str) -> None:
    from personality_common.terminal.console import output

    if not emitted(as_json, {"schema": SCHEMA, **value}):
        output.print(line, soft_wrap=True)
