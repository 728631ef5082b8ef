"""`pt parity`: from a bundle to a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np

from device_sim.parity.config import ParityConfig
from device_sim.parity.depth import depth, layer_check
from device_sim.parity.examples import worst_examples
from device_sim.parity.inputs import (
    Suite,
    Texts,
    encode_texts,
    encoder_suites,
    personality_suites,
)
from device_sim.parity.integrity import integrity_checks
from device_sim.parity.report import Comparison, DepthPoint, Example, Report, RuntimeStatus, pair
from device_sim.parity.text_path import text_checks
from device_sim.parity.verdict import GOLDEN, Compared, verdicts
from device_sim.runtimes.coreml import CoreMLRuntime
from device_sim.runtimes.mil import MilRuntime
from device_sim.runtimes.runtime import LoadedModel, Runtime, most_rows, predict_rows
from device_sim.runtimes.torch_mirror import TorchRuntime
from personality_common.bundle.bundle import Bundle, Part, open_bundle
from personality_common.bundle.stored import Array
from personality_common.contract import EMBEDDING, LATENT, LOGITS, SENTENCE_EMBEDDING
from personality_common.errors import ConfigError, MismatchError, ToolkitError
from personality_common.evidence.claims import Check, claim, within
from personality_common.evidence.distances import measure
from personality_common.terminal.progress import SILENT, Reporter
from pretrain.data.conversations import DataConfig, read_texts
from pretrain.personality.rules.family import PERSONALITY
from pretrain.personality.run import Run, load_run
from pretrain.personality.text_encoder import load_text_encoder

Outputs = dict[str, Array]

_WHAT: Final = {
    "mil": "interprets the package, float32",
    "coreml": "Core ML on {units}",
    ("torch", True): "PyTorch with the run's weights",
    ("torch", False): "PyTorch with the packages' own weights, no text encoder; --run gives the run's",
}


@dataclass(frozen=True)
class _Job:
    bundle: Bundle
    run: Run | None
    runtimes: tuple[Runtime, ...]
    texts: Texts | None
    reporter: Reporter


@dataclass(frozen=True)
class _PartResult:
    checks: tuple[Check, ...]
    comparisons: tuple[Comparison, ...]
    depth: tuple[DepthPoint, ...]
    examples: tuple[Example, ...]
    embeddings: dict[tuple[str, str], Array]
    """(inputs, runtime) -> (N, 1536), of the text encoder."""


def check_parity(config: ParityConfig, reporter: Reporter = SILENT) -> Report:
    """Check a bundle, and compare every package between every two runtimes and the golden vectors.

    What does not hold is in the report; exceptions are for what cannot be looked at.

    Raises:
        ConfigError: a tolerance that is unknown or wider than the manifest's.
        DataError: no bundle, or no run, or a damaged one.
        MismatchError: the run is not the bundle's.
        ToolkitError: a runtime that was asked for is not available, or the run's encoder is not.
    """
    bundle = _tightened(open_bundle(config.bundle, PERSONALITY), config.tolerances)
    run = _load_run(config, bundle)
    values = {part.file: part.parameters for part in bundle.parts}
    mirror = TorchRuntime(run, lambda file: values[file]())
    statuses, runtimes = _choose_runtimes(config, mirror)
    job = _Job(bundle, run, runtimes, _read_texts(config, run, mirror, reporter), reporter)
    checks = list(integrity_checks(bundle, run, _encoder_values(bundle, run, mirror)))
    results = {part.file: _compare_part(job, part) for part in bundle.parts}
    for result in results.values():
        checks += result.checks
        checks += text_checks(bundle, runtimes, result.embeddings, job.texts)
    return Report(
        bundle=str(config.bundle),
        run_fingerprint=bundle.run_fingerprint,
        settings=asdict(bundle.manifest.settings),
        reference="packages" if run is None else "run",
        texts=None if job.texts is None else len(job.texts.texts),
        runtimes=statuses,
        checks=tuple(checks),
        comparisons=tuple(c for result in results.values() for c in result.comparisons),
        depth={file: result.depth for file, result in results.items() if result.depth},
        examples=tuple(e for result in results.values() for e in result.examples),
    )


def _tightened(bundle: Bundle, wanted: tuple[tuple[str, float], ...]) -> Bundle:
    limits = dict(bundle.tolerances)
    for name, value in wanted:
        if name not in limits:
            raise ConfigError(f"--tolerance must name one of {', '.join(limits)}; got {name!r}")
        own = limits[name]
        if not own.holds(value):
            raise ConfigError(
                f"--tolerance {name} can only be tightened: the manifest has {own.bound} {own.value:g}, "
                f"got {value:g}"
            )
        limits[name] = replace(own, value=value)
    return replace(bundle, tolerances=limits)


def _load_run(config: ParityConfig, bundle: Bundle) -> Run | None:
    if config.run is None:
        return None
    run = load_run(config.run, config.head)
    if run.fingerprint != (stated := bundle.run_fingerprint):
        raise MismatchError(
            f"--run must be the run that {config.bundle} was made from, fingerprint {stated[:12]}…; "
            f"{config.run} is {run.fingerprint[:12]}…"
        )
    return run


def _encoder_values(bundle: Bundle, run: Run | None, mirror: TorchRuntime) -> dict[str, Array] | None:
    """Parameters of the run's encoder and projector, if the bundle has that package."""
    if run is None or run.projector is None or not bundle.has("encoder"):
        return None
    model = load_text_encoder(mirror.encoder.folder, run.projector)
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def _choose_runtimes(
    config: ParityConfig, mirror: TorchRuntime
) -> tuple[tuple[RuntimeStatus, ...], tuple[Runtime, ...]]:
    known: tuple[Runtime, ...] = (mirror, MilRuntime(), CoreMLRuntime(config.compute_units))
    what = {
        "torch": _WHAT["torch", mirror.run is not None],
        "mil": _WHAT["mil"],
        "coreml": _WHAT["coreml"].format(units=config.compute_units),
    }
    for name in set(config.runtimes or ()) - what.keys():
        raise ConfigError(f"--runtimes {name} is for ONNX files, {config.bundle} has none")
    statuses, chosen = [], []
    for runtime in known:
        asked = config.runtimes is not None and runtime.name in config.runtimes
        reason = runtime.unavailable()
        if asked and reason is not None:
            raise ToolkitError(f"--runtimes {runtime.name} is not available here: {reason}")
        if config.runtimes is not None and not asked:
            reason = "not asked for (--runtimes)"
        statuses.append(RuntimeStatus(runtime.name, what[runtime.name], reason))
        if reason is None:
            chosen.append(runtime)
    return tuple(statuses), tuple(chosen)


