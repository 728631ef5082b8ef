"""`pt parity`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from device_sim.parity.config import RUNTIMES, ParityConfig
from personality_common.terminal.options import GIVEN, dataclass_options, take
from personality_common.terminal.report_files import ReportFiles, report_options


@click.command()
@click.argument("bundle", type=GIVEN)
@click.option(
    "--runtimes", metavar="LIST",
    help=f"Of {','.join(RUNTIMES)}; each must be available. All that are, if left out.",
)  # fmt: skip
@dataclass_options(
    ParityConfig, skip=("bundle", "runtimes", "tolerances"), metavars={"data": "PATH|hf:OWNER/NAME"}
)
@click.option(
    "--tolerance", "tolerances", multiple=True, metavar="NAME=VALUE",
    help="Tighten a tolerance of the manifest, such as float32.logits=1e-5; may be given several times.",
)  # fmt: skip
@report_options
def parity(bundle: Path, runtimes: str | None, tolerances: tuple[str, ...], **options: Any) -> None:
    """Check that the files of BUNDLE, of any family, compute what the PyTorch model computes.

    Exits with 1 if they do not, and says where.
    """
    files = take(ReportFiles, options)
    config = ParityConfig(
        bundle,
        None if runtimes is None else tuple(filter(None, (name.strip() for name in runtimes.split(",")))),
        tolerances=tuple(_tolerance(entry) for entry in tolerances),
        **options,
    )

    from device_sim.parity.character import character_parity
    from device_sim.parity.compare import check_parity
    from device_sim.parity.language import language_parity
    from device_sim.parity.page import page
    from device_sim.parity.report import to_json
    from device_sim.parity.terminal import render
    from personality_common.bundle.family import family_of
    from personality_common.terminal.console import ConsoleReporter, output
    from personality_common.terminal.provenance import this_command
    from pretrain.character.bundle import manifest as character
    from pretrain.lm.bundle import manifest as lm

    made = this_command()
    family = family_of(bundle)
    if family == character.FAMILY:
        report = character_parity(config, ConsoleReporter())
    elif family == lm.FAMILY:
        report = language_parity(config, ConsoleReporter())
    else:
        report = check_parity(config, ConsoleReporter())
    document, shown = made.on(to_json(report)), page(report, made).encode()
    if not files.write("parity", report.checks, made, document, shown):
        render(report, output)
    if not report.passed:
        raise click.exceptions.Exit(1)


def _tolerance(entry: str) -> tuple[str, float]:
    name, equals, value = entry.partition("=")
    try:
        if not equals:
            raise ValueError
        return name.strip(), float(value)
    except ValueError:
        raise click.UsageError(f"--tolerance must be NAME=VALUE, got {entry!r}") from None
