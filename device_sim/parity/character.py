"""`pt parity` of a character predictor: every runtime against every other, and against what PyTorch gave."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from device_sim.parity.character_files import file_checks
from device_sim.parity.character_models import FILES, Predict, Rows, choose_runtimes, load_model
from device_sim.parity.character_verdict import (
    Compared,
    Inputs,
    all_inputs,
    golden_inputs,
    limits_of,
    verdicts,
)
from device_sim.parity.config import ParityConfig
from device_sim.parity.report import Comparison, Report
from device_sim.parity.verdict import GOLDEN
from personality_common.errors import ConfigError, DataError, MismatchError, ToolkitError
from personality_common.evidence.claims import Check, claim
from personality_common.evidence.distances import measure
from personality_common.terminal.progress import Reporter
from pretrain.character.bundle.folder import Folder, open_folder
from pretrain.character.bundle.manifest import GOLDEN_FILE
from pretrain.character.run import Run, load_run
from pretrain.character.schema import Schema


def character_parity(config: ParityConfig, reporter: Reporter) -> Report:
    """Check a folder of `pt character export`, and compare all runtimes; see `parity`.

    Raises:
        ConfigError: --data, or a tolerance that is unknown or wider than ours.
        DataError: no such folder, or a malformed manifest; no run.
        MismatchError: the schema is another than this toolkit's, or the run is not the folder's.
        ToolkitError: a runtime that was asked for is not available.
    """
    if config.data is not None:
        raise ConfigError("--data is for conversations; a character predictor is compared on its own inputs")
    folder = open_folder(config.bundle)
    run = None if config.run is None else _run_of(config, folder)
    limits = limits_of(config, folder.manifest.settings.precision)
    statuses, chosen = choose_runtimes(config, folder, run)
    checks = list(file_checks(folder, run))
    models: dict[str, Predict] = {}
    for name in chosen:
        reporter.say(f"{name}: comparing")
        try:
            models[name] = load_model(name, folder, run, config)
        except ToolkitError as error:
            checks.append(claim("loads", "loads", False, str(error), package=FILES[name], runtimes=name))
    found: list[Compared] = []
    every = list(all_inputs(folder.schema))
    try:
        every.insert(0, golden_inputs(folder))
    except DataError as error:
        checks.append(claim("golden-rows", "golden rows can be read", False, str(error), package=GOLDEN_FILE))
    for inputs in every:
        found += _compare(models, inputs, checks)
    for value, reference in dict.fromkeys((c.value, c.reference) for c in found):
        own = [c for c in found if (c.value, c.reference) == (value, reference)]
        checks += verdicts(folder.schema, limits, own)
    return Report(
        bundle=str(config.bundle),
        run_fingerprint=folder.manifest.run.fingerprint,
        settings={
            "family": folder.manifest.family, "precision": folder.manifest.settings.precision,
            "features and outputs": folder.schema.name,
        },
        reference="packages" if run is None else "run",
        texts=None,
        runtimes=statuses,
        checks=tuple(checks),
        comparisons=tuple(_records(folder.schema, found)),
        depth={},
        examples=(),
    )  # fmt: skip


def _run_of(config: ParityConfig, folder: Folder) -> Run:
    assert config.run is not None
    run = load_run(config.run)
    if run.weights_sha256 != (stated := folder.manifest.run.fingerprint):
        raise MismatchError(
            f"--run must be the run that {config.bundle} was made from, fingerprint {stated[:12]}…; "
            f"{config.run} is {run.weights_sha256[:12]}…"
        )
    return run


def _compare(models: dict[str, Predict], inputs: Inputs, checks: list[Check]) -> Iterator[Compared]:
    """Every two runtimes, the later against the earlier; one that fails takes no further part."""
    given: dict[str, Rows] = {}
    for name, predict in list(models.items()):
        try:
            given[name] = predict(inputs.features)
        except ToolkitError as error:
            id, what = f"predicts.{inputs.name.replace(' ', '-')}", f"predicts ({inputs.name})"
            checks.append(claim(id, what, False, str(error), package=FILES[name], runtimes=name))
            del models[name]
    for (reference, theirs), (value, ours) in combinations(given.items(), 2):
        yield Compared(value, reference, inputs, ours, theirs)
    if inputs.golden is not None:
        for value, ours in given.items():
            yield Compared(value, GOLDEN, inputs, ours, inputs.golden)


def _records(schema: Schema, found: list[Compared]) -> Iterator[Comparison]:
    for c in found:
        for head, place in schema.heads.items():
            measures = measure(c.ours[:, place], c.theirs[:, place], ranked=False)
            yield Comparison(c.package, c.value, c.reference, c.inputs.name, c.inputs.hostile, head, measures)
