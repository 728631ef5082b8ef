"""What computes a character predictor, by name: PyTorch, two for the ONNX file, two for the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from device_sim.parity.config import ParityConfig
from device_sim.parity.report import RuntimeStatus
from device_sim.runtimes import onnx_file
from device_sim.runtimes.coreml import CoreMLRuntime
from device_sim.runtimes.mil import MilRuntime
from device_sim.runtimes.runtime import Runtime, predict_rows
from personality_common.errors import DataError, ToolkitError
from personality_common.files.inside import inside
from pretrain.character.bundle.folder import Folder
from pretrain.character.bundle.manifest import GOLDEN_FILE, INPUT, ONNX_FILE, PACKAGE
from pretrain.character.model import SeedModel, SkipModel, build_model
from pretrain.character.run import Run, outputs
from pretrain.character.schema import HEADS

Rows = NDArray[np.float32]
Predict = Callable[[Rows], Rows]
"""(n, 453) -> (n, 42 or 49)."""

FILES: Final = {
    "torch": GOLDEN_FILE,
    "onnxruntime": ONNX_FILE,
    "onnx": ONNX_FILE,
    "mil": PACKAGE,
    "coreml": PACKAGE,
}


def choose_runtimes(
    config: ParityConfig, folder: Folder, run: Run | None
) -> tuple[tuple[RuntimeStatus, ...], list[str]]:
    """All runtimes, and the names of those that take part; ToolkitError if one asked for cannot."""
    what = {
        "torch": f"PyTorch with {'the run' if run is not None else 'the file'}'s weights",
        "onnxruntime": "ONNX Runtime on the CPU",
        "onnx": "ONNX's reference evaluator",
        "mil": "interprets the package, float32",
        "coreml": f"Core ML on {config.compute_units}",
    }
    packages: dict[str, Runtime] = {"mil": MilRuntime(), "coreml": CoreMLRuntime(config.compute_units)}
    has = {ONNX_FILE: folder.manifest.onnx, PACKAGE: folder.manifest.coreml, GOLDEN_FILE: True}
    statuses, chosen = [], []
    for name, file in FILES.items():
        reason = f"the folder has no {file}" if has[file] is None else None
        if name in packages:
            reason = reason or packages[name].unavailable()
        elif name != "torch":
            reason = reason or onnx_file.unavailable(name)
        asked = config.runtimes is not None and name in config.runtimes
        if asked and reason is not None:
            raise ToolkitError(f"--runtimes {name} is not available here: {reason}")
        if config.runtimes is not None and not asked:
            reason = "not asked for (--runtimes)"
        statuses.append(RuntimeStatus(name, what[name], reason))
        if reason is None:
            chosen.append(name)
    return tuple(statuses), chosen


def load_model(name: str, folder: Folder, run: Run | None, config: ParityConfig) -> Predict:
    """Open a runtime's file; ToolkitError if it does not take it."""
    if name == "torch":
        model = run.model if run is not None else _mirror(folder)
        return lambda features: outputs(model, features)
    if name in onnx_file.PREDICT:
        file = folder.onnx
        return lambda features: onnx_file.PREDICT[name](file, features)
    runtime: Runtime = MilRuntime() if name == "mil" else CoreMLRuntime(config.compute_units)
    loaded = runtime.load(inside(folder.path, PACKAGE))

    def predict(features: Rows) -> Rows:
        heads = predict_rows(loaded, {INPUT: features})
        flat: Rows = np.concatenate([heads[head] for head in HEADS], axis=1)
        return flat

    return predict


@torch.no_grad()
def _mirror(folder: Folder) -> SkipModel | SeedModel:
    """PyTorch with what the folder's file holds."""
    model = build_model(folder.manifest.model, folder.schema, dropout=0.0).eval()
    values = _stored(folder)
    for key, parameter in model.named_parameters():
        shape = values[key].shape if key in values else None
        if shape != parameter.shape:
            raise DataError(f"{key} must have shape {tuple(parameter.shape)}, has {shape}")
        parameter.copy_(torch.from_numpy(values[key]))
    return model


def _stored(folder: Folder) -> dict[str, Rows]:
    """Parameters as the ONNX file has them, or the package where there is none; float32."""
    if folder.manifest.onnx is not None:
        found = {}
        tensors = folder.onnx.tensors
        for name, array in tensors.items():
            if name.endswith(".int8"):
                parameter = name.removesuffix(".int8")
                found[parameter] = array.astype(np.float32) * tensors[f"{parameter}.scale"]
            else:
                found[name.removesuffix(".float16")] = array.astype(np.float32)
        return found
    assert folder.manifest.coreml is not None
    package = inside(folder.path, PACKAGE)
    return {t.name: t.read(package).astype(np.float32) for t in folder.manifest.coreml.tensors}
