"""What computes an ONNX file of the character predictor: ONNX Runtime, and ONNX's own evaluator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import DataError, ToolkitError
from personality_common.onnx.parsing import import_onnx, import_onnxruntime
from pretrain.character.bundle.folder import run_onnx
from pretrain.character.bundle.manifest import INPUT
from pretrain.character.bundle.onnx_file import OnnxFile
from pretrain.character.schema import HEADS

Rows = NDArray[np.float32]


def unavailable(name: str) -> str | None:
    """Why `onnxruntime` or `onnx` cannot be used here; None if it can."""
    try:
        import_onnx()
        if name == "onnxruntime":
            import_onnxruntime()
    except ToolkitError as error:
        return str(error)
    return None


def onnxruntime_predict(file: OnnxFile, features: Rows) -> Rows:
    """(n, 453) -> (n, 42 or 49), by ONNX Runtime; DataError if it does not take the file."""
    return run_onnx(file.data, features)


def onnx_predict(file: OnnxFile, features: Rows) -> Rows:
    """As `onnxruntime_predict`, by ONNX's reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    try:
        heads = ReferenceEvaluator(import_onnx().load_from_string(file.data)).run(
            list(HEADS), {INPUT: features}
        )
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise DataError(
            f"ONNX's evaluator does not take the file: {str(error).splitlines()[0]:.200}"
        ) from None
    flat: Rows = np.concatenate(heads, axis=1)
    return flat


PREDICT: Final[dict[str, Callable[[OnnxFile, Rows], Rows]]] = {
    "onnxruntime": onnxruntime_predict,
    "onnx": onnx_predict,
}
