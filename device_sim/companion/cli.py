"""`pt chat` and `pt feedback`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from device_sim.companion.config import ChatConfig
from personality_common.terminal.options import FILE, FOLDER, GIVEN, dataclass_options, take


@click.command()
@dataclass_options(
    ChatConfig,
    types={"store": FOLDER},
    metavars={
        "store": "DIR",
        "adapter": "GGUF|none",
        "model": "smollm2|GGUF|FOLDER|URL",
        "bundle": "BUNDLE",
        "heads": "DIR",
    },
)
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
@click.argument("store", type=GIVEN)
@click.option("--turn", default="last", show_default=True, help="Id of an answer, or last.")
@click.option("--reward", type=float, help="From -1 to 1.")
@click.option("--thumbs", type=click.Choice(["up", "down"]), help="The same as a reward of 1 or -1.")
@click.option("--edit", metavar="TEXT", help="What the answer should have been.")
@click.option("--export", type=FILE, help="Write the log's conversations, or interactions, to a file.")
@click.option(
    "--as",
    "form",
    type=click.Choice(["messages", "interactions"]),
    default="messages",
    show_default=True,
    help="messages: as OpenAI and mlx-lm take them; interactions: as pt grpo does.",
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

    from device_sim.companion.export import write_interactions, write_messages
    from device_sim.companion.feedback import judge
    from personality_common.terminal.console import ConsoleReporter

    reporter = ConsoleReporter()
    if export is not None:
        count = (write_messages if form == "messages" else write_interactions)(store, export)
        reporter.say(f"{count} {'conversations' if form == 'messages' else 'interactions'} in {export}")
        return
    if thumbs is not None:
        reward = 1.0 if thumbs == "up" else -1.0
    judged = judge(store, turn, reward=reward, edit=edit, thumbs=thumbs is not None)
    reporter.say(f"noted of turn {judged}")
