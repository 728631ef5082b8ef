"""Walk ML Programs without a converter: operations, constants, the layer that makes an output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from personality_common.coreml.package import MAX_NAME, Package
from personality_common.coreml.values import BlobLocation, TensorType, blob_location, read_value, tensor_type
from personality_common.errors import DataError, MismatchError

_SAME_ELEMENTS: Final = ("identity", "reshape", "squeeze", "expand_dims", "cast")
"""Ops whose output has the elements of `x` in the same order; a cast may round them."""
_PALETTES: Final = {2: 1, 4: 2, 16: 4, 64: 6, 256: 8}
"""Entries of a palette -> bits of an index."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A value that is fixed in the program: the output of `const`, or an argument given in place."""

    name: str
    """Of the output; `output.parameter` for an argument given in place."""
    type: TensorType
    location: BlobLocation | None
    """None: inline in the protobuf."""
    value: Any
    """`MIL_pb2.Value`."""
    package: Package

    def read(self) -> NDArray[Any]:
        """The array; see `read_value`."""
        return read_value(self.package, self.value, f"constant {self.name!r}")


@dataclass(frozen=True)
class Linear:
    """A `linear` layer: `y = x @ weight.T + bias`."""

    operation: Any
    """`MIL_pb2.Operation`."""
    weight: Constant
    bias: Constant | None


def main_block(package: Package, function: str | None = None) -> Any:
    """The `MIL_pb2.Block` that runs, of the default function or a named one.

    Raises:
        DataError: the package is no ML Program, or has no such function or block.
    """
    if package.kind != "mlProgram":
        raise DataError(f"{package.path}: an mlProgram is expected, got {package.kind}")
    functions = package.spec.mlProgram.functions
    name = function or package.spec.description.defaultFunctionName or "main"
    # `in` first: indexing a protobuf map by an absent key inserts it.
    if name not in functions:
        raise DataError(f"{package.path}: the program has no function {name!r}, only {sorted(functions)[:8]}")
    blocks, opset = functions[name].block_specializations, functions[name].opset
    if opset not in blocks:
        raise DataError(f"{package.path}: function {name!r} has no block for its opset {opset!r}")
    return blocks[opset]


def blocks(package: Package) -> Iterator[tuple[str, Any]]:
    """Name of each function of an ML Program with every block in it, nested ones too."""
    for name, function in sorted(package.spec.mlProgram.functions.items()):
        for _, block in sorted(function.block_specializations.items()):
            yield from ((name, nested) for nested in _nested(block))


def operations(package: Package, function: str) -> Iterator[Any]:
    """The `MIL_pb2.Operation` of a function in order; those of a nested block follow the block's."""
    for _, block in sorted(package.spec.mlProgram.functions[function].block_specializations.items()):
        for nested in _nested(block):
            yield from nested.operations


def constants(package: Package) -> Iterator[Constant]:
    """Every tensor constant, in the program's order; of all submodels if it is a pipeline.

    A constant that several functions have is given once for each.
    """
    for submodel in package.submodels:
        yield from constants(submodel)
    if package.kind == "mlProgram":
        for _, block in blocks(package):
            for operation in block.operations:
                yield from _constants_of(package, operation)


def parameters(package: Package) -> Iterator[tuple[Constant, TensorType | None]]:
    """The constants that are weights: in a weight file, or floating-point or compressed and no scalar.

    Of this model, not of its submodels. Beside each the elements packed in it, as `compressed` finds them.
    """
    packed = compressed(package)
    for _, block in blocks(package):
        for operation in block.operations:
            for constant in _constants_of(package, operation):
                floats = constant.type.dtype.startswith(("float", "bfloat"))
                inline = constant.type.shape and (floats or constant.name in packed)
                if constant.location is not None or inline:
                    yield constant, packed.get(constant.name)


