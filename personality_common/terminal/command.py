"""What every command of `pt` has: options in groups, an example, `--config` and `--save-config`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from personality_common.terminal.settings import read_settings, write_settings

CONFIG: Final = "config_file"
SAVE: Final = "save_config"
_GENERAL: Final = "General"
OPTIONS: Final = "Options"


class GroupedOption(click.Option):
    """An option that is shown below a heading."""

    def __init__(self, names: Sequence[str], heading: str = OPTIONS, **settings: Any) -> None:
        super().__init__(names, **settings)
        self.heading = heading


class SplitCommand(click.Command):
    """One that is another, of other options, where a flag is given: neither has a use for the other's."""

    def __init__(self, *given: Any, flag: str, other: Callable[[], click.Command], **settings: Any) -> None:
        super().__init__(*given, **settings)
        self.flag, self.other = flag, other


class PtCommand(click.Command):
    """A command as users see it, made of one as its module defines it."""

    example = ""
    split: SplitCommand | None = None
    other_example = ""

    @classmethod
    def of(cls, command: click.Command, path: str, examples: Mapping[str, str]) -> PtCommand:
        """The same command, with what all have."""
        made = cls(
            command.name,
            context_settings=command.context_settings,
            callback=command.callback,
            params=[*command.params, *_settings_options()],
            help=command.help,
            epilog=command.epilog,
            short_help=command.short_help,
            no_args_is_help=command.no_args_is_help,
        )
        made.example = examples.get(path, "")
        if isinstance(command, SplitCommand):
            made.split, made.other_example = command, examples.get(f"{path} {command.flag}", "")
        return made

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if self.split is None or self.split.flag not in args:
            return super().make_context(info_name, args, parent, **extra)
        flag = self.split.flag
        other = PtCommand.of(self.split.other(), flag, {flag: self.other_example})
        words = [word for word in args if word != flag]
        return other.make_context(f"{info_name} {flag}", words, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        ctx.params.pop(CONFIG, None)
        if (path := ctx.params.pop(SAVE, None)) is not None:
            write_settings(path, ctx)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Below headings, in the order in which the first of each stands."""
        shown: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = None if isinstance(param, click.Argument) else param.get_help_record(ctx)
            if record is not None:
                shown.setdefault(_heading(param), []).append(record)
        for heading in sorted(shown, key=lambda heading: heading == _GENERAL):
            with formatter.section(heading):
                formatter.write_dl(shown[heading])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.example:
            with formatter.section("Example"):
                # In one line, which can be copied.
                formatter.write(f"{'':{formatter.current_indent}}{self.example}\n")


def dressed(command: click.Command, path: str, examples: Mapping[str, str]) -> click.Command:
    """A command, or a group with its commands, as users see it; again is the same.

    Args:
        path: its name, with those of the groups above: `heads list`.
        examples: by path.
    """
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            command.commands[name] = dressed(inner, f"{path} {name}", examples)
        return command
    return command if isinstance(command, PtCommand) else PtCommand.of(command, path, examples)


def _heading(param: click.Parameter) -> str:
    if param.name in (CONFIG, SAVE) or {"--help", "--json"} & set(param.opts):
        return _GENERAL
    return param.heading if isinstance(param, GroupedOption) else OPTIONS


def _settings_options() -> tuple[click.Option, click.Option]:
    read = click.Option(
        ["--config", CONFIG], type=click.Path(path_type=Path, exists=True, dir_okay=False), is_eager=True,
        callback=_take_settings, metavar="FILE.toml",
        help="Options from a file, as epochs = 3; what is on the command line wins.",
    )  # fmt: skip
    written = click.Option(
        ["--save-config", SAVE], type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.toml",
        help="Write the options of this command to a file for --config, then run it.",
    )  # fmt: skip
    return read, written


def _take_settings(ctx: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    if path is not None:
        ctx.default_map = read_settings(path, ctx.command)
    return path
