"""What every exported ONNX file is held to before it is put in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import ToolkitError
from personality_common.onnx.parsing import import_onnx
from pretrain.character.bundle.manifest import INPUT
from pretrain.character.schema import HEADS, Schema


def check_onnx(data: bytes, schema: Schema, features: NDArray[np.float32]) -> None:
    """ONNX's checker, strict shape inference, and shapes that ONNX's own evaluator gives.

    Args:
        data: the serialized model.
        features: (n, 453) to evaluate it with.

    Raises:
        ToolkitError: one of them does not hold.
    """
    onnx = import_onnx()
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_from_string(data)
    try:
        onnx.checker.check_model(model, full_check=True)
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        found: list[Any] = ReferenceEvaluator(model).run(list(HEADS), {INPUT: features})
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ToolkitError(f"the ONNX file must pass ONNX's checker: {str(error).splitlines()[0]}") from error
    sizes = {value.name: value.type.tensor_type.shape.dim[1].dim_value for value in inferred.graph.output}
    wanted = {head: place.stop - place.start for head, place in schema.heads.items()}
    shapes = {head: value.shape for head, value in zip(HEADS, found, strict=True)}
    if sizes != wanted or shapes != {head: (len(features), size) for head, size in wanted.items()}:
        raise ToolkitError(f"the ONNX file must have outputs of {wanted}, has {sizes} and gives {shapes}")
