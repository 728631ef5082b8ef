"""`pt adapters`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from device_sim.adapters.export import AdapterExportConfig
from personality_common.registry.cli import STORE, add_version_commands
from personality_common.terminal.json_output import JsonPlace, emitted
from personality_common.terminal.options import FOLDER, PRINT_JSON, dataclass_options, take

if TYPE_CHECKING:
    from device_sim.adapters.adapter import Adapter
    from personality_common.registry.registry import Registry
    from personality_common.registry.rendering import Figure

SCHEMA: Final = 1
"""Of what `diff` and `export` write as JSON, after `adapters.schema.json`."""


@click.group()
def adapters() -> None:
    """Versions of the language model's adapter in a companion's STORE, one for each night that learned.

    A version may be named by any beginning of its id that no other has: a0007.
    """


@adapters.command()
@STORE
@click.argument("before")
@click.argument("after")
@PRINT_JSON
def diff(store: Path, before: str, after: str, as_json: JsonPlace | None) -> None:
    """What changed from version BEFORE to version AFTER, in what they add to the base's weights."""
    from device_sim.adapters.difference import difference
    from device_sim.adapters.rendering import difference_tables
    from personality_common.terminal.console import output

    opened = _open(store)
    before, after = opened.resolve(before), opened.resolve(after)
    found = difference(opened.load(before), opened.load(after))
    versions = {"before_version": before, "after_version": after}
    if not emitted(as_json, {"schema": SCHEMA, **versions, **asdict(found)}):
        output.print(*difference_tables(found), sep="\n")


@adapters.command()
@STORE
@dataclass_options(
    AdapterExportConfig,
    skip=("store",),
    types={"out": FOLDER},
    metavars={"out": "DIR", "version": "VERSION", "merged": "TYPE", "base": "GGUF"},
)
@PRINT_JSON
def export(store: Path, as_json: JsonPlace | None, **options: Any) -> None:
    """Write a version of STORE as GGUF for llama.cpp, and as the folders that peft and mlx-lm read."""
    config: AdapterExportConfig = take(AdapterExportConfig, options, store=store)

    from device_sim.adapters.export import export_adapter
    from personality_common.terminal.console import output

    opened = _open(store)
    version = opened.resolve(config.version) if config.version else opened.active
    names = export_adapter(opened.load(version), config)
    made = {"schema": SCHEMA, "version": version, "out": str(config.out), "files": names}
    if not emitted(as_json, made):
        output.print(f"{version} in {config.out}: {', '.join(names)}", soft_wrap=True)


def _open(store: Path) -> Registry[Adapter]:
    from device_sim.adapters.learned import open_adapters

    return open_adapters(store)


def _figures() -> tuple[Figure, ...]:
    from personality_common.registry.rendering import Figure

    return (
        Figure("held out before", "before", "held_out", ".2f"),
        Figure("after", "after", "held_out", ".2f"),
    )


add_version_commands(
    adapters,
    _open,
    _figures,
    lambda stored: asdict(stored),
    "held out: log-probability, nats a token, of what the night held out, before and after it.",
)
