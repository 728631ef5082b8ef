"""`--config FILE.toml` and `--save-config`: every command, the command line wins, nothing is guessed."""

import shlex
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from personality_common.cli import cli, main
from personality_common.examples import EXAMPLES
from personality_common.terminal.command import GroupedOption, PtCommand, dressed
from personality_common.terminal.json_output import json_option
from personality_common.terminal.settings import options_of

ROOT = Path(__file__).parents[3]


@click.command()
@click.option("--epochs", type=int, default=3, show_default=True, help="Passes.")
@click.option("--lr", type=float)
@click.option("--resume", is_flag=True)
@click.option("--data", multiple=True)
@click.option("--name", default='a "b"\\\n')
@click.option("--api-key", envvar="PT_TEST_KEY")
@click.option("--few", type=int, cls=GroupedOption, heading="Others", help="Some.")
@json_option()
@click.argument("run")
def example(**options: Any) -> None:
    """What was given."""
    for name, value in sorted(options.items()):
        click.echo(f"{name}={value!r}")


COMMAND = PtCommand.of(example, "example", {"example": "pt example run --epochs 4"})


def run(*arguments: object) -> Result:
    return CliRunner().invoke(COMMAND, [str(a) for a in arguments])


def file(folder: Path, text: str) -> Path:
    path = folder / "options.toml"
    path.write_text(text)
    return path


def test_the_command_line_wins(tmp_path: Path) -> None:
    path = file(tmp_path, 'epochs = 5\nlr = 1e-3\nresume = true\ndata = ["a", "b"]\nname = "c"\njson = "-"')
    said = run("--config", path, "r", "--epochs", 7).output
    for line in ("epochs=7", "lr=0.001", "resume=True", "data=('a', 'b')", "name='c'", "run='r'"):
        assert line in said.splitlines()
    assert "data=('z',)" in run("r", "--config", path, "--data", "z").output.splitlines()
    assert "epochs=3" in run("r").output.splitlines()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epoch = 3", "'epoch' is no option of this command; did you mean epochs?"),
        ("frobnicate = 3", "'frobnicate' is no option of this command; it has data, epochs"),
        ('run = "r"', "'run' is no option"),
        ('api-key = "secret"', "'api-key' is no option"),
        ("resume = 1", "resume must be true or false, is a number"),
        ("epochs = true", "epochs must be a text or a number, is true or false"),
        ("epochs = [3]", "epochs must be a text or a number, is a list"),
        ("[epochs]\nx = 1", "epochs must be a text or a number, is a table"),
        ("epochs = 2026-01-01", "epochs must be a text or a number, is date"),
        ("epochs =", "must be TOML, is not"),
        ("epochs = 1\nepochs = 2", "must be TOML, is not"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, says: str) -> None:
    done = run("r", "--config", file(tmp_path, text))
    assert done.output == ""
    assert says in str(done.exception)
    assert str(tmp_path) in str(done.exception)


def test_a_number_is_read_as_on_the_command_line(tmp_path: Path) -> None:
    done = run("r", "--config", file(tmp_path, "epochs = 2.5"))
    assert done.exit_code == 2
    assert "'2.5' is not a valid integer" in done.output


def test_what_is_saved_is_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PT_TEST_KEY", "secret")
    saved = tmp_path / "saved.toml"
    given = ("--lr", "inf", "--data", "grüße\x7f", "--data", "b", "--json", "-")
    first = run("r", *given, "--save-config", saved)
    text = saved.read_text()
    assert tomllib.loads(text) == {"lr": float("inf"), "data": ["grüße\x7f", "b"], "json": "-"}
    assert "# epochs = 3" in text.splitlines()
    assert "secret" not in text
    commented = tomllib.loads("\n".join(line.removeprefix("# ") for line in text.splitlines()[1:]))
    assert commented["name"] == 'a "b"\\\n'
    assert commented["resume"] is False
    assert run("r", "--config", saved).output == first.output
    again = tmp_path / "again.toml"
    run("r", "--config", saved, "--save-config", again)
    assert again.read_text() == text


def test_help_is_in_groups_and_has_an_example() -> None:
    said = run("--help").output
    order = [said.index(f"\n{name}:\n") for name in ("Options", "Others", "General", "Example")]
    assert order == sorted(order)
    assert said.endswith("Example:\n  pt example run --epochs 4\n")
    assert said.index("--few") > said.index("Others:")
    assert said.index("--json") > said.index("General:") > said.index("--few")
    assert dressed(COMMAND, "x", {}) is COMMAND


def commands(group: click.Group, above: str = "") -> dict[str, click.Command]:
    context = click.Context(group)
    found: dict[str, click.Command] = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= commands(command, f"{above}{name} ")
        else:
            found[f"{above}{name}"] = command
            if isinstance(command, PtCommand) and command.split is not None:
                found[f"{above}{name} {command.split.flag}"] = command
    return found


def test_every_command_has_an_example_that_it_takes() -> None:
    known = commands(cli)
    assert set(known) == set(EXAMPLES)
    for name, command in known.items():
        assert isinstance(command, PtCommand), name
        words = shlex.split(EXAMPLES[name])
        assert words[0] == "pt"
        path = name.split()
        assert words[1 : 1 + len(path)] == path
        # Refuses options that are not there, and words too many; paths need not be.
        context = command.make_context(name, words[1 + len(path) :], resilient_parsing=True)
        lacking = [p.name for p in command.params if p.required and context.params.get(p.name or "") is None]
        there = [p.name for p in command.params if isinstance(p.type, click.Path)]
        assert set(lacking) <= set(there), (name, lacking)
        assert {"--config", "--save-config"} <= {o for p in command.params for o in p.opts}
        assert len(options_of(command)) == len(set(options_of(command)))


def test_completion_imports_no_command_for_its_name() -> None:
    from click.shell_completion import ShellComplete

    class Bash(ShellComplete):
        name = "bash"
        source_template = ""

    def completed(args: list[str], incomplete: str) -> list[str]:
        found = Bash(cli, {}, "pt", "_PT_COMPLETE").get_completions(args, incomplete)
        return [item.value for item in found]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.import_module", lambda name: pytest.fail(name))
        assert completed([], "pre") == ["pretrain", "predict"]
        assert completed([], "--d") == ["--debug"]
    assert completed(["heads"], "l") == ["list"]
    assert completed(["pretrain"], "--ep") == ["--epochs"]


def test_options_of_a_file_reach_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "o.toml"
    path.write_text(f'output-dir = "{tmp_path}/run"\ndata = ["{tmp_path}/none.jsonl"]\nepoch = 1\n')
    with pytest.raises(SystemExit) as end:
        main(["pretrain", "--config", str(path)])
    assert end.value.code == 2
    assert "did you mean epochs?" in capsys.readouterr().err
    path.write_text(path.read_text().replace("epoch =", "epochs ="))
    with pytest.raises(SystemExit) as end:
        main(["pretrain", "--config", str(path)])
    assert end.value.code == 2
    assert "no such file or folder" in capsys.readouterr().err
    path.write_text("epochs =")
    with pytest.raises(SystemExit) as end:
        main(["pretrain", "--config", str(path)])
    assert end.value.code == 3
