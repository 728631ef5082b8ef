"""`pt heads`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from personality_common.registry.cli import STORE, add_version_commands
from personality_common.terminal.json_output import JsonPlace, emitted
from personality_common.terminal.options import FOLDER, GIVEN, PRINT_JSON

if TYPE_CHECKING:
    from grpo.head import Head
    from personality_common.registry.record import Stored
    from personality_common.registry.registry import Registry
    from personality_common.registry.rendering import Figure

SCHEMA: Final = 1
"""Of what `diff` and `add` write as JSON, after `heads.schema.json`."""


@click.group()
def heads() -> None:
    """Versions of the head in a STORE: what is active, where each comes from, what it changed.

    A version may be named by any beginning of its id that no other has: h0007.
    """


@heads.command()
@STORE
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
    if not emitted(as_json, {"schema": SCHEMA, "before": before, "after": after, **asdict(found)}):
        output.print(*difference_tables(found), sep="\n")


@heads.command()
@click.argument("store", type=FOLDER)
@click.argument("head", type=GIVEN)
@click.option("--bundle", type=GIVEN, required=True, help="That the head is for; its reference judges drift.")
@PRINT_JSON
def add(store: Path, head: Path, bundle: Path, as_json: JsonPlace | None) -> None:
    """Keep HEAD, a file of pt grpo, as a version in STORE, which is made if it is not there.

    The new version is not active: pt heads activate makes it so, if it keeps the budgets.
    """
    from device_sim.heads.adding import add_head
    from personality_common.terminal.console import output

    version, record = add_head(store, head, bundle)
    gate = record.gates[0]
    added = {"schema": SCHEMA, "version": version, "passed": gate.passed, "detail": gate.detail}
    if not emitted(as_json, added):
        said = "kept its budgets" if gate.passed else "did not keep its budgets, so it cannot be activated"
        output.print(f"added: {version}, {said}: {gate.detail}", soft_wrap=True)


def _open(store: Path) -> Registry[Head]:
    from device_sim.heads.heads import open_heads

    return open_heads(store)


def _figures() -> tuple[Figure, ...]:
    from personality_common.registry.rendering import Figure

    return (
        Figure("reward", "before", "reward_mean", "+.2f"),
        Figure("overlap", "after", "overlap_shipped", ".2f"),
    )


def _stored_json(stored: Stored) -> dict[str, Any]:
    from device_sim.heads.rendering import stored_json

    return stored_json(stored)


add_version_commands(
    heads,
    _open,
    _figures,
    _stored_json,
    "reward: mean of the night that a version learned from; overlap: share of the shipped head's top 8 that"
    " it keeps on those texts.",
)
