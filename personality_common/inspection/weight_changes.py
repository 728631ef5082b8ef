"""What differs between the weights of two models, by name; they are read one by one, in pieces."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.coreml import network, program
from personality_common.coreml.blob_types import BlobType, unpack, widen_bfloat16
from personality_common.coreml.description import ModelDescription, TensorInfo
from personality_common.coreml.network import NetworkWeight
from personality_common.coreml.package import Package
from personality_common.coreml.program import Constant
from personality_common.coreml.values import blob_type
from personality_common.errors import DataError
from personality_common.files.fingerprint import compare_fingerprints
from personality_common.inspection.difference import Weight, WeightChange, WeightsDifference
from personality_common.inspection.sections import FreeNames

PIECE: Final = 1 << 20
"""Elements that are computed with at a time; a multiple of 8, so that a piece begins with a byte."""
_NETWORK_DTYPES: Final = {"float32": "<f4", "float16": "<f2", "int8": "i1", "uint8": "u1"}


@dataclass(frozen=True, eq=False)
class _Stored:
    """A tensor of a model, and where its elements are."""

    info: TensorInfo
    source: Constant | NetworkWeight

    @property
    def is_float(self) -> bool:
        """Whether its elements are the numbers that are computed with."""
        return self.info.dtype in ("float16", "bfloat16", "float32", "float64")

    def pieces(self) -> Iterator[NDArray[Any]]:
        """Its elements in order, PIECE of them at a time.

        Raises:
            DataError: they cannot be told from the bytes.
        """
        if isinstance(self.source, Constant):
            yield from _pieces_of_constant(self.source, self.info)
        elif (dtype := _NETWORK_DTYPES.get(self.source.dtype)) is not None:
            yield from _cut(np.frombuffer(self.source.data(), dtype))
        else:
            raise DataError(f"{self.info.name[:80]!r}: elements of {self.source.dtype} are not read here")


def compare_weights(
    a: Package, b: Package, described_a: ModelDescription, described_b: ModelDescription
) -> WeightsDifference:
    """Hold the weights of two models against one another; those of submodels are their own.

    Args:
        described_a, described_b: with fingerprints, and without problems.
    """
    in_a, in_b = _stored(a, described_a), _stored(b, described_b)
    fingerprints = [{name: _fingerprint(found) for name, found in side.items()} for side in (in_a, in_b)]
    difference = compare_fingerprints(*fingerprints)
    renamed = _renamed(difference.missing, difference.extra, *fingerprints)
    moved_a, moved_b = {name for name, _ in renamed}, {name for _, name in renamed}
    changed = set(difference.changed)
    return WeightsDifference(
        same=len(in_a.keys() & in_b.keys()) - len(changed),
        # In the order of the model, which says more than that of the alphabet.
        changed=tuple(_change(name, in_a[name], in_b[name]) for name in in_a if name in changed),
        only_a=tuple(_weight(n, w) for n, w in in_a.items() if n not in in_b and n not in moved_a),
        only_b=tuple(_weight(n, w) for n, w in in_b.items() if n not in in_a and n not in moved_b),
        renamed=tuple(renamed),
    )


def _stored(package: Package, described: ModelDescription) -> dict[str, _Stored]:
    """By name; a second tensor of a name, which functions of one program may have, is `name (2)`."""
    message = network.network(package)
    sources: Iterator[Constant | NetworkWeight] = iter(())
    if message is not None:
        sources = network.weights(message)
    elif package.kind == "mlProgram":
        sources = (constant for constant, _ in program.parameters(package))
    found: dict[str, _Stored] = {}
    names = FreeNames()
    for info, source in zip(described.tensors, sources, strict=True):
        known = found.get(info.name)
        if known is not None and known.info.fingerprint == info.fingerprint:
            continue
        found[names.take(info.name)] = _Stored(info, source)
    return found


def _fingerprint(stored: _Stored) -> str:
    if stored.info.fingerprint is None:
        raise DataError(f"{stored.info.name[:80]!r}: its bytes cannot be read")
    return stored.info.fingerprint


def _renamed(
    missing: tuple[str, ...], extra: tuple[str, ...], a: dict[str, str], b: dict[str, str]
) -> list[tuple[str, str]]:
    """Pairs of names of the same bytes, each name once."""
    free: defaultdict[str, list[str]] = defaultdict(list)
    for name in reversed(extra):
        free[b[name]].append(name)
    return [(name, free[a[name]].pop()) for name in missing if free.get(a[name])]


def _weight(name: str, stored: _Stored, norm: float | None = None) -> Weight:
    if norm is None and stored.is_float:
        norm = math.sqrt(sum(_square_sum(_wide(piece)) for piece in stored.pieces()))
    info = stored.info
    return Weight(name, info.dtype, info.shape, _fingerprint(stored), norm)


def _change(name: str, a: _Stored, b: _Stored) -> WeightChange:
    floats = a.is_float and b.is_float
    if a.info.shape != b.info.shape or not (floats or a.info.dtype == b.info.dtype):
        return WeightChange(_weight(name, a), _weight(name, b), None, None, None)
    changed, largest, squares = 0, 0.0, np.zeros(3)
    try:
        for first, second in zip(a.pieces(), b.pieces(), strict=True):
            # Bit for bit where types agree: -0.0 is not 0.0, a NaN is itself.
            same = _bits(first) == _bits(second) if first.dtype == second.dtype else first == second
            changed += same.size - int(np.count_nonzero(same))
            if floats:
                x, y = _wide(first), _wide(second)
                with np.errstate(invalid="ignore", over="ignore"):
                    step = np.where(same, 0.0, y - x)
                largest = float(np.max(np.abs(step), initial=largest))
                squares += [_square_sum(x), _square_sum(y), _square_sum(step)]
    except DataError:
        return WeightChange(_weight(name, a), _weight(name, b), None, None, None)
    if not floats:
        return WeightChange(_weight(name, a), _weight(name, b), changed, None, None)
    norm_a, norm_b, norm = map(float, np.sqrt(squares))
    relative = norm / norm_a if norm_a else None
    return WeightChange(_weight(name, a, norm_a), _weight(name, b, norm_b), changed, largest, relative)


def _wide(values: NDArray[Any]) -> NDArray[np.float64]:
    # A NaN that signals is one for NumPy to warn of.
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64)


def _square_sum(values: NDArray[np.float64]) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.dot(values, values))


def _bits(array: NDArray[Any]) -> NDArray[Any]:
    return array.view(f"u{array.dtype.itemsize}")


def _pieces_of_constant(constant: Constant, info: TensorInfo) -> Iterator[NDArray[Any]]:
    """Args: info: of its elements, which may be packed in a constant of bytes."""
    meant = blob_type(info.dtype)
    packs = meant is not None and meant.bits < 8
    if constant.location is None:
        array = constant.read().reshape(-1)
        # Read as elements already, unless its own type is that of the bytes.
        packs = packs and constant.type.dtype == "uint8"
    else:
        file = constant.package.weights(constant.location.file)
        entry = file.entry(constant.location.offset)
        array = np.frombuffer(file.raw(entry.metadata_offset), entry.dtype.storage)
    if meant is not None and packs:
        size = PIECE * meant.bits // 8
        for start in range(0, len(array), size):
            # The last byte may end in padding.
            count = min(PIECE, info.elements - start * 8 // meant.bits)
            yield unpack(array[start : start + size], meant, count)
        return
    for piece in _cut(array):
        widened = constant.location is not None and meant is BlobType.BFLOAT16
        yield widen_bfloat16(piece) if widened else piece


def _cut(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    yield from (array[start : start + PIECE] for start in range(0, len(array), PIECE))
