"""The adapter as a kind of thing that has versions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from device_sim.adapters.adapter import Adapter
from device_sim.adapters.gguf import read_gguf_adapter, write_gguf
from personality_common.registry.codec import Codec

ADAPTER_FILE: Final = "adapter.gguf"


class AdapterCodec(Codec[Adapter]):
    """One GGUF file: what is gated is, byte for byte, what llama.cpp serves."""

    kind = "adapter"
    letter = "a"
    files: ClassVar[Mapping[str, int]] = {ADAPTER_FILE: 1 << 30}

    def write(self, value: Adapter, folder: Path) -> None:
        write_gguf(value, folder / ADAPTER_FILE)

    def read(self, files: Mapping[str, Path]) -> Adapter:
        return read_gguf_adapter(files[ADAPTER_FILE])

    def fingerprint(self, value: Adapter) -> str:
        raise NotImplementedError

    def check(self, value: Adapter) -> None:
        raise NotImplementedError


ADAPTERS: Final = AdapterCodec()
