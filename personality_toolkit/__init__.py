"""One name to import: the public functions and types of the four packages.

Nothing is here but the way to them; a name's package is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

PACKAGES: Final = ("personality_common", "pretrain", "grpo", "device_sim")


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted(public for package in PACKAGES for public in import_module(package).__all__)
    if not name.startswith("_"):
        for package in PACKAGES:
            module = import_module(package)
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__getattr__("__all__"))
