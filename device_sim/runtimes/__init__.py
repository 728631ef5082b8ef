"""What computes a package's outputs: Core ML itself, the interpreter, or the PyTorch mirror."""

from device_sim.runtimes.base import LoadedModel, Runtime, predict_rows
from device_sim.runtimes.coreml import COMPUTE_UNITS, CoreMLRuntime
from device_sim.runtimes.mil import MilRuntime

__all__ = ["COMPUTE_UNITS", "CoreMLRuntime", "LoadedModel", "MilRuntime", "Runtime", "predict_rows"]
