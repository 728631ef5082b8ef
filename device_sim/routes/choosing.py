"""The routes by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from device_sim.routes.patch import PatchRoute
from device_sim.routes.route import Route
from device_sim.routes.state import StateRoute
from device_sim.routes.task_route import UpdateTaskRoute
from personality_common.bundle.bundle import Bundle
from personality_common.errors import ConfigError

_MADE: Final[dict[str, Callable[[Bundle], Route]]] = {
    "patch": PatchRoute,
    "update-task": UpdateTaskRoute,
    "state": StateRoute,
}
ROUTES: Final = tuple(_MADE)


def make_route(bundle: Bundle, name: str) -> Route:
    """The route of that name.

    Raises:
        ConfigError: the bundle was exported without the route's package, or there is no such route.
    """
    if name not in _MADE:
        raise ConfigError(f"--route must be one of {', '.join(ROUTES)}, got {name!r}")
    return _MADE[name](bundle)
