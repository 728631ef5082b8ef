"""`pt chat`, `pt serve` and `pt feedback`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from device_sim.companion.config import ChatConfig, ServeConfig
from personality_common.terminal.options import FILE, FOLDER, GIVEN, attribute_docs, dataclass_options, take

_TYPES = {"store": FOLDER}
_METAVARS = {
    "store": "DIR",
    "adapter": "GGUF|none",
    "model": "smollm2|GGUF|FOLDER|hf:…|mlx:…|URL",
    "bundle": "BUNDLE",
    "heads": "DIR",
}


@click.command()
@dataclass_options(ChatConfig, types=_TYPES, metavars=_METAVARS)
def chat(**options: Any) -> None:
    """Chat with a companion that remembers, on this machine; each line of a pipe is a message."""
    config: ChatConfig = take(ChatConfig, options)

    from device_sim.companion.opening import open_companion
    from device_sim.companion.terminal import Chat
    from personality_common.terminal.console import ConsoleReporter

    reporter = ConsoleReporter()
    with open_companion(config, reporter) as companion:
        terminal = sys.stdin.isatty()
        if terminal:
            reporter.say(
                f"{companion.parts.model.name}, store {config.store}; /help tells what else there is"
            )
        answered = Chat(companion, config, reporter, sys.stdout).run(terminal)
    if not answered and not terminal:
        sys.exit(4)


@click.command()
@dataclass_options(ServeConfig, skip=("api_key",), types=_TYPES, metavars=_METAVARS)
@click.option("--api-key", envvar="PT_API_KEY", help=attribute_docs(ServeConfig)["api_key"], metavar="KEY")
def serve(**options: Any) -> None:
    """Serve the companion to this machine: to clients of OpenAI and of Ollama, and to a browser."""
    config: ServeConfig = take(ServeConfig, options)

    from device_sim.companion.serving.opening import open_endpoint
    from personality_common.terminal.console import ConsoleReporter, output

    with open_endpoint(config, ConsoleReporter()) as endpoint:
        output.print(
            f"{endpoint.model.card.name} at {endpoint.address}, for OpenAI's clients {endpoint.address}/v1; "
            "Ctrl-C ends it",
            soft_wrap=True,
        )
        endpoint.run()


@click.command()
@click.argument("store", type=GIVEN)
@click.option("--turn", default="last", show_default=True, help="Id of an answer, or last.")
@click.option("--reward", type=float, help="From -1 to 1.")
@click.option("--thumbs", type=click.Choice(["up", "down"]), help="The same as a reward of 1 or -1.")
@click.option("--edit", metavar="TEXT", help="What the answer should have been.")
@click.option("--export", type=FILE, help="Write what there is to learn from to a file.")
@click.option(
    "--as",
    "form",
    type=click.Choice(["messages", "interactions", "preferences"]),
    default="messages",
    show_default=True,
    help="messages: as OpenAI and mlx-lm take them; interactions: as pt grpo does; preferences: as TRL does.",
)
def feedback(
    store: Path,
    turn: str,
    reward: float | None,
    thumbs: str | None,
    edit: str | None,
    export: Path | None,
    form: str,
) -> None:
    """Judge an answer in STORE, or export what there is to learn from."""
    if sum(given is not None for given in (reward, thumbs, edit, export)) != 1:
        raise click.UsageError("one of --reward, --thumbs, --edit and --export must be given")

    from device_sim.companion.export import write_interactions, write_messages, write_preferences
    from device_sim.companion.feedback import judge
    from personality_common.terminal.console import ConsoleReporter

    reporter = ConsoleReporter()
    if export is not None:
        write, what = {
            "messages": (write_messages, "conversations"),
            "interactions": (write_interactions, "interactions"),
            "preferences": (write_preferences, "preferences"),
        }[form]
        reporter.say(f"{write(store, export)} {what} in {export}")
        return
    if thumbs is not None:
        reward = 1.0 if thumbs == "up" else -1.0
    judged = judge(store, turn, reward=reward, edit=edit, thumbs=thumbs is not None)
    reporter.say(f"noted of turn {judged}")
