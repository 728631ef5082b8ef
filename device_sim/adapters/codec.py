"""The adapter as a kind of thing that has versions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from device_sim.adapters.adapter import Adapter, check_adapter
from device_sim.adapters.gguf import MAX_BYTES, read_gguf_adapter, write_gguf
from personality_common.files.fingerprint import fingerprint
from personality_common.registry.codec import Codec
from personality_common.registry.identity import Identity

ADAPTER_FILE: Final = "adapter.gguf"


class AdapterCodec(Codec[Adapter]):
    """One GGUF file: what is gated is, byte for byte, what llama.cpp serves."""

    kind = "adapter"
    letter = "a"
    files: ClassVar[Mapping[str, int]] = {ADAPTER_FILE: MAX_BYTES}

    def write(self, value: Adapter, folder: Path) -> None:
        write_gguf(value, folder / ADAPTER_FILE)

    def read(self, files: Mapping[str, Path]) -> Adapter:
        return read_gguf_adapter(files[ADAPTER_FILE])

    def fingerprint(self, value: Adapter) -> str:
        tensors = {name: fingerprint(tensor) for name, tensor in value.tensors.items()}
        content = [value.base_sha256, value.rank, value.alpha, sorted(tensors.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def identity(self, value: Adapter) -> Identity:
        return {"base": value.base_sha256}

    def check(self, value: Adapter) -> None:
        check_adapter(value, "the adapter")


ADAPTERS: Final = AdapterCodec()
