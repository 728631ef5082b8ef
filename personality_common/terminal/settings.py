"""A command's options in a TOML file: what `--config` reads, and `--save-config` writes."""

from __future__ import annotations

import json
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from personality_common.errors import ConfigError, DataError
from personality_common.files.atomic import atomic_writer
from personality_common.files.bounded import read_bounded
from personality_common.terminal.json_output import JsonPlace

MAX_BYTES: Final = 1 << 20
NOT_SAVED: Final = ("help", "config_file", "save_config", "api_key")
"""Parameters that are in no file: they are not of the job, or secret."""


def read_settings(path: Path, command: click.Command) -> dict[str, Any]:
    """Values by the command's parameter, for click to convert as it does what is on the command line.

    Raises:
        DataError: no TOML.
        ConfigError: a key that is none of the command's options, or a value of another kind.
    """
    try:
        found = tomllib.loads(read_bounded(path, MAX_BYTES, "a file of options").decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: must be TOML, is not: {str(error)[:200]}") from None
    known = options_of(command)
    return {
        _known(key, known, path).name or key: _given(value, _known(key, known, path), f"{path}: {key}")
        for key, value in found.items()
    }


def write_settings(path: Path, ctx: click.Context) -> None:
    """Write a command's options: those that were given as lines, defaults as comments."""
    lines = [f"# {ctx.command_path} --config takes these options; what is not given is a comment"]
    for key, option in options_of(ctx.command).items():
        value = ctx.params.get(option.name or "")
        source = ctx.get_parameter_source(option.name or "")
        given = source in (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP)
        if source is ParameterSource.ENVIRONMENT or (value is None and not given):
            continue
        lines.append(f"{'' if given else '# '}{key} = {_toml(value)}")
    with atomic_writer(path) as file:
        file.write(("\n".join(lines) + "\n").encode())


def options_of(command: click.Command) -> dict[str, click.Option]:
    """By name as in a file: `batch-size`."""
    return {
        max(option.opts, key=len).lstrip("-"): option
        for option in command.params
        if isinstance(option, click.Option) and option.name not in NOT_SAVED
    }


def _known(key: str, known: dict[str, click.Option], path: Path) -> click.Option:
    if key in known:
        return known[key]
    near = get_close_matches(key.replace("_", "-"), known, 1)
    meant = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(sorted(known)) or 'none'}"
    raise ConfigError(f"{path}: {key[:80]!r} is no option of this command{meant}")


def _given(value: Any, option: click.Option, what: str) -> Any:
    """As text, so that 3.5 is no more a whole number than on the command line."""
    if option.is_flag and option.is_bool_flag:
        if not isinstance(value, bool):
            raise ConfigError(f"{what} must be true or false, is {_kind(value)}")
        return value
    if option.multiple and isinstance(value, list):
        return tuple(_text(entry, what) for entry in value)
    return (_text(value, what),) if option.multiple else _text(value, what)


def _text(value: Any, what: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigError(f"{what} must be a text or a number, is {_kind(value)}")
    return str(value)


def _kind(value: Any) -> str:
    names = {bool: "true or false", str: "a text", list: "a list", dict: "a table", int: "a number"}
    return names.get(type(value), type(value).__name__)


def _toml(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, JsonPlace):
        value = value.path or "-"
    # A JSON string is a TOML string, but for half characters and DEL, which TOML has no way to write.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
