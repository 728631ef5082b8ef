"""Command-line options from a config dataclass, which has their names, types, defaults and help."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click

from personality_common.errors import ConfigError, ToolkitError

F = TypeVar("F", bound=Callable[..., Any])

JUNIT = click.option(
    "--junit",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the verdict as JUnit XML, for CI.",
)


class _OrNone(click.ParamType[Any]):
    """A number, or `none`, which switches a limit off."""

    def __init__(self, kind: click.ParamType[Any]) -> None:
        self.kind = kind
        self.name = f"{kind.name}|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        return self.kind.convert(value, param, ctx)


def dataclass_options(
    config: type, skip: Collection[str] = (), defaults: object | None = None
) -> Callable[[F], F]:
    """One option per field of a frozen dataclass; help is the field's line under "Attributes:".

    Args:
        config: fields are numbers, numbers or None, and literals.
        skip: fields that get no option.
        defaults: an instance whose values are the defaults; None: those of the class.
    """

    def decorate(command: F) -> F:
        documented = attribute_docs(config)
        hints = get_type_hints(config)
        for field in reversed(dataclasses.fields(config)):
            if field.name in skip:
                continue
            default = field.default if defaults is None else getattr(defaults, field.name)
            default = "none" if default is None else default
            option = click.option(
                f"--{field.name.replace('_', '-')}",
                type=_type(hints[field.name]), default=default, show_default=True,
                help=documented[field.name],
            )  # fmt: skip
            command = option(command)
        return command

    return decorate


def take(config: type, options: dict[str, Any]) -> Any:
    """Build the config from its fields among the options, which leave them.

    Raises:
        ConfigError: the config refuses them; on a command line that is wrong usage.
    """
    names = {field.name for field in dataclasses.fields(config)}
    try:
        return config(**{name: options.pop(name) for name in list(options) if name in names})
    except ToolkitError as error:
        raise ConfigError(str(error)) from None


def attribute_docs(config: type) -> dict[str, str]:
    """Field -> its text under "Attributes:"; fields that share a line share its text."""
    lines = (inspect.getdoc(config) or "").partition("Attributes:\n")[2].splitlines()
    documented: dict[str, str] = {}
    names: list[str] = []
    for line in lines:
        start = re.match(r"    (\w+(?:, \w+)*): (.*)", line)
        if start:
            names = start[1].split(", ")
        elif not line.startswith("        "):
            names = []
        for name in names:
            documented[name] = f"{documented.get(name, '')} {start[2] if start else line.strip()}".strip()
    return {name: f"{text[0].upper()}{text[1:]}" for name, text in documented.items()}


def _type(hint: Any) -> click.ParamType[Any]:
    if get_origin(hint) is Literal:
        return click.Choice(get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        (kind,) = (part for part in get_args(hint) if part is not type(None))
        return _OrNone(_type(kind))
    return click.INT if hint is int else click.FLOAT
