"""Packages of the extra `night`."""

from __future__ import annotations

import importlib
from typing import Any

from personality_common.errors import ToolkitError


def night_package(name: str) -> Any:
    """Import one; ToolkitError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ToolkitError(
            f"adapters need the package {name}; pip install 'personality-toolkit[night]'"
        ) from None
