"""State buffers. Source: coremltools, mil/ops/defs/iOS18/states.py and backend/mil/load.py."""

from __future__ import annotations

from device_sim.mil.registry import op
from device_sim.mil.state import StateBuffer
from device_sim.mil.types import Array


@op("read_state", "iOS18")
def read_state(input: StateBuffer) -> Array:
    return input.value


@op("write_state", "iOS18")
def write_state(input: StateBuffer, data: Array) -> None:
    """What coremltools writes into a package for `coreml_update_state`, with a `read_state` after it."""
    input.write(data)


@op("coreml_update_state", "iOS18")
def coreml_update_state(state: StateBuffer, value: Array) -> Array:
    state.write(value)
    return state.value
