"""Command-line options from a config dataclass, which has their names, types, defaults and help."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click

from personality_common.errors import ConfigError, ToolkitError
from personality_common.terminal.command import OPTIONS, GroupedOption
from personality_common.terminal.json_output import json_option

F = TypeVar("F", bound=Callable[..., Any])

FILE: Final = click.Path(path_type=Path, dir_okay=False)
FOLDER: Final = click.Path(path_type=Path, file_okay=False)
GIVEN: Final = click.Path(path_type=Path, exists=True)
"""What a command reads: so is every path of a config that is not said to be a FILE or FOLDER to write."""
ALLOW_REMOTE: Final = click.option(
    "--allow-remote-encoder", is_flag=True,
    help="Send texts away for a run that was not made here and whose encoder is hosted.",
)  # fmt: skip
PRINT_JSON: Final = json_option()


_TYPES: Final[Mapping[type, click.ParamType[Any]]] = {
    bool: click.BOOL,
    int: click.INT,
    float: click.FLOAT,
    str: click.STRING,
    Path: GIVEN,
}


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
    config: type,
    *,
    skip: Collection[str] = (),
    defaults: object | None = None,
    names: Mapping[str, str] | None = None,
    types: Mapping[str, click.ParamType[Any]] | None = None,
    metavars: Mapping[str, str] | None = None,
    heading: str = OPTIONS,
) -> Callable[[F], F]:
    """One option per field of a frozen dataclass; help is the field's text under "Attributes:".

    A field without a default is an option that must be given, a bool is a flag. Tuples are for the command to
    take in its own way.

    Args:
        config: fields are numbers, strings, paths, bools, literals, each of them or None.
        skip: fields that get no option: arguments, nested configs.
        defaults: an instance whose values are the defaults; None: those of the class.
        names: field -> option, where they differ.
        types: field -> what its option takes, where the type alone does not tell.
        metavars: field -> what stands for its value in the help.
        heading: of these options in the help.
    """
    names, types, metavars = names or {}, types or {}, metavars or {}

    def decorate(command: F) -> F:
        documented = attribute_docs(config)
        hints = get_type_hints(config)
        for field in reversed(dataclasses.fields(config)):
            if field.name in skip:
                continue
            kind = types.get(field.name) or _type(hints[field.name])
            required = field.default is dataclasses.MISSING and defaults is None
            default = (
                None if required else field.default if defaults is None else getattr(defaults, field.name)
            )
            if default is None and isinstance(kind, _OrNone):
                default = "none"
            name = names.get(field.name, field.name.replace("_", "-"))
            flag = kind is click.BOOL
            settings: dict[str, Any] = {"is_flag": True} if flag else {"type": kind}
            if not required:
                settings |= {"default": default, "show_default": default is not None and not flag}
            option = click.option(
                f"--{name}", field.name, required=required, metavar=metavars.get(field.name),
                help=documented[field.name], cls=GroupedOption, heading=heading, **settings,
            )  # fmt: skip
            command = option(command)
        return command

    return decorate


def take(config: type, options: dict[str, Any], **given: Any) -> Any:
    """Build the config from its fields among the options, which leave them, and from what is given.

    Raises:
        ConfigError: the config refuses them; on a command line that is wrong usage.
    """
    names = {field.name for field in dataclasses.fields(config)}
    try:
        return config(**{name: options.pop(name) for name in list(options) if name in names}, **given)
    except ToolkitError as error:
        raise ConfigError(str(error)) from None


def attribute_docs(config: type) -> dict[str, str]:
    """Field -> its text under "Attributes:", without backticks; fields that share a line share its text.

    Fields of a parent are documented there.
    """
    documented: dict[str, str] = {}
    for described in reversed(config.__mro__):
        documented |= _attribute_docs(described)
    return documented


def _attribute_docs(config: type) -> dict[str, str]:
    lines = inspect.cleandoc(config.__doc__ or "").partition("Attributes:\n")[2].splitlines()
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
    return {name: f"{text[0].upper()}{text[1:]}".replace("`", "") for name, text in documented.items()}


def _type(hint: Any) -> click.ParamType[Any]:
    if get_origin(hint) is Literal:
        return click.Choice(get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        (inner,) = (part for part in get_args(hint) if part is not type(None))
        kind = _type(inner)
        return _OrNone(kind) if inner in (int, float) else kind
    return _TYPES[hint]