def compressed(package: Package) -> dict[str, TensorType | None]:
    """Names of constants that hold compressed weights.

    With the elements that are packed in them where their own type does not tell: the indices of a palette and
    the mask of sparse weights are bytes up to iOS 17, and have a type of their own from iOS 18 on.
    """
    found: dict[str, TensorType | None] = {}
    for _, block in blocks(package):
        named = {o.name: op for op in block.operations if op.type == "const" for o in op.outputs}
        for operation in block.operations:
            if operation.type.startswith("constexpr_"):
                found |= _compressed(package, operation, named)
    return found


def _compressed(package: Package, operation: Any, named: dict[str, Any]) -> dict[str, TensorType | None]:
    """Args: named: the `const` that makes each value."""
    given = {constant.name.rpartition(".")[2]: constant for constant in _constants_of(package, operation)}
    for key, argument in operation.inputs.items():
        const = named.get(argument.arguments[0].name) if len(argument.arguments) == 1 else None
        if const is not None and "val" in const.attributes and tensor_type(const.attributes["val"].type):
            given[key] = _constant(package, const)
    dense = given.pop("shape", None)
    found: dict[str, TensorType | None] = {constant.name: None for constant in given.values()}
    if dense is not None and dense.location is None:
        shape = tuple(map(int, dense.read().tolist()))
        if "mask" in given:
            found[given["mask"].name] = TensorType("uint1", shape)
        entries = given["lut"].type.static_shape if "lut" in given else None
        if "indices" in given and entries and len(entries) == 1 and entries[0] in _PALETTES:
            found[given["indices"].name] = TensorType(f"uint{_PALETTES[entries[0]]}", shape)
    return found


def class_labels(package: Package) -> tuple[str | int, ...] | None:
    """What an ML Program's `classify` chooses from, in the order of the probabilities; None without one."""
    for _, block in blocks(package):
        for operation in block.operations:
            if operation.type == "classify" and "classes" in operation.inputs:
                value = _list_value(block, operation.inputs["classes"].arguments)
                items = () if value is None else value.immediateValue.list.values
                return tuple(label for item in items for label in _label(item))
    return None


def _list_value(block: Any, arguments: Any) -> Any | None:
    if len(arguments) != 1:
        return None
    if arguments[0].WhichOneof("binding") == "value":
        return arguments[0].value
    made = [o for o in block.operations if any(p.name == arguments[0].name for p in o.outputs)]
    return made[0].attributes["val"] if made and "val" in made[0].attributes else None


def _label(item: Any) -> list[str | int]:
    tensor = item.immediateValue.tensor
    field = tensor.WhichOneof("value")
    return list(getattr(tensor, field).values)[:1] if field in ("strings", "ints", "longInts") else []


def find_producer(block: Any, name: str) -> Any:
    """The operation of a block (not of nested ones) that has this output.

    Raises:
        DataError: there is none.
    """
    for operation in block.operations:
        if any(output.name == name for output in operation.outputs):
            return operation
    raise DataError(f"no operation of the program produces {name!r}")


def find_linear(package: Package, output: str) -> Linear:
    """The `linear` layer whose result is the output, through reshapes and identities.

    The converter folds a bias that is added afterwards into `linear`; an `add` that was left is
    recognised as well.

    Raises:
        DataError: another operation makes the output, or its parameters are not constants.
    """
    block = main_block(package)
    operation = _through(block, output)
    added = None
    if operation.type == "add":
        sides = [_through(block, _name(package, operation, side)) for side in ("x", "y")]
        consts = [side for side in sides if side.type == "const"]
        if len(consts) == 1:
            added = _constant(package, consts[0])
            operation = next(side for side in sides if side.type != "const")
    if operation.type != "linear":
        raise DataError(f"{package.path}: {output!r} is made by {operation.type!r}, expected 'linear'")
    weight = _parameter(package, block, operation, "weight")
    if "bias" not in operation.inputs:
        return Linear(operation, weight, added)
    bias = _parameter(package, block, operation, "bias")
    if added is not None:
        if bias.read().any():
            raise DataError(f"{package.path}: {output!r} has two biases, {bias.name!r} and {added.name!r}")
        bias = added
    return Linear(operation, weight, bias)


