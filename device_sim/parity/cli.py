"""`pt parity`."""

from __future__ import annotations

from pathlib import Path

import click

from device_sim.parity.config import COMPUTE_UNITS, RUNTIMES, ParityConfig
from personality_common.terminal.options import JUNIT

_DEFAULTS = {name: field.default for name, field in ParityConfig.__dataclass_fields__.items()}


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--runtimes",
    metavar="LIST",
    help=f"Of {','.join(RUNTIMES)}; each must be available. All that are, if left out.",
)
@click.option(
    "--run",
    "run_folder",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="The run that the bundle was made from. PyTorch then has its weights; without it, those that "
    "the packages hold, which the golden vectors and fingerprints vouch for.",
)
@click.option(
    "--data",
    metavar="FILE",
    help="Conversations whose texts are compared as well; needs --run. The HTML page quotes the texts on "
    "which runtimes differ most, the JSON has none.",
)
@click.option(
    "--samples", type=int, default=_DEFAULTS["samples"], show_default=True, help="Texts of --data at most."
)
@click.option(
    "--compute-units",
    type=click.Choice(COMPUTE_UNITS),
    default=_DEFAULTS["compute_units"],
    show_default=True,
    help="Of Core ML.",
)
@click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    metavar="NAME=VALUE",
    help="Tighten a tolerance of the manifest, such as float32.logits=1e-5; may be given several times.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the report for CI."
)
@click.option(
    "--html", "html_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the report as a page."
)
@JUNIT
def parity(
    bundle: Path,
    runtimes: str | None,
    run_folder: Path | None,
    data: str | None,
    samples: int,
    compute_units: str,
    tolerances: tuple[str, ...],
    json_file: Path | None,
    html_file: Path | None,
    junit: Path | None,
) -> None:
    """Check that the packages of BUNDLE compute what the PyTorch model computes.

    Exits with 1 if they do not, and says where.
    """
    config = ParityConfig(
        bundle,
        None if runtimes is None else tuple(filter(None, (name.strip() for name in runtimes.split(",")))),
        run_folder,
        data,
        samples,
        compute_units,
        tuple(_tolerance(entry) for entry in tolerances),
    )

    from device_sim.parity.compare import parity as run_parity
    from device_sim.parity.page import page
    from device_sim.parity.report import to_json
    from device_sim.parity.terminal import render
    from personality_common.files.atomic import atomic_writer, write_json
    from personality_common.terminal.checks import publish
    from personality_common.terminal.console import ConsoleReporter, output
    from personality_common.terminal.provenance import this_command

    made = this_command()
    report = run_parity(config, ConsoleReporter())
    if json_file is not None:
        write_json(json_file, to_json(report))
    if html_file is not None:
        with atomic_writer(html_file) as file:
            file.write(page(report, made).encode())
    publish("parity", report.checks, made, junit)
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
