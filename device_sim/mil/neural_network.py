"""Load neural networks of the older format: each layer becomes a step of a program."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from device_sim.mil.features import accepts
from device_sim.mil.layers import LAYERS, Layer, Weights
from device_sim.mil.limits import Usage
from device_sim.mil.numerics import Policy
from device_sim.mil.program import Program
from device_sim.mil.registry import Kind, Op, Param
from device_sim.mil.step import Output, Step, free_early
from device_sim.mil.types import Array, TensorType, prod
from personality_common.coreml.features import Feature
from personality_common.errors import DataError

RANK5_MAPPING: Final = 0
"""`arrayInputShapeMapping` of old networks: layers see (sequence, batch, channel, height, width)."""
_FLOATS: Final = TensorType(np.dtype(np.float32), None)
"""Networks declare no types: all values are floats of any shape."""
_X: Final = Param("x", Kind.ARRAY, required=True)
_INPUTS: Final = Param("inputs", Kind.ARRAYS, required=True)


def load_network(
    proto: Any, inputs: Iterable[str], outputs: Iterable[str], policy: Policy, usage: Usage
) -> Program:
    """Resolve a `NeuralNetwork`.

    Args:
        proto: the protobuf message.
        inputs, outputs: names of the model's features.
        usage: what is counted against the limits; its budget holds the weights.

    Raises:
        DataError: a layer that is not supported (named with its output and position), weights
            that do not match their layer, a value that nothing computes, preprocessing, or a limit.
    """
    if len(proto.preprocessing):
        raise DataError("preprocessing of images is not supported")
    usage.budget.add_ops(len(proto.layers), "layers")
    for position, layer in enumerate(proto.layers):
        if (kind := layer.WhichOneof("layer")) not in LAYERS:
            output = layer.output[0][:80] if layer.output else ""
            raise DataError(
                f"layer {layer.name[:80]!r} of type {kind}, output {output!r} (layer {position}): "
                "not supported"
            )
    entering = {name: Output(name, slot, _FLOATS) for slot, name in enumerate(inputs)}
    slots = {name: value.slot for name, value in entering.items()}
    steps: list[Step] = []
    weights = Weights(policy, usage)
    for position, layer in enumerate(proto.layers):
        steps.append(_step(position, layer, slots, len(entering) + position, weights))
        slots[layer.output[0]] = steps[-1].outputs[0].slot  # a later layer of that name hides an earlier one
    if unknown := [name for name in outputs if name not in slots]:
        raise DataError(f"no layer computes the output {unknown[0][:80]!r}")
    found = {name: slots[name] for name in outputs}
    return Program(
        opset="",
        inputs=entering,
        states={},
        steps=free_early(steps, set(found.values())),
        outputs=dict(found),
        slots=len(entering) + len(steps),
    )


def _step(position: int, proto: Any, slots: dict[str, int], slot: int, weights: Weights) -> Step:
    kind = proto.WhichOneof("layer")
    where = f"layer {proto.name[:80]!r} ({kind}, layer {position})"
    if len(proto.output) != 1:
        raise DataError(f"{where}: one output is expected, got {len(proto.output)}")
    try:
        layer = LAYERS[kind](getattr(proto, kind), weights)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    if not layer.fewest <= len(proto.input) <= layer.most:
        raise DataError(
            f"{where}: {layer.fewest} to {layer.most} inputs are expected, got {len(proto.input)}"
        )
    names = tuple(proto.input)
    if unknown := [name for name in names if name not in slots]:
        raise DataError(f"{where}: its input {unknown[0][:80]!r} is not computed before it")
    takes = (_X,) if layer.most == 1 else (_INPUTS,) if layer.most else ()
    return Step(
        position,
        _op(kind, layer, takes),
        where,
        dict(layer.constants),
        dynamic=tuple((param, tuple(slots[name] for name in names)) for param in takes),
        states=(),
        inputs=tuple(dict.fromkeys(names)),
        outputs=(Output(proto.output[0], slot, _FLOATS),),
    )


def _op(kind: str, layer: Layer, takes: tuple[Param, ...]) -> Op:
    """The layer as the evaluator calls ops: its input by the name of x, or several as one tuple."""
    params = (*takes, *(Param(name, Kind.ARRAY, required=True) for name in layer.constants))

    def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
        return (lambda inputs: function(*inputs)) if layer.most > 1 else function

    return Op(
        kind,
        opset="",
        family="network",
        kernel=kernel(layer.run),
        params={param.name: param for param in params},
        size=None if layer.size is None else kernel(layer.size),
        work=None if layer.work is None else kernel(layer.work),
    )


def to_rank5(name: str, value: Array) -> Array:
    """An input as the layers of an old network see it."""
    if value.ndim == 1:
        return value.reshape(1, 1, -1, 1, 1)
    if value.ndim == 3:
        return value[None, None]
    if value.ndim == 5:
        return value
    raise DataError(f"input {name!r}: a network of the old rank 5 takes rank 1, 3 or 5, got {value.shape}")


def from_rank5(value: Array, feature: Feature) -> Array:
    """A value of an old network as its output is described."""
    if value.ndim != 5:
        return value
    for shape in ((value.shape[2],), value.shape[2:], value.shape):
        if prod(shape) == value.size and accepts(feature, shape):
            return value.reshape(shape)
    raise DataError(
        f"output {feature.name!r} is described as {feature.shape_text}, the network gives {value.shape}"
    )
