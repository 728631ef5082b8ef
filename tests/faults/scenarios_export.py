"""`pt export`, in the place of another run's bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import Scenario
from small_model import INPUTS, beyond, encoder, trained, undisturbed

from device_sim.heads.shipped import open_shipped
from pretrain.personality.export import bundle, packages
from pretrain.personality.export.config import ExportConfig

_convert: Any = vars(packages)["convert"]
_converted: dict[str, tuple[bytes, bytes]] = {}


def convert(module: Any, *arguments: Any) -> tuple[bytes, bytes]:
    """The converter takes long, and says the same each time: its program, with stand-ins for parameters."""
    *others, scratch = arguments
    (scratch / "half").write_bytes(bytes(1000))
    name = type(module).__name__
    if name not in _converted:
        _converted[name] = _convert(module, *others, INPUTS)
    return _converted[name]


vars(packages).update(convert=convert)
vars(bundle).update(load_run_encoder=encoder)


def ship(folder: Path, seed: int) -> None:
    bundle.export(ExportConfig(trained(seed), folder / "bundle", only=("model",)))


def old(folder: Path) -> None:
    ship(folder, 0)


def new(folder: Path) -> None:
    ship(folder, 1)


def state(folder: Path) -> str:
    """The bundle that is there, each file with its checksum; "" for none."""
    if not (folder / "bundle").exists():
        return ""
    return open_shipped(folder / "bundle").run_fingerprint


NEW = undisturbed(new, state)


def again(folder: Path, found: object) -> str:
    new(folder)
    return NEW()[0]


def leftovers(folder: Path) -> list[str]:
    return beyond(folder, [NEW()[1]])


SCENARIOS = [
    Scenario("export: over a bundle", old, new, state, again, leftovers),
]
