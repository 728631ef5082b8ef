"""`pt character eval`: a run beside its baselines and its ceiling, on characters it knows and does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from personality_common.errors import DataError, MismatchError
from personality_common.files.atomic import read_json_object, write_json
from personality_common.terminal.progress import Reporter
from pretrain.character.baselines import BASELINE_NAMES, BaselineName, predict_baseline
from pretrain.character.calibration import Rows, probabilities
from pretrain.character.pipeline import read_data
from pretrain.character.quality import OutputQuality, measure
from pretrain.character.records import Examples, subset
from pretrain.character.run import Run, outputs
from pretrain.character.split import split

SCHEMA: Final = 1
"""Of character-evaluation.schema.json."""
BASELINES_FILE: Final = "baselines.json"
HELD_OUT: Final = {
    "group": "held-out cells",
    "archetype": "held-out archetypes",
    "random": "held-out examples",
}
UNSEEN: Final = "unseen archetypes"
OURS: Final = "model"


@dataclass(frozen=True)
class Evaluation:
    """Figures of a run.

    Attributes:
        figures: set of examples -> `model` or a baseline -> output -> its figures.
        sizes: set of examples -> how many.
        likeliest_speak: set of examples -> share whose likeliest action is to speak, and of those who do.
    """

    figures: Mapping[str, Mapping[str, Mapping[str, OutputQuality]]]
    sizes: Mapping[str, int]
    likeliest_speak: Mapping[str, tuple[float, float]]

    def to_json(self) -> dict[str, Any]:
        """After character-evaluation.schema.json."""
        return {"schema": SCHEMA, **asdict(self)}


def evaluate(run: Run, data: Path | None, reporter: Reporter) -> Evaluation:
    """Measure a run on what it did not train on.

    On the data it was trained with, that is the part its split held out; other data are measured whole. The
    baselines take minutes; they are fitted once and kept in the run.

    Args:
        data: None for the data that the run was trained with.

    Raises:
        DataError: the data are not there any more, or malformed.
        MismatchError: they are of another schema than the run.
    """
    config = run.record.content["config"]
    examples, unseen = read_data(Path(config["data"]) if data is None else data)
    if examples.schema is not run.schema:
        raise MismatchError(
            f"the data must be of schema {run.schema.name}, as the run is, are of {examples.schema.name}"
        )
    parts = split(examples, config["split"], config["seed"])
    own = examples.fingerprint == run.data_fingerprint
    if data is None and not own:
        raise DataError(f"{config['data']}: holds other examples than the run was trained with")
    if own and parts.fingerprint != run.split_fingerprint:
        raise MismatchError(
            f"{run.path}: its examples must be divided as in training, are not: another scikit-learn than "
            f"{run.record.content['versions'].get('scikit-learn')} divides them in another way"
        )
    sets = {HELD_OUT[config["split"]]: subset(examples, parts.test)} if own else {"all examples": examples}
    if unseen is not None:
        sets[UNSEEN] = unseen
    figures = {name: {OURS: measure(_predicted(run, part), part)} for name, part in sets.items()}
    training = subset(examples, parts.train)
    for baseline, found in _baselines(run, training, sets, config["seed"], reporter).items():
        for name, qualities in found.items():
            figures[name][baseline] = qualities
    return Evaluation(
        figures,
        {name: len(part) for name, part in sets.items()},
        {name: _speaking(run, part) for name, part in sets.items()},
    )


def _predicted(run: Run, part: Examples) -> Rows:
    return probabilities(outputs(run.model, part.features), run.schema, run.temperatures)


def _speaking(run: Run, part: Examples) -> tuple[float, float]:
    place = run.schema.places["action.type"]
    index = run.schema.output("action.type").labels.index("Speak")
    likeliest = _predicted(run, part)[:, place].argmax(axis=1)
    return float((likeliest == index).mean()), float(part.labels[:, place][:, index].mean())


def _baselines(
    run: Run, training: Examples, sets: Mapping[str, Examples], seed: int, reporter: Reporter
) -> dict[str, dict[str, dict[str, OutputQuality]]]:
    """Baseline -> set -> figures, from the run where they were measured on the same data."""
    path = run.path / BASELINES_FILE
    measured_on = {name: part.fingerprint for name, part in sets.items()}
    if path.is_file():
        kept = read_json_object(path)
        if kept.get("measured_on") == measured_on:
            return _from_json(kept["figures"], path)
    features = np.concatenate([part.features for part in sets.values()])
    found: dict[str, dict[str, dict[str, OutputQuality]]] = {}
    with reporter.stage("baselines, once", len(BASELINE_NAMES), "models") as stage:
        for baseline in BASELINE_NAMES:
            found[baseline] = _of_baseline(baseline, training, features, sets, seed)
            stage.advance(1, {"fitted": baseline})
    plain = {b: {s: {k: asdict(q) for k, q in qs.items()} for s, qs in f.items()} for b, f in found.items()}
    write_json(path, {"measured_on": measured_on, "figures": plain})
    return found


def _of_baseline(
    name: BaselineName,
    training: Examples,
    features: np.ndarray[Any, np.dtype[np.float32]],
    sets: Mapping[str, Examples],
    seed: int,
) -> dict[str, dict[str, OutputQuality]]:
    predicted = predict_baseline(name, training, features, seed)
    bounds = np.cumsum([len(part) for part in sets.values()])[:-1]
    parts = zip(sets.items(), np.split(predicted, bounds), strict=True)
    return {key: measure(own, part) for (key, part), own in parts}


def _from_json(content: Any, path: Path) -> dict[str, dict[str, dict[str, OutputQuality]]]:
    try:
        return {
            baseline: {name: {k: OutputQuality(**q) for k, q in qs.items()} for name, qs in found.items()}
            for baseline, found in content.items()
        }
    except (TypeError, AttributeError) as error:
        raise DataError(f"{path}: not figures of baselines: {error!r:.100}; remove it") from None
