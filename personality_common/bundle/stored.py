"""Where a package has a parameter, and how its values are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import ToolkitError


@dataclass(frozen=True)
class StoredTensor:
    """Where a package has a parameter.

    Attributes:
        name: PyTorch's name of the parameter.
        constant: what the package calls it.
        file: relative to the package.
        offset: of its first byte in the file; values are in C order, little-endian. None if it is
            inline in the program, where nobody patches it.
        size: bytes.
        metadata_offset: in a weight file, what the program refers to; None in the protobuf.
        shape: of the tensor.
        dtype: as stored.
        updatable: whether a device may change it.
        fingerprint: see `personality_common.files.fingerprint`.
    """

    name: str
    constant: str
    file: str
    offset: int | None
    size: int
    metadata_offset: int | None
    shape: tuple[int, ...]
    dtype: str
    updatable: bool
    fingerprint: str


def stored_values(name: str, values: NDArray[np.float32], dtype: str | np.dtype[Any]) -> NDArray[Any]:
    """Values as a package has them: as they are, or rounded to the nearest float16, ties to even.

    Raises:
        ToolkitError: a value is not finite in that dtype.
    """
    little = np.dtype(dtype).newbyteorder("<")
    with np.errstate(over="ignore"):
        stored = values.astype(little)
    if not np.isfinite(stored).all():
        worst = np.abs(values).max()
        raise ToolkitError(
            f"{name}: must be finite in {little.name}, its greatest magnitude is {worst:g}; "
            "train again, or export with --precision float32"
        )
    return stored
