"""Run neural networks of the older format: the layers that heads and converted MLPs are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from device_sim.mil.evaluator import Observe, Record
from device_sim.mil.features import accepts
from device_sim.mil.layers import LAYERS, Layer, Weights
from device_sim.mil.limits import Budget, Limits
from device_sim.mil.numerics import Policy
from device_sim.mil.types import Array, prod
from personality_common.coreml.features import Feature
from personality_common.errors import DataError

_RANK5_MAPPING = 0


@dataclass(frozen=True, slots=True)
class ResolvedLayer:
    """A layer with its place in the network."""

    position: int
    type: str
    name: str
    layer: Layer
    inputs: tuple[str, ...]
    output: str

    @property
    def where(self) -> str:
        return f"layer {self.name[:80]!r} ({self.type}, layer {self.position})"


@dataclass(frozen=True)
class Network:
    """A neural network, every layer resolved."""

    layers: tuple[ResolvedLayer, ...]
    rank5: bool
    """Arrays are seen as (sequence, batch, channel, height, width), the mapping of old networks."""
    policy: Policy
    limits: Limits

    def run(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Feature], observe: Observe | None = None
    ) -> dict[str, Array]:
        """Evaluate the network.

        Args:
            inputs: by feature name.
            outputs: the features wanted; their rank says how rank 5 goes back to theirs.

        Raises:
            DataError: values that do not fit a layer, or a limit.
        """
        budget = Budget(self.limits)
        with np.errstate(all="ignore"):
            values = self.enter(inputs)
            for step in self.layers:
                value = self._step(step, values, budget)
                budget.live += value.nbytes
                values[step.output] = value
                if observe is not None:
                    observe(Record(step.position, step.type, step.output, value))
        return {name: self._leave(values[name], feature) for name, feature in outputs.items()}

    def enter(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs as layers see them: in the type that the policy keeps, rank 5 for old networks."""
        with np.errstate(all="ignore"):
            return {name: self._enter(name, value).astype(self._keep) for name, value in inputs.items()}

    def run_layer(self, layer: ResolvedLayer, values: Mapping[str, Array]) -> Array:
        """Evaluate one layer alone, on values from elsewhere (another policy, another network).

        Args:
            values: by name, all of `layer.inputs`, as `enter` or another layer gives them; first
                rounded to what this policy keeps.
        """
        with np.errstate(all="ignore"):
            own = {name: values[name].astype(self._keep, copy=False) for name in layer.inputs}
            return self._step(layer, own, Budget(self.limits))

    @property
    def _keep(self) -> np.dtype[Any]:
        return self.policy.kept(np.dtype(np.float32))

    def _step(self, step: ResolvedLayer, values: Mapping[str, Array], budget: Budget) -> Array:
        try:
            arrays = [self.policy.widen(values[name]) for name in step.inputs]
            elements, work = step.layer.size(*arrays)
            budget.check_value(elements, 8, "its result")
            budget.spend(work + 16 * elements, "it")
            value = np.asarray(step.layer.run(*arrays)).astype(self._keep, copy=False)
            value.flags.writeable = False
            return value
        except DataError as error:
            raise DataError(f"{step.where}: {error}") from error
        except Exception as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise DataError(f"{step.where}: {reason}") from error

    def _enter(self, name: str, value: Array) -> Array:
        if not self.rank5:
            return value
        if value.ndim == 1:
            return value.reshape(1, 1, -1, 1, 1)
        if value.ndim == 3:
            return value[None, None]
        if value.ndim == 5:
            return value
        raise DataError(
            f"input {name!r}: a network of the old rank 5 takes rank 1, 3 or 5, got {value.shape}"
        )

    def _leave(self, value: Array, feature: Feature) -> Array:
        if not self.rank5 or value.ndim != 5:
            return value
        candidates = ((value.shape[2],), value.shape[2:], value.shape)
        for shape in candidates:
            if prod(shape) == value.size and accepts(feature, shape):
                return value.reshape(shape)
        raise DataError(
            f"output {feature.name!r} is described as {feature.shape_text}, the network gives {value.shape}"
        )


def load_network(
    proto: Any, inputs: Iterable[str], outputs: Iterable[str], policy: Policy, limits: Limits
) -> Network:
    """Resolve a `NeuralNetwork`.

    Args:
        proto: the protobuf message.
        inputs, outputs: names of the model's features.

    Raises:
        DataError: a layer that is not supported (named with its output and position), weights
            that do not match their layer, a value that nothing computes, preprocessing, or a limit.
    """
    if len(proto.preprocessing):
        raise DataError("preprocessing of images is not supported")
    if len(proto.layers) > limits.ops:
        raise DataError(f"the network has {len(proto.layers):,} layers; the limit is {limits.ops:,}")
    for position, layer in enumerate(proto.layers):
        if (kind := layer.WhichOneof("layer")) not in LAYERS:
            output = layer.output[0][:80] if layer.output else ""
            raise DataError(
                f"layer {layer.name[:80]!r} of type {kind}, output {output!r} (layer {position}): "
                "not supported"
            )
    resolved = tuple(_resolve(position, layer, policy) for position, layer in enumerate(proto.layers))
    known = set(inputs)
    for step in resolved:
        if unknown := [name for name in step.inputs if name not in known]:
            raise DataError(f"{step.where}: its input {unknown[0][:80]!r} is not computed before it")
        known.add(step.output)
    if unknown := [name for name in outputs if name not in known]:
        raise DataError(f"no layer computes the output {unknown[0][:80]!r}")
    return Network(resolved, proto.arrayInputShapeMapping == _RANK5_MAPPING, policy, limits)


def _resolve(position: int, proto: Any, policy: Policy) -> ResolvedLayer:
    kind = proto.WhichOneof("layer")
    build: Callable[[Any, Weights], Layer] = LAYERS[kind]
    where = f"layer {proto.name[:80]!r} ({kind}, layer {position})"
    if len(proto.output) != 1:
        raise DataError(f"{where}: one output is expected, got {len(proto.output)}")
    try:
        layer = build(getattr(proto, kind), Weights(policy))
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    if not layer.fewest <= len(proto.input) <= layer.most:
        raise DataError(
            f"{where}: {layer.fewest} to {layer.most} inputs are expected, got {len(proto.input)}"
        )
    return ResolvedLayer(position, kind, proto.name, layer, tuple(proto.input), proto.output[0])
