"""What one prediction costs: arithmetic, bytes moved, memory; counted from the program, not measured.

A multiply-add is two operations. An op that has none counts one operation for each element of its largest
operand or result, be it a sum or an exponential; ops that only move data count none. An op reads each operand
and writes each result once; of a weight, the bytes that are stored; of a table, the rows that are taken. Live
are the operands that are still needed, and the results. Core ML fuses ops, keeps copies, and may compute in
float16: what it does on a device is another matter.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from personality_common.coreml import network, program
from personality_common.coreml.features import features
from personality_common.coreml.package import Package
from personality_common.coreml.values import TensorType, tensor_type
from personality_common.errors import DataError

MOVES: Final = frozenset((
    "cast", "concat", "coreml_update_state", "expand_dims", "fill", "gather", "gather_along_axis", "identity",
    "read_state", "reshape", "reverse", "select", "shape", "slice_by_index", "slice_by_size", "split",
    "squeeze", "stack", "tile", "transpose",
))  # fmt: skip
ARITHMETIC: Final = frozenset((
    "abs", "add", "ceil", "clip", "cos", "equal", "erf", "exp", "floor", "floor_div", "gelu", "greater",
    "greater_equal", "inverse", "l2_norm", "layer_norm", "leaky_relu", "less", "less_equal", "log",
    "logical_and", "logical_not", "logical_or", "maximum", "minimum", "mod", "mul", "not_equal", "pow",
    "real_div", "reduce_argmax", "reduce_l2_norm", "reduce_log_sum_exp", "reduce_max", "reduce_mean",
    "reduce_min", "reduce_prod", "reduce_sum", "reduce_sum_square", "relu", "round", "rsqrt", "sigmoid",
    "sign", "silu", "sin", "softmax", "softplus", "sqrt", "square", "sub", "tanh", "topk",
))  # fmt: skip
TABLES: Final = ("gather", "slice_by_index", "slice_by_size")
"""Of a weight that they read, only what they give is moved."""
_OF_ELEMENTS: Final = ("activation", "softmax", "softmaxND", "unary")
"""Layers of a neural network that keep the number of elements."""


@dataclass(frozen=True)
class OpCost:
    """One op.

    Attributes:
        name: of its first result.
        multiply_adds, operations: None for a type that is not known here.
        read, weights, written: bytes; of values, of what is stored in the package, of results.
        live: bytes of all values that are alive while it computes.
    """

    name: str
    type: str
    multiply_adds: int | None
    operations: int | None
    read: int
    weights: int
    written: int
    live: int


@dataclass(frozen=True)
class Cost:
    """One prediction of a model.

    Attributes:
        shapes: of the inputs that it is counted for.
        peak: greatest `live` of its ops, in bytes; weights come on top.
        uncounted: types of ops that are not known, with how many of each there are.
    """

    shapes: dict[str, tuple[int, ...]]
    multiply_adds: int
    operations: int
    read: int
    weights: int
    written: int
    peak: int
    uncounted: dict[str, int]
    ops: tuple[OpCost, ...]

    @property
    def moved(self) -> int:
        return self.read + self.weights + self.written


def cost_of(package: Package) -> Cost:
    """Count what one prediction costs, at the default shapes of the inputs.

    Raises:
        DataError: no ML Program, neural network or pipeline of them; or inputs that are flexible in sizes of
            their own, so that nobody can tell which one a dimension inside has.
    """
    inputs = {f.name: f.shape for f in features(package.spec.description.input)}
    if package.submodels:
        parts = [cost_of(submodel) for submodel in package.submodels]
        ops = [
            replace(op, name=f"{submodel.name or at}.{op.name}")
            for at, (submodel, part) in enumerate(zip(package.submodels, parts, strict=True))
            for op in part.ops
        ]
    elif package.kind == "mlProgram":
        ops = list(_program(package))
    elif (message := network.network(package)) is not None:
        ops = list(_network(message, inputs))
    else:
        raise DataError(f"{package.path}: costs are counted of programs and networks, this is {package.kind}")
    return Cost(
        shapes=inputs,
        multiply_adds=sum(op.multiply_adds or 0 for op in ops),
        operations=sum(op.operations or 0 for op in ops),
        read=sum(op.read for op in ops),
        weights=sum(op.weights for op in ops),
        written=sum(op.written for op in ops),
        peak=max((op.live for op in ops), default=0),
        uncounted=dict(Counter(op.type for op in ops if op.multiply_adds is None)),
        ops=tuple(ops),
    )


def stored_size(kind: TensorType, shape: tuple[int, ...]) -> int:
    """Bytes of so many elements; those of less than a byte are packed."""
    found = re.search(r"\d+$", kind.dtype)
    bits = int(found[0]) if found else 8 if kind.dtype == "bool" else 0
    return -(-math.prod(shape) * bits // 8)


class _Sizes:
    """Shapes of a program's values, each unknown dimension that of the inputs'."""

    def __init__(self, package: Package, block: Any) -> None:
        spec = package.spec
        function = spec.mlProgram.functions[spec.description.defaultFunctionName or "main"]
        stated = {feature.name: feature.shape for feature in features(spec.description.input)}
        self.types: dict[str, TensorType] = {}
        flexible = set()
        for given in function.inputs:
            if (kind := tensor_type(given.type)) is None:
                continue
            self.types[given.name] = kind
            shape = stated.get(given.name, ())
            if len(shape) == len(kind.shape):
                flexible |= {size for size, known in zip(shape, kind.shape, strict=True) if known is None}
        if len(flexible) > 1:
            raise DataError(
                f"{package.path}: costs need inputs that are flexible in one size, these are in"
                f" {', '.join(map(str, sorted(flexible)))}"
            )
        self.size = next(iter(flexible), 1)
        for operation in block.operations:
            for result in operation.outputs:
                if (kind := tensor_type(result.type)) is not None:
                    self.types[result.name] = kind

    def shape(self, name: str) -> tuple[int, ...]:
        kind = self.types.get(name)
        return () if kind is None else tuple(self.size if d is None else d for d in kind.shape)

    def elements(self, name: str) -> int:
        return math.prod(self.shape(name)) if name in self.types else 0

    def bytes(self, name: str) -> int:
        return stored_size(self.types[name], self.shape(name)) if name in self.types else 0


def _program(package: Package) -> Iterator[OpCost]:
    block = program.main_block(package)
    sizes, stored = _Sizes(package, block), _stored(package)
    arithmetic = [o for o in block.operations if o.type != "const" and not o.type.startswith("constexpr_")]
    last = {name: at for at, o in enumerate(arithmetic) for names in _operands(o).values() for name in names}
    last |= dict.fromkeys(block.outputs, len(arithmetic))
    alive = {name for name in sizes.types if name in last and name not in stored and _is_input(block, name)}
    for at, operation in enumerate(arithmetic):
        operands = [name for names in _operands(operation).values() for name in names]
        results = [result.name for result in operation.outputs]
        alive |= set(results)
        multiply_adds, operations = _counted(operation, sizes)
        weights = 0
        for name in {name for name in operands if name in stored}:
            part = 1.0
            if operation.type in TABLES and sizes.elements(name):
                part = min(1.0, sizes.elements(results[0]) / sizes.elements(name))
            weights += round(part * stored[name])
        yield OpCost(
            results[0] if results else operation.type,
            operation.type,
            multiply_adds,
            operations,
            sum(sizes.bytes(name) for name in set(operands) - stored.keys()),
            weights,
            sum(map(sizes.bytes, results)),
            sum(map(sizes.bytes, alive)),
        )
        alive = {name for name in alive if last.get(name, -1) > at}


def _is_input(block: Any, name: str) -> bool:
    return not any(result.name == name for operation in block.operations for result in operation.outputs)


def _stored(package: Package) -> dict[str, int]:
    """Value that is a weight -> bytes that the package holds of it."""
    made = {
        result.name: operation
        for operation in program.main_block(package).operations
        if operation.type == "const" or operation.type.startswith("constexpr_")
        for result in operation.outputs
    }
    stored = dict.fromkeys(made, 0)
    for constant, packed in program.parameters(package):
        # A value that is given in place is called after what it is given to.
        if (name := constant.name.partition(".")[0]) in stored:
            kind = packed or constant.type
            stored[name] += stored_size(kind, kind.static_shape or ())
    for name, operation in made.items():
        given = {operand for names in _operands(operation).values() for operand in names}
        stored[name] += sum(stored[operand] for operand in given if operand in stored)
    return stored


def _operands(operation: Any) -> dict[str, list[str]]:
    """Names of values, by parameter."""
    return {
        key: [b.name for b in argument.arguments if b.WhichOneof("binding") == "name"]
        for key, argument in operation.inputs.items()
    }


def _counted(operation: Any, sizes: _Sizes) -> tuple[int | None, int | None]:
    """Multiply-adds and operations."""
    operands = _operands(operation)
    every = [name for names in operands.values() for name in names]
    results = [result.name for result in operation.outputs]
    made = sum(map(sizes.elements, results))
    if operation.type in MOVES:
        return 0, 0
    if operation.type in ARITHMETIC:
        return 0, max((sizes.elements(name) for name in (*every, *results)), default=0)
    inner = _inner(operation, {key: names[0] for key, names in operands.items() if names}, sizes)
    if inner is None:
        return None, None
    return made * inner, 2 * made * inner + (made if operands.get("bias") else 0)


def _inner(operation: Any, named: Mapping[str, str], sizes: _Sizes) -> int | None:
    """Multiply-adds for each element of the result."""
    if operation.type == "linear" and "weight" in named:
        return sizes.shape(named["weight"])[-1]
    if operation.type == "matmul" and {"x", "y"} <= named.keys():
        # The elements of x are rows times inner, those of the result rows times columns.
        x, y, z = (sizes.shape(name) for name in (named["x"], named["y"], operation.outputs[0].name))
        if len(z) >= 2 and len(x) >= 2 and len(y) >= 2:
            return math.prod(x[-2:]) // max(1, z[-2])
    if operation.type == "conv" and "weight" in named:
        return math.prod(sizes.shape(named["weight"])[1:])
    return None


def _network(message: Any, inputs: Mapping[str, tuple[int, ...]]) -> Iterator[OpCost]:
    """Layers that are known keep track of how many elements, float32, a value has."""
    elements: dict[str, int | None] = {name: math.prod(shape) for name, shape in inputs.items()}
    weights: Counter[str] = Counter()
    for weight in network.weights(message):
        weights[weight.name.partition(".")[0]] += weight.size
    for layer in network.layers(message):
        kind = layer.WhichOneof("layer") or "none"
        given = [elements.get(name) for name in layer.input]
        read, made = sum(4 * (n or 0) for n in given), None
        multiply_adds = operations = None
        first = given[0] if given else None
        if kind == "innerProduct" and first is not None:
            params = layer.innerProduct
            made = first // params.inputChannels * params.outputChannels
            multiply_adds = made * params.inputChannels
            operations = 2 * multiply_adds + (made if params.hasBias else 0)
        elif kind in _OF_ELEMENTS and first is not None:
            made, multiply_adds, operations = first, 0, first
        elements |= dict.fromkeys(layer.output, made)
        written = 4 * (made or 0) * len(layer.output)
        yield OpCost(
            layer.name, kind, multiply_adds, operations, read, weights[layer.name], written, read + written
        )
