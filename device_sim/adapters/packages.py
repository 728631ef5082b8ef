"""Packages of the extras `night` and `mlx`."""

from __future__ import annotations

import importlib.util
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


def require_mlx() -> None:
    """ToolkitError where mlx-lm is not installed; nothing is imported."""
    if importlib.util.find_spec("mlx_lm") is None:
        raise ToolkitError("the backend mlx needs mlx-lm; pip install 'personality-toolkit[mlx]'")
