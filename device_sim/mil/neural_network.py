"""Load neural networks of the older format: each layer becomes a step of a program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from device_sim.mil.layers import LAYERS, Layer, Weights
from device_sim.mil.layers.control_flow import CONTROL, Block, Branch, Item, Jump, Loop, controlled
from device_sim.mil.limits import Usage
from device_sim.mil.numerics import Policy
from device_sim.mil.program import Program
from device_sim.mil.registry import Kind, Op, Param
from device_sim.mil.step import Output, Step, free_early
from device_sim.mil.types import Array, TensorType, prod
from personality_common.coreml.features import Feature
from personality_common.coreml.network import layers as all_layers
from personality_common.errors import DataError

RANK5_MAPPING: Final = 0
"""`arrayInputShapeMapping` of old networks: layers see (sequence, batch, channel, height, width)."""
_FLOATS: Final = TensorType(np.dtype(np.float32), None)
"""Networks declare no types: all values are floats of any shape."""
_INPUTS: Final = Param("inputs", Kind.ARRAYS, required=True)
_USAGE: Final = Param("usage", Kind.USAGE, required=True)
_LISTED: Final = 20
"""Layers that a message names."""


def require_supported(proto: Any) -> None:
    """Refuse a network with layers that cannot be run.

    Raises:
        DataError: all of them are named, with type, output and position.
    """
    unknown = []
    for position, layer in enumerate(all_layers(proto)):
        kind = layer.WhichOneof("layer")
        if kind in LAYERS or kind in CONTROL:
            continue
        what = f"custom, class {layer.custom.className[:80]!r}" if kind == "custom" else kind
        output = layer.output[0][:80] if layer.output else ""
        unknown.append(f"layer {layer.name[:80]!r} of type {what}, output {output!r} (layer {position})")
    if unknown:
        more = f" and {len(unknown) - _LISTED} more" if len(unknown) > _LISTED else ""
        raise DataError(f"{'; '.join(unknown[:_LISTED])}{more}: not supported")


def load_network(
    proto: Any, inputs: Iterable[str], outputs: Iterable[str], policy: Policy, usage: Usage
) -> Program:
    """Resolve a `NeuralNetwork`, classifier or regressor.

    Args:
        proto: the protobuf message.
        inputs, outputs: names of the values that enter and leave.
        usage: what is counted against the limits; its budget holds the weights.

    Raises:
        DataError: layers that are not supported (all are named), weights that do not match their
            layer, a value that nothing computes, or a limit.
    """
    usage.budget.add_ops(sum(1 for _ in all_layers(proto)), "layers")
    require_supported(proto)
    outputs = tuple(outputs)
    entering = {name: Output(name, slot, _FLOATS) for slot, name in enumerate(inputs)}
    slots = {name: value.slot for name, value in entering.items()}
    weights = Weights(policy, usage)
    read = Counter(_read(proto)) + Counter(outputs)
    steps: list[Step] = []
    count = len(entering)
    for position, layer in enumerate(proto.layers):
        # A later layer of that name hides an earlier one.
        if layer.WhichOneof("layer") in CONTROL:
            wanted = read - Counter(_read_within(layer))
            step = _control_step(position, layer, slots, count, set(wanted), weights)
        else:
            places = {name: count + i for i, name in enumerate(layer.output)}
            step = _step(position, layer, slots, places, weights)
        steps.append(step)
        count += len(step.outputs)
        slots.update({output.name: output.slot for output in step.outputs})
    if unknown := [name for name in outputs if name not in slots]:
        raise DataError(f"no layer computes the output {unknown[0][:80]!r}")
    found = {name: slots[name] for name in outputs}
    return Program(
        opset="",
        inputs=entering,
        states={},
        steps=free_early(steps, set(found.values())),
        outputs=dict(found),
        slots=count,
    )


def _where(position: int, proto: Any) -> str:
    return f"layer {proto.name[:80]!r} ({proto.WhichOneof('layer')}, layer {position})"


def _resolve(names: Iterable[str], slots: Mapping[str, int], where: str) -> tuple[int, ...]:
    names = tuple(names)
    if unknown := [name for name in names if name not in slots]:
        raise DataError(f"{where}: its input {unknown[0][:80]!r} is not computed before it")
    return tuple(slots[name] for name in names)


def _step(
    position: int, proto: Any, slots: Mapping[str, int], places: Mapping[str, int], weights: Weights
) -> Step:
    """A layer that computes.

    Args:
        slots: of the values before it, by name.
        places: slots of its outputs.
    """
    kind, where = proto.WhichOneof("layer"), _where(position, proto)
    try:
        layer = LAYERS[kind](getattr(proto, kind), weights)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    for what, given, fewest, most in (
        ("inputs", len(proto.input), layer.fewest, layer.most),
        ("outputs", len(proto.output), *layer.gives),
    ):
        if not fewest <= given <= most:
            bounds = f"{fewest} to {most}" if fewest != most else str(most)
            raise DataError(f"{where}: {bounds} {what} are expected, got {given}")
    sources = _resolve(proto.input, slots, where)
    return Step(
        position,
        _op(kind, layer, len(proto.output), weights.policy),
        where,
        dict(layer.constants),
        dynamic=((_INPUTS, sources),) if sources else (),
        states=(),
        inputs=tuple(dict.fromkeys(proto.input)),
        outputs=tuple(Output(name, places[name], _FLOATS) for name in proto.output),
    )


def _op(kind: str, layer: Layer, outputs: int, policy: Policy) -> Op:
    """The layer as the evaluator calls ops: its inputs as one tuple, and its constants by name."""

    def call(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda inputs=(), **constants: function(*inputs, **constants)

    def run(inputs: tuple[Array, ...] = (), **constants: Array) -> tuple[Array, ...]:
        results = layer.run(*inputs, **constants)
        results = results if isinstance(results, tuple) else (results,)
        return tuple(_value(result, policy) for result in results[:outputs])

    params = (_INPUTS, *(Param(name, Kind.ARRAY, required=True) for name in layer.constants))
    return Op(
        kind,
        opset="",
        family="network",
        kernel=run,
        params={param.name: param for param in params},
        size=None if layer.size is None else call(layer.size),
        work=None if layer.work is None else call(layer.work),
    )


def _value(result: Any, policy: Policy) -> Array:
    """Networks have floats only, of rank 1 or more."""
    array = np.asarray(result)
    array = array if array.dtype.kind == "f" else array.astype(policy.compute)
    return array.reshape(1) if array.ndim == 0 else array


def _nested(proto: Any) -> tuple[Any, ...]:
    """The networks of a branch or a loop."""
    kind = proto.WhichOneof("layer")
    if kind == "branch":
        return proto.branch.ifBranch, proto.branch.elseBranch
    return (proto.loop.conditionNetwork, proto.loop.bodyNetwork) if kind == "loop" else ()


def _read(proto: Any) -> Iterator[str]:
    """Every name that a layer of a network, or of those in it, reads."""
    for layer in proto.layers:
        yield from layer.input
        yield from _read_within(layer)


def _read_within(layer: Any) -> Iterator[str]:
    if layer.WhichOneof("layer") == "loop" and layer.loop.conditionVar:
        yield layer.loop.conditionVar
    for network in _nested(layer):
        yield from _read(network)


def _control_step(
    position: int,
    proto: Any,
    slots: Mapping[str, int],
    free: int,
    wanted: set[str],
    weights: Weights,
) -> Step:
    """A branch or a loop with all that is in it: one step, since what it computes depends on values.

    Args:
        slots: of the values before it, by name.
        free: the first slot for its outputs.
        wanted: names that are read outside of it.
    """
    where = _where(position, proto)
    own = {name: None for network in _nested(proto) for layer in all_layers(network) for name in layer.output}
    leaving = [name for name in own if name in wanted]
    read = dict.fromkeys((*proto.input, *_read_within(proto), *leaving))
    entering = [name for name in read if name in slots]
    inside = {name: i for i, name in enumerate(dict.fromkeys((*entering, *own)))}
    item = _item(position, proto, inside, weights)
    run = controlled(
        item, [inside[name] for name in entering], [(name, inside[name]) for name in leaving], weights.policy
    )
    op = Op(
        proto.WhichOneof("layer"),
        opset="",
        family="network",
        kernel=run,
        params={param.name: param for param in (_INPUTS, _USAGE)},
        size=None,
        work=None,
    )
    return Step(
        position,
        op,
        where,
        {},
        dynamic=((_INPUTS, _resolve(entering, slots, where)),),
        states=(),
        inputs=tuple(entering),
        outputs=tuple(Output(name, free + i, _FLOATS) for i, name in enumerate(leaving)),
    )


def _item(position: int, proto: Any, inside: Mapping[str, int], weights: Weights) -> Item:
    """A layer within a branch or a loop; all names there are one scope."""
    kind, where = proto.WhichOneof("layer"), _where(position, proto)
    if kind not in CONTROL:
        return _step(position, proto, inside, inside, weights)
    if kind in ("loopBreak", "loopContinue"):
        return Jump(where, leaves=kind == "loopBreak")
    if len(proto.input) > 1 or len(proto.output) or (kind == "branch" and not proto.input):
        raise DataError(f"{where}: {len(proto.input)} inputs and {len(proto.output)} outputs do not fit it")
    first, second = (_block(network, inside, weights) for network in _nested(proto))
    given = _resolve(proto.input, inside, where)
    if kind == "branch":
        return Branch(where, given[0], first, second)
    tested = proto.loop.conditionVar
    if bool(tested) != bool(first):
        raise DataError(f"{where}: conditionVar and conditionNetwork must both be given, or neither")
    return Loop(
        where,
        condition=first,
        tested=_resolve([tested], inside, where)[0] if tested else None,
        body=second,
        # Without a bound, and with a condition: as long as it holds.
        most=None if tested and not proto.loop.maxLoopIterations else int(proto.loop.maxLoopIterations),
        most_given=given[0] if given else None,
    )


def _block(proto: Any, inside: Mapping[str, int], weights: Weights) -> Block:
    return tuple(_item(position, layer, inside, weights) for position, layer in enumerate(proto.layers))


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
        if prod(shape) == value.size and feature.accepts(shape):
            return value.reshape(shape)
    raise DataError(
        f"output {feature.name!r} is described as {feature.shape_text}, the network gives {value.shape}"
    )
