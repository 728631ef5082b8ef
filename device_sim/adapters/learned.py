"""What a companion learned: `STORE/learned`, one registry of adapters, and of heads where it reads moods."""

from __future__ import annotations

from pathlib import Path

from device_sim.adapters.adapter import Adapter
from personality_common.registry.registry import Registry

LEARNED = "learned"


def open_adapters(store: Path) -> Registry[Adapter]:
    """Versions of a companion's adapter.

    Args:
        store: the companion's, or the registry's own folder.

    Raises:
        DataError: there are none.
    """
    raise NotImplementedError


def create_adapters(store: Path, base: Path) -> Registry[Adapter]:
    """Make `STORE/learned` with "no adapter" of a base as the one that shipped; heads may be there already.

    Identity of its versions is `{"base": sha256 of the GGUF file}`.
    """
    raise NotImplementedError


def active_file(store: Path, base: Path) -> tuple[str, Path] | None:
    """The active adapter's version and GGUF file, if there is one with tensors, and of this base."""
    raise NotImplementedError