def _read_texts(
    config: ParityConfig, run: Run | None, mirror: TorchRuntime, reporter: Reporter
) -> Texts | None:
    if config.data is None:
        return None
    assert run is not None, "the config demands it"
    texts, _ = read_texts(DataConfig(config.data, max_samples=config.samples))
    reporter.say(f"encoding {len(texts)} texts")
    return encode_texts(texts, run, mirror.encoder)


def _compare_part(job: _Job, part: Part) -> _PartResult:
    job.reporter.say(f"{part.file}: comparing")
    checks: list[Check] = []
    states = {state.name: state.read(job.bundle.path) for state in part.entry.states}
    models: dict[str, LoadedModel] = {}
    for runtime in job.runtimes:
        if part.name == "encoder" and runtime.name == "torch" and job.run is None:
            continue  # the package does not hold what makes a PyTorch encoder
        try:
            models[runtime.name] = runtime.load(part.path, states)
        except ToolkitError as error:
            checks.append(_error("loads", "loads", part, runtime.name, error))
    found: list[tuple[Suite, dict[str, Outputs]]] = []
    for suite in _suites(job, part, models):
        outputs = {}
        for name, model in models.items():
            try:
                outputs[name] = _predict(model, suite)
            except ToolkitError as error:
                checks.append(_error(f"predicts.{suite.id}", f"predicts ({suite.name})", part, name, error))
        found.append((suite, outputs))
    compared = list(_pairs(part, found))
    points: tuple[DepthPoint, ...] = ()
    if "mil" in models and found:
        try:
            points = depth(part, found[0][0].calls, models.get("torch"), states)
        except ToolkitError as error:
            checks.append(_error("float64", "float64", part, "mil", error))
    pairs = dict.fromkeys(c.record.runtimes for c in compared)
    layers = None
    tolerance = job.bundle.tolerances.get(f"{part.precision}.layers")
    if tolerance is not None and (layers := layer_check(part, points, tolerance)) is not None:
        checks.append(layers)
    astray = layers.detail if layers is not None and not layers.passed else ""
    for runtimes in pairs:
        own = [c for c in compared if c.record.runtimes == runtimes]
        why = astray if runtimes == pair("mil", "torch") else ""
        checks += _explained(verdicts(job.bundle, part, own), why)
    if part.name == "encoder":
        checks += _padding(job.bundle, part, found)
    records = tuple(c.record for c in compared)
    examples = worst_examples(job.bundle, compared)
    embeddings = {
        (suite.name, name): own[EMBEDDING]
        for suite, outputs in found
        for name, own in outputs.items()
        if EMBEDDING in own
    }
    return _PartResult(tuple(checks), records, points, examples, embeddings)


