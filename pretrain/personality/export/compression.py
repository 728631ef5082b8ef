"""How the text encoder's weights are made small: the converter's passes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pretrain.personality.export.config import EncoderWeights

if TYPE_CHECKING:
    from coremltools.converters.mil import Program

HALF: Final = re.compile(
    r"layer_\d_(output_dense|attention_self_value)_weight|layer_[34]_intermediate_dense_weight|position_embeddings"
)
"""Constants that stay float16 among 8-bit ones: those whose rounding moves the top 8 most for their size, as
many as 30 MB have room for (BENCHMARKS.md, "From a text to the top 8")."""
HALF_SUFFIX: Final = "_half"
_QUANTIZE: Final = "compression::linear_quantize_weights"
_HALVE: Final = "compression::halve_weights"


def passes(precision: EncoderWeights) -> Any:
    """The converter's passes, less the one that merges constants that are only close.

    Weights are quantized here and not in the finished model by `ct.optimize`, which would run all
    default passes again, that one among them, on what stays float32.
    """
    import coremltools as ct

    chosen = ct.PassPipeline.DEFAULT
    chosen.remove_passes(["common::const_deduplication"])
    if precision == "int8":
        rows = ct.optimize.coreml.OpLinearQuantizerConfig(
            mode="linear", dtype="int8", granularity="per_channel"
        )
        _register_halving()
        # First those that stay float16: an input of a constexpr op is not compressed again.
        chosen.append_pass(_HALVE)
        chosen.append_pass(_QUANTIZE)
        chosen.set_options(_QUANTIZE, {"config": ct.optimize.coreml.OptimizationConfig(global_config=rows)})
    return chosen


def _register_halving() -> None:
    """A pass: weights in float16 that `constexpr_cast` makes float32 as they are loaded."""
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY, register_pass

    if _HALVE in PASS_REGISTRY:
        return

    @register_pass(namespace="compression")
    class halve_weights(AbstractGraphPass):  # type: ignore[misc]
        def apply(self, prog: Program) -> None:
            (function,) = prog.functions.values()
            for op in list(function.operations):
                if op.op_type != "const" or not HALF.fullmatch(op.name.replace(".", "_")):
                    continue
                with function:
                    half = mb.constexpr_cast(
                        source_val=op.outputs[0].val.astype(np.float16),
                        output_dtype="fp32",
                        before_op=op,
                        name=op.name + HALF_SUFFIX,
                    )
                function.replace_uses_of_var_after_op(
                    anchor_op=op, old_var=op.outputs[0], new_var=half, no_check_var_types=True
                )
                function.remove_ops([op])
