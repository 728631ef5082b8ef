"""Core ML's own update task, through PyObjC. Checked on Apple Silicon only (pytest mark `coreml`).

coremltools has no Python call for `MLUpdateTask`; `pyobjc-framework-CoreML` (extra `mac`) has.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.contract import LATENT, LATENT_DIM, TARGET, VOCAB_SIZE
from personality_common.errors import ToolkitError
from pretrain.personality.rules.updating import LAYER

Array = NDArray[np.float32]

TIMEOUT_S: Final = 120.0
SEED: Final = 0


@dataclass(frozen=True)
class UpdatedHead:
    """What an update task left in the updatable layer.

    Attributes:
        weight: (325, 512) float32.
        bias: (325,) float32.
        compiled: the updated model, compiled (`.mlmodelc`), as an app would keep it.
    """

    weight: Array
    bias: Array
    compiled: Path


@dataclass(frozen=True)
class Calibration:
    """The factor by which Core ML scales its mean squared error.

    Attributes:
        c: for a batch of `rows`, targets `t = z - c * g` make a step of the update task a step on g.
        expected: rows * 325 / 2: c, if the error is the mean over batch and outputs.
        residual: what of the change k * (z - t)^T h does not explain, relative; near 0 if the task is
            plain SGD on a multiple of the squared error.
    """

    c: float
    expected: float
    rows: int
    residual: float


def unavailable() -> str | None:
    """Why update tasks cannot run here; None if they can."""
    system = platform.system()
    if system != "Darwin":
        return f"Core ML runs on macOS only, this is {system}"
    if importlib.util.find_spec("CoreML") is None:
        return "pyobjc-framework-CoreML is not installed: pip install 'personality-toolkit[mac]'"
    return None


def run_update(
    package: Path,
    examples: Mapping[str, Array],
    out: Path,
    *,
    learning_rate: float,
    epochs: int = 1,
    mini_batch: int | None = None,
) -> UpdatedHead:
    """Compile an updatable package, run `MLUpdateTask` on it, and write the updated model.

    Args:
        package: `PersonalityHead.mlpackage` or `PersonalityModelUpdatable.mlpackage`; only read.
        examples: training inputs, each (N, D) float32: `latent` or `embedding`, and `target`.
        out: new `.mlmodelc` folder.
        learning_rate, epochs: of SGD.
        mini_batch: rows of a step; None: all N.

    Raises:
        ToolkitError: not on macOS, or Core ML refuses; its own words are in the message.
    """
    if reason := unavailable():
        raise ToolkitError(f"an update task cannot run here: {reason}")
    coreml, foundation = importlib.import_module("CoreML"), importlib.import_module("Foundation")
    rows = len(next(iter(examples.values())))
    compiled, error = coreml.MLModel.compileModelAtURL_error_(_url(foundation, package), None)
    _require(compiled, error, f"compiling {package}")
    configuration = coreml.MLModelConfiguration.alloc().init()
    key = coreml.MLParameterKey
    configuration.setParameters_(
        {key.learningRate(): learning_rate, key.epochs(): epochs, key.miniBatchSize(): mini_batch or rows}
    )
    context = _finish_task(coreml, compiled, _batch(coreml, examples, rows), configuration)
    model = context.model()
    written, error = model.writeToURL_error_(_url(foundation, out), None)
    _require(written, error, f"writing {out}")
    weight = _parameter(coreml, model, key.weights()).reshape(VOCAB_SIZE, LATENT_DIM)
    bias = _parameter(coreml, model, key.biases()).reshape(VOCAB_SIZE)
    shutil.rmtree(str(compiled.path()), ignore_errors=True)  # Core ML compiled into its temporary folder
    return UpdatedHead(weight, bias, out)


def calibrate(head: Path, weight: Array, bias: Array, out: Path, rows: int = 8) -> Calibration:
    """Measure the factor c with one step on known targets.

    Args:
        head: `PersonalityHead.mlpackage`.
        weight, bias: what it holds, (325, 512) and (325,).
        out: where the updated model is written.
        rows: of the batch.
    """
    draw = np.random.default_rng(SEED)
    latent = (draw.standard_normal((rows, LATENT_DIM)) / LATENT_DIM**0.5).astype(np.float32)
    residual = draw.standard_normal((rows, VOCAB_SIZE)).astype(np.float32)
    target = (latent @ weight.T + bias - residual).astype(np.float32)
    learning_rate = 1.0
    updated = run_update(head, {LATENT: latent, TARGET: target}, out, learning_rate=learning_rate)
    change = np.concatenate([(updated.weight - weight).ravel(), updated.bias - bias]).astype(np.float64)
    return fit_factor(change, latent, residual, learning_rate)


def fit_factor(change: NDArray[Any], latent: Array, residual: Array, learning_rate: float) -> Calibration:
    """c from the change of the head, by least squares over change = -learning_rate / c * gradient.

    Args:
        change: (325 * 512 + 325,), weight then bias.
        latent: (N, 512).
        residual: (N, 325), z - t; half the gradient of the summed squared error.
    """
    wide = residual.astype(np.float64)
    direction = np.concatenate([(wide.T @ latent.astype(np.float64)).ravel(), wide.sum(axis=0)])
    k = -float(change @ direction) / (learning_rate * float(direction @ direction))
    left = change + learning_rate * k * direction
    relative = float(np.linalg.norm(left) / max(float(np.linalg.norm(change)), 1e-30))
    rows = len(latent)
    return Calibration(1 / k if k else float("inf"), rows * residual.shape[1] / 2, rows, relative)


def _finish_task(coreml: Any, compiled: Any, data: Any, configuration: Any) -> Any:
    done = threading.Event()
    contexts: list[Any] = []

    def completed(context: Any) -> None:
        contexts.append(context)
        done.set()

    task, error = (
        coreml.MLUpdateTask.updateTaskForModelAtURL_trainingData_configuration_completionHandler_error_(
            compiled, data, configuration, completed, None
        )
    )
    _require(task, error, "making an update task")
    task.resume()
    if not done.wait(TIMEOUT_S):
        task.cancel()
        raise ToolkitError(f"Core ML: the update task did not finish within {TIMEOUT_S:g} s")
    _require(contexts[0].task().error() is None, contexts[0].task().error(), "the update task")
    return contexts[0]


def _batch(coreml: Any, examples: Mapping[str, Array], rows: int) -> Any:
    providers = []
    for row in range(rows):
        features = {
            name: coreml.MLFeatureValue.featureValueWithMultiArray_(
                _multi_array(coreml, value[row : row + 1])
            )
            for name, value in examples.items()
        }
        provider, error = coreml.MLDictionaryFeatureProvider.alloc().initWithDictionary_error_(features, None)
        _require(provider, error, f"row {row} of the training data")
        providers.append(provider)
    return coreml.MLArrayBatchProvider.alloc().initWithFeatureProviderArray_(providers)


def _multi_array(coreml: Any, value: Array) -> Any:
    array, error = coreml.MLMultiArray.alloc().initWithShape_dataType_error_(
        list(value.shape), coreml.MLMultiArrayDataTypeFloat32, None
    )
    _require(array, error, "an MLMultiArray")
    for i, element in enumerate(value.ravel().tolist()):
        array.setObject_atIndexedSubscript_(element, i)
    return array


def _parameter(coreml: Any, model: Any, key: Any) -> Array:
    array, error = model.parameterValueForKey_error_(key.scopedTo_(LAYER), None)
    _require(array, error, f"reading the parameters of layer {LAYER!r}")
    count = int(array.count())
    return np.array([array.objectAtIndexedSubscript_(i) for i in range(count)], np.float32)


def _url(foundation: Any, path: Path) -> Any:
    return foundation.NSURL.fileURLWithPath_(str(path.resolve()))


def _require(value: Any, error: Any, what: str) -> None:
    if value is None or value is False:
        words = (
            " ".join(str(error.localizedDescription()).split()) if error is not None else "no reason given"
        )
        raise ToolkitError(f"Core ML: {what}: {words}")