def _suites(job: _Job, part: Part, models: Mapping[str, LoadedModel]) -> Iterator[Suite]:
    if not models:
        return
    if part.name == "encoder":
        yield from encoder_suites(job.bundle, job.texts)
        return
    (feature,) = next(iter(models.values())).inputs
    name = EMBEDDING if feature.name == EMBEDDING else LATENT
    yield from personality_suites(job.bundle, name, job.texts, most_rows(feature) > 1)


def _predict(model: LoadedModel, suite: Suite) -> Outputs:
    parts = [predict_rows(model, call) for call in suite.calls]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _pairs(part: Part, found: list[tuple[Suite, dict[str, Outputs]]]) -> Iterator[Compared]:
    """Every two runtimes, the later against the earlier; and each against the golden vectors."""
    for suite, outputs in found:
        for (reference, theirs), (value, ours) in combinations(outputs.items(), 2):
            for feature in ours:
                yield _compared(part, suite, value, reference, feature, ours[feature], theirs[feature])
        for value, ours in outputs.items():
            for feature in ours:
                if feature in suite.golden:
                    golden = suite.golden[feature]
                    yield _compared(part, suite, value, GOLDEN, feature, ours[feature], golden)


def _compared(
    part: Part, suite: Suite, value: str, reference: str, feature: str, ours: Array, theirs: Array
) -> Compared:
    measures = measure(ours, theirs, ranked=feature == LOGITS)
    record = Comparison(part.file, value, reference, suite.name, suite.hostile, feature, measures)
    return Compared(record, suite, ours, theirs)


def _error(id: str, name: str, part: Part, runtime: str, error: ToolkitError) -> Check:
    return claim(id, name, False, str(error), package=part.file, runtimes=runtime)


def _explained(checks: Iterator[Check], astray: str) -> Iterator[Check]:
    for check in checks:
        explain = astray and not check.passed
        yield replace(check, detail=f"{check.detail}; {astray}") if explain else check


def _padding(bundle: Bundle, part: Part, found: list[tuple[Suite, dict[str, Outputs]]]) -> Iterator[Check]:
    """Masked positions must not change a text's embedding, on any runtime."""
    outputs = {suite.name: own for suite, own in found}
    limits, weights = bundle.tolerances, bundle.manifest.settings.encoder_weights
    tolerance = limits.get(f"encoder-{weights}.padding") or limits.get("encoder.padding")
    if tolerance is None or "padded" not in outputs:
        return
    for name, padded in outputs["padded"].items():
        plain = outputs["golden"][name][SENTENCE_EMBEDDING]
        yield within(
            "padding", "padding does not change sentence_embedding",
            measure(padded[SENTENCE_EMBEDDING], plain, ranked=False).max_abs,
            tolerance.bound, tolerance.value, package=part.file, runtimes=pair(name, name),
        )  # fmt: skip
