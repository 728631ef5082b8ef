"""`--json FILE|-` means one thing in every command that has it."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from personality_common.cli import cli
from personality_common.terminal.json_output import HELP, JsonPlace, JsonType, emitted, json_option

WITHOUT = {
    # They have no result of their own, or print JSON lines as all they print.
    "run", "grpo", "chat", "serve", "feedback", "memory export", "lm tokenizer", "lm call", "lm chat",
    "lm serve", "character predict", "night run",
}  # fmt: skip


def commands(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


def test_every_command_takes_it_as_the_others_do() -> None:
    without = set()
    for name, command in commands(cli):
        option = next((p for p in command.params if "--json" in p.opts), None)
        if option is None:
            without.add(name)
            continue
        assert isinstance(option, click.Option)
        assert isinstance(option.type, JsonType), name
        assert (option.metavar, option.help, option.flag_value) == ("FILE|-", HELP, "-")
    assert without == WITHOUT


@click.command()
@json_option()
def example(as_json: JsonPlace | None) -> None:
    if not emitted(as_json, {"text": "grüße"}, private=True):
        click.echo("for people")


@pytest.mark.parametrize("given", [["--json"], ["--json", "-"], ["--json=-"]])
def test_standard_output_has_the_json_and_nothing_else(given: list[str]) -> None:
    assert json.loads(CliRunner().invoke(example, given).stdout) == {"text": "grüße"}


def test_a_file_is_written_beside_what_is_printed(tmp_path: Path) -> None:
    file = tmp_path / "new" / "r.json"
    assert CliRunner().invoke(example, ["--json", str(file)]).stdout == "for people\n"
    assert json.loads(file.read_text()) == {"text": "grüße"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert CliRunner().invoke(example, []).stdout == "for people\n"
    refused = CliRunner().invoke(example, ["--json", str(tmp_path)])
    assert refused.exit_code == 2
    assert "must be a file, is a folder" in refused.output
