"""Options that a config dataclass gives."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import pytest
from click.testing import CliRunner

from personality_common.errors import ConfigError, ToolkitError
from personality_common.terminal.options import FILE, dataclass_options, take


@dataclass(frozen=True)
class Config:
    """What to do.

    Attributes:
        source: where `texts` come from,
            a file or a folder.
        out: a file.
        low, high: bounds; none: no bound.
        kind: of it.
        keep: keep it.
        name: of it.
    """

    source: str
    out: Path | None = None
    low: float | None = 0.5
    high: int | None = None
    kind: Literal["a", "b"] = "a"
    keep: bool = False
    name: str | None = None

    def __post_init__(self) -> None:
        if self.name == "wrong":
            raise ToolkitError("--name must be right")


@click.command()
@dataclass_options(Config, names={"source": "data"}, types={"out": FILE}, metavars={"source": "TEXTS"})
def command(**options: Any) -> None:
    print(take(Config, options))
    assert not options


def run(*words: str) -> str:
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    return result.output.strip()


def test_defaults_are_the_dataclass_s() -> None:
    assert run("--data", "x") == repr(Config("x"))


def test_each_type_is_read() -> None:
    given = run(
        "--data", "x", "--out", "f", "--low", "none", "--high", "3", "--kind", "b", "--keep", "--name", "n"
    )  # fmt: skip
    assert given == repr(Config("x", Path("f"), None, 3, "b", True, "n"))


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "Missing option '--data'"),
        (("--data", "x", "--high", "1.5"), "'1.5' is not a valid integer"),
        (("--data", "x", "--kind", "c"), "'c' is not one of 'a', 'b'"),
        (("--data", "x", "--out", "."), "is a directory"),
        (("--source", "x"), "No such option"),
    ],
)
def test_what_is_wrong_is_said(words: tuple[str, ...], error: str) -> None:
    assert error in run(*words)


def test_what_the_config_refuses_is_wrong_usage() -> None:
    with pytest.raises(ConfigError, match="--name must be right"):
        run("--data", "x", "--name", "wrong")


def test_help_has_the_docstring_s_words_and_the_defaults() -> None:
    text = " ".join(run("--help").split())
    assert "--data TEXTS Where texts come from, a file or a folder. [required]" in text
    assert "--low FLOAT|NONE Bounds; none: no bound. [default: 0.5]" in text
    assert "--high INTEGER|NONE Bounds; none: no bound. [default: none]" in text
    assert "--keep Keep it. --name" in text


@dataclass(frozen=True)
class Longer(Config):
    """More.

    Attributes:
        most: at most.
    """

    most: int = 9


def test_a_config_has_the_options_of_its_parent() -> None:
    @click.command()
    @dataclass_options(Longer)
    def longer(**options: Any) -> None:
        print(take(Longer, options))

    said = CliRunner().invoke(longer, ["--help"]).output
    assert "At most." in said
    assert "Where texts come from" in said
    given = CliRunner().invoke(longer, ["--source", "x", "--most", "3"]).output
    assert given.strip() == repr(Longer("x", most=3))
