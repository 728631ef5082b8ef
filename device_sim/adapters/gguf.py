"""An adapter as llama.cpp reads it: one GGUF file."""

from __future__ import annotations

from pathlib import Path

from device_sim.adapters.adapter import Adapter


def write_gguf(adapter: Adapter, path: Path) -> None:
    """Write one file; the same adapter gives the same bytes."""
    raise NotImplementedError


def read_gguf_adapter(path: Path) -> Adapter:
    """Read what `write_gguf` wrote; DataError for anything else."""
    raise NotImplementedError
