"""What must hold of a bundle, checked on the files as they were written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from personality_common.bundle.bundle import Part, open_bundle
from personality_common.bundle.files import file_table
from personality_common.bundle.stored import StoredTensor, stored_values
from personality_common.contract import HEAD_BIAS, HEAD_PARAMETERS, HEAD_WEIGHT, LOGITS, MANIFEST_FILE
from personality_common.coreml.package import Package
from personality_common.coreml.program import Constant, constants, find_linear, require_own_blob
from personality_common.coreml.weights import WeightFile
from personality_common.coreml.writing import WEIGHTS_FILE
from personality_common.errors import MismatchError
from personality_common.files.fingerprint import fingerprint
from pretrain.personality.model import computed_parameters
from pretrain.personality.rules.family import PERSONALITY
from pretrain.personality.rules.interface import INTERFACES
from pretrain.personality.rules.rules import require_rules

Values = Mapping[str, NDArray[np.float32]]


def check_bundle(
    folder: Path, values: Values, metadata: Mapping[str, str], encoder_values: Values | None = None
) -> None:
    """Check a bundle against the run, through its manifest.

    Args:
        folder: a complete bundle.
        values: parameters of the run's model.
        metadata: what every package must say of itself.
        encoder_values: parameters of the text encoder, if the bundle has it.

    Raises:
        MismatchError: something does not hold; the message names it.
        DataError: a package or its weight file is malformed.
    """
    bundle = open_bundle(folder, PERSONALITY)
    if bundle.manifest.files != file_table(folder):
        raise MismatchError(f"{folder}: files must be those of {MANIFEST_FILE}, with their SHA-256")
    for part in bundle.parts:
        package = Package.open(part.path)
        require_rules(package, INTERFACES[part.name], metadata)
        if part.name == "encoder":
            check_encoder_tensors(package, part.tensors, encoder_values or {})
        else:
            check_tensors(part.name, part.path, part.tensors, values)
        check_places(part, package)


def expected_parameters(part: str) -> set[str]:
    """Those that a package of the personality model has."""
    head, used = set(HEAD_PARAMETERS), set(computed_parameters())
    return {"head": head, "stateful": used - head}.get(part, used)


def check_places(part: Part, package: Package) -> None:
    """The program reads each parameter where the manifest says that it is; MismatchError if not."""
    if part.name != "head":
        check_weight_file(package, part.tensors)
    if part.name == "model":
        check_head_blobs(package, part.tensors)


def check_tensors(part: str, path: Path, tensors: Sequence[StoredTensor], values: Values) -> None:
    """Every parameter's bytes, at its place in the file, are the run's in the dtype that is stated.

    Packages agree with one another because each agrees with the run.
    """
    expected = expected_parameters(part)
    names = [tensor.name for tensor in tensors]
    if sorted(names) != sorted(expected):
        raise MismatchError(
            f"{path}: must have each of its parameters once; it has {len(names)} of {len(expected)}, "
            f"and differs in {sorted(set(names) ^ expected)[:5]}"
        )
    for tensor in tensors:
        name = tensor.name
        stored = stored_values(name, values[name], tensor.dtype)
        if tensor.read(path).tobytes() != stored.tobytes():
            raise MismatchError(
                f"{path}: {name} must be the run's, bit for bit in {tensor.dtype}; "
                f"{tensor.size} bytes at offset {tensor.offset} of {tensor.file} differ"
            )
        if tensor.shape != stored.shape or tensor.fingerprint != fingerprint(stored):
            raise MismatchError(f"{path}: {MANIFEST_FILE} has a wrong shape or fingerprint for {name}")


def check_weight_file(package: Package, tensors: Sequence[StoredTensor]) -> None:
    """The weight file holds the parameters and nothing else, and the program refers to each once."""
    file = WeightFile.open(package.path / WEIGHTS_FILE)
    # An entry without metadata is none of the file's: -1 is where no entry is.
    stored = {-1 if (o := t.metadata_offset) is None else o: t for t in tensors if t.file == WEIGHTS_FILE}
    entries = {e.metadata_offset: (e.data_offset, e.size, e.dtype.mil_name) for e in file.entries}
    stated = {o: (t.offset, t.size, t.dtype) for o, t in stored.items()}
    if entries != stated:
        differing = sorted(entries.items() ^ stated.items())[:2]
        raise MismatchError(
            f"{file.path}: its entries must be the parameters; it has {len(entries)}, "
            f"{MANIFEST_FILE} states {len(stated)}, they differ at {differing}"
        )
    by_offset: dict[int, list[Constant]] = {offset: [] for offset in stored}
    for constant in constants(package):
        if constant.location is not None:
            by_offset[constant.location.offset].append(constant)
    for offset, tensor in stored.items():
        found = [(c.name, list(c.type.shape), c.type.dtype) for c in by_offset[offset]]
        if found != [(tensor.constant, list(tensor.shape), tensor.dtype)]:
            raise MismatchError(
                f"{package.path}: one constant must refer to {tensor.name} at offset {offset}, "
                f"these do: {found[:4]}"
            )


def check_head_blobs(package: Package, tensors: Sequence[StoredTensor]) -> None:
    """The layer that makes the logits reads the head's two blobs, and nothing else reads them."""
    stated = {tensor.name: tensor.metadata_offset for tensor in tensors}
    linear = find_linear(package, LOGITS)
    for name, constant in ((HEAD_WEIGHT, linear.weight), (HEAD_BIAS, linear.bias)):
        if constant is None:
            raise MismatchError(f"{package.path}: the layer that makes {LOGITS!r} must have a bias")
        location = require_own_blob(package, constant)
        if location.offset != stated[name]:
            raise MismatchError(
                f"{package.path}: {LOGITS!r} must be made with {name}, which is at offset {stated[name]}; "
                f"it is made with what is at {location.offset}"
            )


def check_encoder_tensors(
    package: Package, tensors: Sequence[StoredTensor], values: Mapping[str, NDArray[np.float32]]
) -> None:
    """Each parameter is stored as it is, or correctly rounded to what is stored.

    8-bit weights are whole multiples of a scale for each row: each is the multiple nearest to the
    trained weight.

    Raises:
        MismatchError: a parameter is missing or differs.
    """
    stored = {c.name: c.read() for c in constants(package)}
    stated = {t.name: t for t in tensors}
    for name, value in values.items():
        tensor = stated.get(name)
        if tensor is None:
            raise MismatchError(f"{package.path}: must have the parameter {name}")
        array = stored[tensor.constant]
        if tensor.dtype == "int8":
            scale, zero_point = (
                stored[stated[f"{name}.{part}"].constant].astype(np.float64)
                for part in ("scale", "zero_point")
            )
            rows = (-1, *[1] * (value.ndim - 1))
            error = np.abs(value - (array - zero_point.reshape(rows)) * scale.reshape(rows))
            # Half a step, and the float32 rounding of the quotient.
            same = bool((error <= scale.reshape(rows) * 0.5001).all())
        else:
            same = array.tobytes() == stored_values(name, value, tensor.dtype).tobytes()
        if not same or array.shape != value.shape or tensor.fingerprint != fingerprint(array):
            raise MismatchError(f"{package.path}: {name} must be the encoder's, rounded to {tensor.dtype}")
