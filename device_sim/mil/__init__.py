"""Run Core ML packages anywhere: an interpreter of ML Programs, neural networks and pipelines."""

from device_sim.mil.chained import LinkedModel, PipelineModel
from device_sim.mil.evaluator import Evaluator, Observe, Record
from device_sim.mil.limits import Limits
from device_sim.mil.loading import load_mil
from device_sim.mil.model import Model
from device_sim.mil.numerics import POLICIES
from device_sim.mil.program_model import NetworkModel, ProgramModel
from device_sim.mil.state import State

__all__ = [
    "POLICIES",
    "Evaluator",
    "Limits",
    "LinkedModel",
    "Model",
    "NetworkModel",
    "Observe",
    "PipelineModel",
    "ProgramModel",
    "Record",
    "State",
    "load_mil",
]
