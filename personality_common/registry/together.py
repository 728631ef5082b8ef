"""Versions of several kinds in one store, made active in one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from personality_common.registry.registry import Registry


def activate_together(versions: Sequence[tuple[Registry[Any], str]]) -> None:
    """Make one version of each kind active: all of them or, whatever happens, none.

    Args:
        versions: registries of one folder, each of another kind, and the id of a version.

    Raises:
        ToolkitError: as `Registry.activate`, of any of them; nothing has changed.
    """
    raise NotImplementedError
