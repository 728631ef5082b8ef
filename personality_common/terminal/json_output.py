"""`--json FILE|-`, which means one thing in every command that has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from personality_common.files.atomic import atomic_writer

F = TypeVar("F", bound=Callable[..., Any])
STDOUT: Final = "-"
HELP: Final = "Write the result as JSON to a file, beside what is printed; - prints it, and nothing else."


@dataclass(frozen=True)
class JsonPlace:
    """Where a result goes as JSON.

    Attributes:
        path: a file; None for standard output, which then has nothing else.
    """

    path: Path | None

    def write(self, document: Any, *, private: bool = False) -> bool:
        """Write it, a file atomically.

        Args:
            document: what JSON can hold, or its text.
            private: whether it quotes what somebody wrote: nobody else may read the file.

        Returns:
            Whether it is on standard output, so that nothing else may be printed there.

        Raises:
            OSError: the file cannot be written.
        """
        found = json.loads(document) if isinstance(document, str) else document
        if self.path is None:
            click.echo(json.dumps(found))
            return True
        text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)
        with atomic_writer(self.path, private=private) as file:
            file.write(text.encode(errors="backslashreplace") + b"\n")
        return False


class JsonType(click.ParamType[JsonPlace]):
    """A file to write, or `-`."""

    name = "file|-"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> JsonPlace:
        if isinstance(value, JsonPlace):
            return value
        if value == STDOUT:
            return JsonPlace(None)
        path = Path(value)
        if path.is_dir():
            self.fail(f"{value}: must be a file, is a folder", param, ctx)
        return JsonPlace(path)


def json_option(name: str = "as_json") -> Callable[[F], F]:
    """The option; without a value it is `-`.

    Args:
        name: of the command's parameter, a JsonPlace or None.
    """
    return click.option(
        "--json", name, type=JsonType(), is_flag=False, flag_value=STDOUT, metavar="FILE|-", help=HELP
    )


def emitted(place: JsonPlace | None, document: Any | Callable[[], Any], *, private: bool = False) -> bool:
    """Write a result where `--json` says, if it was given; whether standard output is taken by it.

    Args:
        document: what JSON can hold, its text, or what makes it.
        private: see `JsonPlace.write`.
    """
    if place is None:
        return False
    return place.write(document() if callable(document) else document, private=private)
