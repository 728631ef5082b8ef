"""A version as others take it: for llama.cpp, peft and mlx-lm, and merged with its base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_sim.adapters.adapter import Adapter
from device_sim.adapters.codec import ADAPTER_FILE
from device_sim.adapters.folders import write_mlx, write_peft
from device_sim.adapters.gguf import write_gguf
from device_sim.adapters.merging import require_wide, write_merged
from personality_common.errors import ConfigError, MismatchError
from personality_common.files.atomic import file_sha256
from personality_common.files.staging import staged_folder

FORMATS: Final = ("gguf", "peft", "mlx")


@dataclass(frozen=True)
class AdapterExportConfig:
    """What to write of a version, and where.

    Attributes:
        store: the companion's, or the folder of its versions.
        out: a new folder.
        version: of the adapter; none: the active one.
        formats: which of gguf, peft and mlx, separated by commas.
        merged: write the base with the adapter in its weights, too: q8_0, f16, bf16 or f32.
        base: the GGUF file that the adapter was trained on, which merging needs.
    """

    store: Path
    out: Path
    version: str | None = None
    formats: str = "gguf,peft,mlx"
    merged: str | None = None
    base: Path | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.chosen if name not in FORMATS]
        if unknown or not self.chosen:
            raise ConfigError(f"--formats must be among {', '.join(FORMATS)}, got {self.formats!r:.80}")
        if self.merged is not None:
            require_wide(self.merged)
        if (self.merged is None) != (self.base is None):
            raise ConfigError("--merged and --base must be given together")
        if self.out.exists():
            raise ConfigError(f"--out must be a new folder, {self.out} is there")

    @property
    def chosen(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.formats.split(",")))


def export_adapter(adapter: Adapter, config: AdapterExportConfig) -> list[str]:
    """Write a folder; returns the names in it.

    Raises:
        ConfigError: "no adapter" has nothing to write.
        MismatchError: the base is another one.
        ToolkitError: the package `gguf` is not installed.
    """
    if not adapter.tensors:
        raise ConfigError("--version must have learned something, this is the base as it shipped")
    if config.base is not None and file_sha256(config.base) != adapter.base_sha256:
        raise MismatchError(
            f"{config.base}: must be the base of the adapter, {adapter.base_sha256[:12]}, is another one"
        )
    with staged_folder(config.out) as folder:
        if "gguf" in config.chosen:
            write_gguf(adapter, folder / ADAPTER_FILE)
        if "peft" in config.chosen:
            write_peft(adapter, folder / "peft")
        if "mlx" in config.chosen:
            write_mlx(adapter, folder / "mlx")
        if config.merged is not None and config.base is not None:
            kind = require_wide(config.merged)
            write_merged(config.base, adapter, kind, folder / f"merged-{kind}.gguf")
        return sorted(path.name for path in folder.iterdir())