def require_own_blob(package: Package, constant: Constant) -> BlobLocation:
    """Where a constant is stored, if changing those bytes changes nothing else.

    Args:
        package: the outermost package, so that every submodel that shares the file is looked at.

    Raises:
        MismatchError: it is inline, or another constant refers to the same bytes, or more than
            one operation reads it.
    """
    where = f"{package.path}: constant {constant.name!r}"
    if constant.location is None:
        raise MismatchError(f"{where} must be in a weight file, it is inline in the program")
    sharing = sorted(c.name for c in constants(package) if c.location == constant.location)
    if len(sharing) != 1:
        raise MismatchError(f"{where} must have bytes of its own, they are shared by {sharing[:8]}")
    readers = sorted(
        reader for _, block in blocks(constant.package) for reader in _readers(block, constant.name)
    )
    if len(readers) != 1:
        raise MismatchError(f"{where} must be read by one operation, these read it: {readers[:8]}")
    return constant.location


def _readers(block: Any, name: str) -> Iterator[str]:
    for operation in block.operations:
        if any(b.name == name for argument in operation.inputs.values() for b in argument.arguments):
            yield operation.outputs[0].name if operation.outputs else operation.type
    yield from (output for output in block.outputs if output == name)


def _nested(block: Any) -> Iterator[Any]:
    yield block
    for operation in block.operations:
        for inner in operation.blocks:
            yield from _nested(inner)


def _constants_of(package: Package, operation: Any) -> Iterator[Constant]:
    if operation.type == "const":
        if "val" in operation.attributes and tensor_type(operation.attributes["val"].type):
            yield _constant(package, operation)
        return
    output = (operation.outputs[0].name if operation.outputs else operation.type)[:MAX_NAME]
    given = [(key, value) for key, value in sorted(operation.attributes.items()) if key != "name"]
    for key, argument in sorted(operation.inputs.items()):
        values = [b.value for b in argument.arguments if b.WhichOneof("binding") == "value"]
        given += [(key if len(values) == 1 else f"{key}.{i}", v) for i, v in enumerate(values)]
    for key, value in given:
        if kind := tensor_type(value.type):
            yield Constant(f"{output}.{key}", kind, blob_location(value), value, package)


def _constant(package: Package, operation: Any) -> Constant:
    value = operation.attributes.get("val")
    kind = tensor_type(value.type) if value is not None else None
    if value is None or kind is None or not operation.outputs:
        raise DataError(f"{package.path}: a 'const' has an output and a tensor value, this has not")
    return Constant(operation.outputs[0].name, kind, blob_location(value), value, package)


def _through(block: Any, name: str) -> Any:
    """Producer of a value, past operations that only reshape it."""
    seen = 0
    while (operation := find_producer(block, name)).type in _SAME_ELEMENTS and seen < len(block.operations):
        arguments = operation.inputs["x"].arguments if "x" in operation.inputs else []
        if len(arguments) != 1 or not arguments[0].name:
            break
        name = arguments[0].name
        seen += 1
    return operation


def _name(package: Package, operation: Any, parameter: str) -> str:
    arguments = operation.inputs[parameter].arguments if parameter in operation.inputs else []
    if len(arguments) != 1 or not arguments[0].name:
        raise DataError(
            f"{package.path}: parameter {parameter!r} of {operation.type!r} must be one named value"
        )
    name: str = arguments[0].name
    return name


def _parameter(package: Package, block: Any, operation: Any, parameter: str) -> Constant:
    producer = _through(block, _name(package, operation, parameter))
    if producer.type != "const":
        raise DataError(
            f"{package.path}: {parameter} of {operation.type!r} must be a constant stored as it is, "
            f"it is made by {producer.type!r}"
        )
    return _constant(package, producer)
