"""coremltools, kept quiet: a PyTorch module -> the files of an ML Program.

What the converter does with a constant depends on its values: small or all-zero ones may go into
the program instead of the weight file, equal ones may share their bytes, additions of zero and
multiplications by one may vanish. So modules are converted with random stand-ins for their
parameters, which have none of these traits, and the true values are written over them (see
`pretrain.coreml.templates`). The program then is the same for every run.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from personality_common.coreml.writing import MODEL_FILE, WEIGHTS_FILE
from personality_common.errors import ToolkitError
from pretrain.coreml.targets import Precision, Target

CONVERSION_DATE: Final = "com.github.apple.coremltools.conversion_date"
STAND_IN_SEED: Final = 20_240_601


@dataclass(frozen=True)
class ProgramSignature:
    """What an ML Program takes and gives; all float32 but the states, which are float16.

    Attributes:
        inputs: name -> shape; a dimension given as (least, greatest) is flexible, 1 by default.
        outputs: names, in the order that the module returns them.
        states: name -> shape, named as the module's float16 buffers.
    """

    inputs: Mapping[str, tuple[int | tuple[int, int], ...]]
    outputs: Sequence[str]
    states: Mapping[str, tuple[int, ...]]


def stand_ins(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
    """Random float32 arrays, the same each time; no value is 0 or 1, or beyond float16."""
    draw = np.random.default_rng(STAND_IN_SEED)
    return {name: draw.uniform(0.1, 0.9, shape).astype(np.float32) for name, shape in shapes.items()}


def set_parameters(module: nn.Module, values: Mapping[str, NDArray[np.float32]]) -> None:
    """Copy arrays into the parameters of a module, by name."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(values[name]))


def convert(
    module: nn.Module,
    example: Tensor,
    signature: ProgramSignature,
    target: Target,
    precision: Precision,
    scratch: Path,
) -> tuple[bytes, bytes]:
    """Convert a module by tracing.

    Args:
        module: in eval mode.
        example: an input, for tracing.
        signature: features and states of the program.
        target: decides the opset.
        precision: of weights and arithmetic.
        scratch: folder in which the converter may write.

    Returns:
        The serialized model, and its weight file.

    Raises:
        ToolkitError: the converter failed, such as for lack of space.
    """
    package = scratch / "converted.mlpackage"
    try:
        with quiet():
            _convert(module, example, signature, target, precision, package)
        return (package / MODEL_FILE).read_bytes(), (package / WEIGHTS_FILE).read_bytes()
    except (RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ToolkitError(f"coremltools could not convert {type(module).__name__}: {first}") from error
    finally:
        shutil.rmtree(package, ignore_errors=True)


def _convert(
    module: nn.Module,
    example: Tensor,
    signature: ProgramSignature,
    target: Target,
    precision: Precision,
    package: Path,
) -> None:
    import coremltools as ct

    pipeline = ct.PassPipeline.DEFAULT
    # It takes tensors for equal that are only close, and keeps one of them.
    pipeline.remove_passes(["common::const_deduplication"])
    ct.convert(
        torch.jit.trace(module, example),  # type: ignore[no-untyped-call]
        convert_to="mlprogram",
        minimum_deployment_target=getattr(ct.target, target),
        compute_precision=ct.precision.FLOAT32 if precision == "float32" else ct.precision.FLOAT16,
        inputs=[
            ct.TensorType(name, tuple(_dimension(ct, d) for d in shape), dtype=np.float32)
            for name, shape in signature.inputs.items()
        ],
        outputs=[ct.TensorType(name, dtype=np.float32) for name in signature.outputs],
        states=[
            ct.StateType(ct.TensorType(shape=shape, dtype=np.float16), name=name)
            for name, shape in signature.states.items()
        ]
        or None,
        pass_pipeline=pipeline,
        skip_model_load=True,
        package_dir=str(package),
    )


def _dimension(ct: Any, dimension: int | tuple[int, int]) -> Any:
    return dimension if isinstance(dimension, int) else ct.RangeDim(*dimension, default=1)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep back progress bars and warnings about versions that work; errors are exceptions."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
