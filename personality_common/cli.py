"""`pt`: the command line. A command's module is imported only when the command runs."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final, NoReturn

import click
from click.shell_completion import CompletionItem

from personality_common.errors import ConfigError, DataError, MismatchError, ToolkitError
from personality_common.examples import EXAMPLES
from personality_common.printable import excerpt
from personality_common.terminal.command import dressed
from personality_common.terminal.signals import Ended, end_on_signals
from personality_common.terminal.streams import usable_streams

LONGEST_LINE: Final = 2_000
"""Characters of an error; of a file it quotes 200, but it may name a path or two."""
LEADER_S: Final = 10.0
"""How long a failed process of torchrun waits for the first to say why: once one ends, torchrun ends all."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_KEPT: Final = "; what was finished is kept: make room, and the same command goes on, or starts again"

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    # name: (module:attribute, the line in `pt --help`)
    "pretrain": ("pretrain.personality.cli:pretrain", "Train a personality model from conversations."),
    "predict": ("pretrain.personality.cli:predict", "Top tokens of texts, from a run."),
    "evaluate": ("pretrain.personality.cli:evaluate", "What a run's tokens are worth, by labelled texts."),
    "export": (
        "pretrain.personality.export.cli:export",
        "Export a run to a Core ML bundle that an app can ship.",
    ),
    "character": (
        "pretrain.character.cli:character",
        "Predict what a story's character does, says, notices and feels.",
    ),
    "lm": ("pretrain.lm.cli:lm", "Train a small language model that llama.cpp, transformers and Ollama run."),
    "parity": ("device_sim.parity.cli:parity", "Prove that a bundle computes what PyTorch computes."),
    "run": ("device_sim.runtimes.cli:run", "Run a Core ML package on arrays, on any machine."),
    "inspect": (
        "personality_common.inspection.cli:inspect",
        "What is in a bundle, a Core ML package, an ONNX file, or a run.",
    ),
    "diff": (
        "personality_common.inspection.cli:diff",
        "What changed between two Core ML packages, or two bundles.",
    ),
    "trace": ("device_sim.trace.cli:trace", "Which op of a package loses the precision."),
    "simulate": (
        "device_sim.simulate.cli:simulate",
        "Nights of feedback on a bundle, as on a phone, with a verdict.",
    ),
    "fleet": ("device_sim.fleet.cli:fleet", "Nights of feedback on thousands of phones at once."),
    "grpo": ("device_sim.simulate.cli:grpo", "One update of the head from a feedback file."),
    "chat": ("device_sim.companion.cli:chat", "Chat with a companion that remembers, on this machine."),
    "serve": (
        "device_sim.companion.cli:serve",
        "The companion for clients of OpenAI and Ollama, and a browser.",
    ),
    "feedback": ("device_sim.companion.cli:feedback", "Judge a companion's answers; export what was said."),
    "memory": (
        "device_sim.companion.memory.cli:memory",
        "What the companion remembers: search, show, forget, export, audit.",
    ),
    "adapters": (
        "device_sim.adapters.cli:adapters",
        "Versions of the language model's adapter: list, compare, activate, roll back, export.",
    ),
    "eval": (
        "device_sim.capability.cli:evaluation",
        "What a language model can do: small tasks, scored without a judge.",
    ),
    "night": (
        "device_sim.night.cli:night",
        "Learn from what was said by day, judge it, take it up or refuse it; report.",
    ),
    "heads": ("device_sim.heads.cli:heads", "Versions of the head: list, compare, activate, roll back."),
    "doctor": ("device_sim.doctor.cli:doctor", "What works on this machine, for a bug report."),
}


class LazyGroup(click.Group):
    """Lists commands without importing them, so that `pt --help` loads neither torch nor coremltools."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        self.commands[cmd_name] = dressed(command, cmd_name, EXAMPLES)
        return self.commands[cmd_name]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """As click does, and imports no command to complete its name."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(n, help=line) for n, (_, line) in COMMANDS.items() if n.startswith(incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("--debug", is_flag=True, help="Show a traceback when a command fails.")
@click.version_option(package_name="personality-toolkit", prog_name="pt")
def cli(debug: bool) -> None:
    """Small models that keep learning on people's phones, with proof that they stay what was shipped."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `pt`. Exit codes, the same for every command:

    0: done, and what was to hold holds. 1: a verdict failed. 2: wrong usage, or a path that is not there.
    3: a file is bad, or two do not belong together. 4: not on this machine, or not now: a package, a key or a
    device is missing, disk or memory is full, another process has the folder. 130: Ctrl-C; 143: SIGTERM; 129:
    SIGHUP.

    Of the processes that torchrun starts, the first alone says what all of them fail with.

    Args:
        arguments: None for those of the command line.
    """
    if arguments is None:
        end_on_signals()
        usable_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    # --debug is taken out by hand so that it works before and after the command's name.
    words = [a for a in given if a != "--debug"]
    debug = len(words) < len(given)
    leads = os.environ.get("RANK", "0") == "0"

    def say(message: str) -> None:
        if leads:
            click.echo(excerpt(message, LONGEST_LINE), err=True)
        else:
            _wait_for_leader()

    try:
        sys.exit(cli.main(words, prog_name="pt", standalone_mode=False) or 0)
    except SystemExit as stop:
        if stop.code and not leads:
            _wait_for_leader()
        raise
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "pt"
        say(f"{command}: {error.format_message()} (see {command} --help)")
        sys.exit(2)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        # click puts Abort in the place of what a signal raised.
        ended = error.__cause__ if isinstance(error, click.Abort) else error
        if leads:
            say(str(ended) if isinstance(ended, Ended) else "interrupted")
        sys.exit(ended.exit_code if isinstance(ended, Ended) else 130)
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing is wrong, and nothing may be printed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except ConfigError as error:
        if debug:
            raise
        say(f"error: {error}")
        sys.exit(2)
    except (ToolkitError, click.ClickException) as error:
        if debug:
            raise
        say(f"error: {error}")
        sys.exit(3 if isinstance(error, DataError | MismatchError) else 4)
    except OSError as error:
        if debug:
            raise
        leads = True
        say(f"error: {error}{_KEPT if error.errno in _FULL else ''}")
        sys.exit(4)
    except (MemoryError, RecursionError) as error:
        if debug:
            raise
        kind = "out of memory" if isinstance(error, MemoryError) else "nested too deeply"
        reason = " ".join(str(error).split())[:200]
        leads = True
        say(f"error: {kind}{reason and f': {reason}'}")
        sys.exit(4)


def _wait_for_leader() -> None:
    """Returns only if the first process did not fail too."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(LEADER_S)


if __name__ == "__main__":
    main()
