"""The decision."""

from __future__ import annotations

from device_sim.night.gate.config import GateConfig
from device_sim.night.gate.evidence import Decision, GateState, NightEvidence


def judge(night: NightEvidence, state: GateState, config: GateConfig | None = None) -> Decision:
    """Decide on a night's candidate."""
    raise NotImplementedError
