"""What does not hold, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from personality_common.bundle.stored import Array
from personality_common.errors import ToolkitError
from personality_common.evidence.claims import Check, claim
from personality_common.files.fingerprint import fingerprint

SHOWN: Final = 3


def told(package: str, id: str, name: str, problems: Iterator[str]) -> Check:
    """A check that holds where nothing is told; errors of looking are told, too."""
    try:
        found = list(problems)
    except ToolkitError as error:
        found = [str(error)]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        # What a manifest holds that is used for one check alone is not looked at before.
        found = [f"malformed: {error!r}"]
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return claim(id, name, not found, "; ".join(found[:SHOWN]) + more, package=package)


def difference(array: Array, wanted: str, reference: Array | None) -> str:
    """How an array differs from the one with that fingerprint, in words."""
    if array.ndim == 2 and fingerprint(array.T) == wanted:
        return "it is transposed"
    if array.ndim == 2 and fingerprint(array.reshape(array.shape[::-1]).T) == wanted:
        return "its values are those of the transposed matrix"
    if reference is None or reference.shape != array.shape:
        return f"{array.nbytes} bytes at its place are others"
    differing = np.argwhere(np.atleast_1d(array != reference))
    if array.ndim == 2 and len(rows := np.unique(differing[:, 0])) == 2:
        i, j = rows.tolist()
        if np.array_equal(array[i], reference[j]) and np.array_equal(array[j], reference[i]):
            return f"rows {i} and {j} are swapped"
    first = tuple(differing[0].tolist()) if len(differing) else ()
    at = f", first at {list(first)}: {np.atleast_1d(array)[first]!s}, not {np.atleast_1d(reference)[first]!s}"
    return f"{len(differing)} of {array.size} values differ{at if len(differing) else ''}"
