"""What differs between the descriptions of two models, as text a reviewer reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from personality_common.coreml.description import FunctionInfo, ModelDescription, UpdateInfo
from personality_common.coreml.features import Feature
from personality_common.inspection.difference import Change, OperationCount
from personality_common.inspection.fields import number_text


class FreeNames:
    """Names that may come more than once, made distinct: the second is `name (2)`."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._times: dict[str, int] = {}

    def take(self, name: str) -> str:
        """The name, or the first that is free."""
        free = name
        while free in self._taken:
            # Remembered: a file may have one name for everything.
            self._times[name] = self._times.get(name, 1) + 1
            free = f"{name} ({self._times[name]})"
        self._taken.add(free)
        return free


def text_changes(a: Mapping[str, str], b: Mapping[str, str]) -> list[Change]:
    """Keys whose text differs, or that one has alone; in the order of A."""
    return [
        Change(key, a.get(key), b.get(key)) for key in dict.fromkeys((*a, *b)) if a.get(key) != b.get(key)
    ]


def model_changes(a: ModelDescription, b: ModelDescription) -> list[Change]:
    """Kind, versions, what is predicted, functions, how many parameters."""
    return text_changes(_facts(a), _facts(b))


def label_changes(a: ModelDescription, b: ModelDescription) -> list[Change]:
    """Class labels: how many, which one has alone, and the first of the others that is at another place."""
    if a.labels == b.labels:
        return []
    known_a, known_b = set(a.labels), set(b.labels)
    changes = []
    if len(a.labels) != len(b.labels):
        changes.append(Change("class labels", f"{len(a.labels):,}", f"{len(b.labels):,}"))
    sides = ((a.labels, known_b), (b.labels, known_a))
    alone = [[label for label in labels if label not in known] for labels, known in sides]
    if any(alone):
        changes.append(Change("class labels of one alone", *(_listed(labels) for labels in alone)))
    common = [[label for label in labels if label in known] for labels, known in sides]
    moved = next((pair for pair in zip(*common, strict=False) if pair[0] != pair[1]), None)
    if moved is not None:
        changes.append(Change("order of class labels", *(f"{label}, …" for label in moved)))
    return changes


def feature_changes(a: ModelDescription, b: ModelDescription) -> list[Change]:
    """Inputs, outputs, states and training inputs, of each function where there are several."""
    changes = text_changes(*({f"function {name}": "there" for name in _functions(model)} for model in (a, b)))
    found_a, found_b = dict(_features(a)), dict(_features(b))
    for name in dict.fromkeys((*found_a, *found_b)):
        first, second = found_a.get(name), found_b.get(name)
        if first is not None and second is not None:
            named = ({f"{name}: {fact}": text for fact, text in _shown(f).items()} for f in (first, second))
            changes += text_changes(*named)
        else:
            changes.append(Change(name, *(None if f is None else _brief(f) for f in (first, second))))
    return changes


def update_changes(a: UpdateInfo | None, b: UpdateInfo | None) -> list[Change]:
    """What the device may train: layers, losses, optimizer, training parameters."""
    return text_changes(dict(_update(a)), dict(_update(b)))


def operation_counts(a: ModelDescription, b: ModelDescription) -> Iterator[OperationCount]:
    """Types that are there more or less often, of functions that both have."""
    functions = {function.name: function for function in b.functions}
    for function in a.functions:
        if function.name in functions:
            counts = function.operations, functions[function.name].operations
            for type_ in dict.fromkeys((*counts[0], *counts[1])):
                first, second = (side.get(type_, 0) for side in counts)
                if first != second:
                    yield OperationCount(function.name, type_, first, second)


def _facts(model: ModelDescription) -> dict[str, str]:
    facts = {
        "kind": model.kind,
        "specification version": str(model.specification_version),
        "needs": model.minimum_os,
        "updatable": number_text(model.updatable),
        "default function": model.default_function,
        "predicted feature": model.predicted_feature,
        "predicted probabilities": model.predicted_probabilities,
    }
    facts |= {f"opset of {function.name}": function.opset or None for function in model.functions}
    facts |= {f"{count.dtype} parameters": f"{count.elements:,}" for count in model.parameters}
    return {fact: text for fact, text in facts.items() if text is not None}


def _listed(labels: list[str | int]) -> str | None:
    return f"{len(labels):,}: {', '.join(map(str, labels))}" if labels else None


def _functions(model: ModelDescription) -> list[str]:
    return [function.name for function in model.functions] if model.default_function is not None else []


def _features(model: ModelDescription) -> Iterator[tuple[str, Feature]]:
    apart = [function for function in model.functions if function.inputs or function.outputs]
    if model.default_function is None or not apart:
        yield from _sides("", model)
    else:
        for function in apart:
            yield from _sides(f"{function.name}: ", function)
    yield from ((f"training input {feature.name}", feature) for feature in model.training_inputs)


def _sides(prefix: str, described: ModelDescription | FunctionInfo) -> Iterator[tuple[str, Feature]]:
    sides = {"input": described.inputs, "output": described.outputs, "state": described.states}
    for role, features in sides.items():
        yield from ((f"{prefix}{role} {feature.name}", feature) for feature in features)


def _brief(feature: Feature) -> str:
    return " ".join(filter(None, (feature.type, feature.dtype, feature.shape_text)))


def _shown(feature: Feature) -> dict[str, str]:
    flexible = feature.ranges or feature.enumerated
    facts = {
        "type": " ".join(filter(None, (feature.type, feature.dtype))),
        "shape": feature.shape_text,
        "default shape": f"({', '.join(map(str, feature.shape))})" if flexible else "",
        "optional": number_text(feature.optional),
        "default": "" if feature.default is None else number_text(feature.default),
        "description": feature.description,
    }
    return {fact: text for fact, text in facts.items() if text}


def _update(update: UpdateInfo | None) -> Iterator[tuple[str, str]]:
    if update is None:
        return
    yield from ((f"layer {layer}", "updatable") for layer in update.layers)
    for loss in update.losses:
        yield f"loss {loss['name']}", f"{loss['type']}: {loss['input']} against {loss['target']}"
    yield "optimizer", update.optimizer or "none"
    yield from ((name, parameter.text) for name, parameter in update.parameters.items())
