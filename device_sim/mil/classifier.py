"""What a classifier makes of the scores of its network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from device_sim.mil.types import Array
from personality_common.errors import DataError

Label = str | int


@dataclass(frozen=True)
class ProgramClassifier:
    """The `classify` of an ML Program: what it is computed from, and the names of its outputs."""

    probabilities: str
    labels: tuple[Label, ...]
    label: str
    scores: str


def program_classifier(operation: Any, at: str) -> ProgramClassifier:
    """Read a `classify`.

    Raises:
        DataError: not what the format says.
    """
    given = {name: list(argument.arguments) for name, argument in operation.inputs.items()}
    outputs = [output.name for output in operation.outputs]
    if given.keys() != {"probabilities", "classes"} or len(outputs) != 2:
        raise DataError(f"{at}: probabilities, classes and two outputs are expected, got {sorted(given)}")
    if any(len(arguments) != 1 for arguments in given.values()):
        raise DataError(f"{at}: one value is expected for each argument")
    labels: list[Label] = []
    for value in given["classes"][0].value.immediateValue.list.values:
        tensor = value.immediateValue.tensor
        labels += [*tensor.strings.values, *tensor.longInts.values, *tensor.ints.values]
    if not labels or len(set(labels)) != len(labels) or len({type(label) for label in labels}) != 1:
        raise DataError(f"{at}: classes must be different labels of one type, got {len(labels)}")
    return ProgramClassifier(given["probabilities"][0].name, tuple(labels), *outputs)


def labels_of(classifier: Any) -> tuple[Label, ...]:
    """The class labels of a `NeuralNetworkClassifier`, in the order of the scores.

    Raises:
        DataError: it has none, or one twice.
    """
    kind = classifier.WhichOneof("ClassLabels")
    labels = tuple(getattr(classifier, kind).vector) if kind else ()
    if not labels:
        raise DataError("a classifier without class labels")
    if len(set(labels)) != len(labels):
        raise DataError("a class label is given twice")
    return labels


def scores_name(classifier: Any) -> str:
    """The value that holds the scores: the one that is named, or what the last layer gives."""
    if classifier.labelProbabilityLayerName:
        return str(classifier.labelProbabilityLayerName)
    if not classifier.layers or not classifier.layers[-1].output:
        raise DataError("a classifier whose scores no layer computes")
    return str(classifier.layers[-1].output[0])


def classify(scores: Array, labels: tuple[Label, ...]) -> tuple[Label, dict[Label, float]]:
    """The label with the highest score (of equal ones, the first), and all scores by label.

    Raises:
        DataError: not one score for each label.
    """
    if scores.size != len(labels):
        raise DataError(f"{len(labels)} class labels need as many scores, got {list(scores.shape)}")
    flat = scores.reshape(-1)
    return labels[int(flat.argmax())], {
        label: float(score) for label, score in zip(labels, flat, strict=True)
    }
